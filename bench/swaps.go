//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
)

// swap is one command: the service goes to pool To.
type swap struct {
	To             byte
	Sent, Answered int64 // load.Mono
}

// swapping sends commands, each to the other pool of two, until it is stopped.
type swapping struct {
	quit  chan struct{}
	done  chan struct{}
	swaps []swap // readable after done
	err   error
}

// startSwapping swaps rate times a second, or back to back when rate is negative. With 0 it does nothing.
func startSwapping(p *peer.Found, d peer.Door, rate float64) (*swapping, error) {
	s := &swapping{quit: make(chan struct{}), done: make(chan struct{})}
	if rate == 0 {
		close(s.done)
		return s, nil
	}
	swapper, err := p.Swapper(d)
	if err != nil {
		return nil, fmt.Errorf("%s: admin socket: %w", p.Name, err)
	}
	var every time.Duration
	if rate > 0 {
		every = time.Duration(float64(time.Second) / rate)
	}
	go s.run(swapper, every) // ends at stop, or at the first command that fails
	return s, nil
}

func (s *swapping) run(swapper peer.Swapper, every time.Duration) {
	defer close(s.done)
	defer swapper.Close()
	from, to := "a", "b"
	for next := time.Now().Add(every); ; next = next.Add(every) {
		select {
		case <-s.quit:
			return
		case <-time.After(time.Until(next)):
		}
		sent := load.Mono()
		if s.err = swapper.Swap(from, to); s.err != nil {
			return
		}
		s.swaps = append(s.swaps, swap{to[0], sent, load.Mono()})
		from, to = to, from
	}
}

// stop ends the swapping after the command under way.
func (s *swapping) stop() error {
	close(s.quit)
	<-s.done
	return s.err
}

// verdict is what a swap storm did to the traffic.
type verdict struct {
	latency   []float64 // ms, of each command
	starts    int
	startTime []float64     // ms, from connect to answer
	lost      int           // new connections without an answer
	late      int           // that began after a command was answered, and still got the old side
	both      []float64     // ms, for each swap in which both sides got new work: how long
	swapped   time.Duration // from the first command to the last: of len(latency)-1 swaps
}

// judgeSwaps looks at all new connections in the light of the commands. Before the first, pool a is active.
//
// A connection may land where the last command answered before it began points to, or where any command
// points to that was sent before the server accepted it. Anything else is late.
func judgeSwaps(swaps []swap, starts []load.Start) verdict {
	var v verdict
	for _, s := range swaps {
		v.latency = append(v.latency, float64(s.Answered-s.Sent)/1e6)
	}
	if n := len(swaps); n > 0 {
		v.swapped = time.Duration(swaps[n-1].Sent - swaps[0].Sent)
	}
	for _, c := range starts {
		v.starts++
		if c.Err != "" {
			v.lost++
			continue
		}
		v.startTime = append(v.startTime, float64(c.Reply-c.Begin)/1e6)
		if late(swaps, c) {
			v.late++
		}
	}
	v.both = bothSides(swaps, starts)
	return v
}

func late(swaps []swap, c load.Start) bool {
	// Commands are one after the other, so both of their times rise.
	next, _ := slices.BinarySearchFunc(swaps, c.Begin+1, func(s swap, t int64) int { return int(s.Answered - t) })
	active := byte('a')
	if next > 0 {
		active = swaps[next-1].To
	}
	if c.Side == active {
		return false
	}
	for _, s := range swaps[next:] {
		if s.Sent > c.Accept {
			break
		}
		if s.To == c.Side {
			return false
		}
	}
	return true
}

// bothSides is, for each command after which the old side got new work though the new side had some already,
// the time from the first on the new to the last on the old, as the servers saw it; up to the next command.
func bothSides(swaps []swap, starts []load.Start) []float64 {
	byAccept := slices.DeleteFunc(slices.Clone(starts), func(c load.Start) bool { return c.Err != "" })
	slices.SortFunc(byAccept, func(x, y load.Start) int { return int(x.Accept - y.Accept) })
	var both []float64
	i := 0
	for k, s := range swaps {
		for i < len(byAccept) && byAccept[i].Accept < s.Sent {
			i++
		}
		var firstNew, lastOld int64
		for ; i < len(byAccept) && (k+1 == len(swaps) || byAccept[i].Accept < swaps[k+1].Sent); i++ {
			switch c := byAccept[i]; {
			case c.Side != s.To:
				lastOld = c.Accept
			case firstNew == 0:
				firstNew = c.Accept
			}
		}
		if firstNew > 0 && lastOld > firstNew {
			both = append(both, float64(lastOld-firstNew)/1e6)
		}
	}
	return both
}

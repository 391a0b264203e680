//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/report"
	"github.com/turnout-proxy/turnout/bench/stats"
)

var storm = &work{
	name: "swapstorm", server: load.Stamp, servers: 1, services: 1,
	client: load.Client{Mode: load.StormLoop, Conns: 1000, Rate: 1500, OldRate: 5000},
}

// stormPace is how often it is swapped, and under which load.
type stormPace struct {
	title  string
	rate   float64     // swaps a second; negative: back to back
	client load.Client // zero: storm's
}

var stormPaces = []stormPace{
	{title: "20/s", rate: 20},
	{title: "back to back", rate: -1},
	{"100/s, new ones", 100, load.Client{Mode: load.StormLoop, Conns: 200, Rate: 3000, OldRate: 1000}},
}

// work is the storm with the pace's load.
func (p *stormPace) work() *work {
	w := *storm
	if p.client.Conns > 0 {
		w.client = p.client
	}
	return &w
}

const stormNote = `Under load: 1,500 new connections a second, each with one message, and 5,000 messages a second on 1,000 old
ones; *new ones*: 3,000 new connections a second, and 1,000 messages a second on 200 old ones. A command's time is from sending it to having its answer, on an admin connection kept open. *Lost*: new
connections without an answer, or with a wrong one; *old lost*: old ones that broke. *Late*: connections that began
(client calls connect) after the answer and were still given to the old side. *Both*: swaps after which the old side
got new work though the new side had some already, and how long that lasted, by the servers' own stamps.
turnout: POST swap with wait=false on the Unix socket, journal included, in %s%s.
HAProxy: runtime API; server states need two commands (new ready, then old drain: the other way round there is
none for a moment), sent at once; the map needs one. HAProxy keeps no record of either: a restart forgets them.
nginx has no command for it: a changed file and a reload make new workers, while the old ones go on with what they have.`

// stormers are the peers that can swap. Beside HAProxy's server states goes its map, which does it best.
func (b *bench) stormers() []*peer.Found {
	able := slices.DeleteFunc(slices.Clone(b.peers), func(p *peer.Found) bool { return p.Swapper == nil })
	has := func(name string) bool {
		return slices.ContainsFunc(able, func(p *peer.Found) bool { return p.Name == name })
	}
	if b.command != "swapstorm" && has("haproxy") && !has("haproxy-map") {
		if p, err := peer.Get("haproxy-map"); err == nil {
			if found, err := p.Look(b.finder); err == nil {
				able = append(able, found)
			}
		}
	}
	return able
}

// swapStorm pools n repetitions for each peer and pace.
func (b *bench) swapStorm(ctx context.Context, n int) error {
	able := b.stormers()
	if len(able) == 0 {
		b.warn("swapstorm: none of the peers can swap")
		return nil
	}
	t := &report.Table{
		Title: "Swap storm",
		Note:  fmt.Sprintf(stormNote, fileSystem(b.temp), b.aboutDisk()),
		Columns: []string{"swaps", "peer", "swaps", "swaps/s", "p50 ms", "p99 ms", "max ms", "new connections", "p99 ms of theirs",
			"lost", "old lost", "late", "both", "longest ms", "all ms"},
	}
	b.run.Tables = append(b.run.Tables, t)
	for _, pace := range stormPaces {
		sums := make([]stormSum, len(able))
		for rep := range n {
			for i := range able {
				i := (i + rep) % len(able)
				if err := b.stormOnce(ctx, able[i], &pace, &sums[i]); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					b.warn("swapstorm %s, %s, repetition %d: %v", pace.title, able[i].Name, rep+1, err)
				}
			}
		}
		for i, p := range able {
			b.notePeer(p)
			if sums[i].starts > 0 {
				t.Rows = append(t.Rows, sums[i].row(pace.title, p.Title))
			}
		}
	}
	return nil
}

// aboutDisk is what the disk by itself takes, in words.
func (b *bench) aboutDisk() string {
	p50, p99, err := syncTimes(b.temp)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (a bare append and fdatasync there, without load: p50 %s ms, p99 %s ms)", report.Figure(p50), report.Figure(p99))
}

// stormSum is the verdict over all repetitions.
type stormSum struct {
	verdict
	oldLost int
	steps   int // from one swap to the next, in swapped
}

func (s *stormSum) row(pace, title string) []any {
	total := 0.0
	for _, d := range s.both {
		total += d
	}
	perSecond := float64(s.steps) / s.swapped.Seconds()
	return []any{pace, title, len(s.latency), perSecond,
		stats.Quantile(s.latency, 0.5), stats.Quantile(s.latency, 0.99), stats.Quantile(s.latency, 1),
		s.starts, stats.Quantile(s.startTime, 0.99), s.lost, s.oldLost, s.late, len(s.both), longest(s.both), total}
}

func longest(both []float64) float64 {
	if len(both) == 0 {
		return 0
	}
	return slices.Max(both)
}

func (b *bench) stormOnce(ctx context.Context, p *peer.Found, pace *stormPace, sum *stormSum) error {
	w := pace.work()
	s, err := b.setStage(ctx, w, p)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := load.StartClient(b.client(w, s.proxy.Addr[0]), b.loadCPUs)
	if err != nil {
		return errors.Join(err, s.proxy.Ended())
	}
	defer c.Close()
	if err := c.Begin(); err != nil {
		return err
	}
	if err := pause(ctx, b.warm); err != nil {
		return err
	}
	swapping, err := startSwapping(p, s.door, pace.rate)
	if err != nil {
		return err
	}
	err = pause(ctx, b.storm)
	if err := errors.Join(err, swapping.stop()); err != nil {
		return errors.Join(err, s.proxy.Ended())
	}
	if err := pause(ctx, 100*time.Millisecond); err != nil { // traffic after the last swap
		return err
	}
	result, err := c.End()
	if err != nil {
		return err
	}
	v := judgeSwaps(swapping.swaps, result.New)
	sum.add(v, w.client.Conns-result.Old)
	b.say("%-15s %-12s %d swaps, p50 %s ms, p99 %s ms; %d new connections, %d lost, %d late; %d old lost", pace.title,
		p.Name, len(v.latency), report.Figure(stats.Quantile(v.latency, 0.5)), report.Figure(stats.Quantile(v.latency, 0.99)), v.starts, v.lost, v.late, w.client.Conns-result.Old)
	if result.Failed > 0 {
		b.warn("swapstorm, %s: %d failed%s", p.Name, result.Failed, failed(result))
	}
	return nil
}

func (s *stormSum) add(v verdict, oldLost int) {
	s.latency = append(s.latency, v.latency...)
	s.startTime = append(s.startTime, v.startTime...)
	s.both = append(s.both, v.both...)
	s.starts += v.starts
	s.lost += v.lost
	s.late += v.late
	s.swapped += v.swapped
	s.oldLost += oldLost
	s.steps += max(0, len(v.latency)-1)
}

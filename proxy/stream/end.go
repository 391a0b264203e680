package stream

import (
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// ending says why a connection ended; the access log shows it.
type ending uint8

const (
	endDone        ending = iota // both sides ended
	endReset                     // one side was reset, and so the other
	endIdle                      // no byte for too long
	endCut                       // at a drain's deadline
	endLeft                      // the client left while it waited
	endWaited                    // waited too long at the door
	endOverflow                  // too many wait already
	endMaintenance               // turned away in maintenance
	endNoServer                  // no server could be reached
	endRefused                   // its service is gone
	endStarved                   // descriptors or ports ran out
	endMalformed                 // no valid PROXY header
	endStopped                   // the door stops
)

var endWords = [...]string{"done", "reset", "idle", "cut", "left", "waited too long", "too many waiting", "maintenance", "no server", "service gone", "out of descriptors", "malformed", "stopped"}

func (e ending) String() string { return endWords[e] }

// end closes both sides, gives everything back and forgets the connection. Whatever state it is in.
func (w *worker) end(slot uint32, c *conn, why ending) {
	var srv *proxy.Server
	switch c.state {
	case relaying:
		t := &w.targets[c.target]
		srv = t.server
		w.unlink(&t.conns, c)
		t.count--
		w.claims.End(srv, why == endCut)
	case resetting:
		t := &w.targets[c.target]
		srv = t.server
		t.dials--
	case dialing:
		srv = w.targets[c.target].server
		w.undial(slot, c)
		w.claims.GiveUp(srv)
	case waiting:
		w.unhold(slot, c, proxy.HoldLeft)
	}
	w.poured(c)
	w.timers.Cancel(slot)
	w.drop(c, client)
	w.drop(c, server)
	if why == endNoServer || why == endStarved {
		_ = loop.SetLinger0(int(c.fd[client])) // as near to "connection refused" as an accepted connection gets
	}
	for _, fd := range c.fd {
		if fd >= 0 {
			loop.Close(int(fd))
		}
	}
	if c.flags&announced != 0 {
		delete(w.announced, slot)
	}
	w.plane.access(w, c, srv, why)
	listener := c.listener
	w.conns.Free(slot)
	if srv != nil {
		w.roomAt(listener)
	}
}

// roomAt lets in a client that waits because its service's servers were full, now that a connection has ended.
func (w *worker) roomAt(listener int32) {
	if len(w.queueOf) == 0 {
		return
	}
	svc := w.sw.Current().At(int(listener))
	if svc == nil || svc.Hold != nil {
		return
	}
	if qi, ok := w.queueOf[svc.Live]; ok && w.queues[qi].head != none && w.queues[qi].pouring == 0 {
		w.loop.Post(func() { w.admit(qi) })
	}
}

const (
	resetLook = 5 * time.Millisecond // how often unacknowledged bytes are looked for
	resetWait = 5 * time.Second      // how long a reset waits for them
)

// reset carries a reset to side s: after what was sent to it before has been acknowledged, because a reset
// makes both kernels throw away what is still under way. It returns false: the connection relays no more.
func (w *worker) reset(slot uint32, c *conn, s int) bool {
	t := &w.targets[c.target]
	w.unlink(&t.conns, c)
	t.count--
	t.dials++
	w.claims.End(t.server, false)
	c.state = resetting
	c.until = w.loop.Now() + int64(resetWait)
	if other := c.fd[1-s]; other >= 0 { // that side is gone already
		loop.Close(int(other))
		c.fd[1-s] = -1
	}
	w.resetSoon(slot, c)
	return false
}

func (w *worker) resetSoon(slot uint32, c *conn) {
	s := client
	if c.fd[client] < 0 {
		s = server
	}
	now := w.loop.Now()
	if n, err := loop.OutQueue(int(c.fd[s])); err == 0 && n > 0 && now < c.until {
		w.timers.Set(slot, now+int64(resetLook))
		return
	}
	_ = loop.SetLinger0(int(c.fd[s]))
	w.end(slot, c, endReset)
}

// quiet tells whether nothing is under way on a started connection: the last byte came from the server at
// least idle nanoseconds ago, and neither side has anything that is not carried yet.
func (w *worker) quiet(c *conn, idle int64) bool {
	if c.lastSide != server || w.loop.Now()-c.last < idle || c.half[client].pending() || c.half[server].pending() {
		return false
	}
	for _, fd := range c.fd {
		if n, err := loop.InQueue(int(fd)); err != 0 || n > 0 {
			return false
		}
	}
	return true
}

// Idle times for cuts.
const (
	idleCut = int64(20 * time.Millisecond)
)

// cut ends connections of a target as far as how allows; see proxy.Cut.
func (w *worker) cut(ti int32, how proxy.Cut) {
	for slot := w.targets[ti].conns; slot != none; {
		c := w.conns.Get(slot)
		next := c.next
		switch {
		case how == proxy.CutNow:
			if !w.quiet(c, 0) {
				// In the middle of something: a reset, so that the client cannot take what it
				// has for the whole.
				_ = loop.SetLinger0(int(c.fd[client]))
				_ = loop.SetLinger0(int(c.fd[server]))
			}
			w.end(slot, c, endCut)
		case w.quiet(c, idleCut):
			w.end(slot, c, endCut)
		case how == proxy.CutAfterAnswer:
			c.flags |= afterAnswer
		}
		slot = next
	}
}

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
	endCut                       // at a drain's deadline, between two answers
	endCutOff                    // at a drain's deadline, whatever it was doing
	endLeft                      // the client left while it waited
	endWaited                    // waited too long at the door
	endOverflow                  // too many wait already
	endMaintenance               // turned away in maintenance
	endNoServer                  // no server could be reached
	endRefused                   // its service is gone
	endStarved                   // descriptors or ports ran out
	endMalformed                 // no valid PROXY header
	endInsecure                  // no TLS handshake
	endNoHost                    // it named no host, or one that no service has
	endStopped                   // the door stops
)

var endWords = [...]string{"done", "reset", "idle", "cut", "cut", "left", "waited too long", "too many waiting", "maintenance", "no server", "service gone", "out of descriptors", "malformed", "no TLS handshake", "no service for its host", "stopped"}

func (e ending) String() string { return endWords[e] }

// end closes both sides, gives everything back and forgets the connection. Whatever state it is in.
func (w *worker) end(slot uint32, c *conn, why ending) {
	var srv *proxy.Server
	midway := w.midway(c, why)
	switch c.state {
	case relaying:
		t := &w.targets[c.target]
		srv = t.server
		w.unlink(&t.conns, c)
		t.count--
		w.claims.End(srv, why == endCut || why == endCutOff)
	case resetting:
		t := &w.targets[c.target]
		srv = t.server
		if c.fd[server] >= 0 {
			w.unlink(&t.conns, c)
			t.count--
			w.claims.End(srv, false)
		} else {
			t.dials--
		}
	case dialing:
		srv = w.targets[c.target].server
		w.undial(slot, c)
		w.claims.GiveUp(srv)
	case waiting:
		w.unhold(slot, c, proxy.HoldLeft)
	case securing:
		w.giveUp(slot, c, client)
	}
	if c.state != resetting && !midway && why != endReset { // else the peer would take what it has for the whole
		w.bid(c)
	}
	w.forget(c)
	w.poured(c)
	w.timers.Cancel(slot)
	w.drop(c, client)
	w.drop(c, server)
	if why == endNoServer || why == endStarved {
		_ = loop.SetLinger0(int(c.fd[client])) // as near to "connection refused" as an accepted connection gets
	}
	for _, fd := range c.fd {
		if fd >= 0 {
			if midway {
				_ = loop.SetLinger0(int(fd))
			}
			loop.Close(int(fd))
		}
	}
	if c.flags&headed != 0 {
		delete(w.headers, slot)
	}
	w.plane.access(w, c, srv, why)
	snap := w.sw.Current()
	svc := w.service(snap, c)
	if c.chosen == 0 && svc != nil && snap.Shared(int(c.listener)) { // whose client it was did not come out
		w.claims.Accepted(svc)
	}
	w.conns.Free(slot)
	if srv != nil {
		w.roomAt(svc)
	}
}

// midway tells whether the door ends a connection in the middle of something: then both sides get a reset, so
// that none can take what it has for the whole.
func (w *worker) midway(c *conn, why ending) bool {
	if c.state != relaying {
		return false
	}
	switch why {
	case endCutOff:
		return true
	case endStopped:
		return !w.quiet(c)
	case endIdle:
		unacked, err := loop.OutQueue(int(c.fd[client]))
		return c.half[client].pending() || c.half[server].pending() || err == 0 && unacked > 0
	}
	return false
}

const (
	resetLook = 5 * time.Millisecond // how often unacknowledged bytes are looked for
	resetWait = 5 * time.Second      // how long a reset, or an end that the door makes, waits for them
)

// reset carries a reset to side s: after what was sent to it before has been acknowledged, because a reset
// makes both kernels throw away what is still under way. It returns false: the connection relays no more. One
// whose server is to be reset stays counted on it, and in its list, until that is done.
func (w *worker) reset(slot uint32, c *conn, s int) bool {
	if s == client {
		w.dropServer(c, false)
	} else {
		loop.Close(int(c.fd[client]))
		c.fd[client] = -1
	}
	w.outlast(slot, c)
	return false
}

// leave ends a connection between two answers. The client gets an end of stream, and the answer before it whole,
// also when it has begun to ask again: a question that met a closed socket would be answered by a reset, which
// makes both kernels throw away what is still under way.
func (w *worker) leave(slot uint32, c *conn) {
	w.dropServer(c, true)
	w.bid(c)
	_ = loop.Shutdown(int(c.fd[client]), loop.ShutWrite)
	c.flags |= orderly
	w.outlast(slot, c)
}

// dropServer closes the server's side of a started connection and counts it as ended; the client's is left.
func (w *worker) dropServer(c *conn, cut bool) {
	t := &w.targets[c.target]
	w.unlink(&t.conns, c)
	t.count--
	t.dials++
	w.claims.End(t.server, cut)
	loop.Close(int(c.fd[server]))
	c.fd[server] = -1
}

// outlast keeps the one side that is left until it has acknowledged everything.
func (w *worker) outlast(slot uint32, c *conn) {
	c.state = resetting
	c.until = w.loop.Now() + int64(resetWait)
	w.resetSoon(slot, c)
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
	if c.flags&orderly != 0 {
		w.ignore(c)
		w.end(slot, c, endCut)
		return
	}
	_ = loop.SetLinger0(int(c.fd[s]))
	w.end(slot, c, endReset)
}

// carriedAll tells whether the last byte of a started connection came from the server, and all that it has said is carried.
func (w *worker) carriedAll(c *conn) bool {
	if c.lastSide != server || c.half[client].pending() || c.half[server].pending() {
		return false
	}
	n, err := loop.InQueue(int(c.fd[server]))
	return err == 0 && n == 0
}

// ignore reads what the client has begun to ask: closed with that unread, the socket would answer by a reset.
func (w *worker) ignore(c *conn) {
	for range pumpRounds {
		if n, err := loop.Recv(int(c.fd[client]), w.loop.Buffer()); err != 0 || n == 0 {
			return
		}
	}
}

// quiet tells whether nothing is under way on a started connection: the last byte came from the server proxy.IdleCut ago, and
// neither side has anything that is not carried yet.
func (w *worker) quiet(c *conn) bool {
	if w.loop.Now()-c.last < proxy.IdleCut || !w.carriedAll(c) {
		return false
	}
	n, err := loop.InQueue(int(c.fd[client]))
	return err == 0 && n == 0
}

// Cut ends connections of a server as far as cuts allows; see proxy.Cut.
func (w *worker) Cut(srv *proxy.Server, cuts proxy.Cuts) {
	ti, ok := w.targetOf[srv]
	if !ok {
		return
	}
	for slot := w.targets[ti].conns; slot != none; {
		c := w.conns.Get(slot)
		next := c.next
		switch how := cuts.Of(w.loop.ID(), slot); {
		case how == proxy.CutNot:
		case c.state == resetting:
			if how == proxy.CutNow {
				_ = loop.SetLinger0(int(c.fd[server]))
				w.end(slot, c, endReset)
			}
		case w.targets[ti].looks.Idle(c.last) && w.quiet(c):
			w.leave(slot, c)
		case how == proxy.CutNow:
			w.end(slot, c, endCutOff)
		}
		slot = next
	}
	w.targets[ti].looks.Done(cuts, w.loop.Now())
}

package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// pumpRounds is how many buffers one direction carries before others get their turn.
const pumpRounds = 8

// relay takes an event of one side of a started connection.
func (w *worker) relay(slot uint32, c *conn, side int, ev loop.Events) {
	h := &c.half[side]
	if ev&loop.Err != 0 {
		// It was reset, which reading need not show: after an end of stream that is all one reads.
		w.unwritable(slot, c, 1-side)
		return
	}
	if ev&(loop.In|loop.RDHUP|loop.Hup) != 0 {
		// Edge-triggered: no further event will come for what is already there, so after an end a short
		// read no longer means "nothing left"; only the end or EAGAIN does.
		w.canRead(c, side, ev&(loop.RDHUP|loop.Hup) != 0)
	}
	if other := &c.half[1-side]; ev&loop.Out != 0 && (other.pending() || other.is(broken)) {
		if !w.pump(slot, c, 1-side) {
			return
		}
	}
	if h.is(readable) || ev == 0 {
		w.pump(slot, c, side)
	}
}

// pump carries what side s has to the other side, until there is nothing more to read, or the other side
// takes no more, or it is others' turn. It returns false if the connection has ended, or waits to be reset.
func (w *worker) pump(slot uint32, c *conn, s int) bool {
	h := &c.half[s]
	for round := 0; ; round++ {
		if h.pending() {
			if done, alive := w.flush(slot, c, s); !alive || !done {
				return alive
			}
		}
		switch {
		case h.is(dead):
			return true
		case h.is(broken):
			return w.reset(slot, c, 1-s)
		case h.is(eof):
			return w.ended(slot, c, s)
		case !h.is(readable):
			return true
		case round == 0 && s == client && w.asksAnew(slot, c):
			w.leave(slot, c)
			return false
		case round == pumpRounds:
			w.loop.Again(w.token(slot, uint8(s)))
			return true
		case h.streak >= bulkAfter:
			if alive := w.bulk(slot, c, s); !alive {
				return false
			}
			continue
		}
		buf := w.loop.Buffer()
		if c.tls[1-s] != open {
			buf = buf[:secure.MaxPlain]
		}
		n, err := w.receive(slot, c, s, buf)
		switch {
		case err == errEnded:
			return false
		case err == syscall.EAGAIN:
			h.state &^= readable
			continue
		case err != 0:
			h.state |= broken
			continue
		case n == 0 && s == server && c.tls[server] != open && w.sessions[c.tls[server]].Truncated():
			h.state |= broken // cut short by whomever: the client must not take what it has for the whole
			continue
		case n == 0:
			h.state |= eof
			continue
		}
		switch {
		case c.tls[client]|c.tls[server] != open: // there may be more than one read shows, and nothing goes round crypto/tls
		case n == len(buf):
			h.streak++
		default:
			h.streak = 0
			if !h.is(hup) {
				h.state &^= readable
			}
		}
		if !w.forward(slot, c, s, buf[:n]) {
			return false
		}
	}
}

// forward writes bytes that came from side s (or are sent in its name) to the other side; what does not fit
// is kept in a block. It returns false if the connection has ended.
func (w *worker) forward(slot uint32, c *conn, s int, b []byte) bool {
	h := &c.half[s]
	w.carried(c, s, len(b))
	rest, err := w.send(c, 1-s, b) // pump reads nothing while bytes are pending, so there are none
	if err != 0 {
		return w.unwritable(slot, c, s)
	}
	w.keep(h, rest)
	return true
}

// carried counts bytes that were read from side s.
func (w *worker) carried(c *conn, s, n int) {
	c.last, c.lastSide = w.loop.Now(), uint8(s)
	c.half[s].carried += uint64(n)
	srv := w.targets[c.target].server
	if s == client {
		w.claims.Carried(srv, n, 0)
	} else {
		w.claims.Carried(srv, 0, n)
	}
}

// flush writes pending bytes that came from side s. done: none are left. alive: false if the connection has
// ended.
func (w *worker) flush(slot uint32, c *conn, s int) (done, alive bool) {
	h := &c.half[s]
	if h.piped > 0 {
		return w.flushPipe(slot, c, s)
	}
	n, err := loop.Send(int(c.fd[1-s]), w.loop.Bytes(h.buf)[h.off:h.end])
	switch err {
	case 0:
	case syscall.EAGAIN:
		return false, true
	default:
		return false, w.unwritable(slot, c, s)
	}
	c.last = w.loop.Now()
	if h.off += int32(n); h.off < h.end {
		return false, true
	}
	w.dropBuf(h)
	return true, true
}

func (w *worker) dropBuf(h *half) {
	w.loop.PutBuf(h.buf)
	h.buf, h.off, h.end = loop.NoBuf, 0, 0
}

// unwritable is a side that takes no more bytes: it was reset, or has closed. What it sent before that is
// still carried; then its end or its reset is.
func (w *worker) unwritable(slot uint32, c *conn, s int) bool {
	h, back := &c.half[s], &c.half[1-s]
	h.state |= dead
	w.drop(c, s)
	if back.is(dead) { // nor does the other one: nothing can be carried any more
		w.end(slot, c, endReset)
		return false
	}
	w.canRead(c, 1-s, true)
	return w.pump(slot, c, 1-s)
}

// drop forgets pending bytes that came from side s.
func (w *worker) drop(c *conn, s int) {
	h := &c.half[s]
	if h.buf != loop.NoBuf {
		w.dropBuf(h)
	}
	if h.is(piping) {
		w.loop.DropPipe(h.pipe)
		h.piped = 0
		h.state &^= piping
	}
}

// ended carries the end of side s, and ends the connection when both sides have.
func (w *worker) ended(slot uint32, c *conn, s int) bool {
	h, back := &c.half[s], &c.half[1-s]
	if back.is(dead) {
		// Side s refused bytes and now shows its end: it was reset, and that is what the other side gets.
		return w.reset(slot, c, 1-s)
	}
	if !h.is(finSent) {
		if w.tellEnd(c, s); h.pending() {
			return true // an event will tell that the rest can be sent, and lead here again
		}
		h.state |= finSent
		h.state &^= readable
		if s == client {
			c.lastSide = client // an end of stream is a word too: an answer may come of it
		}
		if !back.is(finSent) { // else both are closed right now
			_ = loop.Shutdown(int(c.fd[1-s]), loop.ShutWrite)
		}
	}
	if back.is(finSent) {
		w.end(slot, c, endDone)
		return false
	}
	return true
}

// asksAnew tells, of a connection that is to end after the answer it is in, whether its client has begun to ask again: its
// first bytes after the server's are there, and none of them is carried yet. A pause of the server ends no answer.
func (w *worker) asksAnew(slot uint32, c *conn) bool {
	if w.targets[c.target].looks.Cuts.Of(w.loop.ID(), slot) < proxy.CutAfterAnswer || !w.carriedAll(c) {
		return false
	}
	asked, err := loop.InQueue(int(c.fd[client]))
	return err == 0 && asked > 0
}

// rest sets the idle timer. It is set once and looks at conn.last when it fires, so that a byte costs no timer.
func (w *worker) rest(slot uint32, c *conn, svc *proxy.Service) {
	if svc == nil || svc.Spec.Timeouts.Idle <= 0 {
		w.timers.Cancel(slot)
		return
	}
	w.timers.Set(slot, c.last+int64(svc.Spec.Timeouts.Idle))
}

func (w *worker) idle(slot uint32, c *conn) {
	svc := w.service(w.sw.Current(), c)
	if svc != nil && svc.Spec.Timeouts.Idle > 0 && w.loop.Now() >= c.last+int64(svc.Spec.Timeouts.Idle) {
		w.end(slot, c, endIdle)
		return
	}
	w.rest(slot, c, svc)
}

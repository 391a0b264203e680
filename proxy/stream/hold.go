package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/hold"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// place is where a client waits.
func (w *worker) place(slot uint32) hold.Place {
	c := w.conns.Get(slot)
	return hold.Place{Next: &c.next, Prev: &c.prev, Since: c.began}
}

// roomAt lets in the client that has waited longest for servers that were full, now that a connection has ended.
func (w *worker) roomAt(svc *proxy.Service) {
	if i, ok := w.plane.lines.Room(svc); ok {
		other, live := w.plane.workers[i], svc.Live
		other.loop.Post(func() {
			if qi, ok := other.queues.Of(live); ok {
				other.admit(qi)
			}
		})
	}
}

// hold lets a client wait at the door, unread. It ends when the hold does, when a server has room, at the
// limit (the explicit answer: its connection is closed), or when the client leaves.
func (w *worker) hold(slot uint32, c *conn, svc *proxy.Service, why proxy.Verdict) {
	if !w.claims.Hold(svc) {
		w.end(slot, c, endOverflow)
		return
	}
	w.poured(c)
	qi, ask := w.queues.Join(svc.Live, slot, why, w.sw.Current())
	c.state, c.queue = waiting, qi
	c.until = w.loop.Now() + int64(svc.WaitLimit())
	if why == proxy.Down { // it may come here several times, so its time runs from when it came to the door
		c.until, c.tried = c.began+int64(svc.DownLimit()), 0
	}
	w.timers.Set(slot, c.until)
	if ask {
		w.askAgain(qi)
	}
	if c.flags&watched == 0 {
		w.watch(slot, c)
		return
	}
	w.lookForLeaving(slot, c, loop.RDHUP)
}

// askAgain has the first of a queue look again soon whether a server has room.
func (w *worker) askAgain(qi int32) {
	head := w.queues.First(qi)
	w.timers.Set(head, min(w.conns.Get(head).until, w.loop.Now()+int64(w.queues.Retry(qi))))
}

// unhold takes a client out of its queue.
func (w *worker) unhold(slot uint32, c *conn, how proxy.HoldEnd) {
	live := w.queues.Live(c.queue)
	w.queues.Leave(c.queue, slot)
	w.timers.Cancel(slot)
	w.claims.Unhold(w.service(w.sw.Current(), c), live, how)
	c.state = steering
	if how != proxy.HoldReleased {
		if w.queues.First(c.queue) != none {
			w.askAgain(c.queue) // if this was the first: nobody else looks for room on behalf of the next
		}
		c.queue = -1
	}
}

// lookForLeaving ends the wait of a client that went away. A client that sent something and then half-closed
// may still wait for its answer, so it stays; one that closed without a word has left.
func (w *worker) lookForLeaving(slot uint32, c *conn, ev loop.Events) {
	gone := ev&(loop.Err|loop.Hup) != 0
	if !gone && ev&loop.RDHUP != 0 {
		var b [64]byte
		n, err := loop.Peek(int(c.fd[client]), b[:])
		gone = n == 0 && err != syscall.EAGAIN || // an error is a reset, which the peek has taken off the socket
			c.tls[client] != open && parting(b[:n]) ||
			c.flags&through != 0 && c.half[client].is(hup) // half a handshake is no question
	}
	if gone {
		w.end(slot, c, endLeft)
	}
}

// waited is the timer of a waiting client: its limit, or the next look whether a server has room.
func (w *worker) waited(slot uint32, c *conn) {
	now := w.loop.Now()
	if now >= c.until {
		w.unhold(slot, c, proxy.HoldExpired)
		w.end(slot, c, endWaited)
		return
	}
	w.timers.Set(slot, c.until) // admit sets it anew if this is still the first and there is no room
	if svc := w.service(w.sw.Current(), c); svc != nil && svc.Hold == nil && w.queues.Elsewhere(c.queue) {
		w.askAgain(c.queue)
		return
	}
	w.admit(c.queue)
}

// Release lets in the clients of queues whose services are not held any more. It belongs into the quiet
// point, after TakeBack.
func (w *worker) Release() { w.queues.Release(w.sw.Current(), w.admit) }

// admit lets in the first of a queue, as long as their service takes them; each that has been dialled for lets in the
// next one.
func (w *worker) admit(qi int32) {
	for slot := w.queues.Admit(qi); slot != none; slot = w.queues.Admit(qi) {
		c := w.conns.Get(slot)
		snap := w.sw.Current()
		svc := w.service(snap, c)
		verdict := proxy.Refuse
		var got proxy.Claimed
		if svc != nil {
			if c.rev != snap.Revision {
				c.rev, c.tried = snap.Revision, 0
			}
			got, verdict = w.claims.Claim(svc, w.key(svc, c), c.tried)
		}
		switch verdict {
		case proxy.Wait: // held, or held again
			return
		case proxy.Full, proxy.Down:
			w.askAgain(qi)
			return
		}
		w.unhold(slot, c, proxy.HoldReleased)
		w.queues.Pour(qi)
		c.flags |= pouring
		if verdict == proxy.Dial {
			c.position = int32(got.Position)
			if w.dial(slot, c, svc, got.Server) {
				continue
			}
		}
		w.steer(slot, c)
	}
}

// poured ends a client's part in the pouring of its queue, and lets in the next one.
func (w *worker) poured(c *conn) {
	if c.flags&pouring == 0 {
		return
	}
	qi := c.queue
	c.flags &^= pouring
	c.queue = -1
	switch w.queues.Poured(qi) {
	case hold.Ask:
		w.askAgain(qi)
	case hold.Go:
		w.loop.Post(func() { w.admit(qi) })
	}
}

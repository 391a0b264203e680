package web

import (
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/hold"
)

// place is where a request waits.
func (w *worker) place(slot uint32) hold.Place {
	c := w.clients.Get(slot)
	return hold.Place{Next: &c.next, Prev: &c.prev, Since: c.began}
}

// roomAt lets in the request that has waited longest for servers that were full, now that one has ended.
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

// hold lets a request wait at the door: its head is buf, its body stays unread. It ends when the hold does, when a
// server has room, at the limit (503), or when the client leaves.
func (w *worker) hold(slot uint32, c *client, svc *proxy.Service, why proxy.Verdict, buf []byte) {
	w.keep(&c.in, buf)
	if !w.claims.Hold(svc) {
		w.poured(c)
		w.giveUp(slot, c, answerOverflow)
		return
	}
	w.poured(c)
	qi, ask := w.queues.Join(svc.Live, slot, why, w.sw.Current())
	c.state, c.queue = waiting, qi
	c.waited = w.loop.Now() + int64(svc.WaitLimit())
	if why == proxy.Down { // it may come here several times, so its time runs from when it came to the door
		c.waited, c.tried = c.began+int64(svc.DownLimit()), 0
	}
	w.deadline(slot, c, c.waited)
	if ask {
		w.askAgain(qi)
	}
}

// askAgain has the first of a queue look again soon whether a server has room.
func (w *worker) askAgain(qi int32) {
	head := w.queues.First(qi)
	c := w.clients.Get(head)
	w.deadline(head, c, min(c.waited, w.loop.Now()+int64(w.queues.Retry(qi))))
}

// unhold takes a request out of its queue.
func (w *worker) unhold(slot uint32, c *client, how proxy.HoldEnd) {
	live := w.queues.Live(c.queue)
	w.queues.Leave(c.queue, slot)
	w.deadline(slot, c, 0)
	w.claims.Unhold(w.sw.Current().Service(live.Name), live, how)
	c.state = reading
	if how != proxy.HoldReleased {
		if w.queues.First(c.queue) != none {
			w.askAgain(c.queue) // if this was the first: nobody else looks for room on behalf of the next
		}
		c.queue = -1
	}
}

// waitedEnough is the timer of a waiting request: its limit, or the next look whether a server has room.
func (w *worker) waitedEnough(slot uint32, c *client) {
	now := w.loop.Now()
	if now >= c.waited {
		w.unhold(slot, c, proxy.HoldExpired)
		w.giveUp(slot, c, answerWaited)
		return
	}
	w.deadline(slot, c, c.waited) // admit sets it anew if this is still the first and there is no room
	if svc := w.sw.Current().Service(w.queues.Live(c.queue).Name); svc != nil && svc.Hold == nil && w.queues.Elsewhere(c.queue) {
		w.askAgain(c.queue)
		return
	}
	w.admit(c.queue)
}

// Release implements front.Worker: it lets in the requests of queues whose services are not held any more.
func (w *worker) Release() { w.queues.Release(w.sw.Current(), w.admit) }

// admit lets in the first of a queue, as long as their service takes them; each that has been dialled for lets in the
// next one.
func (w *worker) admit(qi int32) {
	for slot := w.queues.Admit(qi); slot != none; slot = w.queues.Admit(qi) {
		c := w.clients.Get(slot)
		snap := w.sw.Current()
		buf, n := w.again(slot, c)
		svc := snap.At(int(c.listener))
		if svc != nil && snap.Routed(int(c.listener)) {
			svc = w.routed(snap, int(c.listener), buf)
		}
		verdict := proxy.Refuse
		var got proxy.Claimed
		if svc != nil && svc.Live == w.queues.Live(qi) {
			if c.rev != snap.Revision {
				c.rev, c.tried = snap.Revision, 0
			}
			got, verdict = w.choose(svc, c, buf)
		}
		switch verdict {
		case proxy.Wait: // held, or held again
			w.keep(&c.in, buf)
			return
		case proxy.Full, proxy.Down:
			w.keep(&c.in, buf)
			w.askAgain(qi)
			return
		}
		w.unhold(slot, c, proxy.HoldReleased)
		w.queues.Pour(qi)
		c.flags |= pouring
		if verdict == proxy.Dial && w.lead(slot, c, svc, got, buf, n) {
			continue
		}
		w.steer(slot, c, buf, n)
	}
}

// poured ends a request's part in the pouring of its queue, and lets in the next one.
func (w *worker) poured(c *client) {
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

// through says that a server answers: those that wait for one are let in.
func (w *worker) through(c *client) {
	if c.flags&pouring != 0 {
		w.queues.Through(c.queue)
	}
}

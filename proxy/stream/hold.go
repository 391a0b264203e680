package stream

import (
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	// pourWidth is how many clients of a queue are dialled for at once when a hold ends, for each loop:
	// enough to be quick, few enough not to flood the backlog of a server that has just begun.
	pourWidth = 128
	// fullRetry is how often a client that waits for a server with max_connections asks again; a
	// connection that ends on the same loop lets one in sooner.
	fullRetry = 10 * time.Millisecond
)

// queue is where the clients of one service wait on this loop, first come first served.
type queue struct {
	live       *proxy.Live // nil: not in use
	head, tail uint32
	length     int
	pouring    int // let in, and still being dialled for
}

func (w *worker) queueFor(live *proxy.Live) int32 {
	if i, ok := w.queueOf[live]; ok {
		return i
	}
	q := queue{live: live, head: none, tail: none}
	for i := range w.queues {
		if w.queues[i].live == nil {
			w.queues[i] = q
			w.queueOf[live] = int32(i)
			return int32(i)
		}
	}
	w.queues = append(w.queues, q)
	w.queueOf[live] = int32(len(w.queues) - 1)
	return int32(len(w.queues) - 1)
}

// hold lets a client wait at the door, unread. It ends when the hold does, when a server has room, at the
// limit (the explicit answer: its connection is closed), or when the client leaves.
func (w *worker) hold(slot uint32, c *conn, svc *proxy.Service, why proxy.Verdict) {
	if !w.claims.Hold(svc) {
		w.end(slot, c, endOverflow)
		return
	}
	w.poured(c)
	qi := w.queueFor(svc.Live)
	q := &w.queues[qi]
	c.state, c.queue, c.next, c.prev = waiting, qi, none, q.tail
	if q.tail != none {
		w.conns.Get(q.tail).next = slot
	} else {
		q.head = slot
	}
	q.tail = slot
	q.length++
	c.until = w.loop.Now() + int64(svc.WaitLimit())
	w.timers.Set(slot, c.until)
	if why == proxy.Full {
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
	head := w.queues[qi].head
	w.timers.Set(head, min(w.conns.Get(head).until, w.loop.Now()+int64(fullRetry)))
}

// unhold takes a client out of its queue.
func (w *worker) unhold(slot uint32, c *conn, how proxy.HoldEnd) {
	q := &w.queues[c.queue]
	if c.prev != none {
		w.conns.Get(c.prev).next = c.next
	} else {
		q.head = c.next
	}
	if c.next != none {
		w.conns.Get(c.next).prev = c.prev
	} else {
		q.tail = c.prev
	}
	c.next, c.prev = none, none
	q.length--
	w.timers.Cancel(slot)
	w.claims.Unhold(w.sw.Current().At(int(c.listener)), q.live, how)
	c.state = steering
	if how != proxy.HoldReleased {
		c.queue = -1
	}
}

// lookForLeaving ends the wait of a client that went away. A client that sent something and then half-closed
// may still wait for its answer, so it stays; one that closed without a word has left.
func (w *worker) lookForLeaving(slot uint32, c *conn, ev loop.Events) {
	gone := ev&(loop.Err|loop.Hup) != 0
	if !gone && ev&loop.RDHUP != 0 {
		var b [1]byte
		n, err := loop.Peek(int(c.fd[client]), b[:])
		gone = n == 0 && err == 0
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
	w.admit(c.queue)
}

// release lets in the clients of queues whose services are not held any more. It belongs into the quiet
// point, after takeBack.
func (w *worker) release() {
	for i := range w.queues {
		if w.queues[i].live != nil {
			w.admit(int32(i))
		}
	}
}

// admit lets in the first of a queue, as long as their service takes them and at most pourWidth are being
// dialled for; each that has been dialled for lets in the next one.
func (w *worker) admit(qi int32) {
	for w.queues[qi].head != none && w.queues[qi].pouring < pourWidth {
		slot := w.queues[qi].head
		c := w.conns.Get(slot)
		snap := w.sw.Current()
		svc := snap.At(int(c.listener))
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
		case proxy.Full:
			w.askAgain(qi)
			return
		}
		w.unhold(slot, c, proxy.HoldReleased)
		w.queues[qi].pouring++
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
	w.queues[qi].pouring--
	if w.queues[qi].head != none {
		w.loop.Post(func() { w.admit(qi) })
	}
}

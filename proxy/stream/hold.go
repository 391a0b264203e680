package stream

import (
	"sync/atomic"
	"syscall"
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
	// downRetry is how often the first of those that wait for a server that answers dials one. A change of
	// the servers' health lets them in sooner.
	downRetry = 50 * time.Millisecond
)

// queue is where the clients of one service wait on this loop, first come first served.
type queue struct {
	live       *proxy.Live // nil: not in use
	line       *line
	head, tail uint32
	length     int
	pouring    int // let in, and still being dialled for
	// down says that dials have failed and no server was left: one client at a time tries, until one gets
	// through or the snapshot is another one than seen.
	down bool
	seen *proxy.Snapshot
}

// line joins the queues that one service has on different loops: each loop says here since when its first client
// waits (0: none does, or as many as may be are being let in). So a server with max_connections that has room again
// gets whoever has waited longest, not whoever is on the loop where a connection has just ended.
type line struct{ since []atomic.Int64 }

// line finds or makes a service's.
func (p *Plane) line(live *proxy.Live) *line {
	p.linesMu.Lock()
	defer p.linesMu.Unlock()
	l := p.lines[live]
	if l == nil {
		l = &line{make([]atomic.Int64, len(p.workers))}
		p.lines[live] = l
	}
	return l
}

// forgetLines drops those of services that are gone.
func (p *Plane) forgetLines(snap *proxy.Snapshot) {
	p.linesMu.Lock()
	defer p.linesMu.Unlock()
	for live := range p.lines {
		if svc := snap.Service(live.Name); svc == nil || svc.Live != live {
			delete(p.lines, live)
		}
	}
}

// eldest is the loop whose first client has waited longest; -1: none waits.
func (l *line) eldest() int {
	at, first := -1, int64(0)
	for i := range l.since {
		if t := l.since[i].Load(); t != 0 && (at < 0 || t < first) {
			at, first = i, t
		}
	}
	return at
}

// showHead tells the line who is the first of a queue now.
func (w *worker) showHead(q *queue) {
	since := int64(0)
	if q.head != none && q.pouring < pourWidth {
		since = w.conns.Get(q.head).began
	}
	q.line.since[w.loop.ID()].Store(since)
}

// mustQueue tells whether a new client has to wait because others wait already for servers that were full;
// otherwise it could take what becomes free before they do. When the door is full too, it may try its luck.
func (w *worker) mustQueue(svc *proxy.Service) bool {
	n := svc.Held()
	return n > 0 && n < svc.Spec.Hold.Max && svc.Hold == nil && svc.Maintenance == nil && svc.Limited()
}

// queueDown tells whether a new client has to wait because no server answers those that wait already.
func (w *worker) queueDown(svc *proxy.Service) bool {
	qi, ok := w.queueOf[svc.Live]
	return ok && w.queues[qi].down && w.queues[qi].head != none && svc.Hold == nil && svc.Maintenance == nil
}

// roomAt lets in the client that has waited longest for servers that were full, now that a connection has ended.
func (w *worker) roomAt(svc *proxy.Service) {
	if svc == nil || svc.Hold != nil || svc.Held() == 0 || !svc.Limited() {
		return
	}
	live := svc.Live
	if i := w.plane.line(live).eldest(); i >= 0 {
		other := w.plane.workers[i]
		other.loop.Post(func() {
			if qi, ok := other.queueOf[live]; ok {
				other.admit(qi)
			}
		})
	}
}

func (w *worker) queueFor(live *proxy.Live) int32 {
	if i, ok := w.queueOf[live]; ok {
		return i
	}
	q := queue{live: live, line: w.plane.line(live), head: none, tail: none}
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
	w.showHead(q)
	c.until = w.loop.Now() + int64(svc.WaitLimit())
	if why == proxy.Down { // it may come here several times, so its time runs from when it came to the door
		c.until, c.tried = c.began+int64(svc.DownLimit()), 0
		q.down, q.seen = true, w.sw.Current()
	}
	w.timers.Set(slot, c.until)
	if why == proxy.Full || why == proxy.Down && q.head == slot {
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
	head, retry := w.queues[qi].head, fullRetry
	if w.queues[qi].down {
		retry = downRetry
	}
	w.timers.Set(head, min(w.conns.Get(head).until, w.loop.Now()+int64(retry)))
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
	w.showHead(q)
	w.timers.Cancel(slot)
	w.claims.Unhold(w.service(w.sw.Current(), c), q.live, how)
	c.state = steering
	if how != proxy.HoldReleased {
		if q.head != none {
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
	if svc := w.service(w.sw.Current(), c); svc != nil && svc.Hold == nil {
		if i := w.queues[c.queue].line.eldest(); i >= 0 && i != w.loop.ID() {
			w.askAgain(c.queue) // another loop's client is first, and that loop looks for room as this one does
			return
		}
	}
	w.admit(c.queue)
}

// Release lets in the clients of queues whose services are not held any more. It belongs into the quiet
// point, after TakeBack.
func (w *worker) Release() {
	for i := range w.queues {
		if q := &w.queues[i]; q.live != nil {
			q.down = q.down && q.seen == w.sw.Current()
			w.admit(int32(i))
		}
	}
}

// admit lets in the first of a queue, as long as their service takes them and at most pourWidth are being
// dialled for; each that has been dialled for lets in the next one.
func (w *worker) admit(qi int32) {
	for w.queues[qi].head != none && w.queues[qi].pouring < w.queues[qi].width() {
		slot := w.queues[qi].head
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
		w.queues[qi].pouring++
		w.showHead(&w.queues[qi])
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

// width is how many clients may be dialled for at once.
func (q *queue) width() int {
	if q.down {
		return 1
	}
	return pourWidth
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
	w.showHead(&w.queues[qi])
	switch {
	case w.queues[qi].head == none:
	case w.queues[qi].down:
		w.askAgain(qi)
	default:
		w.loop.Post(func() { w.admit(qi) })
	}
}

// Package hold is the order in which clients wait at the door, for any plane: while their service is held, while its servers
// are full (max_connections), or while none of them answers.
//
//	a loop:     Queues: one queue for each service, first come first served
//	all loops:  Lines: whose first has waited longest gets the room that a server has again
//
// Who waits stays in its plane, which says by Place where its links are, has its timer, and claims for it. Nothing here
// allocates but for a service's first wait on a loop.
//
// Queues belong to their loop; Lines may be used by all.
package hold

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

const (
	// pourWidth is how many of a queue are dialled for at once when a hold ends, for each loop: enough to be quick, few
	// enough not to flood the backlog of a server that has just begun.
	pourWidth = 128
	// fullRetry is how often the first that waits for a server with max_connections asks again; a connection that ends on
	// the same loop lets one in sooner.
	fullRetry = 10 * time.Millisecond
	// downRetry is how often the first of those that wait for a server that answers dials one. A change of the servers'
	// health lets them in sooner.
	downRetry = 50 * time.Millisecond
)

// None is no slot.
const None = ^uint32(0)

// Place is what a queue has to know of who waits in it.
type Place struct {
	Next, Prev *uint32 // the queue's links, as long as it waits; None at an end
	Since      int64   // when it came to the door, by the loops' clock
}

// Lines joins the queues that one service has on different loops.
type Lines struct {
	loops int
	mu    sync.Mutex // taken only when somebody waits
	of    map[*proxy.Live]*line
}

// line has, for each loop, since when the first of its queue waits; 0: nobody does, or as many as may be are being let in. So a
// server with max_connections that has room again gets whoever has waited longest, not whoever is on the loop where
// a connection has just ended.
type line struct{ since []atomic.Int64 }

// NewLines makes a plane's.
func NewLines(loops int) *Lines { return &Lines{loops: loops, of: map[*proxy.Live]*line{}} }

func (l *Lines) line(live *proxy.Live) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.of[live]
	if n == nil {
		n = &line{make([]atomic.Int64, l.loops)}
		l.of[live] = n
	}
	return n
}

// Forget drops those of services that are gone.
func (l *Lines) Forget(snap *proxy.Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for live := range l.of {
		if svc := snap.Service(live.Name); svc == nil || svc.Live != live {
			delete(l.of, live)
		}
	}
}

// Room tells which loop is to let one in, now that a connection to a server of svc has ended: the one whose first has waited
// longest. False: nobody waits for room.
func (l *Lines) Room(svc *proxy.Service) (loop int, ok bool) {
	if svc == nil || svc.Hold != nil || svc.Held() == 0 || !svc.Limited() {
		return 0, false
	}
	loop = l.line(svc.Live).eldest()
	return loop, loop >= 0
}

// eldest is the loop whose first has waited longest; -1: none waits.
func (l *line) eldest() int {
	at, first := -1, int64(0)
	for i := range l.since {
		if t := l.since[i].Load(); t != 0 && (at < 0 || t < first) {
			at, first = i, t
		}
	}
	return at
}

// Must tells whether who is new has to wait because others wait already for servers that were full; otherwise it could take what
// becomes free before they do. When the door is full too, it may try its luck.
func Must(svc *proxy.Service) bool {
	n := svc.Held()
	return n > 0 && n < svc.Spec.Hold.Max && svc.Hold == nil && svc.Maintenance == nil && svc.Limited()
}

// Queues are those of one loop. A queue is named by a number that holds from Join until its last has left and was poured.
type Queues struct {
	lines *Lines
	loop  int
	at    func(slot uint32) Place
	all   []queue
	of    map[*proxy.Live]int32
}

type queue struct {
	live       *proxy.Live // nil: not in use
	line       *line
	head, tail uint32
	length     int
	pouring    int // let in, and still being dialled for
	// down says that dials have failed and no server was left: one at a time tries, until one gets through or the
	// snapshot is another one than seen.
	down bool
	seen *proxy.Snapshot
}

// New makes the queues of a loop. at finds who waits.
func New(lines *Lines, loop int, at func(slot uint32) Place) *Queues {
	return &Queues{lines: lines, loop: loop, at: at, of: map[*proxy.Live]int32{}}
}

func (q *Queues) find(live *proxy.Live) int32 {
	if i, ok := q.of[live]; ok {
		return i
	}
	fresh := queue{live: live, line: q.lines.line(live), head: None, tail: None}
	for i := range q.all {
		if q.all[i].live == nil {
			q.all[i] = fresh
			q.of[live] = int32(i)
			return int32(i)
		}
	}
	q.all = append(q.all, fresh)
	q.of[live] = int32(len(q.all) - 1)
	return int32(len(q.all) - 1)
}

// Of finds a service's queue.
func (q *Queues) Of(live *proxy.Live) (i int32, ok bool) {
	i, ok = q.of[live]
	return i, ok
}

// Live is whose queue it is.
func (q *Queues) Live(i int32) *proxy.Live { return q.all[i].live }

// MustDown tells whether who is new has to wait because no server answers those that wait already.
func (q *Queues) MustDown(svc *proxy.Service) bool {
	i, ok := q.of[svc.Live]
	return ok && q.all[i].down && q.all[i].head != None && svc.Hold == nil && svc.Maintenance == nil
}

// Join puts a slot at the end of a service's queue. why is what its claim was answered with, under snap. ask: the first is to
// look again soon (Retry).
func (q *Queues) Join(live *proxy.Live, slot uint32, why proxy.Verdict, snap *proxy.Snapshot) (i int32, ask bool) {
	i = q.find(live)
	u := &q.all[i]
	p := q.at(slot)
	*p.Next, *p.Prev = None, u.tail
	if u.tail != None {
		*q.at(u.tail).Next = slot
	} else {
		u.head = slot
	}
	u.tail = slot
	u.length++
	q.show(u)
	if why == proxy.Down {
		u.down, u.seen = true, snap
	}
	return i, why == proxy.Full || why == proxy.Down && u.head == slot
}

// Leave takes a slot out of its queue.
func (q *Queues) Leave(i int32, slot uint32) {
	u := &q.all[i]
	p := q.at(slot)
	if *p.Prev != None {
		*q.at(*p.Prev).Next = *p.Next
	} else {
		u.head = *p.Next
	}
	if *p.Next != None {
		*q.at(*p.Next).Prev = *p.Prev
	} else {
		u.tail = *p.Prev
	}
	*p.Next, *p.Prev = None, None
	u.length--
	q.show(u)
}

// show tells the line who is the first of a queue now.
func (q *Queues) show(u *queue) {
	since := int64(0)
	if u.head != None && u.pouring < pourWidth {
		since = q.at(u.head).Since
	}
	u.line.since[q.loop].Store(since)
}

// First is who has waited longest in a queue; None: nobody waits.
func (q *Queues) First(i int32) uint32 { return q.all[i].head }

// Retry is after how long the first of a queue is to look again whether a server has room, or answers.
func (q *Queues) Retry(i int32) time.Duration {
	if q.all[i].down {
		return downRetry
	}
	return fullRetry
}

// Elsewhere tells that the first of another loop has waited longer: that loop looks for room.
func (q *Queues) Elsewhere(i int32) bool {
	at := q.all[i].line.eldest()
	return at >= 0 && at != q.loop
}

// Admit is who is to be let in next, if the claim for it is granted; None: nobody is, or enough are being dialled for.
func (q *Queues) Admit(i int32) uint32 {
	u := &q.all[i]
	width := pourWidth
	if u.down {
		width = 1
	}
	if u.pouring >= width {
		return None
	}
	return u.head
}

// Pour counts one that has left the queue to be dialled for, until Poured.
func (q *Queues) Pour(i int32) {
	q.all[i].pouring++
	q.show(&q.all[i])
}

// Next is what follows when one that was let in has been dialled for.
type Next uint8

// Values of Next.
const (
	Nobody Next = iota // waits
	Ask                // no server answers: the first looks again soon
	Go                 // let in the next one
)

// Poured ends what Pour has begun.
func (q *Queues) Poured(i int32) Next {
	u := &q.all[i]
	u.pouring--
	q.show(u)
	switch {
	case u.head == None:
		return Nobody
	case u.down:
		return Ask
	}
	return Go
}

// Through says that a server answers: those that wait for one are let in.
func (q *Queues) Through(i int32) { q.all[i].down = false }

// Release calls admit for each queue, after a change: whether servers answer is to be seen anew.
func (q *Queues) Release(snap *proxy.Snapshot, admit func(i int32)) {
	for i := range q.all {
		if u := &q.all[i]; u.live != nil {
			u.down = u.down && u.seen == snap
			admit(int32(i))
		}
	}
}

// Sweep forgets queues that are not in use; they are made anew when they are needed.
func (q *Queues) Sweep() {
	for live, i := range q.of {
		if u := &q.all[i]; u.length == 0 && u.pouring == 0 {
			delete(q.of, live)
			*u = queue{head: None, tail: None}
		}
	}
}

// Count is how many wait, and how many are being dialled for.
func (q *Queues) Count() (queued, pouring int) {
	for i := range q.all {
		queued, pouring = queued+q.all[i].length, pouring+q.all[i].pouring
	}
	return queued, pouring
}

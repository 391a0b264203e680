package proxy

import (
	"slices"
	"sync/atomic"
	"time"
)

// drain waits for the connections of sealed servers to end.
type drain struct {
	op    *Operation
	move  move
	until time.Time
	gone  chan struct{} // closed when later changes have taken all servers from it; see superseded
	ended chan struct{}

	// mine are the servers that it still drains. A later change takes from it those that it gives new work
	// to again, or drains by a deadline of its own; the others keep this deadline. Written with Switch.mu
	// held, as the fields below.
	mine       atomic.Pointer[[]*Server]
	base       map[*Server]uint64 // what each had counted as cut when the drain began
	cutBefore  int                // cut on servers that were taken from it
	taken      bool               // some were
	superseded bool               // all were: gone is closed
	cutting    bool               // the plane was told to cut
}

func (d *drain) servers() []*Server { return *d.mine.Load() }

func (d *drain) cutOn(s *Server) int { return int(s.Counts().Cut - d.base[s]) }

// cut is the number of connections cut while the servers were this drain's. Must be called with Switch.mu held.
func (d *drain) cut() int {
	n := d.cutBefore
	for _, s := range d.servers() {
		n += d.cutOn(s)
	}
	return n
}

func connections(servers []*Server) int {
	n := 0
	for _, s := range servers {
		n += s.Connections()
	}
	return n
}

func (d *drain) remaining() int { return connections(d.servers()) }

// startDrain begins a drain in the background; it ends the operation when it was the last one. Must be
// called with s.mu held.
func (s *Switch) startDrain(op *Operation, m *move) *drain {
	for other := range s.drains { // a new deadline for the same servers takes the place of the old one
		if !m.aside {
			other.take(func(x *Server) bool { return slices.Contains(m.sealed, x) })
		}
	}
	d := &drain{op: op, move: *m, until: time.Now().Add(m.deadline), gone: make(chan struct{}), ended: make(chan struct{}), base: make(map[*Server]uint64, len(m.sealed))}
	d.mine.Store(&d.move.sealed)
	for _, srv := range m.sealed {
		d.base[srv] = srv.Counts().Cut
	}
	s.drains[d] = struct{}{}
	op.mu.Lock()
	op.drains++
	op.mu.Unlock()
	go s.runDrain(d) // ends when its servers are empty, or with the drain's deadline and its cuts
	return d
}

// take ends the drain of some of its servers without cutting anything there; of all of them, and it has ended.
// Must be called with Switch.mu held.
func (d *drain) take(which func(*Server) bool) {
	var stay []*Server
	was := d.servers()
	for _, s := range was {
		if which(s) {
			d.cutBefore += d.cutOn(s)
		} else {
			stay = append(stay, s)
		}
	}
	if len(stay) == len(was) {
		return
	}
	d.taken = true
	d.mine.Store(&stay)
	if len(stay) == 0 {
		d.superseded = true
		close(d.gone)
	}
}

func (d *drain) supersede() { d.take(func(*Server) bool { return true }) }

// supersede ends the drains of servers that a change gives new work to again. Only the services it changed
// are looked at: a hand-over drains an active pool behind its hold, whatever changes elsewhere meanwhile.
// Must be called with s.mu held.
func (s *Switch) supersede(cur, next *Snapshot) {
	for d := range s.drains {
		svc := next.Service(d.move.service)
		if svc != nil && svc != cur.Service(d.move.service) && svc.Maintenance == nil {
			d.take(svc.Serving.gives)
		}
	}
}

// answerTime is the longest that drains leave the processors to an answer. It bounds what a client can put off that does
// not take it.
const answerTime = 20 * time.Millisecond

// letAnswer returns when the latest change has been answered. A change starts drains and ends others, and what these do
// first, on every loop, would on few processors be done before whoever asked has the answer: 0.2 ms of one beside 3,000 new
// connections a second.
func (s *Switch) letAnswer() {
	op := s.latest.Load()
	if op == nil || op.change.Answered == nil {
		return
	}
	select {
	case <-op.change.Answered:
	case <-time.After(answerTime):
	}
}

// runDrain ends when the servers are empty, at the deadline and its cuts, or when it is superseded.
func (s *Switch) runDrain(d *drain) {
	defer close(d.ended)
	s.letAnswer()
	if d.move.bySession { // who is between two requests is no connection
		d.waitGone(time.Until(d.until))
		s.endSessions(d.move.service)
	} else {
		d.waitEmpty(time.Until(d.until) - d.looksBefore())
	}
	if d.remaining() > 0 && d.move.then == ThenClose {
		s.cutLeft(d)
	}
	s.letAnswer() // when it was superseded
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.drains, d)
	s.refresh(d.op)
	cut := d.cut()
	left := connections(d.move.sealed)
	before := 0 // cut by a hand-over ahead of its commit
	d.op.update(func(v *OperationView) {
		before = d.op.early[d.move.service].cut
		v.Cut += cut
		for i := range v.Proofs {
			if p := &v.Proofs[i]; p.Service == d.move.service && slices.Equal(p.sealed, d.move.sealed) {
				p.Cut, p.Remaining, p.Drained, p.Superseded = before+cut, left, left == 0, d.taken
			}
		}
	})
	switch {
	case d.superseded:
		d.op.step("drain", "%s/%s: a later change took over, with %s there", d.move.service, d.move.from, plural(left, "connection"))
	case d.move.then == ThenKeep:
		d.op.step("drain", "%s/%s: %s kept at the deadline", d.move.service, d.move.from, plural(left, "connection"))
	case left == 0 && cut == 0 && before > 0:
		d.op.step("drain", "%s/%s is empty, %d cut before the commit", d.move.service, d.move.from, before)
	case left == 0 && cut == 0:
		d.op.step("drain", "%s/%s drained, nothing cut", d.move.service, d.move.from)
	default:
		d.op.step("drain", "%s/%s: %d cut at the deadline, %d left", d.move.service, d.move.from, cut, left)
	}
	s.hub.publish("drained", d.move.service, d.op.lastStep())
	d.op.mu.Lock()
	d.op.drains--
	last := d.op.drains == 0
	d.op.mu.Unlock()
	if last && !d.op.busyWithMore() {
		s.end(d.op)
	}
}

func (op *Operation) lastStep() string {
	v := op.View()
	return v.Steps[len(v.Steps)-1].Text
}

// busyWithMore tells whether steps of a hand-over follow the drain.
func (op *Operation) busyWithMore() bool {
	v := op.View()
	return v.State == StateRunning || v.State == StateWaiting
}

// waitEmpty returns when the drain has no connection left on a server that is still its own, or the time is up.
func (d *drain) waitEmpty(limit time.Duration) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	pause := time.Millisecond
	for d.remaining() > 0 {
		select {
		case <-d.gone:
			return
		case <-deadline.C:
			return
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
}

// waitGone returns when the drain has no server left, or the time is up.
func (d *drain) waitGone(limit time.Duration) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	select {
	case <-d.gone:
	case <-deadline.C:
	}
}

// looksBefore is how long before its deadline a drain that cuts has the loops look at the connections: what has not moved
// since is idle when the deadline comes.
func (d *drain) looksBefore() time.Duration {
	if d.move.then != ThenClose {
		return 0
	}
	return idleLooks * tickOf(d.move.closeOver)
}

// cutLeft ends what is left, the gentlest way first, spread over the time that the drain has for it. That time passes by
// turns which every loop has had, each of two ticks at most: so on a machine that comes to nothing for a second, each
// way of cutting has its turn all the same.
func (s *Switch) cutLeft(d *drain) {
	over := d.move.closeOver
	tick := tickOf(over)
	for since := -d.looksBefore(); since < cutTime(over) && d.remaining() > 0; {
		begun := time.Now()
		s.mu.Lock()
		d.cutting = true
		carried := s.opt.Plane.Cut(d.servers(), CutsAt(since, over))
		s.mu.Unlock()
		select {
		case <-carried:
		case <-d.gone:
			return
		}
		d.waitEmpty(tick)
		since += min(time.Since(begun), 2*tick)
	}
}

// settleCuts lets the loops carry out the cuts they were told of, if the change gives new work to a server
// that is being cut: a connection that starts there after the change must not be hit by an earlier cut. Must be
// called with s.mu held, before the change is stored.
func (s *Switch) settleCuts(next *Snapshot) {
	for d := range s.drains {
		svc := next.Service(d.move.service)
		if d.cutting && svc != nil && slices.ContainsFunc(d.servers(), svc.Serving.gives) {
			s.opt.Plane.Quiet(nil)
			return
		}
	}
}

// Drain is a drain as status shows it.
type Drain struct {
	Service, Pool string
	Servers       []*Server
	Until         time.Time // its deadline
	Closing       time.Time // when the last connection's time has come, where that is later; else zero
	Then          Then
	Remaining     int
}

// Drains lists those going on.
func (s *Switch) Drains() []Drain {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Drain, 0, len(s.drains))
	for d := range s.drains {
		v := Drain{Service: d.move.service, Pool: d.move.from, Servers: d.servers(), Until: d.until, Then: d.move.then, Remaining: d.remaining()}
		if v.Then == ThenClose && d.move.closeOver > 0 {
			v.Closing = d.until.Add(d.move.closeOver)
		}
		out = append(out, v)
	}
	return out
}

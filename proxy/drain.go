package proxy

import (
	"slices"
	"time"
)

// How the end of a drain treats connections that are busy: first only idle ones are cut, then each after the
// answer it is in, then all. Together this adds at most cutIdleFor + cutAfterFor to the deadline.
const (
	cutIdleFor  = 500 * time.Millisecond
	cutAfterFor = 500 * time.Millisecond
	cutTick     = 10 * time.Millisecond
)

// drain waits for the connections of sealed servers to end.
type drain struct {
	op      *Operation
	move    move
	until   time.Time
	gone    chan struct{} // closed when a later change supersedes it; see cancel
	ended   chan struct{}
	cutBase uint64
	cancel  bool // gone is closed; Switch.mu
}

func cutCount(servers []*Server) uint64 {
	n := uint64(0)
	for _, s := range servers {
		n += s.Counts().Cut
	}
	return n
}

func (d *drain) remaining() int {
	n := 0
	for _, s := range d.move.sealed {
		n += s.Connections()
	}
	return n
}

// startDrain begins a drain in the background; it ends the operation when it was the last one. Must be
// called with s.mu held.
func (s *Switch) startDrain(op *Operation, m *move) *drain {
	for other := range s.drains { // a new deadline for the same servers takes the place of the old one
		if slices.ContainsFunc(other.move.sealed, func(x *Server) bool { return slices.Contains(m.sealed, x) }) {
			other.supersede()
		}
	}
	d := &drain{op: op, move: *m, until: time.Now().Add(m.deadline), gone: make(chan struct{}), ended: make(chan struct{}), cutBase: cutCount(m.sealed)}
	s.drains[d] = struct{}{}
	op.mu.Lock()
	op.drains++
	op.mu.Unlock()
	go s.runDrain(d)
	return d
}

// supersede ends a drain without cutting anything. Must be called with Switch.mu held.
func (d *drain) supersede() {
	if !d.cancel {
		d.cancel = true
		close(d.gone)
	}
}

// supersede ends drains of servers that the snapshot gives new work to again. Must be called with s.mu held.
func (s *Switch) supersede(next *Snapshot) {
	for d := range s.drains {
		svc := next.Service(d.move.service)
		if svc != nil && slices.ContainsFunc(d.move.sealed, func(x *Server) bool { return svc.Maintenance == nil && svc.Active.gives(x) }) {
			d.supersede()
		}
	}
}

// runDrain ends when the servers are empty, at the deadline and its cuts, or when it is superseded.
func (s *Switch) runDrain(d *drain) {
	defer close(d.ended)
	superseded := !d.waitEmpty(time.Until(d.until))
	if !superseded && d.remaining() > 0 && d.move.then == ThenClose {
		superseded = !s.cut(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.drains, d)
	s.refresh(d.op)
	cut := int(cutCount(d.move.sealed) - d.cutBase)
	left := d.remaining()
	d.op.update(func(v *OperationView) {
		for i := range v.Proofs {
			if p := &v.Proofs[i]; p.Service == d.move.service && p.From == d.move.from {
				p.Cut, p.Remaining, p.Drained, p.Superseded = d.op.early[d.move.service].cut+cut, left, left == 0, superseded
			}
		}
	})
	switch {
	case superseded:
		d.op.step("drain", "%s/%s: a later change ended the drain, %s left as they are", d.move.service, d.move.from, plural(left, "connection"))
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

// waitEmpty returns false if the drain was superseded, else when its servers are empty or the time is up.
func (d *drain) waitEmpty(limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	pause := time.Millisecond
	for d.remaining() > 0 {
		select {
		case <-d.gone:
			return false
		case <-deadline.C:
			return true
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
	return true
}

// cut ends what is left, the gentlest way first. It returns false if the drain was superseded meanwhile.
func (s *Switch) cut(d *drain) bool {
	for _, phase := range []struct {
		how Cut
		dur time.Duration
	}{{CutIdle, cutIdleFor}, {CutAfterAnswer, cutAfterFor}, {CutNow, time.Second}} {
		for end := time.Now().Add(phase.dur); time.Now().Before(end); {
			s.mu.Lock()
			if d.cancel {
				s.mu.Unlock()
				return false
			}
			s.opt.Plane.Cut(d.move.sealed, phase.how)
			s.mu.Unlock()
			if !d.waitEmpty(cutTick) {
				return false
			}
			if d.remaining() == 0 {
				return true
			}
		}
	}
	return true
}

// Drain is a drain as status shows it.
type Drain struct {
	Service, Pool string
	Servers       []*Server
	Until         time.Time
	Then          Then
	Remaining     int
}

// Drains lists those going on.
func (s *Switch) Drains() []Drain {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Drain, 0, len(s.drains))
	for d := range s.drains {
		out = append(out, Drain{d.move.service, d.move.from, d.move.sealed, d.until, d.move.then, d.remaining()})
	}
	return out
}

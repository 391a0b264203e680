package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Plane carries the bytes of connections. A Switch calls it with Switch.mu held, one call at a time; calls
// may be made from any goroutine but a loop's.
type Plane interface {
	// Prepare does what may fail for a snapshot that is not in force yet: it opens listeners that are
	// new. Exactly one of Commit and Abort follows.
	Prepare(next *Snapshot) (Prepared, error)
	// Quiet makes every loop pass a quiet point (see the package doc) and returns when all have. There a
	// loop takes back dials to servers that the snapshot in force gives nothing to, and lets in clients
	// that wait though their service is no longer held. It returns the sum of the loops' tallies of the
	// services named.
	Quiet(services []string) map[string]Tally
	// Cut has every loop look at its connections of the servers and end them as far as cuts allows. It returns at
	// once; the channel is closed when all loops have.
	Cut(servers []*Server, cuts Cuts) <-chan struct{}
}

// Prepared is a change that a Plane is ready for.
type Prepared interface {
	Commit() // accept on new listeners, close those no longer used; after the snapshot was stored
	Abort()  // close what Prepare opened
}

// Options of a Switch.
type Options struct {
	Loops   int
	Journal Journal
	Plane   Plane
	// Probe tells whether a server can be reached: the gate of a swap. It must end when ctx does.
	Probe func(ctx context.Context, s *Server) error
	// Glance tells whether a server can be reached if that shows at once, without a hand-over to another thread;
	// false: ask Probe, which knows why. May be nil.
	Glance func(s *Server) bool
	// Ask tells whether a server passes a check, by the check's name; Known whether there is one of that name. May
	// be nil when no change waits for a check.
	Ask   func(ctx context.Context, check string, s *Server) error
	Known func(check string) bool
	// Gates says what keeps a service from being swapped to a pool; nil pool: which is not up yet. May be nil.
	Gates func(ctx context.Context, svc *Service, to *Pool) []string
	// Acted is told of each change that the door makes by itself at a deadline, and at its start of what came due before. It
	// is called with the switch locked, and must not call it. May be nil.
	Acted func(r *Record)
	// Warn is told what an operator should know of and no caller is there for. May be nil.
	Warn func(msg string, err error)
}

// Switch holds the snapshot in force and is the only way to change it. It is safe for concurrent use.
type Switch struct {
	// cur is the only thing a connection reads. Writers hold mu.
	//
	// Invariant: what cur points to is never written again, and revisions never fall. So two loads that
	// give the same pointer had no change between them, which is what Claimer.Start relies on.
	cur atomic.Pointer[Snapshot]

	latest atomic.Pointer[Operation] // the last one committed; see letAnswer

	opt Options
	ops operations
	hub hub

	mu      sync.Mutex
	seq     uint64                 // of the last journal record
	busy    map[string]*Operation  // services with a swap under way, up to its commit
	drains  map[*drain]struct{}    // going on
	timers  map[string]*time.Timer // service → its next deadline
	warming map[string]*time.Timer // service → next step of a slow start
	retired []*Server              // removed by a reload while they had connections
	due     lapsed                 // what came due before the start
	stopped bool

	reloads       atomic.Uint64
	journalErrors atomic.Uint64
	tallies       tallies
	healthTallies healthTallies
	suspects      chan *Server
}

// New makes a Switch from what the file declares and what the journal remembers. The plane is opened with
// Start.
func New(spec *Spec, mem *Memory, opt Options) *Switch {
	s := &Switch{opt: opt, suspects: make(chan *Server, 1024), busy: map[string]*Operation{}, drains: map[*drain]struct{}{}, timers: map[string]*time.Timer{}, warming: map[string]*time.Timer{}}
	s.tallies.Stats = Stats{map[Outcome]uint64{}, map[string]time.Duration{}, map[string]time.Time{}, map[string]uint64{}}
	if s.opt.Glance == nil {
		s.opt.Glance = func(*Server) bool { return false }
	}
	if s.opt.Acted == nil {
		s.opt.Acted = func(*Record) {}
	}
	if s.opt.Warn == nil {
		s.opt.Warn = func(string, error) {}
	}
	s.due = mem.expire(time.Now())
	mem.Revision = max(mem.Revision, 1)
	s.seq = mem.Seq
	s.cur.Store(build(spec, mem, nil, opt.Loops))
	return s
}

// Start opens the listeners of the first snapshot and begins to serve; plane may be nil if Options had it. detail says
// in the history which file the door began with.
func (s *Switch) Start(plane Plane, detail string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if plane != nil {
		s.opt.Plane = plane
	}
	cur := s.cur.Load()
	prepared, err := s.opt.Plane.Prepare(cur)
	if err != nil {
		return err
	}
	prepared.Commit()
	for _, svc := range cur.Services {
		s.arm(svc.Spec.Name)
	}
	r := Record{Time: time.Now(), Revision: cur.Revision, Verb: VerbStart, Who: TheDoor, Outcome: OutcomeDone, Detail: detail}
	if s.due.ended != nil { // else a clock that goes back could bring them again
		r.Services = cur.memories(s.due.ended)
		r.Reason = "hold, maintenance, read-only or split had passed its own deadline: " + strings.Join(s.due.ended, ", ")
	}
	if err := errors.Join(s.note(&r, true), s.noteAnnounced(cur)); err != nil {
		s.opt.Warn("the start could not be journalled; changes will be refused until the journal can be written", err)
	}
	return nil
}

// noteAnnounced adds to the journal what became of the maintenances that were to begin while no door was there. Must be called
// with s.mu held.
func (s *Switch) noteAnnounced(cur *Snapshot) (failed error) {
	for i := range s.due.announced {
		a := &s.due.announced[i]
		memories := cur.memories(a.services)
		if memories == nil { // the file no longer has them
			continue
		}
		r := Record{Time: time.Now(), Revision: cur.Revision, Verb: VerbMaintenance, Target: cur.called(a.services), To: "on", Who: TheDoor, Outcome: OutcomeDone,
			Reason: a.because() + "; at the start, for " + a.String(), Services: memories}
		if a.missed {
			r.To, r.Outcome = "missed", OutcomeFailed
			r.Reason = a.because() + "; for " + a.String() + ", when no door was there"
		}
		failed = errors.Join(failed, s.note(&r, true))
		s.opt.Acted(&r)
	}
	return failed
}

// Current is the snapshot in force.
func (s *Switch) Current() *Snapshot { return s.cur.Load() }

// Subscribe returns a stream of events and the function that ends it.
func (s *Switch) Subscribe() (<-chan Event, func()) { return s.hub.subscribe() }

// Operation finds one of the latest operations by its id; nil if it is not known (any more).
func (s *Switch) Operation(id string) *Operation { return s.ops.find(id) }

// Reloads is the number of reloads made since the start; JournalErrors that of records that could not be
// written.
func (s *Switch) Reloads() uint64       { return s.reloads.Load() }
func (s *Switch) JournalErrors() uint64 { return s.journalErrors.Load() }

// Apply carries out a change and returns its operation: when the change is in force (drains go on in the
// background), or, for a swap that holds clients, as soon as it has begun. A refused change returns a
// *Refusal and has changed nothing.
func (s *Switch) Apply(ctx context.Context, ch Change) (*Operation, error) {
	if ch.Verb == VerbSwap || ch.Verb == VerbBack || ch.Verb == VerbSplit {
		return s.swap(ctx, ch)
	}
	if ch.Verb == VerbKeep && !ch.Force {
		if err := s.askFirst(ctx, &ch); err != nil {
			return nil, err
		}
	}
	taken := false
	if ch.Verb == VerbRelease {
		var err *Refusal
		if taken, err = s.takeBack(ctx, &ch); err != nil {
			return nil, err
		}
	}
	op := s.ops.new(ch)
	if err := s.commit(op, ch); err != nil {
		return nil, err
	}
	if taken {
		op.update(func(v *OperationView) {
			v.Plan = append([]string{ch.Target + ": the swap under way was taken back"}, v.Plan...)
		})
	}
	s.ops.keep(op)
	return op, nil
}

// Plan says what a change would do, and changes nothing.
func (s *Switch) Plan(ctx context.Context, ch Change) (*Operation, error) {
	s.mu.Lock()
	cur := s.cur.Load()
	err := s.may(cur, &ch, nil)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p, perr := Plan(cur, &ch, time.Now())
	if perr != nil {
		return nil, perr
	}
	if err := s.awaitable(cur, &ch); err != nil {
		return nil, err
	}
	words := p.Words
	if !p.Noop && !ch.Force && !ch.StopOld && !ch.StartNew {
		var refused *Refusal
		if errors.As(s.gate(ctx, ch, p, ch.WaitFor != ""), &refused) {
			words = append(slices.Clip(words), "be refused as it is now: "+refused.Message+"; --force skips gates")
		}
	}
	op := newOperation(0, ch)
	op.update(func(v *OperationView) {
		v.State, v.Revision, v.Plan, v.Ended = StatePlanned, cur.Revision, words, time.Now()
	})
	return op, nil
}

// commit makes one change, and returns when it is in force and every loop knows.
func (s *Switch) commit(op *Operation, ch Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	if err := s.may(cur, &ch, op); err != nil {
		return err
	}
	p, err := Plan(cur, &ch, time.Now())
	if err != nil {
		return err
	}
	if p.Noop {
		op.update(func(v *OperationView) {
			v.State, v.Revision, v.Plan, v.Ended = StateDone, cur.Revision, p.Words, time.Now()
		})
		return nil
	}
	var prepared Prepared
	if ch.Verb == VerbReload {
		if prepared, err = s.opt.Plane.Prepare(p.Next); err != nil {
			return refuse(CodeFailed, "%v", err).holds(cur.still(nil)).hint("free the address or correct the file, then `turnout reload` again")
		}
	}
	p.record.Revision = p.Next.Revision
	if err := s.journal(&p.record, ch.expiry); err != nil {
		if prepared != nil {
			prepared.Abort()
		}
		return refuse(CodeJournal, "%s not done: the journal cannot be written: %v", ch.Verb, err).
			holds(cur.still(cur.Service(ch.Target))).hint("traffic goes on; make room in state_dir, then try again")
	}
	proofs := op.proofs(p)

	s.settleCuts(p.Next)
	s.latest.Store(op)
	s.cur.Store(p.Next) // from here on each new claim sees the change
	stored := Clock()
	if prepared != nil {
		prepared.Commit()
		s.reloads.Add(1)
	}
	concerned := names(proofs)
	if ch.handover && ch.Verb == VerbHold {
		concerned = s.concerned(cur, &ch)
	}
	tallies := s.opt.Plane.Quiet(concerned)
	if ch.handover && ch.Verb == VerbHold {
		op.mu.Lock()
		for name, t := range tallies {
			op.early[name] = early{resteered: t.Resteered}
		}
		op.mu.Unlock()
	}
	s.prove(proofs, tallies, stored)
	s.inForce(op, ch, cur, p, proofs)
	return nil
}

// inForce does what follows a change: drains, deadlines, events. Must be called with s.mu held.
func (s *Switch) inForce(op *Operation, ch Change, cur *Snapshot, p *Planned, proofs []Proof) {
	if ch.members != nil {
		s.opt.Acted(&p.record)
	}
	for name := range p.record.Services {
		s.arm(name)
		s.keepWarm(name)
	}
	for _, name := range p.record.Dropped {
		s.arm(name)
		s.keepWarm(name)
	}
	s.supersede(cur, p.Next)
	for _, text := range p.slow {
		s.say(op, "slow start", "%s", text)
	}
	for i := range p.moves {
		s.startDrain(op, &p.moves[i])
	}
	if ch.Verb == VerbReload {
		s.retire(p)
	}
	if ch.Verb == VerbSwap || ch.Verb == VerbBack {
		s.tallies.swapped(&ch, proofs)
	}
	op.mu.Lock()
	before := op.record // of a hand-over's hold
	op.record = p.record.Seq
	draining := op.drains > 0
	op.mu.Unlock()
	if ch.handover && ch.Verb != VerbHold && ch.Verb != VerbRelease { // before the drains can end the operation
		waited := 0
		for i := range proofs {
			waited += proofs[i].Held
		}
		s.say(op, "commit", "%s -> %s, %s released after %s", p.record.From, p.record.To, plural(waited, "waiting client"), time.Since(op.view.Started).Round(time.Millisecond))
	}
	op.update(func(v *OperationView) {
		v.Changed, v.Revision, v.Plan = true, p.Next.Revision, p.Words
		v.Proofs = append(v.Proofs, proofs...)
		if draining {
			v.State = StateDraining
		}
	})
	for _, w := range p.Words {
		s.hub.publish(string(ch.Verb), ch.Target, w)
	}
	switch {
	case ch.handover:
		s.handedOver(op, &ch, p.record.Seq, before)
	case !draining:
		s.end(op)
	}
	if s.opt.Journal.NeedsCompaction() {
		go s.compact() // ends when the checkpoint is written
	}
}

// handedOver tells of a step of a hand-over, journalled as seq, how it ended; before is the record of the step before it. Must be
// called with s.mu held.
func (s *Switch) handedOver(op *Operation, ch *Change, seq, before uint64) {
	switch ch.Verb {
	case VerbHold: // how it ended is told when the hand-over has
	case VerbRelease: // it goes back
		s.outcome(seq, ch.Verb, op, OutcomeDone, "")
		op.mu.Lock()
		op.record = before // what has failed began with the hold
		op.mu.Unlock()
	default:
		s.outcome(before, VerbHold, op, OutcomeDone, "")
	}
}

// end closes an operation whose drains have all ended. Must be called with s.mu held.
func (s *Switch) end(op *Operation) {
	v := op.View()
	if v.ended() {
		return
	}
	outcome := OutcomeDone
	for i := range v.Proofs {
		switch {
		case v.Proofs[i].Cut > 0:
			outcome = OutcomeCut
		case v.Proofs[i].Superseded && outcome == OutcomeDone:
			outcome = OutcomeSuperseded
		}
	}
	if v.Cut > 0 { // a drain, a maintenance or a reload has no proof
		outcome = OutcomeCut
	}
	if v.Err != nil {
		outcome = OutcomeFailed
	}
	op.update(func(v *OperationView) {
		v.State, v.Ended = StateDone, time.Now()
		if v.Err != nil {
			v.State = StateFailed
		}
	})
	if v.Verb == VerbSwap || v.Verb == VerbBack {
		s.tallies.ended(outcome)
	}
	detail := ""
	if v.Err != nil {
		detail = v.Err.Message
	}
	op.mu.Lock()
	of := op.record
	op.mu.Unlock()
	s.outcome(of, v.Verb, op, outcome, detail)
}

// Stop refuses further changes, and takes back hand-overs that are under way. Drains go on. The plane is
// stopped by its owner, later.
func (s *Switch) Stop(why string) {
	s.mu.Lock()
	s.stopped = true
	var under []*Operation
	for _, op := range s.busy {
		if op.handover {
			op.Abort("the door is stopping")
			under = append(under, op)
		}
	}
	for name := range s.timers {
		s.arm(name)
	}
	for name := range s.warming {
		s.keepWarm(name)
	}
	s.mu.Unlock()
	for _, op := range under {
		<-op.free // at once: each wait of a hand-over ends with an abort
	}
	s.mu.Lock()
	r := Record{Time: time.Now(), Revision: s.cur.Load().Revision, Verb: VerbStop, Who: TheDoor, Outcome: OutcomeDone, Detail: why}
	if err := s.note(&r, true); err != nil {
		s.opt.Warn("the stop could not be journalled", err)
	}
	s.mu.Unlock()
}

// String names an operation in logs.
func (op *Operation) String() string {
	return fmt.Sprintf("operation %s (%s %s)", op.id, op.change.Verb, op.change.Target)
}

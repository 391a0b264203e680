package proxy

import (
	"errors"
	"time"
)

// arm sets the timer for the next deadline of a service's hold, maintenance, read-only mode, split or sessions, in the place of the one it had.
// Must be called with s.mu held.
func (s *Switch) arm(name string) {
	if t := s.timers[name]; t != nil {
		t.Stop()
		delete(s.timers, name)
	}
	svc := s.cur.Load().Service(name)
	if svc == nil || s.stopped {
		return
	}
	var until time.Time
	if svc.Hold != nil {
		until = svc.Hold.Until
	}
	if m := svc.Maintenance; m != nil && !m.Until.IsZero() && (until.IsZero() || m.Until.Before(until)) {
		until = m.Until
	}
	if ro := svc.ReadOnly; ro != nil && !ro.Until.IsZero() && (until.IsZero() || ro.Until.Before(until)) {
		until = ro.Until
	}
	if sp := svc.Split; sp != nil && !sp.Until.IsZero() && (until.IsZero() || sp.Until.Before(until)) {
		until = sp.Until
	}
	if end := svc.sessionsEnd(); !end.IsZero() && (until.IsZero() || end.Before(until)) {
		until = end
	}
	if until.IsZero() {
		return
	}
	// Since and Until were made by one clock reading, which has a monotonic part unless it came from the
	// journal: so a clock that jumps does not end a hold early or late.
	s.timers[name] = time.AfterFunc(time.Until(until), func() { s.expire(name, until) })
}

// expire ends a hold, maintenance, read-only mode or split at its own deadline (P8). While a swap of the service is under way it does
// nothing: a hand-over keeps its own deadline, and done arms the timer again.
func (s *Switch) expire(name string, until time.Time) {
	svc := s.cur.Load().Service(name)
	if svc == nil {
		return
	}
	if end := svc.sessionsEnd(); !end.IsZero() && !end.After(until) {
		s.endSessions(name)
	}
	var changes []Change
	if svc.Hold != nil {
		changes = append(changes, Change{Verb: VerbRelease, Target: name, Who: TheDoor, Reason: "the hold's own deadline", expiry: true, deadline: until})
	}
	if svc.Maintenance != nil {
		changes = append(changes, Change{Verb: VerbMaintenance, Target: name, Who: TheDoor, Reason: "the maintenance's own deadline", expiry: true, deadline: until})
	}
	if svc.ReadOnly != nil {
		changes = append(changes, Change{Verb: VerbReadOnly, Target: name, Who: TheDoor, Reason: "the read-only mode's own deadline", expiry: true, deadline: until})
	}
	if svc.Split != nil {
		changes = append(changes, Change{Verb: VerbSplit, Target: name, Who: TheDoor, Reason: "the split's own deadline", expiry: true, deadline: until})
	}
	for _, ch := range changes {
		err := s.commit(s.ops.new(ch), ch)
		var r *Refusal
		if errors.As(err, &r) && r.Code != CodeConflict && r.Code != CodeNotFound {
			s.opt.Warn("a deadline could not be carried out", err)
		}
	}
}

package proxy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// deadline is when something of a service ends, or a maintenance that was announced begins, by itself (P8).
type deadline struct {
	at     time.Time
	change Change
	made   time.Time // begins alone: when it was announced; those that were announced apart begin apart
}

// deadlines of the service, but for its sessions'.
func (s *Service) deadlines() []deadline {
	var all []deadline
	ends := func(at time.Time, verb Verb, what string) {
		if !at.IsZero() {
			all = append(all, deadline{at: at, change: Change{Verb: verb, Reason: "the " + what + "'s own deadline"}})
		}
	}
	if s.Hold != nil {
		ends(s.Hold.Until, VerbRelease, "hold")
	}
	if s.Maintenance != nil {
		ends(s.Maintenance.Until, VerbMaintenance, "maintenance")
	}
	if s.ReadOnly != nil {
		ends(s.ReadOnly.Until, VerbReadOnly, "read-only mode")
	}
	if s.Split != nil {
		ends(s.Split.Until, VerbSplit, "split")
	}
	if a := s.Announced; a != nil {
		all = append(all, deadline{at: a.From, made: a.Since, change: Change{Verb: VerbMaintenance, On: true, Reason: a.because()}})
	}
	return all
}

// same tells whether two services have a deadline in common: what one change began for both ends for both in one.
func (d *deadline) same(e *deadline) bool {
	return d.change.Verb == e.change.Verb && d.change.On == e.change.On && d.at.Equal(e.at) && d.made.Equal(e.made)
}

const (
	// lookAgain is how long the timer of an announcement runs at most. It counts on the monotonic clock, and what was
	// announced is a time of the clock on the wall, which may be set meanwhile.
	lookAgain = time.Minute
	// tryAgain is when a deadline is tried again that another change was in the way of, if the end of that has not brought
	// it about before.
	tryAgain = time.Second
)

// arm sets the timer for a service's next deadline, in the place of the one it had. Must be called with s.mu held.
func (s *Switch) arm(name string) {
	if t := s.timers[name]; t != nil {
		t.Stop()
		delete(s.timers, name)
	}
	svc := s.cur.Load().Service(name)
	if svc == nil || s.stopped {
		return
	}
	until := svc.sessionsEnd()
	for _, d := range svc.deadlines() {
		if until.IsZero() || d.at.Before(until) {
			until = d.at
		}
	}
	if until.IsZero() {
		return
	}
	// Since and Until were made by one clock reading, which has a monotonic part unless it came from the
	// journal: so a clock that jumps does not end a hold early or late.
	left := time.Until(until)
	if svc.Announced != nil && left > lookAgain {
		left, until = lookAgain, time.Now().Add(lookAgain)
	}
	s.wake(name, left, until)
}

// wake looks at a service's deadlines up to until in a while. Must be called with s.mu held.
func (s *Switch) wake(name string, in time.Duration, until time.Time) {
	if t := s.timers[name]; t != nil {
		t.Stop()
	}
	s.timers[name] = time.AfterFunc(in, func() { s.expire(name, until) })
}

// expire carries out a service's deadlines up to until, each for all services that have it in common, in one change. While a
// swap of one of them is under way it does nothing: a hand-over keeps its own deadline, and done arms the timer again.
func (s *Switch) expire(name string, until time.Time) {
	cur := s.cur.Load()
	svc := cur.Service(name)
	if svc == nil {
		return
	}
	if end := svc.sessionsEnd(); !end.IsZero() && !end.After(until) {
		s.endSessions(name)
	}
	late, failed := false, false
	for _, d := range svc.deadlines() {
		if d.at.After(until) || d.change.On && d.at.After(time.Now()) {
			continue
		}
		ch := d.change
		ch.Who, ch.expiry, ch.deadline, ch.members = TheDoor, true, d.at, cur.sharing(&d)
		ch.Target = cur.called(ch.members)
		err := s.commit(s.ops.new(ch), ch)
		var r *Refusal
		if errors.As(err, &r) {
			if late = late || r.Code == CodeConflict; r.Code != CodeConflict {
				failed = true
				s.opt.Warn("a deadline could not be carried out", err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
	case late:
		s.wake(name, tryAgain, until)
	case !failed:
		s.arm(name)
	}
}

// sharing names the services that have the deadline.
func (s *Snapshot) sharing(d *deadline) []string {
	var names []string
	for _, svc := range s.Services {
		if slices.ContainsFunc(svc.deadlines(), func(e deadline) bool { return d.same(&e) }) {
			names = append(names, svc.Spec.Name)
		}
	}
	return names
}

// called is what some services are called together: the name of the one, of a group or All, or else all their names.
func (s *Snapshot) called(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	sorted := slices.Sorted(slices.Values(names))
	for _, group := range slices.Sorted(maps.Keys(s.Groups)) {
		if slices.Equal(slices.Sorted(slices.Values(s.Groups[group])), sorted) {
			return group
		}
	}
	if len(names) == len(s.Services) {
		return All
	}
	return strings.Join(names, ",")
}

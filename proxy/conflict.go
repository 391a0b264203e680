package proxy

import (
	"context"
	"time"
)

// may refuses what cannot be done now, whatever the change is. Must be called with s.mu held.
func (s *Switch) may(cur *Snapshot, ch *Change, op *Operation) *Refusal {
	if !ch.expiry {
		if err := s.forbidden(cur, ch); err != nil {
			return err
		}
	}
	return s.conflict(cur, ch, op)
}

// forbidden refuses what the state of the door forbids. Must be called with s.mu held.
func (s *Switch) forbidden(cur *Snapshot, ch *Change) *Refusal {
	switch {
	case s.stopped:
		return refuse(CodeFailed, "the door is stopping; nothing can be changed").
			hint("`turnout status` says until when it waits for its connections; change it when it has been started again").holds(cur.still(nil))
	case ch.IfRevision != 0 && ch.IfRevision != cur.Revision:
		return refuse(CodeConflict, "the revision is %d, not %d: something changed since you looked", cur.Revision, ch.IfRevision).
			hint("`turnout history` shows what; `turnout status` shows how it is now").holds(cur.still(nil))
	case cur.Frozen != nil && ch.Verb != VerbUnfreeze && ch.Verb != VerbFreeze:
		return refuse(CodeConflict, "frozen by %s since %s%s", cur.Frozen.By, cur.Frozen.Since.Format(time.DateTime), because(cur.Frozen.Reason)).
			hint("`turnout unfreeze` allows changes again").holds(cur.still(nil))
	}
	return nil
}

// conflict refuses a change of what another one is about to change. Must be called with s.mu held.
func (s *Switch) conflict(cur *Snapshot, ch *Change, op *Operation) *Refusal {
	for _, name := range s.concerned(cur, ch) {
		if other := s.busy[name]; other != nil && other != op {
			r := refuse(CodeConflict, "another change of %s is under way: %s %s since %s (operation %s)", name, other.change.Verb, other.view.Target, other.view.Started.Format(time.TimeOnly), other.id).holds(cur.still(cur.Service(name)))
			if other.handover {
				return r.hint("`turnout status %s` shows it; `turnout release %s` takes it back", name, name)
			}
			return r.hint("it asks whether the servers it leads to are there; try again in a moment")
		}
	}
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// concerned names the services a change is about.
func (s *Switch) concerned(cur *Snapshot, ch *Change) []string {
	if ch.members != nil {
		return ch.members
	}
	if ch.Verb == VerbReload {
		names := make([]string, 0, len(s.busy))
		for name := range s.busy {
			names = append(names, name)
		}
		return names
	}
	return cur.Concerned(ch.Target)
}

// Concerned names the services of a service, a group or All.
func (s *Snapshot) Concerned(target string) []string {
	if s.Service(target) != nil {
		return []string{target}
	}
	if members, ok := s.Groups[target]; ok {
		return members
	}
	if target != All {
		return []string{target}
	}
	names := make([]string, len(s.Services))
	for i, svc := range s.Services {
		names[i] = svc.Spec.Name
	}
	return names
}

// takeBack makes way for a release: hand-overs that hold the target go back, and other swaps of it, which take
// no longer than their gate, are waited for. It tells whether one went back.
func (s *Switch) takeBack(ctx context.Context, ch *Change) (bool, *Refusal) {
	s.mu.Lock()
	cur := s.cur.Load()
	if err := s.forbidden(cur, ch); err != nil {
		s.mu.Unlock()
		return false, err
	}
	var under []*Operation
	taken := false
	for _, name := range s.concerned(cur, ch) {
		if op := s.busy[name]; op != nil {
			under = append(under, op)
			if op.handover {
				op.Abort("released by " + ch.Who.Name)
				ch.IfRevision = 0 // it was the one asked for; going back makes the next one
			}
		}
	}
	s.mu.Unlock()
	for _, op := range under {
		select {
		case <-op.free:
			v := op.View()
			taken = taken || v.State == StateFailed
		case <-ctx.Done():
		}
	}
	return taken, nil
}

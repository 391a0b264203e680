package proxy

import "time"

// DefaultHold is a hold's own deadline when none is given (P8): whoever set it and vanished does not leave
// clients waiting for ever.
const DefaultHold = 5 * time.Minute

// doors plans hold, release, maintenance and read-only: changes of what the door does with new work.
func (p *Planned) doors(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	services, err := ch.services(cur)
	if ch.Target == All && err != nil {
		services, err = cur.Services, nil
	}
	if err != nil {
		return nil, err
	}
	if ch.Verb == VerbMaintenance || ch.Verb == VerbReadOnly {
		p.record.To = onOff(ch.On)
	}
	var changed []*Service
	for _, svc := range services {
		next := *svc
		name := svc.Spec.Name
		switch ch.Verb {
		case VerbHold:
			p.hold(&next, ch, now)
		case VerbRelease:
			if svc.Hold == nil || ch.expiry && !ch.handover && svc.Hold.Until.After(ch.deadline) {
				p.say("%s: nothing is held", name)
				continue
			}
			next.Hold = ch.held[name]
			if p.say("%s: released to %s, %d waiting", name, svc.shareWords(), svc.Held()); svc.Maintenance != nil {
				p.say("%s: %s", name, maintenanceGoesOn)
			}
		case VerbMaintenance:
			if changes, err := p.maintenance(cur, svc, &next, ch, now); err != nil {
				return nil, err
			} else if !changes {
				continue
			}
		case VerbReadOnly:
			if svc.Spec.Mode != HTTP {
				return nil, refuse(CodeUsage, "%s is of mode %s: only of http the door knows what reads and what writes", name, svc.Spec.Mode).
					hint("`turnout hold %s` or `turnout maintenance on %s`", name, name).holds(cur.still(svc))
			}
			if ro := svc.ReadOnly; !ch.On && (ro == nil || ch.expiry && (ro.Until.IsZero() || ro.Until.After(ch.deadline))) {
				p.say("%s: not read-only", name)
				continue
			}
			p.readOnly(&next, ch, now)
		}
		changed = append(changed, &next)
	}
	return changed, nil
}

// hold plans that new clients wait.
func (p *Planned) hold(next *Service, ch *Change, now time.Time) {
	next.Hold = &Hold{Since: now, Until: now.Add(orDuration(ch.For, DefaultHold)), Wait: orDuration(ch.Wait, next.Spec.Hold.Timeout), Spare: ch.Spare, By: ch.Who.Name, Reason: ch.Reason}
	if ch.handover {
		// A little longer than the hold itself: whoever came as it began is let in at its
		// deadline, not turned away.
		next.Hold.Wait = ch.For + time.Second
	}
	if p.say("%s: %s", next.Spec.Name, next.waits(now)); next.Maintenance != nil {
		p.say("%s: %s", next.Spec.Name, maintenanceGoesOn)
	}
}

// maintenance plans one that begins, ends, is announced or cancelled; false: nothing of the service changes.
func (p *Planned) maintenance(cur *Snapshot, svc, next *Service, ch *Change, now time.Time) (changes bool, err *Refusal) {
	switch m, a := svc.Maintenance, svc.Announced; {
	case ch.Cancel:
		return p.cancel(svc, next), nil
	case !ch.At.IsZero():
		err = p.announce(cur, svc, next, ch, now)
	case ch.On && ch.expiry && (a == nil || a.From.After(ch.deadline)):
		return false, nil // it was changed meanwhile
	case ch.On && ch.expiry && a.over(now):
		p.missed(svc, next, "while another change was under way")
	case ch.On:
		p.maintain(svc, next, ch, now)
	case m == nil || ch.expiry && (m.Until.IsZero() || m.Until.After(ch.deadline)):
		p.say("%s: not in maintenance%s", svc.Spec.Name, svc.standing(true))
		return false, nil
	default:
		next.Maintenance = nil
		lot := "new clients go to " + svc.shareWords()
		if svc.Hold != nil {
			lot = svc.waits(now)
		}
		p.say("%s: maintenance off, %s%s", svc.Spec.Name, lot, svc.standing(true))
	}
	return true, err
}

// maintenanceGoesOn is said of a hold's begin and end in a maintenance, which counts more than a hold.
const maintenanceGoesOn = "maintenance is on: new clients are turned away all the same"

// waits says until when the new clients of a held service wait.
func (s *Service) waits(now time.Time) string {
	return "new clients wait at the door until " + clock(s.Hold.Ends(), now)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// maintain plans a maintenance that begins, as announced or by hand.
func (p *Planned) maintain(svc, next *Service, ch *Change, now time.Time) {
	if a := svc.Announced; ch.expiry {
		next.Maintenance, next.Announced = a.begin(svc.Maintenance, now), nil
		said := *ch
		said.Soft, said.Drain, said.Then = a.Soft, a.Drain, a.Then
		ch = &said
		p.say("%s: maintenance on, as announced; new clients are turned away", svc.Spec.Name)
	} else {
		next.Maintenance = &Maintenance{Since: now, Soft: ch.Soft, By: ch.Who.Name, Reason: ch.Reason, Message: ch.Message}
		if was := svc.Maintenance; was != nil {
			next.Maintenance.Since = was.Since // whoever was turned away meanwhile was not there before
		}
		if ch.For > 0 {
			next.Maintenance.Until = now.Add(ch.For)
		}
		p.say("%s: maintenance on, new clients are turned away%s", svc.Spec.Name, svc.standing(false))
	}
	if ch.Soft {
		return
	}
	for _, pool := range svc.Pools {
		p.moves = append(p.moves, move{service: svc.Spec.Name, from: pool.Name, sealed: pool.Servers()}.ends(svc.Spec.Drain, ch))
	}
}

func (p *Planned) readOnly(next *Service, ch *Change, now time.Time) {
	if !ch.On {
		next.ReadOnly = nil
		p.say("%s: read-only off, all requests go to %s", next.Spec.Name, next.shareWords())
		return
	}
	next.ReadOnly = &ReadOnly{Since: now, By: ch.Who.Name, Reason: ch.Reason, Message: ch.Message}
	if ch.For > 0 {
		next.ReadOnly.Until = now.Add(ch.For)
	}
	p.say("%s: read-only on, unsafe requests are answered with 503; those under way go on", next.Spec.Name)
}

func (p *Planned) freeze(cur *Snapshot, ch *Change, now time.Time) *Planned {
	freeze := ch.Verb == VerbFreeze
	if freeze == (cur.Frozen != nil) {
		p.Noop, p.Next = true, cur
		p.say("%s", map[bool]string{true: "frozen already", false: "not frozen"}[freeze])
		return p
	}
	next := cur.with()
	next.Frozen = nil
	if freeze {
		next.Frozen = &Freeze{Since: now, By: ch.Who.Name, Reason: ch.Reason}
		p.record.Freeze = next.Frozen
	}
	p.Next = next
	p.say("%s", map[bool]string{true: "frozen: nothing changes until `turnout unfreeze`", false: "changes are allowed again"}[freeze])
	for _, svc := range next.Services {
		if a := svc.Announced; a != nil && freeze {
			p.say("%s: maintenance begins all the same, as announced for %s", svc.Spec.Name, a)
		}
	}
	return p
}

// clock is when something ends: the time of day, with the date where that would not tell which day.
func clock(t, now time.Time) string {
	if t.Sub(now) < 24*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

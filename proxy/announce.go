package proxy

import (
	"fmt"
	"strings"
	"time"
)

// MaxAhead is how far ahead a maintenance may be announced: what is farther was most likely mistyped.
const MaxAhead = 366 * 24 * time.Hour

// Announcement is a maintenance that begins by itself. Whoever may ask is told of it from Since on.
//
// It begins whatever the service is like then: in a hold, in a maintenance by hand, which it takes over, or frozen, for it
// is what an operator said before; only another announcement or a cancellation keeps it from that.
type Announcement struct {
	Since time.Time `json:"since"`
	From  time.Time `json:"from"`           // wall time, whole seconds
	Until time.Time `json:"until,omitzero"` // zero: until it is switched off
	Soft  bool      `json:"soft,omitempty"`
	By    string    `json:"by,omitempty"`

	Reason  string        `json:"reason,omitempty"`
	Message string        `json:"message,omitempty"` // for the public; the reason is not
	Drain   time.Duration `json:"drain_ns,omitempty"`
	Then    Then          `json:"then,omitempty"`
}

// day is a time as operators are told of it: which day, and by which clock.
const day = "2006-01-02 15:04:05 MST"

// String says when the maintenance begins, and ends.
func (a *Announcement) String() string {
	if a.Until.IsZero() {
		return a.From.Local().Format(day)
	}
	return fmt.Sprintf("%s, until %s", a.From.Local().Format(day), a.Until.Local().Format(day))
}

// over tells whether the whole of what was announced has passed.
func (a *Announcement) over(now time.Time) bool { return !a.Until.IsZero() && !a.Until.After(now) }

// begin is the maintenance that was announced. It takes over one that goes on already, and ends no sooner than an
// operator wanted that one to end.
func (a *Announcement) begin(was *Maintenance, now time.Time) *Maintenance {
	m := &Maintenance{Since: now, Until: a.Until, Soft: a.Soft, By: a.By, Reason: a.Reason, Message: a.Message}
	if was != nil {
		m.Since = was.Since
		if was.By != TheFailover.Name && !m.Until.IsZero() && (was.Until.IsZero() || was.Until.After(m.Until)) {
			m.Until = was.Until
		}
	}
	return m
}

// because is why the door begins it, for history.
func (a *Announcement) because() string {
	return strings.TrimSpace("announced by "+a.By) + because(a.Reason)
}

// announce plans what a maintenance that begins later says until then.
func (p *Planned) announce(cur *Snapshot, svc, next *Service, ch *Change, now time.Time) *Refusal {
	name := svc.Spec.Name
	a := &Announcement{Since: now, From: wholeSeconds(ch.At), Soft: ch.Soft, By: ch.Who.Name, Reason: ch.Reason, Message: ch.Message, Drain: ch.Drain, Then: ch.Then}
	switch {
	case !a.From.After(now):
		return refuse(CodeUsage, "%s: %s has passed: maintenance is announced for a time to come", name, a).
			hint("`turnout maintenance on %s` begins it now", name).holds(cur.still(svc))
	case a.From.Sub(now) > MaxAhead:
		return refuse(CodeUsage, "%s: %s is %d days ahead: want %d at most", name, a, int(a.From.Sub(now).Hours()/24), int(MaxAhead.Hours()/24)).holds(cur.still(svc))
	}
	if ch.For > 0 {
		a.Until = a.From.Add(ch.For)
	}
	next.Announced = a
	switch was := svc.Announced; was {
	case nil:
		p.say("%s: maintenance announced for %s", name, a)
	default:
		p.say("%s: maintenance announced for %s; no longer for %s", name, a, was)
	}
	p.record.To = "announced for " + a.String()
	return nil
}

// cancel plans that what was announced does not begin.
func (p *Planned) cancel(svc, next *Service) bool {
	if svc.Announced == nil {
		p.say("%s: no maintenance is announced", svc.Spec.Name)
		return false
	}
	p.say("%s: the maintenance announced for %s is cancelled", svc.Spec.Name, svc.Announced)
	p.record.To = "cancelled"
	next.Announced = nil
	return true
}

// missed plans the end of what was announced and has passed.
func (p *Planned) missed(svc, next *Service, why string) {
	p.say("%s: the maintenance announced for %s did not begin: it passed %s", svc.Spec.Name, svc.Announced, why)
	p.record.To = "missed"
	next.Announced = nil
}

// wholeSeconds is an instant as others are told of it, no sooner than it is.
func wholeSeconds(t time.Time) time.Time {
	if s := t.Truncate(time.Second); s.Before(t) {
		return s.Add(time.Second)
	}
	return t.Round(0) // of the clock on the wall alone: that is the one others read
}

// standing says of what is announced all the same, for those who change a maintenance by hand.
func (s *Service) standing(cancel bool) string {
	if s.Announced == nil {
		return ""
	}
	text := "; one is announced for " + s.Announced.String()
	if cancel {
		text += ", which `turnout maintenance cancel " + s.Spec.Name + "` takes back"
	}
	return text
}

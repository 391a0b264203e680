package proxy

import (
	"encoding/json"
	"time"
)

// MaxMessage is how many bytes a text for the public may have.
const MaxMessage = 500

// PublicState is a service's state in one word, for whoever may ask.
type PublicState string

// States of a service, as clients and their programs see it.
const (
	PublicServing         PublicState = "serving"
	PublicReadOnly        PublicState = "read-only"
	PublicHeld            PublicState = "held"             // new clients wait at the door
	PublicMaintenance     PublicState = "maintenance"      // new clients are turned away, those who were there are led off
	PublicSoftMaintenance PublicState = "soft-maintenance" // new clients are turned away, those who were there go on
	PublicDraining        PublicState = "draining"         // no server takes new work, those who are there finish
	PublicUnavailable     PublicState = "unavailable"      // no server takes new work
)

// Public is what a service tells anybody who asks its state URL. It names no server and no address, and of what
// operators write only what they wrote for the public. Its JSON is the answer's body, at the service and at admin.listen.
type Public struct {
	Service   string      `json:"service"`
	State     PublicState `json:"state"`
	Accepting bool        `json:"accepting"` // a new client is served, at once or after a wait
	Active    string      `json:"active"`    // the active pool
	Since     time.Time   `json:"since,omitzero"`
	Until     time.Time   `json:"until,omitzero"` // the planned end
	Message   string      `json:"message,omitempty"`
	Next      *PublicNext `json:"next_maintenance,omitempty"` // that is announced

	ends time.Time // Until to the nanosecond
}

// PublicNext is the maintenance that a service will be in, as anybody is told of it.
type PublicNext struct {
	From    time.Time `json:"from"`
	Until   time.Time `json:"until,omitzero"` // the planned end; zero: nobody knows
	Message string    `json:"message,omitempty"`
}

// Public says how the service is to anybody who asks.
func (s *Service) Public() Public {
	p := Public{Service: s.Spec.Name, State: PublicServing, Accepting: true, Active: s.Active.Name, Since: s.Since}
	switch refuge := s.Refuge(); {
	case s.Maintenance != nil:
		m := s.Maintenance
		p.State, p.Accepting, p.Since, p.Until, p.Message = PublicMaintenance, false, m.Since, m.Until, m.Message
		if m.Soft {
			p.State = PublicSoftMaintenance
		}
	case s.Hold != nil:
		p.State, p.Since, p.Until = PublicHeld, s.Hold.Since, s.Hold.Until
	case len(refuge.willing) == 0 && s.Connections() > 0:
		p.State, p.Accepting, p.Since = PublicDraining, false, time.Time{}
	case len(refuge.willing) == 0 || refuge.Dead():
		p.State, p.Accepting, p.Since = PublicUnavailable, false, time.Time{}
	case s.ReadOnly != nil:
		ro := s.ReadOnly
		p.State, p.Since, p.Until, p.Message = PublicReadOnly, ro.Since, ro.Until, ro.Message
	}
	if a := s.Announced; a != nil {
		p.Next = &PublicNext{inSeconds(a.From), inSeconds(a.Until), a.Message}
	}
	p.ends, p.Since, p.Until = p.Until, inSeconds(p.Since), inSeconds(p.Until)
	return p
}

// inSeconds is an instant as others read it: in UTC, without fractions of a second.
func inSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Second)
}

// Status is the HTTP status of an answer that says so, and in how long to ask again (0: it does not say): one that is not 2xx
// where new clients are turned away, so that those who look at the status alone are told, too.
func (p *Public) Status(spec *MaintenanceSpec, now time.Time) (status int, retry time.Duration) {
	if p.Accepting {
		return 200, 0
	}
	if p.ends.After(now) {
		return 503, p.ends.Sub(now)
	}
	return 503, max(spec.RetryAfter, time.Second)
}

// Body is the answer's body.
func (p *Public) Body() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("proxy: BUG: a state that is not JSON: " + err.Error())
	}
	return append(b, '\n')
}

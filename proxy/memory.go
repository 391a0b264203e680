package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Memory is what the journal remembers: all that was decided at run time and that the file does not say.
type Memory struct {
	Revision uint64                    `json:"revision"`
	Seq      uint64                    `json:"seq"` // of the last record
	Frozen   *Freeze                   `json:"frozen,omitempty"`
	Services map[string]*ServiceMemory `json:"services,omitempty"`
}

// ServiceMemory is what is remembered of one service.
type ServiceMemory struct {
	Active          string                              `json:"active"`
	Previous        string                              `json:"previous,omitempty"`
	PreviousServers []string                            `json:"previous_servers,omitzero"`
	Split           *Split                              `json:"split,omitempty"`
	Since           time.Time                           `json:"since,omitzero"`
	Watch           *Watch                              `json:"watch,omitempty"`
	Watched         *Watched                            `json:"watched,omitempty"`
	Hold            *Hold                               `json:"hold,omitempty"`
	Maintenance     *Maintenance                        `json:"maintenance,omitempty"`
	Announced       *Announcement                       `json:"announced,omitempty"`
	ReadOnly        *ReadOnly                           `json:"read_only,omitempty"`
	Failover        *FailoverMark                       `json:"failover,omitempty"`
	Servers         map[string]map[string]*ServerMemory `json:"servers,omitempty"` // pool → server
}

// ServerMemory is what is remembered of one server.
type ServerMemory struct {
	Drained bool `json:"drained,omitempty"`
	Weight  *int `json:"weight,omitempty"` // nil: as the file says

	Sessions *Sessions `json:"sessions,omitempty"`
}

func (m *ServiceMemory) server(pool, server string) *ServerMemory {
	if m == nil {
		return nil
	}
	return m.Servers[pool][server]
}

// memory is what has to be remembered of the service, given what the file says.
func (s *Service) memory() *ServiceMemory {
	m := &ServiceMemory{Active: s.Active.Name, Previous: s.Previous, PreviousServers: s.PreviousServers, Split: s.Split, Watch: s.Watch, Watched: s.Watched, Since: s.Since, Hold: s.Hold, Maintenance: s.Maintenance, Announced: s.Announced, ReadOnly: s.ReadOnly, Failover: s.Failover}
	for pi, p := range s.Pools {
		for i := range p.Members {
			mb := &p.Members[i]
			sm := ServerMemory{Drained: mb.Drained, Sessions: mb.sessions}
			if mb.Weight != s.Spec.Pools[pi].Servers[i].Weight {
				w := mb.Weight
				sm.Weight = &w
			}
			if sm == (ServerMemory{}) {
				continue
			}
			if m.Servers == nil {
				m.Servers = map[string]map[string]*ServerMemory{}
			}
			if m.Servers[p.Name] == nil {
				m.Servers[p.Name] = map[string]*ServerMemory{}
			}
			m.Servers[p.Name][mb.Name] = &sm
		}
	}
	return m
}

// Record is one change in the journal, and one line of history. It carries the new memory of just the
// services it touched, so that its size does not grow with the number of services.
type Record struct {
	Seq      uint64    `json:"seq"`
	Of       uint64    `json:"of,omitempty"` // set in an outcome: the Seq of the change it ends
	Time     time.Time `json:"time"`
	Revision uint64    `json:"revision"`
	Verb     Verb      `json:"verb"`
	Target   string    `json:"target,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
	Who      Who       `json:"who"`
	Reason   string    `json:"reason,omitempty"`
	Force    bool      `json:"force,omitempty"`
	Outcome  Outcome   `json:"outcome,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Proofs   []Proof   `json:"proofs,omitempty"`

	Services map[string]*ServiceMemory `json:"services,omitempty"`
	Dropped  []string                  `json:"dropped,omitempty"` // services that the file no longer has
	Freeze   *Freeze                   `json:"freeze,omitempty"`  // verb freeze
}

// Outcome says how a change ended.
type Outcome string

// Outcomes of a change.
const (
	OutcomeRunning     Outcome = "running"     // still under way, or draining
	OutcomeDone        Outcome = "done"        // nothing was cut
	OutcomeCut         Outcome = "cut"         // done, but connections were cut at the deadline
	OutcomeFailed      Outcome = "failed"      // went back to where it was
	OutcomeSuperseded  Outcome = "superseded"  // done; its drain was ended by a later change
	OutcomeInterrupted Outcome = "interrupted" // in force, but the door ended before the drain did
)

// LoadCheckpoint begins a Memory anew from a journal's checkpoint. LoadRecord then carries on, in order.
func (m *Memory) LoadCheckpoint(payload []byte) error {
	*m = Memory{}
	if err := json.Unmarshal(payload, m); err != nil {
		return fmt.Errorf("journal checkpoint: %w", err)
	}
	return nil
}

// LoadRecord carries one more record into the memory.
func (m *Memory) LoadRecord(payload []byte) error {
	var r Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return fmt.Errorf("journal record after %d: %w", m.Seq, err)
	}
	m.apply(&r)
	return nil
}

func (m *Memory) apply(r *Record) {
	m.Seq = max(m.Seq, r.Seq)
	if r.Of != 0 {
		return
	}
	m.Revision = max(m.Revision, r.Revision)
	for name, sm := range r.Services {
		if m.Services == nil {
			m.Services = map[string]*ServiceMemory{}
		}
		m.Services[name] = sm
	}
	for _, name := range r.Dropped {
		delete(m.Services, name)
	}
	switch r.Verb {
	case VerbFreeze:
		m.Frozen = r.Freeze
	case VerbUnfreeze:
		m.Frozen = nil
	}
}

// sooner is a deadline that a clock which was set back, while no door was there, does not put off: what is left is never
// more than what was asked for. The door that runs counts on the monotonic clock, which nobody sets.
func sooner(now, since, until time.Time) time.Time {
	if asked := until.Sub(since); !until.IsZero() && until.Sub(now) > asked {
		return now.Add(asked)
	}
	return until
}

// lapsed is what came due while no door was there.
type lapsed struct {
	ended     []string        // services whose hold, maintenance, read-only mode or split passed its deadline
	announced []announcedThen // maintenances that were to begin
}

// announcedThen is one of them.
type announcedThen struct {
	*Announcement
	services []string
	missed   bool // its end has passed, too, so it did not begin
}

// add counts in a service whose announcement is due.
func (l *lapsed) add(name string, a *Announcement, now time.Time) {
	for i := range l.announced {
		if b := &l.announced[i]; b.Since.Equal(a.Since) && b.From.Equal(a.From) {
			b.services = append(b.services, name)
			return
		}
	}
	l.announced = append(l.announced, announcedThen{a, []string{name}, a.over(now)})
}

// expire drops holds, maintenances, read-only modes and splits whose deadline has passed while no door was there to end them, and
// begins maintenances that were announced. All of that together makes one more revision.
func (m *Memory) expire(now time.Time) (due lapsed) {
	for _, name := range slices.Sorted(maps.Keys(m.Services)) {
		s := m.Services[name]
		if h := s.Hold; h != nil {
			h.Until = sooner(now, h.Since, h.Until)
		}
		if mt := s.Maintenance; mt != nil {
			mt.Until = sooner(now, mt.Since, mt.Until)
		}
		if ro := s.ReadOnly; ro != nil {
			ro.Until = sooner(now, ro.Since, ro.Until)
		}
		if sp := s.Split; sp != nil {
			sp.Until = sooner(now, sp.Since, sp.Until)
		}
		if w := s.Watch; w != nil { // on the clock that nobody sets from here on: no timer is set for it
			w.Until = now.Add(sooner(now, w.Since, w.Until).Sub(now))
		}
		for _, servers := range s.Servers {
			for _, sm := range servers {
				if sm.Sessions != nil {
					sm.Sessions = &Sessions{sm.Sessions.Since, sooner(now, sm.Sessions.Since, sm.Sessions.Until)}
				}
			}
		}
		hold := s.Hold != nil && !s.Hold.Until.After(now)
		maintenance := s.Maintenance != nil && !s.Maintenance.Until.IsZero() && !s.Maintenance.Until.After(now)
		if hold {
			s.Hold = nil
		}
		if maintenance {
			s.Maintenance = nil
		}
		split := s.Split != nil && !s.Split.Until.IsZero() && !s.Split.Until.After(now)
		if split {
			s.Split = nil
		}
		readOnly := s.ReadOnly != nil && !s.ReadOnly.Until.IsZero() && !s.ReadOnly.Until.After(now)
		if readOnly {
			s.ReadOnly = nil
		}
		if hold || maintenance || readOnly || split {
			due.ended = append(due.ended, name)
		}
		if a := s.Announced; a != nil && !a.From.After(now) {
			due.add(name, a, now)
			if s.Announced = nil; !a.over(now) {
				s.Maintenance = a.begin(s.Maintenance, now)
			}
		}
	}
	if due.ended != nil || due.announced != nil {
		m.Revision++
	}
	return due
}

// memoryOf is the memory that would make the snapshot again.
func memoryOf(s *Snapshot) *Memory {
	m := &Memory{Revision: s.Revision, Frozen: s.Frozen, Services: make(map[string]*ServiceMemory, len(s.Services))}
	for _, svc := range s.Services {
		m.Services[svc.Spec.Name] = svc.memory()
	}
	return m
}

// memories are what is to be remembered of those services that there still are; nil when there are none.
func (s *Snapshot) memories(names []string) (all map[string]*ServiceMemory) {
	for _, name := range names {
		if svc := s.Service(name); svc != nil {
			if all == nil {
				all = map[string]*ServiceMemory{}
			}
			all[name] = svc.memory()
		}
	}
	return all
}

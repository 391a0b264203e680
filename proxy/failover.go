package proxy

import "time"

// TheFailover is who moves a service because its servers died, by its policy (health/failover).
var TheFailover = Who{UID: -1, GID: -1, Name: "failover"}

// FailoverSpec says what happens by itself when no server of the active pool is ready. Package proxy carries out what
// is decided elsewhere; it only lets clients wait meanwhile.
type FailoverSpec struct {
	Automatic     bool
	To            []string      // pools that may take over, the first that is ready does; empty: all others, in the file's order
	FailbackAfter time.Duration // how long the old side must have been ready to be swapped back to; 0: never by itself
	Lockout       time.Duration // how long after a failover there is no second one, unless the active pool cannot even be reached
	Hold          time.Duration // how long new work waits for a side that is ready; then maintenance. 0: it does not wait
	Fence         []string      // a command that stops a server for certain; run for each of the old side that still answers
}

// FailoverMark remembers in the journal that the active pool is active by a failover, until an operator swaps.
type FailoverMark struct {
	At    time.Time `json:"at"`
	From  string    `json:"from"`
	Back  bool      `json:"back,omitempty"` // it was a failback
	Count int       `json:"count"`          // failovers in a row, each within four lockouts of the one before
}

// LockedUntil is when the next failover may come; each in a row doubles the time, up to eight lockouts.
func (m *FailoverMark) LockedUntil(lockout time.Duration) time.Time {
	return m.At.Add(lockout << min(max(m.Count-1, 0), 3))
}

// mark is what a swap leaves behind for the next decision; nil after an operator's.
func (s *Service) mark(ch *Change, now time.Time) *FailoverMark {
	if ch.Who != TheFailover || s.Spec.Failover == nil {
		return nil
	}
	m := &FailoverMark{At: now, From: s.Active.Name, Back: ch.Failback, Count: 1}
	if was := s.Failover; was != nil && now.Sub(was.At) < 4*s.Spec.Failover.Lockout {
		m.Count = was.Count + 1
	}
	return m
}

// SetConflict says that two pools of a service, of which only one may be active, both look active; or that they no
// longer do.
func (s *Switch) SetConflict(service string, conflict bool, why string) {
	svc := s.cur.Load().Service(service)
	if svc == nil || svc.Live.conflict.Swap(conflict) == conflict {
		return
	}
	s.hub.publish("conflict", service, why)
}

// SetStays says why a service has not failed over though no server of its active pool is ready; "": it need not.
func (s *Switch) SetStays(service, why string) {
	svc := s.cur.Load().Service(service)
	switch {
	case svc == nil:
	case why == "":
		svc.Live.stays.Store(nil)
	default:
		svc.Live.stays.Store(&why)
	}
}

// Stays is why the service has not failed over though no server of its active pool is ready; "": it need not.
func (s *Service) Stays() string {
	if why := s.Live.stays.Load(); why != nil {
		return *why
	}
	return ""
}

// Conflict tells whether two pools look active of which only one may be.
func (s *Service) Conflict() bool { return s.Live.conflict.Load() }

// Tell publishes an event that is no change.
func (s *Switch) Tell(kind, service, text string) { s.hub.publish(kind, service, text) }

// Cut ends all connections to a server that is dead, so that its clients connect anew.
func (s *Switch) Cut(srv *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Plane.Cut([]*Server{srv}, CutNow.All())
}

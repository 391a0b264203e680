package proxy

import "time"

// Sessions says that a server which gets no new work goes on to get the requests of sessions that are on it
// (StickySpec), up to its drain's deadline. Only services whose DrainSpec is BySession have such servers.
type Sessions struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

// KeepsSessions is until when requests of sessions on the member are led to it though it gets no new work; zero: they are
// not.
func (m *Member) KeepsSessions() time.Time {
	if m.sessions == nil {
		return time.Time{}
	}
	return m.sessions.Until
}

// keeps tells whether a request of a session on the member is led to it though it gets no new work.
func (m *Member) keeps() bool {
	return m.sessions != nil && !m.Health.Down() && time.Now().Before(m.sessions.Until)
}

// KeepsSessions tells whether requests of sessions on the server are led to it now though it gets no new work.
func (s *Service) KeepsSessions(srv *Server) bool {
	if s.Hold != nil || s.Maintenance != nil || !s.Spec.Drain.BySession {
		return false
	}
	for _, p := range s.Pools {
		if i, ok := p.at[srv]; ok {
			return p.Members[i].keeps()
		}
	}
	return false
}

// bySession tells whether a change lets sessions stay. One whose old side is stopped, or must not be used beside the
// new one, does not; nor does a way out of trouble.
func (ch *Change) bySession() bool {
	if ch == nil || ch.Exclusive || ch.StopOld || ch.rollback != nil || ch.Who == TheFailover {
		return false
	}
	switch ch.Verb {
	case VerbSwap, VerbDrain, VerbKeep, VerbSplit:
		return true
	}
	return false
}

// sessions settles where sessions stay in what a change makes of a service: on servers that the change takes new work
// from, if it drains them by session; no longer on those that get new work again, or that it ends otherwise. A server that
// got none before has no sessions to keep: draining it would lead those of long ago there.
func (p *Planned) sessions(was, next *Service, ch *Change, now time.Time) {
	if !next.Spec.Drain.BySession {
		return
	}
	next.settle()
	moved := map[*Server]*move{}
	for i := range p.moves {
		if m := &p.moves[i]; m.service == next.Spec.Name {
			for _, srv := range m.sealed {
				moved[srv] = m
			}
		}
	}
	for _, pool := range next.Pools {
		next.place(pool.changed(func(members []Member) {
			for i := range members {
				m := &members[i]
				switch by := moved[m.Server]; {
				case by != nil && by.bySession && (was.Serving.gives(m.Server) || m.keeps()):
					m.sessions = &Sessions{now, now.Add(by.deadline)}
				case by != nil || next.Serving.gives(m.Server) || ch.Exclusive || next.Maintenance != nil && !next.Maintenance.Soft:
					m.sessions = nil
				}
			}
		}, next.Spec))
	}
}

// endSessions has sessions of a service leave the servers whose time is over. Like what SetHealth does it is no change
// of an operator's: the one that let them stay said until when. When it has returned, none starts there any more.
func (s *Switch) endSessions(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	svc := cur.Service(name)
	if svc == nil {
		return
	}
	now, next, ended := time.Now(), *svc, false
	for _, p := range svc.Pools {
		over := func(m *Member) bool { return m.sessions != nil && !now.Before(m.sessions.Until) }
		for i := range p.Members {
			if !over(&p.Members[i]) {
				continue
			}
			ended = true
			next.place(p.changed(func(members []Member) {
				for k := range members {
					if over(&members[k]) {
						members[k].sessions = nil
					}
				}
			}, svc.Spec))
			break
		}
	}
	if ended {
		s.cur.Store(cur.alike(&next))
		s.opt.Plane.Quiet(nil)
	}
	s.arm(name)
}

// sessionsEnd is when the next server's sessions leave it; zero: there is none.
func (s *Service) sessionsEnd() (first time.Time) {
	for _, p := range s.Pools {
		for i := range p.Members {
			if until := p.Members[i].KeepsSessions(); !until.IsZero() && (first.IsZero() || until.Before(first)) {
				first = until
			}
		}
	}
	return first
}

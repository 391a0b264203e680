package proxy

import "time"

// Warmup is a slow start under way: a server that takes new work again gets a tenth of its share at first, and a tenth
// more after each ninth of the time. It is not journalled: a door that starts ends it.
type Warmup struct {
	Begun time.Time
	For   time.Duration
}

// cold is how many tenths of its share the server does not get yet: 9 to 0.
func (w *Warmup) cold(now time.Time) int {
	return 9 - int(min(9, 9*max(0, now.Sub(w.Begun))/w.For))
}

// next is when there are fewer. It is rounded up: a step that came too early would be asked for again at once.
func (w *Warmup) next(cold int) time.Time { return w.Begun.Add((w.For*time.Duration(10-cold) + 8) / 9) }

// start begins a slow start of d, or ends the one under way if d is none.
func (m *Member) start(d time.Duration, now time.Time) {
	m.warmup, m.cold = nil, 0
	if d > 0 {
		m.warmup = &Warmup{now, d}
		m.cold = m.warmup.cold(now)
	}
}

// slowStart is how long a change that makes servers ready lets them start slowly.
func (ch *Change) slowStart(spec *ServiceSpec) time.Duration {
	if ch.SlowStart < 0 {
		return 0
	}
	return orDuration(ch.SlowStart, spec.SlowStart)
}

// SlowStart tells of a member that is in a slow start what percentage of its share it gets, and when it has all.
func (m *Member) SlowStart() (percent int, until time.Time, under bool) {
	if m.warmup == nil {
		return 100, time.Time{}, false
	}
	return 100 - 10*m.cold, m.warmup.Begun.Add(m.warmup.For), true
}

// keepWarm sets the timer for the next step of a service's slow starts, in the place of the one it had. Must be called
// with s.mu held.
func (s *Switch) keepWarm(name string) {
	if t := s.warming[name]; t != nil {
		t.Stop()
		delete(s.warming, name)
	}
	svc := s.cur.Load().Service(name)
	if svc == nil || s.stopped {
		return
	}
	var next time.Time
	for _, p := range svc.Pools {
		for i := range p.Members {
			if m := &p.Members[i]; m.warmup != nil {
				if at := m.warmup.next(m.cold); next.IsZero() || at.Before(next) {
					next = at
				}
			}
		}
	}
	if !next.IsZero() {
		s.warming[name] = time.AfterFunc(time.Until(next), func() { s.warm(name) })
	}
}

// warm takes the slow starts of a service a step on. Like what SetHealth does it is no change of an operator's.
func (s *Switch) warm(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	svc := cur.Service(name)
	if svc == nil || s.stopped {
		return
	}
	now, next, stepped := time.Now(), *svc, false
	var done []string
	for _, p := range svc.Pools {
		if !p.warms() {
			continue
		}
		stepped = true
		next.place(p.changed(func(members []Member) {
			for i := range members {
				m := &members[i]
				if m.warmup == nil {
					continue
				}
				if m.cold = m.warmup.cold(now); m.cold == 0 {
					m.warmup = nil
					done = append(done, name+"/"+p.Name+"/"+m.Name+": slow start over, it has its whole share")
				}
			}
		}, svc.Spec))
	}
	if stepped {
		s.cur.Store(cur.alike(&next))
	}
	for _, text := range done {
		s.hub.publish("health", name, text)
	}
	s.keepWarm(name)
}

// warms tells whether a member is in a slow start.
func (p *Pool) warms() bool {
	for i := range p.Members {
		if p.Members[i].warmup != nil {
			return true
		}
	}
	return false
}

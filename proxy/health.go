package proxy

import (
	"fmt"
	"sync"
	"time"
)

// HealthState is what a server's checks have come to.
type HealthState uint8

// States of health. Only Failing and Waiting keep new work away: until a server was shown dead it serves.
const (
	HealthUnchecked HealthState = iota // its service has no checks
	HealthUnknown                      // not asked often enough yet
	HealthReady                        // every check passes
	HealthFailing                      // was ready, and a check fails
	HealthWaiting                      // a check fails, and it never was ready: a standby that waits for its turn
)

func (h HealthState) String() string {
	return [...]string{"unchecked", "unknown", "ready", "failing", "waiting"}[h]
}

// Health is what is known of a server, as of one snapshot. It is not journalled: a door that starts asks anew.
type Health struct {
	State  HealthState
	Since  time.Time
	Check  string // that fails
	Reason string // why, in words
}

// Down tells whether the server is known not to serve.
func (h Health) Down() bool { return h.State == HealthFailing || h.State == HealthWaiting }

// NoneReady says what becomes of new work when no server of the active pool is ready.
type NoneReady string

// What the door does when no server is ready.
const (
	NoneReadyTry    NoneReady = "try"    // try one anyway: checks err more often than all servers die at once; the default
	NoneReadyHold   NoneReady = "hold"   // new work waits at the door, for hold.timeout at most
	NoneReadyRefuse NoneReady = "refuse" // the door refuses it at once
)

// HealthSpec says how the servers of a service are watched. Package proxy does not ask them: it is told, by
// Switch.SetHealth.
type HealthSpec struct {
	Checks    []string // names; all must pass
	Interval  time.Duration
	Timeout   time.Duration // of one check that has none of its own
	Rise      int           // passes in a row that make a server ready
	Fall      int           // failures in a row that make it failing
	NoneReady NoneReady
	CutDead   bool          // end connections to a server that fails and cannot be connected to
	Limit     time.Duration // the longest that one asking of all checks may take
}

// gateLimit is how long one asking of a server may take.
func (s *ServiceSpec) gateLimit() time.Duration {
	if s.Health == nil {
		return s.Timeouts.Connect
	}
	return max(s.Timeouts.Connect, s.Health.Limit)
}

// able counts the members that an operator lets take new work and that are not known to be down.
func (p *Pool) able() int {
	n := 0
	for _, i := range p.willing {
		if !p.Members[i].Health.Down() {
			n++
		}
	}
	return n
}

// Proven tells whether a server of the pool that takes new work is known to be ready.
func (p *Pool) Proven() bool {
	for _, i := range p.willing {
		if p.Members[i].Health.State == HealthReady {
			return true
		}
	}
	return false
}

// Dead tells whether every server of the pool that takes new work is known to be down.
func (p *Pool) Dead() bool { return p.able() == 0 && len(p.willing) > 0 }

// Able tells whether a server of the pool takes new work and is not known to be down.
func (p *Pool) Able() bool { return p.able() > 0 }

// Willing lists the members that an operator lets take new work, whatever their health.
func (p *Pool) Willing() []*Member {
	out := make([]*Member, len(p.willing))
	for k, i := range p.willing {
		out[k] = &p.Members[i]
	}
	return out
}

// NoneReady is the service's policy for when no server of the active pool is ready.
func (s *ServiceSpec) NoneReady() NoneReady {
	if f := s.Failover; f != nil && f.Automatic && f.Hold > 0 {
		return NoneReadyHold // until the failover, or its maintenance
	}
	if s.Health == nil || s.Health.NoneReady == "" {
		return NoneReadyTry
	}
	return s.Health.NoneReady
}

// SetHealth says what the checks of a server have come to. It is no change of an operator's: it makes a new
// snapshot of the same revision, so --if-revision goes on to mean "nobody changed anything since I looked". It is
// not journalled. When it has returned, a server that is down is not dialled for new clients, and dials to it that
// were under way have been taken back.
func (s *Switch) SetHealth(service, pool, server string, h Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	svc := cur.Service(service)
	if svc == nil || s.stopped {
		return
	}
	p := svc.Pool(pool)
	if p == nil {
		return
	}
	at := -1
	for i := range p.Members {
		if p.Members[i].Name == server {
			at = i
		}
	}
	if at < 0 || p.Members[at].Health.State == h.State && p.Members[at].Health.Reason == h.Reason {
		return
	}
	was := p.Members[at].Health
	made := p.changed(func(members []Member) {
		m := &members[at]
		m.Health = h
		switch {
		case h.Down():
			m.start(0, h.Since)
		case was.Down() && !m.Drained:
			m.start(svc.Spec.SlowStart, time.Now())
		}
	}, svc.Spec)
	next := *svc
	next.place(made)
	s.cur.Store(cur.alike(&next))
	if !next.Serving.sameChoice(svc.Serving) {
		s.opt.Plane.Quiet(nil)
	}
	s.keepWarm(service)
	if was.State != h.State {
		s.hub.publish("health", service, healthWords(service, pool, server, was, h))
		s.healthTallies.count(service, pool, server)
	}
}

func healthWords(service, pool, server string, was, is Health) string {
	text := fmt.Sprintf("%s/%s/%s: %s -> %s", service, pool, server, was.State, is.State)
	switch {
	case is.Reason == "":
		return text
	case is.Check != "":
		return text + ": " + is.Check + ": " + is.Reason
	}
	return text + ": " + is.Reason
}

// alike is the next snapshot of the same revision: what operators decided is as it was.
func (s *Snapshot) alike(changed *Service) *Snapshot {
	next := s.with(changed)
	next.Revision = s.Revision
	return next
}

// changed is the pool with other members' settings.
func (p *Pool) changed(f func([]Member), spec *ServiceSpec) *Pool {
	members := make([]Member, len(p.Members))
	copy(members, p.Members)
	f(members)
	return newPool(p.Name, members, spec)
}

// sameChoice tells whether new work of both pools goes to the same servers.
func (p *Pool) sameChoice(q *Pool) bool {
	if p.Name != q.Name || len(p.ready) != len(q.ready) {
		return false
	}
	for k := range p.ready {
		if p.ready[k] != q.ready[k] {
			return false
		}
	}
	return true
}

// suspect tells Suspects of a server that a dial to failed; once, until it was looked into. It is called on loops.
func (s *Switch) suspect(srv *Server) {
	if srv.suspected.Load() || !srv.suspected.CompareAndSwap(false, true) {
		return
	}
	select {
	case s.suspects <- srv:
	default: // nobody looks, or there is more to look into than can be
		srv.suspected.Store(false)
	}
}

// Suspects yields servers that could not be dialled for a client. Whoever takes one calls its LookedInto.
func (s *Switch) Suspects() <-chan *Server { return s.suspects }

// LookedInto lets the next failed dial be told again.
func (s *Server) LookedInto() { s.suspected.Store(false) }

// healthTallies counts transitions, for metrics.
type healthTallies struct {
	mu    sync.Mutex
	moved map[[3]string]uint64
}

func (t *healthTallies) count(service, pool, server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved == nil {
		t.moved = map[[3]string]uint64{}
	}
	t.moved[[3]string{service, pool, server}]++
}

// HealthTransitions is how often a server's health has changed since the door started.
func (s *Switch) HealthTransitions(service, pool, server string) uint64 {
	s.healthTallies.mu.Lock()
	defer s.healthTallies.mu.Unlock()
	return s.healthTallies.moved[[3]string{service, pool, server}]
}

package proxy

import (
	"fmt"
	"slices"
	"time"
)

// members plans drain, ready and weight: changes of servers inside a pool.
func (p *Planned) members(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	svc, pool, err := cur.poolOf(ch)
	if err != nil {
		return nil, err
	}
	path := ch.Target + "/" + ch.Pool
	if ch.Server != "" {
		path += "/" + ch.Server
	}
	p.record.Target = path
	members := slices.Clone(pool.Members)
	var touched []*Server
	found := ch.Server == ""
	for i := range members {
		m := &members[i]
		if ch.Server != "" && ch.Server != m.Name {
			continue
		}
		found = true
		was := *m
		m.change(ch, svc.Spec, now)
		switch {
		case *m != was && m.Drained && was.Drained:
			p.record.From, p.record.To = fmt.Sprintf("drained, weight %d", was.Weight), fmt.Sprintf("drained, weight %d", m.Weight)
		case *m != was:
			p.record.From, p.record.To = memberState(&was), memberState(m)
		case ch.Verb == VerbDrain && (ch.Drain > 0 || ch.Then != "") && m.Connections() > 0: // with another deadline
			p.record.From, p.record.To = memberState(m), "draining anew"
		default:
			continue
		}
		touched = append(touched, m.Server)
	}
	if !found {
		names := make([]string, len(members))
		for i := range members {
			names[i] = members[i].Name
		}
		return nil, refuse(CodeNotFound, "%s/%s has no server %q", ch.Target, ch.Pool, ch.Server).hint("%s", Among(ch.Server, names)).holds(cur.still(svc))
	}
	if ch.Verb == VerbWeight && (ch.Weight < 0 || ch.Weight > 256) {
		return nil, refuse(CodeUsage, "weight %d: want 0 to 256", ch.Weight).holds(cur.still(svc))
	}
	if len(touched) == 0 {
		p.say("%s: %s already", path, memberState(&members[slices.IndexFunc(members, func(m Member) bool { return ch.Server == "" || m.Name == ch.Server })]))
		return nil, nil
	}
	next, made := *svc, newPool(pool.Name, members, svc.Spec)
	next.place(made)
	if err := cur.leavesNobody(svc, pool, made, ch); err != nil {
		return nil, err
	}
	if ch.Verb == VerbDrain {
		p.moves = append(p.moves, move{service: svc.Spec.Name, from: pool.Name, sealed: touched}.ends(svc.Spec.Drain, ch))
	}
	p.say("%s: %s -> %s", path, p.record.From, p.record.To)
	return []*Service{&next}, nil
}

// poolOf finds the pool that a change of servers inside one is of, and its service.
func (s *Snapshot) poolOf(ch *Change) (*Service, *Pool, *Refusal) {
	svc := s.Service(ch.Target)
	if svc == nil {
		if _, ok := s.Groups[ch.Target]; ok {
			return nil, nil, refuse(CodeUsage, "%s is a group: %s takes SERVICE/POOL or SERVICE/POOL/SERVER", ch.Target, ch.Verb).holds(s.still(nil))
		}
		_, err := s.targets(ch.Target)
		return nil, nil, err
	}
	pool := svc.Pool(ch.Pool)
	if pool == nil {
		return nil, nil, refuse(CodeNotFound, "%s has no pool %q", ch.Target, ch.Pool).hint("%s", Among(ch.Pool, svc.poolNames())).holds(s.still(svc))
	}
	return svc, pool, nil
}

// change makes of the member what drain, ready or weight say.
func (m *Member) change(ch *Change, spec *ServiceSpec, now time.Time) {
	switch ch.Verb {
	case VerbDrain:
		m.Drained = true
		m.start(0, now)
	case VerbReady:
		if m.Drained {
			m.start(ch.slowStart(spec), now)
		}
		m.Drained = false
	case VerbWeight:
		m.Weight = ch.Weight
	}
}

// leavesNobody refuses a change inside a pool that gets new work, or will at a split's deadline, when it would leave no server
// there that takes new clients.
func (s *Snapshot) leavesNobody(svc *Service, pool, made *Pool, ch *Change) *Refusal {
	is := svc.RefugeIs()
	switch {
	case ch.Force:
		return nil
	case svc.Active == pool && (svc.Refuge() == pool || svc.Split != nil && !svc.Split.Until.IsZero()): // where a split's deadline leads counts too
		is = "active pool"
	case svc.Refuge() != pool:
		return nil
	}
	if (len(made.willing) > 0 || len(pool.willing) == 0) && (made.able() > 0 || pool.able() == 0) {
		return nil
	}
	return refuse(CodeGate, "%s not done: it would leave %s, the %s of %s, without a server for new clients", ch.Verb, pool.Name, is, svc.Spec.Name).
		hint("`turnout swap %s POOL` first; or `turnout maintenance on %s`; `--force` does it all the same", svc.Spec.Name, svc.Spec.Name).holds(s.still(svc))
}

func memberState(m *Member) string {
	if m.Drained {
		return "drained"
	}
	if m.warmup != nil {
		return fmt.Sprintf("ready, weight %d, slow start of %s", m.Weight, m.warmup.For)
	}
	return fmt.Sprintf("ready, weight %d", m.Weight)
}

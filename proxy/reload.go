package proxy

import (
	"fmt"
	"reflect"
	"slices"
)

// Keeps refuses a file that declares the service without a pool that its new work goes to; split may be nil.
func (s *ServiceSpec) Keeps(active string, split *Split) *Refusal {
	has := func(pool string) bool {
		return slices.ContainsFunc(s.Pools, func(ps PoolSpec) bool { return ps.Name == pool })
	}
	if !has(active) {
		return refuse(CodeFailed, "the file no longer has services.%s.pools.%s, which is the active pool", s.Name, active).
			hint("`turnout swap %s POOL` away from it first, then reload", s.Name)
	}
	if split == nil {
		return nil
	}
	why := ""
	for _, sh := range split.Shares {
		if !has(sh.Pool) {
			why = fmt.Sprintf("the file no longer has services.%s.pools.%s, which gets %s of the new clients", s.Name, sh.Pool, sh.Percent)
		}
	}
	if s.Exclusive {
		why = fmt.Sprintf("the file makes %s exclusive, but it is split: %s", s.Name, split)
	}
	if why == "" {
		return nil
	}
	return refuse(CodeFailed, "%s", why).hint("`turnout split %s off` first, then reload", s.Name)
}

func (p *Planned) reload(cur *Snapshot, ch *Change) (*Planned, error) {
	for i := range ch.Spec.Services {
		sp := &ch.Spec.Services[i]
		if was := cur.Service(sp.Name); was != nil {
			if err := sp.Keeps(was.Active.Name, was.Split); err != nil {
				return nil, err.holds(cur.still(was))
			}
		}
	}
	mem := memoryOf(cur)
	mem.Revision = cur.Revision + 1
	next := build(ch.Spec, mem, cur, cur.index.loops)
	for _, svc := range next.Services {
		is := svc.Refuge()
		if was := cur.Service(svc.Spec.Name); was != nil && len(is.willing) == 0 && len(was.Refuge().willing) > 0 && !ch.Force {
			return nil, refuse(CodeGate, "the file would leave %s, the %s of %s, without a server for new clients: all are drained or have weight 0", is.Name, svc.RefugeIs(), svc.Spec.Name).
				hint("`turnout ready %s/%s` or `turnout swap %s POOL` first, then reload; `--force` does it all the same", svc.Spec.Name, is.Name, svc.Spec.Name).holds(cur.still(was))
		}
	}
	same := len(next.Services) == len(cur.Services) && reflect.DeepEqual(next.Groups, cur.Groups)
	p.record.Services = map[string]*ServiceMemory{}
	for i, svc := range next.Services {
		was := cur.Service(svc.Spec.Name)
		if same = same && was == cur.Services[i] && was == svc; was == svc {
			continue
		}
		p.record.Services[svc.Spec.Name] = svc.memory()
	}
	for _, was := range cur.Services {
		svc := next.Service(was.Spec.Name)
		if svc == nil {
			p.record.Dropped = append(p.record.Dropped, was.Spec.Name)
		}
		if svc != was {
			p.removed(was, svc)
		}
	}
	if p.Next = next; same {
		p.Noop, p.Next = true, cur
		p.say("the file changes nothing")
	}
	return p, nil
}

// removed plans the end of servers that the file no longer has; svc is nil when the service itself is gone.
func (p *Planned) removed(was, svc *Service) {
	for _, pool := range was.Pools {
		m := move{service: was.Spec.Name, from: pool.Name}.ends(was.Spec.Drain, nil)
		var now *Pool
		if svc != nil {
			now = svc.Pool(pool.Name)
		}
		for i := range pool.Members {
			srv := pool.Members[i].Server
			if now != nil {
				if _, stays := now.at[srv]; stays {
					continue
				}
			}
			m.sealed = append(m.sealed, srv)
		}
		if len(m.sealed) > 0 {
			p.moves = append(p.moves, m)
		}
	}
}

// retire remembers the servers that a reload removed and that still have connections, so that an exclusive swap
// knows of them even when no drain is there to. Must be called with s.mu held.
func (s *Switch) retire(p *Planned) {
	for i := range p.moves {
		s.retired = append(s.retired, p.moves[i].sealed...)
	}
	s.retired = slices.DeleteFunc(s.retired, func(srv *Server) bool { return srv.Connections() == 0 })
}

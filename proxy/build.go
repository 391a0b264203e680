package proxy

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// build makes a snapshot from what the file declares and what the journal remembers. old may be nil; what
// it has of servers, counters and listener slots is kept. It does not look at whether the change is wise.
func build(spec *Spec, mem *Memory, old *Snapshot, loops int) *Snapshot {
	s := &Snapshot{Revision: mem.Revision, Frozen: mem.Frozen, Groups: maps.Clone(spec.Groups)}
	ix := &index{byName: make(map[string]int, len(spec.Services)), slots: map[ListenSpec][]int{}, plain: map[int]bool{}, previews: map[int]bool{}, loops: loops}
	if old != nil {
		ix.specs = slices.Clone(old.index.specs)
		ix.listeners = make([]int, len(old.index.listeners))
		for i := range ix.listeners {
			ix.listeners[i] = -1
		}
		ix.sharers = make([][]int, len(ix.listeners))
	}
	s.index = ix
	for i := range spec.Services {
		sp := &spec.Services[i]
		var was *Service
		if old != nil {
			was = old.Service(sp.Name)
		}
		svc := was
		if was == nil || !reflect.DeepEqual(was.Spec, sp) { // a service that stays as it was stays the same value
			svc = buildService(sp, mem.Services[sp.Name], was, loops)
			svc.SteerRev = s.Revision
		}
		ix.byName[sp.Name] = i
		s.Services = append(s.Services, svc)
		taken := map[ListenSpec]int{}
		if p := sp.Preview; p != nil && p.Listen != nil {
			slot := ix.slot(old, *p.Listen, sp.Name, taken)
			ix.listeners[slot], ix.previews[slot], ix.sharers[slot] = i, true, []int{i}
			ix.slots[*p.Listen] = append(ix.slots[*p.Listen], slot)
		}
		listen := sp.Listen
		if sp.TLS != nil {
			listen = slices.Concat(listen, sp.TLS.RedirectFrom)
		}
		for k, l := range listen {
			slot := ix.slot(old, l, sp.Name, taken)
			if ix.listeners[slot] < 0 {
				ix.listeners[slot] = i
				ix.slots[l] = append(ix.slots[l], slot)
			}
			ix.sharers[slot] = append(ix.sharers[slot], i)
			if k >= len(sp.Listen) {
				ix.plain[slot] = true
			}
		}
	}
	ix.route(spec)
	s.announces()
	return s
}

// route makes the routes of the listeners that lead to several services, or not with every request.
func (ix *index) route(spec *Spec) {
	ix.routes = make([]*routes, len(ix.sharers))
	for slot, all := range ix.sharers {
		if len(all) == 0 || ix.previews[slot] {
			continue
		}
		if first := &spec.Services[all[0]]; first.Mode == TCP {
			if first.TLS != nil {
				ix.routes[slot] = routesBySNI(spec, all)
			}
			continue
		} else if len(all) == 1 && len(first.Routes) == 0 {
			continue
		}
		r := &routes{}
		for _, i := range all {
			list := spec.Services[i].Routes
			if len(list) == 0 {
				list = everywhere
			}
			for _, rs := range list {
				r.add(rs, i)
			}
		}
		r.sort()
		ix.routes[slot] = r
	}
}

// slot finds the listener slot that had the address in the old snapshot, or takes a new one. A port 0 can
// be listed by several services: each keeps the slot it had itself. Any other address has one slot, which services
// of one mode may share.
func (ix *index) slot(old *Snapshot, l ListenSpec, service string, taken map[ListenSpec]int) int {
	if has := ix.slots[l]; len(has) > 0 && !anyPort(l) {
		return has[0]
	}
	if old != nil {
		var own, others []int
		for _, slot := range old.index.slots[l] {
			if old.Services[old.index.listeners[slot]].Spec.Name == service {
				own = append(own, slot)
			} else if !anyPort(l) {
				others = append(others, slot)
			}
		}
		if had := append(own, others...); taken[l] < len(had) {
			taken[l]++
			return had[taken[l]-1]
		}
	}
	taken[l]++
	ix.listeners = append(ix.listeners, -1)
	ix.sharers = append(ix.sharers, nil)
	ix.specs = append(ix.specs, l)
	return len(ix.listeners) - 1
}

// anyPort tells whether the address lets the kernel choose the port.
func anyPort(l ListenSpec) bool {
	n := len(l.Address)
	return l.Network == NetTCP && n > 1 && l.Address[n-2:] == ":0"
}

func buildService(sp *ServiceSpec, mem *ServiceMemory, was *Service, loops int) *Service {
	svc := &Service{Spec: sp, Since: time.Now()}
	if was != nil {
		svc.Live, svc.Since = was.Live, was.Since
	} else {
		svc.Live = &Live{Name: sp.Name, cells: make([]serviceCell, loops)}
	}
	for i := range sp.Pools {
		svc.Pools = append(svc.Pools, buildPool(sp, &sp.Pools[i], mem, was, loops))
	}
	svc.Active = svc.Pool(sp.Active)
	if mem != nil {
		svc.recall(mem)
	}
	svc.settle()
	return svc
}

// recall puts in force what the journal remembers, as far as the file still has it.
func (s *Service) recall(mem *ServiceMemory) {
	if p := s.Pool(mem.Active); p != nil {
		s.Active = p
	}
	if !mem.Since.IsZero() {
		s.Since = mem.Since
	}
	s.Hold, s.Maintenance, s.Announced, s.Failover = mem.Hold, mem.Maintenance, mem.Announced, mem.Failover
	if s.Spec.Mode == HTTP {
		s.ReadOnly = mem.ReadOnly
	}
	if s.Pool(mem.Previous) != nil { // the file may no longer have it: then there is no way back
		s.Previous = mem.Previous
	}
	if s.Active.Name == mem.Active {
		s.PreviousServers = mem.PreviousServers
	}
	s.Watch, s.Watched = mem.Watch, mem.Watched
	if mem.Split != nil && !s.Spec.Exclusive {
		split := *mem.Split
		if split.resolve(s.Pools, s.Active) { // else the file no longer has its pools: all goes to the active one
			s.Split = &split
		}
	}
}

func buildPool(service *ServiceSpec, sp *PoolSpec, mem *ServiceMemory, was *Service, loops int) *Pool {
	var had map[string]*Member
	if was != nil {
		if p := was.Pool(sp.Name); p != nil {
			had = make(map[string]*Member, len(p.Members))
			for i := range p.Members {
				had[p.Members[i].Name] = &p.Members[i]
			}
		}
	}
	members := make([]Member, len(sp.Servers))
	for i, srv := range sp.Servers {
		members[i] = Member{Weight: srv.Weight, Max: srv.MaxConnections}
		if m := had[srv.Name]; m != nil && m.Address == srv.Address && m.H2 == srv.H2 {
			members[i].Server, members[i].warmup, members[i].cold = m.Server, m.warmup, m.cold
			if service.Health != nil { // what is known of it holds until its checks have spoken again
				members[i].Health = m.Health
			}
		} else {
			members[i].Server = newServer(service.Name, sp.Name, srv, loops)
		}
		if service.Health != nil && members[i].Health.State == HealthUnchecked {
			members[i].Health.State = HealthUnknown
		}
		if m := mem.server(sp.Name, srv.Name); m != nil {
			members[i].Drained = m.Drained
			if kept := had[srv.Name]; service.Drain.BySession && (kept == nil || kept.Server == members[i].Server) {
				members[i].sessions = m.Sessions
			}
			if m.Weight != nil {
				members[i].Weight = *m.Weight
			}
		}
	}
	return newPool(sp.Name, members, service)
}

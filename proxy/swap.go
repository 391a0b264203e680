package proxy

import (
	"slices"
	"strings"
	"time"
)

// destination is the pool a swap or back of the service leads to, with the servers of it that become the serving set; nil:
// it is of whole pools.
func (s *Service) destination(cur *Snapshot, ch *Change) (*Pool, []string, *Refusal) {
	name := s.Spec.Name
	to, set := ch.To, ch.Servers
	switch {
	case ch.Verb == VerbBack:
		if to, set = s.undo(ch, cur.together(ch)); to == "" {
			return nil, nil, refuse(CodeFailed, "%s was not swapped yet, so there is no way back", name).
				hint("`turnout swap %s POOL` swaps; pools: %s", name, strings.Join(s.poolNames(), ", ")).holds(cur.still(s))
		}
	case to == "" && len(set) > 0:
		return s.Active, set, nil
	case to == "" && len(s.Pools) == 2:
		if s.Pools[0] == s.Active {
			return s.Pools[1], nil, nil
		}
		return s.Pools[0], nil, nil
	case to == "":
		return nil, nil, refuse(CodeUsage, "%s has %s: say which one to swap to", name, plural(len(s.Pools), "pool")).
			hint("pools: %s", strings.Join(s.poolNames(), ", ")).holds(cur.still(s))
	}
	if p := s.Pool(to); p != nil {
		return p, set, nil
	}
	return nil, nil, refuse(CodeNotFound, "%s has no pool %q", name, to).hint("%s", Among(to, s.poolNames())).holds(cur.still(s))
}

// destinations are where a swap or back of the services leads, one for each; with the servers of it that become the serving set,
// nil: it is of whole pools. Back takes the latest back that changed where new work goes: of services of which one is split
// that is the split, and all stay where they are active.
func (s *Snapshot) destinations(ch *Change, services []*Service) (dests []*Pool, sets [][]string, err *Refusal) {
	dests, sets = make([]*Pool, len(services)), make([][]string, len(services))
	if ch.Verb == VerbBack && slices.ContainsFunc(services, func(svc *Service) bool { return svc.Split != nil && !ch.endsWatchOf(svc) }) {
		for i, svc := range services {
			dests[i] = svc.Active
		}
		return dests, sets, nil
	}
	for i, svc := range services {
		if dests[i], sets[i], err = svc.destination(s, ch); err != nil {
			return nil, nil, err
		}
	}
	return dests, sets, s.asOne(ch, services, dests)
}

// swap plans swap and back, of one service or of several as one.
func (p *Planned) swap(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	services, err := cur.targets(ch.Target)
	if err != nil {
		return nil, err
	}
	if len(ch.Servers) > 0 && len(services) > 1 {
		return nil, refuse(CodeUsage, "%s is a group: a set of servers is of one service", ch.Target).holds(cur.still(nil))
	}
	services = ch.only(services)
	ch = ch.watchedAsOne(services)
	exclusive := ch.Exclusive || slices.ContainsFunc(services, func(svc *Service) bool { return svc.Spec.Exclusive })
	dests, sets, err := cur.destinations(ch, services)
	if err != nil {
		return nil, err
	}
	var changed []*Service
	for i, svc := range services {
		var next *Service
		switch {
		case len(sets[i]) > 0:
			next, err = p.swapServers(cur, svc, dests[i], sets[i], exclusive, ch, now)
		case dests[i] == svc.Active && svc.Split == nil:
			next = p.stays(svc, ch, now)
		default:
			next, err = p.swapPool(cur, svc, dests[i], exclusive, ch, now)
		}
		if err != nil {
			return nil, err
		}
		if next == nil {
			continue
		}
		if ch.handover {
			next.Hold = ch.held[svc.Spec.Name]
		}
		changed = append(changed, next)
	}
	var from, to []string
	for i := range p.moves {
		f, t := p.moves[i].sides()
		from, to = append(from, f), append(to, t)
	}
	p.record.From, p.record.To = strings.Join(slices.Compact(from), ","), strings.Join(slices.Compact(to), ",")
	return changed, nil
}

// swapServers plans that a set of servers of the pool gets the service's new work; nil: it does already.
func (p *Planned) swapServers(cur *Snapshot, svc *Service, dest *Pool, set []string, exclusive bool, ch *Change, now time.Time) (*Service, *Refusal) {
	of := *ch
	of.Servers = set
	next, err := p.serveOnly(cur, svc, dest, &of, now)
	if next == nil || err != nil {
		return nil, err
	}
	next.watch(svc, &of, now)
	if m := &p.moves[len(p.moves)-1]; exclusive && m.from != m.to {
		m.exclusive(&of)
	}
	return next, nil
}

// stays plans for a service that is where it is to go already; nil: nothing of it changes.
func (p *Planned) stays(svc *Service, ch *Change, now time.Time) *Service {
	name, pool := svc.Spec.Name, svc.Active.Name
	if ch.Watch < 0 && svc.Watch != nil && !ch.handover {
		p.say("%s: %s stays active, and is not watched any more", name, pool)
		return svc.unwatch(ch, now)
	}
	p.say("%s: %s is active already", name, pool)
	if !ch.handover || svc.Hold == nil {
		return nil
	}
	next := *svc // a member of a group that was there already: its hold ends with those of the others
	return &next
}

// swapPool plans that the pool gets the service's new work.
func (p *Planned) swapPool(cur *Snapshot, svc *Service, dest *Pool, exclusive bool, ch *Change, now time.Time) (*Service, *Refusal) {
	name := svc.Spec.Name
	if len(dest.willing) == 0 && !ch.Force {
		return nil, refuse(CodeGate, "%s not swapped to %s: none of its %s takes new work: all are drained or have weight 0", name, dest.Name, plural(len(dest.Members), "server")).
			hint("`turnout ready %s/%s` makes them ready; `--force` skips this", name, dest.Name).holds(cur.still(svc))
	}
	next := *svc
	if dest != svc.Active {
		next.Active, next.Previous, next.PreviousServers, next.Since = dest, svc.Active.Name, nil, now
		next.Failover = svc.mark(ch, now)
	}
	p.unsplit(&next)
	next.settle()
	next.watch(svc, ch, now)
	p.asks = append(p.asks, ask{name, dest.Name})
	m := move{service: name, from: svc.leaving(dest), to: dest.Name, sealed: svc.sealedBy(&next), swapped: true}.ends(svc.Spec.Drain, ch)
	if exclusive {
		m.exclusive(ch)
	}
	p.moves = append(p.moves, m)
	p.say("%s: %s -> %s; %s on %s %s", name, m.from, m.to, plural(connections(m.sealed), "connection"), m.from, m.ending())
	return &next, nil
}

// exclusive ends the old side's connections before the commit, and at once, for clients wait meanwhile. The drain is a
// part of the hold: some is left for the gate.
func (m *move) exclusive(ch *Change) {
	m.closeOver, m.bySession = 0, false
	if m.then = ThenClose; ch.Drain == 0 && ch.Hold > 0 {
		m.deadline = min(m.deadline, ch.Hold*3/4)
	}
}

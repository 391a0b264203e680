package proxy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file works out where `turnout back`, and a watch's rollback, lead. A service goes back to what served before its
// last change: a pool, or a set of servers inside the pool. Services that go back together do so by pools alone: what
// was changed inside a pool meanwhile is no reason to leave one of them behind (P2).

// BackTo is where `turnout back` of the service alone leads: a pool, and which of its servers become the serving set, nil
// when it is of whole pools. "" when there is no way back.
func (s *Service) BackTo() (pool string, servers []string) {
	if s.PreviousServers != nil {
		return s.Active.Name, s.PreviousServers
	}
	return s.Previous, nil
}

// undo is where what a change takes back leads, as BackTo has it.
func (s *Service) undo(ch *Change, together bool) (pool string, servers []string) {
	if together || ch.endsWatchOf(s) {
		return s.Previous, nil
	}
	return s.BackTo()
}

// endsWatchOf tells whether the change ends the watch of the swap that made the service's active pool so. It takes that
// swap back, whatever was changed inside the pool since.
func (ch *Change) endsWatchOf(s *Service) bool {
	return ch.rollback != nil && ch.Verb == VerbBack && ch.rollback.Since.Equal(s.Since)
}

// together tells whether a change is of several services, as one.
func (s *Snapshot) together(ch *Change) bool {
	return s.Service(ch.Target) == nil && len(s.Groups[ch.Target]) > 1
}

// GroupBack is where `turnout back` of a group leads, service by service, or why it is refused. Neither is there when it has
// no way back, or takes a split back.
func (s *Snapshot) GroupBack(group string) (to map[string]string, refused *Refusal) {
	ch := Change{Verb: VerbBack, Target: group}
	services, err := s.targets(group)
	if err != nil || slices.ContainsFunc(services, func(svc *Service) bool { return svc.Split != nil || svc.Previous == "" }) {
		return nil, nil
	}
	dests := make([]*Pool, len(services))
	to = make(map[string]string, len(services))
	for i, svc := range services {
		if err := s.backToBad(svc, &ch); err != nil {
			return nil, err
		}
		if dests[i], _, err = svc.destination(s, &ch); err != nil {
			return nil, nil
		}
		to[svc.Spec.Name] = dests[i].Name
	}
	if err := s.asOne(&ch, services, dests); err != nil {
		return nil, err
	}
	return to, nil
}

// side names a pool, or servers of it.
func side(pool string, servers []string) string {
	if len(servers) == 0 {
		return pool
	}
	return pool + "/" + strings.Join(servers, ",")
}

// apart tells whether services would be on different pools. Only names that both of two services have can tell.
func apart(services []*Service, dests []*Pool) bool {
	for i, a := range services {
		for k, b := range services[:i] {
			if x, y := dests[i].Name, dests[k].Name; x != y && (a.Pool(y) != nil || b.Pool(x) != nil) {
				return true
			}
		}
	}
	return false
}

// asOne refuses a swap of a group, that names no pool, or its back, when its services would not come out together: on
// the same pool; or, where their pools have different names, where they were before a swap of all of them.
func (s *Snapshot) asOne(ch *Change, services []*Service, dests []*Pool) *Refusal {
	if len(services) < 2 || ch.rollback != nil || ch.To != "" {
		return nil
	}
	mixed := apart(services, dests)
	if ch.Verb == VerbSwap && !mixed {
		return nil
	}
	once := !slices.ContainsFunc(services, func(svc *Service) bool { return !svc.Since.Equal(services[0].Since) })
	same := !slices.ContainsFunc(dests, func(p *Pool) bool { return p.Name != dests[0].Name })
	if ch.Verb == VerbBack && !mixed && (once || same) {
		return nil
	}
	var leads, are, pools []string
	newest := services[0]
	for i, svc := range services {
		name := svc.Spec.Name
		leads = append(leads, name+" to "+dests[i].Name)
		are = append(are, name+" on "+svc.Active.Name)
		if svc.Since.After(newest.Since) {
			newest = svc
		}
		for _, p := range []string{svc.Active.Name, dests[i].Name} {
			if !slices.Contains(pools, p) && !slices.ContainsFunc(services, func(svc *Service) bool { return svc.Pool(p) == nil }) {
				pools = append(pools, p)
			}
		}
	}
	holds := fmt.Sprintf("still %s, revision %d", strings.Join(are, ", "), s.Revision)
	if ch.Verb == VerbSwap {
		return refuse(CodeUsage, "the services of %s are on different pools: the other one would be %s", ch.Target, strings.Join(leads, ", ")).
			hint("say which pool all of them go to: %s", strings.Join(pools, ", ")).holds(holds)
	}
	hint := fmt.Sprintf("`turnout back %s` takes that one back by itself", newest.Spec.Name)
	if len(pools) > 0 {
		hint = fmt.Sprintf("`turnout swap %s %s` leads all of them to one pool; ", ch.Target, pools[0]) + hint
	}
	return refuse(CodeConflict, "%s cannot go back as one: %s was last swapped at %s, without all the others, and back would lead %s",
		ch.Target, newest.Spec.Name, newest.Since.Format(time.TimeOnly), strings.Join(leads, ", ")).hint("%s", hint).holds(holds)
}

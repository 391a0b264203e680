package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file plans what part of a pool's servers gets a service's new work: the serving set.

// All is the target of hold, release and maintenance that stands for every service, unless a service or group has
// that name.
const All = "all"

// settle works out what claims may choose from. Every service passes it on its way into a snapshot.
func (s *Service) settle() {
	s.Serving = s.Active
	defer s.settleBehind()
	if s.Split == nil {
		return
	}
	all := &Pool{Name: s.Split.String(), at: map[*Server]int{}}
	for i, p := range s.Pools {
		if s.Split.share[i] == 0 {
			continue
		}
		for k := range p.Members {
			at := uint16(len(all.Members))
			all.at[p.Members[k].Server] = int(at)
			all.Members = append(all.Members, p.Members[k])
			all.chosen = append(all.chosen, p.chosen[k] && (i == s.Split.refuge || !p.dead))
			if all.chosen[at] {
				all.ready = append(all.ready, at)
			}
			if p.Members[k].Gives() {
				all.willing = append(all.willing, at)
			}
		}
	}
	s.Serving = all
}

// settleBehind makes what those see who pass the maintenance.
func (s *Service) settleBehind() {
	s.behind = nil
	if s.Maintenance != nil {
		behind := *s
		behind.Maintenance = nil
		s.behind = &behind
	}
}

// Behind is the service as those see it who pass its maintenance: operators, and in a soft one known clients. It
// shares all counters with the service.
func (s *Service) Behind() *Service {
	if s.behind != nil {
		return s.behind
	}
	return s
}

// readyNames names the servers that take new work.
func (p *Pool) readyNames() []string {
	out := make([]string, 0, len(p.willing))
	for _, i := range p.willing {
		out = append(out, p.Members[i].Name)
	}
	return out
}

// sealedBy lists the servers that a service gave new work to and the next one does not. When it serves by another pool
// then, those that were drained before count too: what is left on them ends with the rest.
func (s *Service) sealedBy(next *Service) []*Server {
	var out []*Server
	for _, srv := range s.Serving.Servers() {
		if !next.Serving.gives(srv) && (s.Serving.gives(srv) || s.Active.Name != next.Active.Name) {
			out = append(out, srv)
		}
	}
	return out
}

// onlyServers checks that each name is a server of the pool and returns the pool in which ch.Servers take new work and no
// others do.
func (p *Planned) onlyServers(cur *Snapshot, svc *Service, pool *Pool, ch *Change, now time.Time) (*Pool, *Refusal) {
	names := ch.Servers
	known := make([]string, len(pool.Members))
	for i := range pool.Members {
		known[i] = pool.Members[i].Name
	}
	for i, n := range names {
		if !slices.Contains(known, n) {
			return nil, refuse(CodeNotFound, "%s/%s has no server %q", svc.Spec.Name, pool.Name, n).hint("%s", Among(n, known)).holds(cur.still(svc))
		}
		if slices.Contains(names[:i], n) {
			return nil, refuse(CodeUsage, "%s is named twice", n).holds(cur.still(svc))
		}
	}
	members := slices.Clone(pool.Members)
	for i := range members {
		m := &members[i]
		m.Drained = !slices.Contains(names, m.Name)
		if !m.Drained && m.Weight == 0 {
			return nil, refuse(CodeUsage, "%s/%s/%s has weight 0, so it takes no new work", svc.Spec.Name, pool.Name, m.Name).
				hint("`turnout weight %s/%s/%s 1` first", svc.Spec.Name, pool.Name, m.Name).holds(cur.still(svc))
		}
	}
	svc.warmUp(members, ch, now)
	return newPool(pool.Name, members, svc.Spec), nil
}

// warmUp has those members that come in by a change of the serving set begin with a slow start: beside one that has its
// whole share already, for what they do not take yet has to go somewhere. With none, all share evenly. Going back by a
// breach is no time for it, and those it goes back to served until a moment ago.
func (s *Service) warmUp(members []Member, ch *Change, now time.Time) {
	slowly, warm := ch.slowStart(s.Spec), false
	for i := range members {
		m := &members[i]
		warm = warm || !m.Drained && m.warmup == nil && !m.Health.Down() && s.Serving.gives(m.Server)
	}
	for i := range members {
		switch m := &members[i]; {
		case m.Drained || !warm:
			m.start(0, now)
		case !s.Serving.gives(m.Server) && !m.Health.Down() && ch.rollback == nil:
			m.start(slowly, now)
		}
	}
}

// slowStarts says which members of a pool of a service begin with a slow start by the change; "" when none does.
func (p *Planned) slowStarts(service string, pool *Pool, now time.Time) string {
	var names []string
	var w *Warmup
	for i := range pool.Members {
		if m := &pool.Members[i]; m.warmup != nil && m.warmup.Begun.Equal(now) {
			names, w = append(names, m.Name), m.warmup
		}
	}
	if names == nil {
		return ""
	}
	all := shorten(names)
	p.slow = append(p.slow, fmt.Sprintf("%s/%s: %s at a tenth of the share at first, at all of it after %s", service, pool.Name, all, w.For))
	return fmt.Sprintf("; slow start of %s for %s", w.For, all)
}

// place puts a pool that was made anew where the one of its name was.
func (s *Service) place(made *Pool) {
	s.Pools = slices.Clone(s.Pools)
	i := slices.IndexFunc(s.Pools, func(p *Pool) bool { return p.Name == made.Name })
	s.Pools[i] = made
	if s.Active.Name == made.Name {
		s.Active = made
	}
}

// keep plans that of the active pool only the servers named take new work; the others drain. It only takes away:
// who is to be kept must be serving already.
func (p *Planned) keep(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	svc := cur.Service(ch.Target)
	if svc == nil {
		if _, ok := cur.Groups[ch.Target]; ok {
			return nil, refuse(CodeUsage, "%s is a group: keep takes one service", ch.Target).holds(cur.still(nil))
		}
		_, err := cur.targets(ch.Target)
		return nil, err
	}
	name, pool := svc.Spec.Name, svc.Active
	if len(ch.Servers) == 0 {
		return nil, refuse(CodeUsage, "keep: say which servers of %s to keep", name).
			hint("servers of %s, its active pool: %s", pool.Name, shorten(pool.readyNames())).holds(cur.still(svc))
	}
	made, err := p.onlyServers(cur, svc, pool, ch, now)
	if err != nil {
		return nil, err
	}
	for i := range pool.Members {
		if m := &pool.Members[i]; !made.Members[i].Drained && m.Drained {
			return nil, refuse(CodeGate, "%s/%s/%s is drained: keep only takes servers away", name, pool.Name, m.Name).
				hint("`turnout swap %s --to %s` makes those the serving set", name, strings.Join(ch.Servers, ",")).holds(cur.still(svc))
		}
	}
	if full := made.lacks(pool.Connections()); full != "" && !ch.Force {
		return nil, refuse(CodeGate, "%s not reduced to %s: %s", name, strings.Join(ch.Servers, ","), full).
			hint("keep more servers, or raise max_connections; `--force` does it all the same").holds(cur.still(svc))
	}
	next := *svc
	next.place(made)
	next.settle()
	m := move{service: name, from: pool.Name, sealed: svc.sealedBy(&next)}.ends(svc.Spec.Drain, ch)
	if len(m.sealed) == 0 {
		p.say("%s: %s alone already", name, strings.Join(made.readyNames(), ","))
		return nil, nil
	}
	next.PreviousServers = pool.readyNames()
	next.watch(svc, &Change{Verb: VerbKeep, Who: ch.Who, Watch: -1}, now)
	p.moves = append(p.moves, m)
	p.record.From, p.record.To = strings.Join(pool.readyNames(), ","), strings.Join(made.readyNames(), ",")
	p.say("%s: keeps %s of %s; %s on %s %s", name, strings.Join(made.readyNames(), ","), pool.Name,
		plural(connections(m.sealed), "connection"), serverNames(m.sealed), m.ending())
	return []*Service{&next}, nil
}

// lacks says why the pool has no room for so many connections; "" when it has, or when nobody knows.
func (p *Pool) lacks(connections int) string {
	room := 0
	for _, i := range p.willing {
		if p.Members[i].Max == 0 {
			return ""
		}
		room += p.Members[i].Max
	}
	if room >= connections {
		return ""
	}
	return fmt.Sprintf("max_connections leaves room for %d, and there are %d", room, connections)
}

func serverNames(servers []*Server) string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s.Name
	}
	return shorten(out)
}

// serveOnly plans a swap to a set of servers: of one pool exactly those named take new work, in one change. When that
// pool is not the active one, it becomes so.
func (p *Planned) serveOnly(cur *Snapshot, svc *Service, dest *Pool, ch *Change, now time.Time) (*Service, *Refusal) {
	name := svc.Spec.Name
	made, err := p.onlyServers(cur, svc, dest, ch, now)
	if err != nil {
		return nil, err
	}
	next := *svc
	next.Split = nil
	next.place(made)
	next.Active = made
	next.settle()
	same := dest == svc.Active
	if same && ch.Exclusive {
		return nil, refuse(CodeUsage, "--exclusive is for two pools; %s are servers of %s, which is active already", strings.Join(ch.Servers, ","), dest.Name).holds(cur.still(svc))
	}
	if same && svc.Split == nil && slices.Equal(made.readyNames(), dest.readyNames()) {
		p.say("%s: %s serve already", name, strings.Join(made.readyNames(), ","))
		return nil, nil
	}
	if same {
		next.PreviousServers = dest.readyNames()
	} else {
		next.Previous, next.PreviousServers, next.Since = svc.Active.Name, nil, now
	}
	m := move{service: name, from: svc.Active.Name, to: dest.Name, sealed: svc.sealedBy(&next), swapped: true, dest: made}.ends(svc.Spec.Drain, ch)
	if m.names = [2]string{m.from, dest.Name + "/" + strings.Join(made.readyNames(), ",")}; same {
		m.names[0] = dest.Name + "/" + orNone(strings.Join(dest.readyNames(), ","))
	}
	p.moves = append(p.moves, m)
	p.say("%s: %s -> %s; %s on %s %s%s", name, m.names[0], m.names[1], plural(connections(m.sealed), "connection"), orNone(serverNames(m.sealed)), m.ending(), p.slowStarts(name, made, now))
	return &next, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// askFirst is the gate of keep: whoever is to take more work has to answer.
func (s *Switch) askFirst(ctx context.Context, ch *Change) error {
	s.mu.Lock()
	cur := s.cur.Load()
	err := s.may(cur, ch, nil)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	p, perr := Plan(cur, ch, time.Now())
	if perr != nil || p.Noop {
		return perr
	}
	svc := cur.Service(ch.Target)
	if err := s.answerAll(ctx, svc, p.Next.Service(ch.Target).Active, "reduced to "+strings.Join(ch.Servers, ",")); err != nil {
		return err.holds(cur.still(svc))
	}
	return nil
}

// answerAll asks each server that would take new work, side by side: who named them one by one counts on each.
func (s *Switch) answerAll(ctx context.Context, svc *Service, pool *Pool, what string) *Refusal {
	if !slices.ContainsFunc(pool.willing, func(i uint16) bool { return !s.opt.Glance(pool.Members[i].Server) }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, svc.Spec.gateLimit())
	defer cancel()
	answers := make(chan string, len(pool.willing))
	for _, i := range pool.willing {
		go func() { // ends with the probe or ctx
			m := &pool.Members[i]
			if err := s.opt.Probe(ctx, m.Server); err != nil {
				answers <- fmt.Sprintf("%s (%s): %v", m.Name, m.Address, err)
				return
			}
			answers <- ""
		}()
	}
	var fails []string
	for range pool.willing {
		if why := <-answers; why != "" {
			fails = append(fails, why)
		}
	}
	if fails == nil {
		return nil
	}
	slices.Sort(fails)
	return refuse(CodeGate, "%s not %s: %d of %s not ready: %s", svc.Spec.Name, what, len(fails), plural(len(pool.willing), "server"), strings.Join(fails, "; ")).
		hint("start what does not answer, or leave it out; `--force` skips gates")
}

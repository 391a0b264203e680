package proxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file plans what part of a service's servers gets its new work: a split over two pools, and the serving set
// inside one.

// All is the target of hold, release and maintenance that stands for every service, unless a service or group has
// that name.
const All = "all"

// Split gives another pool beside the active one a share of new work.
type Split struct {
	Pool     string    `json:"pool"`
	Permille int       `json:"permille"` // of new work, 1..999; the rest goes to the active pool
	Since    time.Time `json:"since"`
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// Share is the split in words: "5%".
func (s *Split) Share() string { return percent(s.Permille) }

func percent(permille int) string {
	return strconv.FormatFloat(float64(permille)/10, 'f', -1, 64) + "%"
}

// maxRound bounds one round of weighted round robin over a split, and with it the memory of a snapshot.
const maxRound = 4000

// settle works out what claims choose from. Every service passes it on its way into a snapshot.
func (s *Service) settle() {
	s.Serving = s.Active
	if s.Split == nil {
		return
	}
	if other := s.Pool(s.Split.Pool); other != nil && other != s.Active && len(other.ready) > 0 {
		s.Serving = mixed(s.Active, other, s.Split.Permille, s.Spec)
	}
}

// mixed is one pool made of two, in which the servers of other have that share of all weight. So each way of
// balancing, and the next server after a failed dial, work over a split as they do over a pool.
func mixed(active, other *Pool, permille int, spec *ServiceSpec) *Pool {
	a, b := active.weight(), other.weight()
	if a == 0 {
		return other // the active pool gives nothing: whatever takes new work is better than refusing it
	}
	members := make([]Member, 0, len(active.Members)+len(other.Members))
	add := func(p *Pool, scale int) {
		for _, m := range p.Members {
			if m.Gives() {
				m.Weight *= scale
			}
			members = append(members, m)
		}
	}
	add(active, (1000-permille)*b)
	add(other, permille*a)
	shrink(members)
	return newPool(active.Name+"+"+other.Name, members, spec)
}

// shrink makes weights small enough for one round; each that was more than 0 stays so.
func shrink(members []Member) {
	sum, gcd := 0, 0
	for i := range members {
		if members[i].Gives() {
			sum, gcd = sum+members[i].Weight, greatest(gcd, members[i].Weight)
		}
	}
	if sum /= max(gcd, 1); sum <= maxRound {
		return
	}
	for i := range members {
		if m := &members[i]; m.Gives() {
			m.Weight = max(1, int(float64(m.Weight/gcd)*maxRound/float64(sum)+0.5))
		}
	}
}

// weight is the sum over the members that take new work.
func (p *Pool) weight() int {
	n := 0
	for _, i := range p.ready {
		n += p.Members[i].Weight
	}
	return n
}

// readyNames names the servers that take new work.
func (p *Pool) readyNames() []string {
	out := make([]string, 0, len(p.willing))
	for _, i := range p.willing {
		out = append(out, p.Members[i].Name)
	}
	return out
}

// Permille is the pool's share of the service's new work, in thousandths.
func (s *Service) Permille(p *Pool) int {
	switch {
	case s.Split == nil || s.Serving == s.Active:
		if p == s.Active {
			return 1000
		}
	case p.Name == s.Split.Pool && s.Serving == p:
		return 1000
	case p.Name == s.Split.Pool:
		return s.Split.Permille
	case p == s.Active && s.Serving != s.Pool(s.Split.Pool):
		return 1000 - s.Split.Permille
	}
	return 0
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

// split plans that a share of new work goes to another pool; a share of 0 ends that.
func (p *Planned) split(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	svc := cur.Service(ch.Target)
	if svc == nil {
		if _, ok := cur.Groups[ch.Target]; ok {
			return nil, refuse(CodeUsage, "%s is a group: split takes one service", ch.Target).holds(cur.still(nil))
		}
		_, err := cur.targets(ch.Target)
		return nil, err
	}
	name := svc.Spec.Name
	pool := svc.Pool(ch.To)
	switch {
	case pool == nil:
		return nil, refuse(CodeNotFound, "%s has no pool %q", name, ch.To).hint("%s", among(ch.To, svc.poolNames())).holds(cur.still(svc))
	case ch.Permille < 0 || ch.Permille > 1000:
		return nil, refuse(CodeUsage, "a share of %s: want 0%% to 100%%", percent(ch.Permille)).holds(cur.still(svc))
	case pool == svc.Active:
		return nil, refuse(CodeUsage, "%s is the active pool of %s: say the share of another one", pool.Name, name).
			hint("`turnout split %s POOL=5%%`; pools: %s", name, strings.Join(svc.poolNames(), ", ")).holds(cur.still(svc))
	case ch.Permille == 1000:
		return nil, refuse(CodeUsage, "100%% to %s is a swap", pool.Name).hint("`turnout swap %s %s`", name, pool.Name).holds(cur.still(svc))
	case ch.Permille > 0 && svc.Spec.Exclusive:
		return nil, refuse(CodeUsage, "%s is exclusive: a split would let two pools serve at once", name).holds(cur.still(svc))
	case ch.Permille > 0 && len(pool.willing) == 0 && !ch.Force:
		return nil, refuse(CodeGate, "%s not split: none of %s's %s takes new work: all are drained or have weight 0", name, pool.Name, plural(len(pool.Members), "server")).
			hint("`turnout ready %s/%s` makes them ready; `--force` skips this", name, pool.Name).holds(cur.still(svc))
	case ch.Permille == 0 && (svc.Split == nil || svc.Split.Pool != pool.Name):
		p.say("%s: %s has no share", name, pool.Name)
		return nil, nil
	case svc.Split != nil && svc.Split.Pool == pool.Name && svc.Split.Permille == ch.Permille:
		p.say("%s: %s to %s already", name, percent(ch.Permille), pool.Name)
		return nil, nil
	}
	next := *svc
	next.Split = nil
	p.record.From = "no split"
	if svc.Split != nil {
		p.record.From = svc.Split.Pool + "=" + svc.Split.Share()
	}
	if p.record.To = pool.Name + "=" + percent(ch.Permille); ch.Permille > 0 {
		next.Split = &Split{Pool: pool.Name, Permille: ch.Permille, Since: now, By: ch.Who.Name, Reason: ch.Reason}
	}
	next.settle()
	if sealed := svc.sealedBy(&next); len(sealed) > 0 {
		p.moves = append(p.moves, move{service: name, from: sealed[0].Pool, sealed: sealed,
			deadline: orDuration(ch.Drain, svc.Spec.Drain.Timeout), then: orThen(ch.Then, svc.Spec.Drain.Then)})
	}
	p.say("%s: %s of new work to %s, %s to %s", name, percent(ch.Permille), pool.Name, percent(1000-ch.Permille), svc.Active.Name)
	return []*Service{&next}, nil
}

// onlyServers checks that each name is a server of the pool and returns the pool in which those take new work and no
// others do.
func (p *Planned) onlyServers(cur *Snapshot, svc *Service, pool *Pool, names []string) (*Pool, *Refusal) {
	known := make([]string, len(pool.Members))
	for i := range pool.Members {
		known[i] = pool.Members[i].Name
	}
	for i, n := range names {
		if !slices.Contains(known, n) {
			return nil, refuse(CodeNotFound, "%s/%s has no server %q", svc.Spec.Name, pool.Name, n).hint("%s", among(n, known)).holds(cur.still(svc))
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
	return newPool(pool.Name, members, svc.Spec), nil
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
func (p *Planned) keep(cur *Snapshot, ch *Change) ([]*Service, *Refusal) {
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
	made, err := p.onlyServers(cur, svc, pool, ch.Servers)
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
	m := move{service: name, from: pool.Name, sealed: svc.sealedBy(&next),
		deadline: orDuration(ch.Drain, svc.Spec.Drain.Timeout), then: orThen(ch.Then, svc.Spec.Drain.Then)}
	if len(m.sealed) == 0 {
		p.say("%s: %s alone already", name, strings.Join(made.readyNames(), ","))
		return nil, nil
	}
	next.Previous, next.PreviousServers = pool.Name, pool.readyNames()
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
	made, err := p.onlyServers(cur, svc, dest, ch.Servers)
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
	if same && slices.Equal(made.readyNames(), dest.readyNames()) {
		p.say("%s: %s serve already", name, strings.Join(made.readyNames(), ","))
		return nil, nil
	}
	next.Previous, next.PreviousServers, next.Since = svc.Active.Name, nil, now
	m := move{service: name, from: svc.Active.Name, to: dest.Name, sealed: svc.sealedBy(&next), swapped: true, dest: made,
		deadline: orDuration(ch.Drain, svc.Spec.Drain.Timeout), then: orThen(ch.Then, svc.Spec.Drain.Then)}
	if m.names = [2]string{m.from, dest.Name + "/" + strings.Join(made.readyNames(), ",")}; same {
		next.PreviousServers, next.Since = dest.readyNames(), svc.Since
		m.names[0] = dest.Name + "/" + strings.Join(dest.readyNames(), ",")
	}
	p.moves = append(p.moves, m)
	p.say("%s: %s -> %s; %s on %s %s", name, m.names[0], m.names[1], plural(connections(m.sealed), "connection"), orNone(serverNames(m.sealed)), m.ending())
	return &next, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// set is what a swap or back makes the serving set of a service; nil when it is of whole pools.
func (ch *Change) set(svc *Service, dest *Pool) []string {
	if ch.Verb == VerbBack && dest.Name == svc.Previous {
		return svc.PreviousServers
	}
	if ch.Verb == VerbSwap {
		return ch.Servers
	}
	return nil
}

// sides names what a move leads from and to.
func (m *move) sides() (from, to string) {
	if m.names[0] != "" {
		return m.names[0], m.names[1]
	}
	return m.from, m.to
}

// askFirst is the gate of keep and split: whoever is to take more work has to answer.
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
	if ch.Verb == VerbKeep {
		if err := s.answerAll(ctx, svc, p.Next.Service(ch.Target).Active, "reduced to "+strings.Join(ch.Servers, ",")); err != nil {
			return err.holds(cur.still(svc))
		}
		return nil
	}
	if ch.Permille == 0 {
		return nil
	}
	if fails := s.unreachable(ctx, svc, svc.Pool(ch.To)); fails != nil {
		return refuse(CodeGate, "%s not split: 0 of %s of %s ready: %s", ch.Target, plural(len(fails), "server"), ch.To, strings.Join(fails, "; ")).
			hint("start a server of %s/%s, then split again; `--force` skips gates", ch.Target, ch.To).holds(cur.still(svc))
	}
	return nil
}

// answerAll asks each server that would take new work, side by side: who named them one by one counts on each.
func (s *Switch) answerAll(ctx context.Context, svc *Service, pool *Pool, what string) *Refusal {
	ctx, cancel := context.WithTimeout(ctx, svc.Spec.Timeouts.Connect)
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

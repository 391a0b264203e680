package proxy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// DefaultHold is a hold's own deadline when none is given (P8): whoever set it and vanished does not leave
// clients waiting for ever.
const DefaultHold = 5 * time.Minute

// Planned is what a change would do, worked out before anything is touched.
type Planned struct {
	Next  *Snapshot
	Noop  bool     // it is so already
	Words []string // what changes, for people

	record Record
	moves  []move
	slow   []string // slow starts that begin by it, in words
	asks   []ask
}

// ask is a pool that gets new work which it did not get before: the gate asks whether it can take it.
type ask struct{ service, pool string }

// move is work that has to end: servers that lose new work by the change.
type move struct {
	service  string
	from, to string    // pools, several with a comma between; to is "" when no pool takes over
	names    [2]string // how the proof names both sides, where that is not from and to
	dest     *Pool     // what the new side will be, where that is not to as it is now
	sealed   []*Server
	swapped  bool // others take over: the answer has a proof of it
	aside    bool // a hand-over's drain before its commit: other drains of the same servers go on
	deadline time.Duration
	then     Then

	closeOver time.Duration // how long after the deadline the ends of what is left are spread over
	bySession bool          // sessions stay up to the deadline
}

// ends says how a move's drain ends, by its service's policy and what the change says.
func (m move) ends(policy DrainSpec, ch *Change) move {
	m.deadline, m.then, m.closeOver, m.bySession = policy.Timeout, policy.Then, policy.CloseOver, policy.BySession && ch.bySession()
	if ch != nil {
		m.deadline, m.then = orDuration(ch.Drain, policy.Timeout), orThen(ch.Then, policy.Then)
	}
	return m
}

// Plan works out a change from the snapshot in force. It is pure: it touches nothing, and refuses with
// reasons what cannot or should not be done.
func Plan(cur *Snapshot, ch *Change, now time.Time) (*Planned, error) {
	p := &Planned{record: Record{Time: now, Verb: ch.Verb, Target: ch.Target, Who: ch.Who, Reason: ch.Reason, Force: ch.Force, Detail: ch.Detail}}
	var changed []*Service
	var err *Refusal
	switch ch.Verb {
	case VerbSwap, VerbBack:
		changed, err = p.swap(cur, ch, now)
	case VerbDrain, VerbReady, VerbWeight:
		changed, err = p.members(cur, ch, now)
	case VerbKeep:
		changed, err = p.keep(cur, ch, now)
	case VerbSplit:
		changed, err = p.split(cur, ch, now)
	case VerbWatch:
		changed, err = p.watched(cur, ch)
	case VerbHold, VerbRelease, VerbMaintenance, VerbReadOnly:
		changed, err = p.doors(cur, ch, now)
	case VerbFreeze, VerbUnfreeze:
		return p.freeze(cur, ch, now), nil
	case VerbReload:
		return p.reload(cur, ch)
	default:
		err = refuse(CodeUsage, "unknown change %q", ch.Verb)
	}
	if err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		p.Noop, p.Next = true, cur
		return p, nil
	}
	for _, svc := range changed {
		p.sessions(cur.Service(svc.Spec.Name), svc, ch, now)
	}
	p.Next = cur.with(changed...)
	p.record.Services = make(map[string]*ServiceMemory, len(changed))
	for _, svc := range changed {
		svc.SteerRev = p.Next.Revision
		p.record.Services[svc.Spec.Name] = svc.memory()
	}
	return p, nil
}

func (p *Planned) say(format string, args ...any) {
	p.Words = append(p.Words, fmt.Sprintf(format, args...))
}

// targets resolves the name of a service or group.
func (s *Snapshot) targets(name string) ([]*Service, *Refusal) {
	if svc := s.Service(name); svc != nil {
		return []*Service{svc}, nil
	}
	if members, ok := s.Groups[name]; ok {
		return servicesOf(s, members), nil
	}
	return nil, refuse(CodeNotFound, "no service or group is named %q", name).hint("%s", Among(name, s.Names())).holds(s.still(nil))
}

func servicesOf(s *Snapshot, names []string) []*Service {
	out := make([]*Service, len(names))
	for i, n := range names {
		out[i] = s.Service(n)
	}
	return out
}

// services are those that the change is of.
func (ch *Change) services(cur *Snapshot) ([]*Service, *Refusal) {
	if ch.members == nil {
		return cur.targets(ch.Target)
	}
	return slices.DeleteFunc(servicesOf(cur, ch.members), func(svc *Service) bool { return svc == nil }), nil
}

// Names are those of all services and groups.
func (s *Snapshot) Names() []string {
	names := make([]string, 0, len(s.Services)+len(s.Groups))
	for _, svc := range s.Services {
		names = append(names, svc.Spec.Name)
	}
	for g := range s.Groups {
		names = append(names, g)
	}
	return names
}

// Among lists what there is, the nearest name first.
func Among(name string, known []string) string {
	slices.Sort(known)
	if i := nearest(name, known); i >= 0 {
		return fmt.Sprintf("did you mean %s? there are: %s", known[i], shorten(known))
	}
	return "there are: " + shorten(known)
}

// clock is when something ends: the time of day, with the date where that would not tell which day.
func clock(t, now time.Time) string {
	if t.Sub(now) < 24*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func shorten(names []string) string {
	if len(names) > 12 {
		return strings.Join(names[:12], ", ") + fmt.Sprintf(" and %d more", len(names)-12)
	}
	return strings.Join(names, ", ")
}

// nearest is the position of the name that differs by at most two letters (and at most half), or -1.
func nearest(name string, known []string) int {
	best, at := min(3, len(name)/2+1), -1
	for i, k := range known {
		if d := distance(name, k); d < best {
			best, at = d, i
		}
	}
	return at
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func (s *Service) poolNames() []string {
	out := make([]string, len(s.Pools))
	for i, p := range s.Pools {
		out[i] = p.Name
	}
	return out
}

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
	exclusive := ch.Exclusive
	for _, svc := range services {
		exclusive = exclusive || svc.Spec.Exclusive
	}
	// Back takes the latest back that changed where new work goes. Of a group, all go the same way.
	unsplit := ch.Verb == VerbBack && slices.ContainsFunc(services, func(svc *Service) bool { return svc.Split != nil && !ch.endsWatchOf(svc) })
	dests, sets := make([]*Pool, len(services)), make([][]string, len(services))
	for i, svc := range services {
		if dests[i] = svc.Active; unsplit {
			continue
		}
		if dests[i], sets[i], err = svc.destination(cur, ch); err != nil {
			return nil, err
		}
	}
	if err := cur.asOne(ch, services, dests); err != nil && !unsplit {
		return nil, err
	}
	var changed []*Service
	var from, to []string
	for i, svc := range services {
		name, dest := svc.Spec.Name, dests[i]
		if set := sets[i]; len(set) > 0 {
			ch := *ch
			ch.Servers = set
			next, err := p.serveOnly(cur, svc, dest, &ch, now)
			if err != nil {
				return nil, err
			}
			if next != nil {
				next.watch(svc, &ch, now)
				if ch.handover {
					next.Hold = ch.held[name]
				}
				changed = append(changed, next)
				m := &p.moves[len(p.moves)-1]
				if exclusive && m.from != m.to {
					m.exclusive(&ch)
				}
				from, to = append(from, m.names[0]), append(to, m.names[1])
			}
			continue
		}
		if dest == svc.Active && svc.Split == nil {
			if ch.Watch < 0 && svc.Watch != nil && !ch.handover {
				changed = append(changed, svc.unwatch(ch, now))
				p.say("%s: %s stays active, and is not watched any more", name, dest.Name)
				continue
			}
			p.say("%s: %s is active already", name, dest.Name)
			if ch.handover && svc.Hold != nil { // a group of which one member was there already
				next := *svc
				next.Hold = ch.held[name]
				changed = append(changed, &next)
			}
			continue
		}
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
		if ch.handover {
			next.Hold = ch.held[name]
		}
		changed = append(changed, &next)
		p.asks = append(p.asks, ask{name, dest.Name})
		m := move{service: name, from: svc.leaving(dest), to: dest.Name, sealed: svc.sealedBy(&next), swapped: true}.ends(svc.Spec.Drain, ch)
		if exclusive {
			m.exclusive(ch)
		}
		p.moves = append(p.moves, m)
		p.say("%s: %s -> %s; %s on %s %s", name, m.from, m.to, plural(connections(m.sealed), "connection"), m.from, m.ending())
		from, to = append(from, m.from), append(to, m.to)
	}
	p.record.From, p.record.To = strings.Join(slices.Compact(from), ","), strings.Join(slices.Compact(to), ",")
	return changed, nil
}

// exclusive ends the old side's connections before the commit, and at once, for clients wait meanwhile. The drain is a
// part of the hold: some is left for the gate.
func (m *move) exclusive(ch *Change) {
	m.closeOver, m.bySession = 0, false
	if m.then = ThenClose; ch.Drain == 0 && ch.Hold > 0 {
		m.deadline = min(m.deadline, ch.Hold*3/4)
	}
}

// ending says what becomes of the connections of a move.
func (m *move) ending() string {
	if m.then == ThenKeep && m.bySession {
		return fmt.Sprintf("go on until they end, and sessions for %s", m.deadline)
	}
	if m.then == ThenKeep {
		return "go on until they end"
	}
	text := "drain"
	if m.bySession {
		text += " by session"
	}
	if text += fmt.Sprintf(", cut after %s", m.deadline); m.closeOver > 0 {
		text += fmt.Sprintf(", spread over %s", m.closeOver)
	}
	return text
}

func orDuration(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func orThen(t, otherwise Then) Then {
	if t != "" {
		return t
	}
	return otherwise
}

// members plans drain, ready and weight: changes of servers inside a pool.
func (p *Planned) members(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	svc := cur.Service(ch.Target)
	if svc == nil {
		if _, ok := cur.Groups[ch.Target]; ok {
			return nil, refuse(CodeUsage, "%s is a group: %s takes SERVICE/POOL or SERVICE/POOL/SERVER", ch.Target, ch.Verb).holds(cur.still(nil))
		}
		_, err := cur.targets(ch.Target)
		return nil, err
	}
	pool := svc.Pool(ch.Pool)
	if pool == nil {
		return nil, refuse(CodeNotFound, "%s has no pool %q", ch.Target, ch.Pool).hint("%s", Among(ch.Pool, svc.poolNames())).holds(cur.still(svc))
	}
	path := ch.Target + "/" + ch.Pool
	p.record.Target = path
	if ch.Server != "" {
		path += "/" + ch.Server
		p.record.Target = path
	}
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
		switch ch.Verb {
		case VerbDrain:
			m.Drained = true
			m.start(0, now)
		case VerbReady:
			if m.Drained {
				m.start(ch.slowStart(svc.Spec), now)
			}
			m.Drained = false
		case VerbWeight:
			m.Weight = ch.Weight
		}
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
	next := *svc
	next.Pools = slices.Clone(svc.Pools)
	made := newPool(pool.Name, members, svc.Spec)
	next.Pools[slices.Index(svc.Pools, pool)] = made
	if svc.Active == pool {
		next.Active = made
	}
	if svc.Refuge() == pool || svc.Active == pool && svc.Split != nil && !svc.Split.Until.IsZero() { // where a split's deadline leads counts too
		is := svc.RefugeIs()
		if svc.Active == pool {
			is = "active pool"
		}
		if (len(made.willing) == 0 && len(pool.willing) > 0 || made.able() == 0 && pool.able() > 0) && !ch.Force {
			return nil, refuse(CodeGate, "%s not done: it would leave %s, the %s of %s, without a server for new clients", ch.Verb, pool.Name, is, svc.Spec.Name).
				hint("`turnout swap %s POOL` first; or `turnout maintenance on %s`; `--force` does it all the same", svc.Spec.Name, svc.Spec.Name).holds(cur.still(svc))
		}
	}
	if ch.Verb == VerbDrain {
		p.moves = append(p.moves, move{service: svc.Spec.Name, from: pool.Name, sealed: touched}.ends(svc.Spec.Drain, ch))
	}
	p.say("%s: %s -> %s", path, p.record.From, p.record.To)
	return []*Service{&next}, nil
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

// doors plans hold, release, maintenance and read-only: changes of what the door does with new work.
func (p *Planned) doors(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	services, err := ch.services(cur)
	if ch.Target == All && err != nil {
		services, err = cur.Services, nil
	}
	if err != nil {
		return nil, err
	}
	if ch.Verb == VerbMaintenance || ch.Verb == VerbReadOnly {
		p.record.To = onOff(ch.On)
	}
	var changed []*Service
	for _, svc := range services {
		next := *svc
		name := svc.Spec.Name
		switch ch.Verb {
		case VerbHold:
			next.Hold = &Hold{Since: now, Until: now.Add(orDuration(ch.For, DefaultHold)), Wait: orDuration(ch.Wait, svc.Spec.Hold.Timeout), Spare: ch.Spare, By: ch.Who.Name, Reason: ch.Reason}
			if ch.handover {
				// A little longer than the hold itself: whoever came as it began is let in at its
				// deadline, not turned away.
				next.Hold.Wait = ch.For + time.Second
			}
			p.say("%s: new clients wait at the door until %s", name, clock(next.Hold.Ends(), now))
		case VerbRelease:
			if svc.Hold == nil || ch.expiry && !ch.handover && svc.Hold.Until.After(ch.deadline) {
				p.say("%s: nothing is held", name)
				continue
			}
			next.Hold = ch.held[name]
			p.say("%s: released to %s, %d waiting", name, svc.shareWords(), svc.Held())
		case VerbMaintenance:
			switch m, a := svc.Maintenance, svc.Announced; {
			case ch.Cancel:
				if !p.cancel(svc, &next) {
					continue
				}
			case !ch.At.IsZero():
				if err := p.announce(cur, svc, &next, ch, now); err != nil {
					return nil, err
				}
			case ch.On && ch.expiry && (a == nil || a.From.After(ch.deadline)):
				continue // it was changed meanwhile
			case ch.On && ch.expiry && a.over(now):
				p.missed(svc, &next, "while another change was under way")
			case !ch.On && (m == nil || ch.expiry && (m.Until.IsZero() || m.Until.After(ch.deadline))):
				p.say("%s: not in maintenance%s", name, svc.standing(true))
				continue
			default:
				p.maintenance(svc, &next, ch, now)
			}
		case VerbReadOnly:
			if svc.Spec.Mode != HTTP {
				return nil, refuse(CodeUsage, "%s is of mode %s: only of http the door knows what reads and what writes", name, svc.Spec.Mode).
					hint("`turnout hold %s` or `turnout maintenance on %s`", name, name).holds(cur.still(svc))
			}
			if ro := svc.ReadOnly; !ch.On && (ro == nil || ch.expiry && (ro.Until.IsZero() || ro.Until.After(ch.deadline))) {
				p.say("%s: not read-only", name)
				continue
			}
			p.readOnly(&next, ch, now)
		}
		changed = append(changed, &next)
	}
	return changed, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (p *Planned) maintenance(svc, next *Service, ch *Change, now time.Time) {
	if !ch.On {
		next.Maintenance = nil
		p.say("%s: maintenance off, new clients go to %s%s", svc.Spec.Name, svc.shareWords(), svc.standing(true))
		return
	}
	if a := svc.Announced; ch.expiry {
		next.Maintenance, next.Announced = a.begin(svc.Maintenance, now), nil
		said := *ch
		said.Soft, said.Drain, said.Then = a.Soft, a.Drain, a.Then
		ch = &said
		p.say("%s: maintenance on, as announced; new clients are turned away", svc.Spec.Name)
	} else {
		next.Maintenance = &Maintenance{Since: now, Soft: ch.Soft, By: ch.Who.Name, Reason: ch.Reason, Message: ch.Message}
		if was := svc.Maintenance; was != nil {
			next.Maintenance.Since = was.Since // whoever was turned away meanwhile was not there before
		}
		if ch.For > 0 {
			next.Maintenance.Until = now.Add(ch.For)
		}
		p.say("%s: maintenance on, new clients are turned away%s", svc.Spec.Name, svc.standing(false))
	}
	if ch.Soft {
		return
	}
	for _, pool := range svc.Pools {
		p.moves = append(p.moves, move{service: svc.Spec.Name, from: pool.Name, sealed: pool.Servers()}.ends(svc.Spec.Drain, ch))
	}
}

func (p *Planned) readOnly(next *Service, ch *Change, now time.Time) {
	if !ch.On {
		next.ReadOnly = nil
		p.say("%s: read-only off, all requests go to %s", next.Spec.Name, next.shareWords())
		return
	}
	next.ReadOnly = &ReadOnly{Since: now, By: ch.Who.Name, Reason: ch.Reason, Message: ch.Message}
	if ch.For > 0 {
		next.ReadOnly.Until = now.Add(ch.For)
	}
	p.say("%s: read-only on, unsafe requests are answered with 503; those under way go on", next.Spec.Name)
}

func (p *Planned) freeze(cur *Snapshot, ch *Change, now time.Time) *Planned {
	freeze := ch.Verb == VerbFreeze
	if freeze == (cur.Frozen != nil) {
		p.Noop, p.Next = true, cur
		p.say("%s", map[bool]string{true: "frozen already", false: "not frozen"}[freeze])
		return p
	}
	next := cur.with()
	next.Frozen = nil
	if freeze {
		next.Frozen = &Freeze{Since: now, By: ch.Who.Name, Reason: ch.Reason}
		p.record.Freeze = next.Frozen
	}
	p.Next = next
	p.say("%s", map[bool]string{true: "frozen: nothing changes until `turnout unfreeze`", false: "changes are allowed again"}[freeze])
	for _, svc := range next.Services {
		if a := svc.Announced; a != nil && freeze {
			p.say("%s: maintenance begins all the same, as announced for %s", svc.Spec.Name, a)
		}
	}
	return p
}

// memoryOf is the memory that would make the snapshot again.
func memoryOf(s *Snapshot) *Memory {
	m := &Memory{Revision: s.Revision, Frozen: s.Frozen, Services: make(map[string]*ServiceMemory, len(s.Services))}
	for _, svc := range s.Services {
		m.Services[svc.Spec.Name] = svc.memory()
	}
	return m
}

// Keeps refuses a file that declares the service without a pool that its new work goes to; split may be nil.
func (sp *ServiceSpec) Keeps(active string, split *Split) *Refusal {
	has := func(pool string) bool {
		return slices.ContainsFunc(sp.Pools, func(ps PoolSpec) bool { return ps.Name == pool })
	}
	if !has(active) {
		return refuse(CodeFailed, "the file no longer has services.%s.pools.%s, which is the active pool", sp.Name, active).
			hint("`turnout swap %s POOL` away from it first, then reload", sp.Name)
	}
	if split == nil {
		return nil
	}
	why := ""
	for _, sh := range split.Shares {
		if !has(sh.Pool) {
			why = fmt.Sprintf("the file no longer has services.%s.pools.%s, which gets %s of the new clients", sp.Name, sh.Pool, sh.Percent)
		}
	}
	if sp.Exclusive {
		why = fmt.Sprintf("the file makes %s exclusive, but it is split: %s", sp.Name, split)
	}
	if why == "" {
		return nil
	}
	return refuse(CodeFailed, "%s", why).hint("`turnout split %s off` first, then reload", sp.Name)
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

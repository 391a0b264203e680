package proxy

import (
	"fmt"
	"slices"
	"time"
)

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

// sides names what a move leads from and to.
func (m *move) sides() (from, to string) {
	if m.names[0] != "" {
		return m.names[0], m.names[1]
	}
	return m.from, m.to
}

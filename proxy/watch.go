package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// WatchSpec is how a service is watched after a swap, unless the swap says otherwise.
type WatchSpec struct {
	For        time.Duration // 0: only when a swap asks for it
	RollbackIf string        // a health.Rule
	Interval   time.Duration // from one look to the next
	Over       time.Duration // rates and latencies are of so much time
	Min        int           // requests (tcp: dials) in that time below which nothing is concluded from rates
	Fall       int           // failures in a row before a check counts as failed; one that must advance counts at once
}

// Watch is the time after a swap in which a breach swaps back. The switch remembers it; whoever looks (package rollout)
// ends it with EndWatch or RollBack.
type Watch struct {
	Since    time.Time          `json:"since"`
	Until    time.Time          `json:"until"` // wall time, so that it survives a restart
	If       string             `json:"if"`    // the rule whose truth is a breach
	Baseline map[string]float64 `json:"baseline,omitempty"`
	By       string             `json:"by,omitempty"`

	// A staged swap: shares of new work go to Pool step by step, the last one is the swap.
	Pool  string        `json:"pool,omitempty"`
	Steps []Percent     `json:"steps,omitempty"` // those to come; Whole is the swap
	Every time.Duration `json:"every,omitempty"`
	For   time.Duration `json:"for,omitempty"` // of the watch after the swap
}

// Watched is how the latest watch of a service ended.
type Watched struct {
	Since   time.Time `json:"since"`
	Ended   time.Time `json:"ended"`
	Outcome string    `json:"outcome"` // passed | rolled_back | superseded
	Reason  string    `json:"reason,omitempty"`
	// Left is the pool, or the servers of it, that was rolled back from, while `back` leads there; "" otherwise.
	Left string `json:"left,omitempty"`
}

// Outcomes of a watch.
const (
	WatchPassed     = "passed"
	WatchRolledBack = "rolled_back"
	WatchSuperseded = "superseded" // another change came in between: of what serves, or of the file so that nothing could be judged
)

// watching is the watch that a change asks for; nil when there is none.
func (ch *Change) watching(svc *Service, now time.Time) *Watch {
	spec := svc.Spec.Watch
	lasts, rule := spec.For, spec.RollbackIf
	switch {
	case ch.Watch < 0 || ch.rollback != nil || ch.Who == TheFailover:
		return nil
	case ch.Watch > 0:
		lasts = ch.Watch
	case ch.Verb == VerbBack: // back to what served before is not watched unless asked for
		return nil
	}
	if ch.RollbackIf != "" {
		rule = ch.RollbackIf
	}
	w := &Watch{Since: now, Until: now.Add(lasts), If: rule, By: ch.Who.Name, Baseline: ch.Baseline[svc.Spec.Name]}
	if ch.Verb == VerbSplit {
		if len(ch.Steps) == 0 {
			return nil
		}
		w.Pool, w.Steps, w.Every, w.For, w.Until = ch.Shares[0].Pool, ch.Steps, ch.Every, lasts, now.Add(ch.Every)
		return w
	}
	if lasts <= 0 {
		return nil
	}
	return w
}

// watch puts in force what a change of what serves says of watching.
func (s *Service) watch(was *Service, ch *Change, now time.Time) {
	s.Watch = ch.watching(was, now)
	if was.watchesPool() && ch.rollback == nil && ch.Watch <= 0 && ch.Verb != VerbSplit && s.Since.Equal(was.Since) {
		s.Watch = was.Watch // the pool it is of goes on: what was changed is inside it
	}
	switch {
	case ch.rollback != nil:
		ended := *ch.rollback
		if ended.Outcome == WatchRolledBack && ch.Verb == VerbBack && (was.Split == nil || ch.endsWatchOf(was)) {
			ended.Left = side(was.Active.Name, s.PreviousServers)
		}
		s.Watched = &ended
	case s.Watch != nil && s.Watch == was.Watch:
	case was.Watch != nil && ch.staged == nil:
		s.Watched = &Watched{Since: was.Watch.Since, Ended: now, Outcome: WatchSuperseded, Reason: string(ch.Verb) + " by " + ch.Who.Name}
	case was.Watched != nil && was.Watched.Left != "" && was.Watched.Left != s.Previous && was.Watched.Left != side(s.BackTo()): // back leads elsewhere now
		ended := *was.Watched
		ended.Left = ""
		s.Watched = &ended
	}
}

// watchesPool tells whether the watch is of the swap that made the active pool so.
func (s *Service) watchesPool() bool {
	return s.Watch != nil && s.Watch.Pool == "" && s.Watch.Since.Equal(s.Since)
}

// backToBad refuses to go back to where a watch has just rolled back from.
func (s *Snapshot) backToBad(svc *Service, ch *Change) *Refusal {
	w := svc.Watched
	together := s.together(ch)
	pool, servers := svc.undo(ch, together)
	if w == nil || w.Left == "" || w.Left != side(pool, servers) || svc.Split != nil {
		return nil
	}
	target := svc.Spec.Name
	if together {
		target = ch.Target
	}
	if len(servers) > 0 {
		pool += " --to " + strings.Join(servers, ",")
	}
	return refuse(CodeGate, "%s not swapped to %s: a watch rolled back from there at %s: %s", svc.Spec.Name, w.Left, w.Ended.Format(time.DateTime), w.Reason).
		hint("`turnout swap %s %s --watch 5m` tries it once more; `--force` skips gates", target, pool).holds(s.still(svc))
}

// watchedAsOne makes a swap of a group be watched as one: all members for the longest time that one of them says. Else a breach of
// one that is watched longer would take it back alone.
func (ch *Change) watchedAsOne(services []*Service) *Change {
	if len(services) < 2 || ch.Watch != 0 || ch.Verb != VerbSwap {
		return ch
	}
	all := *ch
	for _, svc := range services {
		all.Watch = max(all.Watch, svc.Spec.Watch.For)
	}
	return &all
}

// only leaves of the services of a change those it is about: a rollback takes back what its swap had moved, not what else
// is in the group. What was changed inside a pool meanwhile, or whose watch has ended, goes back with the others (P2).
func (ch *Change) only(services []*Service) []*Service {
	since := ch.since()
	if since.IsZero() {
		return services
	}
	return slices.DeleteFunc(slices.Clone(services), func(svc *Service) bool {
		return !ch.endsWatchOf(svc) && (svc.Watch == nil || !svc.Watch.Since.Equal(since))
	})
}

// since is when the watch began that the change ends; zero: it ends none.
func (ch *Change) since() time.Time {
	switch {
	case ch.rollback != nil:
		return ch.rollback.Since
	case ch.staged != nil:
		return ch.staged.Since
	}
	return time.Time{}
}

// watched plans the end of a watch at its deadline.
func (p *Planned) watched(cur *Snapshot, ch *Change) ([]*Service, *Refusal) {
	services, err := cur.targets(ch.Target)
	if err != nil {
		return nil, nil // gone meanwhile, and its watch with it
	}
	var changed []*Service
	for _, svc := range ch.only(services) {
		next := *svc
		next.Watch, next.Watched = nil, ch.rollback
		p.say("%s: watch ended: %s", svc.Spec.Name, ch.rollback.Reason)
		changed = append(changed, &next)
	}
	return changed, nil
}

// Unreachable asks the servers of a pool what the gate of a swap asks; it returns why each does not answer, nil when one does.
func (s *Switch) Unreachable(ctx context.Context, svc *Service, pool *Pool) []string {
	return s.unreachable(ctx, svc, pool)
}

// SwappedWith names the services that a rollback of this one takes back, and what stands for them all: the service itself,
// or its group.
func (s *Snapshot) SwappedWith(service string) (target string, all []string) {
	target, all = service, []string{service}
	svc := s.Service(service)
	if svc == nil || svc.Watch == nil || svc.Watch.Pool != "" {
		return target, all
	}
	ch := Change{Verb: VerbBack, rollback: &Watched{Since: svc.Watch.Since}}
	for name, members := range s.Groups {
		if !slices.Contains(members, service) {
			continue
		}
		services, _ := s.targets(name)
		var same []string
		for _, other := range ch.only(services) {
			same = append(same, other.Spec.Name)
		}
		if len(same) > len(all) || len(same) == len(all) && len(same) > 1 && name < target {
			target, all = name, same
		}
	}
	return target, all
}

// unwatch ends the service's watch and leaves all else as it is.
func (s *Service) unwatch(ch *Change, now time.Time) *Service {
	next := *s
	next.Watch, next.Watched = nil, &Watched{Since: s.Watch.Since, Ended: now, Outcome: WatchSuperseded, Reason: string(ch.Verb) + " by " + ch.Who.Name}
	return &next
}

// EndWatch ends the watch of a service at its deadline, and of all that began with it.
func (s *Switch) EndWatch(service string, since time.Time, outcome, reason string) error {
	target, _ := s.cur.Load().SwappedWith(service)
	ch := Change{Verb: VerbWatch, Target: target, Who: TheDoor, Reason: reason, expiry: true,
		rollback: &Watched{Since: since, Ended: time.Now(), Outcome: outcome, Reason: reason}}
	return s.commit(s.ops.new(ch), ch)
}

// RollBack takes back what a watched swap has done, on all services that were swapped with this one. It goes the road of
// every swap: a side that does not answer is not gone back to, and then none is. A hand-over is seen through to its commit.
func (s *Switch) RollBack(ctx context.Context, service, reason string) (*Operation, error) {
	cur := s.cur.Load()
	svc := cur.Service(service)
	if svc == nil || svc.Watch == nil {
		return nil, refuse(CodeFailed, "%s is not watched", service)
	}
	target, _ := cur.SwappedWith(service)
	ch := Change{Verb: VerbBack, Target: target, Who: TheDoor, Reason: "watch: " + reason, Watch: -1,
		rollback: &Watched{Since: svc.Watch.Since, Ended: time.Now(), Outcome: WatchRolledBack, Reason: reason}}
	if svc.Watch.Pool != "" {
		ch.Verb = VerbSplit
	}
	op, err := s.Apply(ctx, ch)
	if err != nil {
		return nil, err
	}
	if op.handover {
		select {
		case <-op.free:
		case <-ctx.Done():
		}
	}
	if v := op.View(); v.Err != nil {
		return nil, v.Err
	}
	return op, nil
}

// NextStep goes on with a staged swap: the next share, or the swap itself, which is watched as was asked for.
func (s *Switch) NextStep(ctx context.Context, service string) (*Operation, error) {
	svc := s.cur.Load().Service(service)
	if svc == nil || svc.Watch == nil || len(svc.Watch.Steps) == 0 {
		return nil, refuse(CodeFailed, "%s is in no staged swap", service)
	}
	w := svc.Watch
	ch := Change{Verb: VerbSplit, Target: service, Shares: []Share{{w.Pool, w.Steps[0]}}, Steps: w.Steps[1:], Every: w.Every, Watch: w.For,
		Who: TheDoor, Reason: fmt.Sprintf("step to %s after %s without a breach", w.Steps[0], w.Every), RollbackIf: w.If,
		Baseline: map[string]map[string]float64{service: w.Baseline}, staged: w}
	if w.Steps[0] == Whole {
		ch.Verb, ch.To, ch.Shares, ch.Steps = VerbSwap, w.Pool, nil, nil
		if w.For <= 0 {
			ch.Watch = -1
		}
	}
	return s.Apply(ctx, ch)
}

// gates asks whatever the file wants to hold before a move. pool is nil when the new side is not up yet, as it is before
// hooks start it.
func (s *Switch) gates(ctx context.Context, cur *Snapshot, m *move, hooks bool) error {
	if s.opt.Gates == nil {
		return nil
	}
	svc := cur.Service(m.service)
	pool := m.dest
	if pool == nil {
		pool = svc.Pool(m.to)
	}
	if hooks {
		pool = nil
	}
	fails := s.opt.Gates(ctx, svc, pool)
	if len(fails) == 0 {
		return nil
	}
	r := refuse(CodeGate, "%s not swapped to %s: %s", m.service, m.to, fails[0])
	r.Details = fails[1:]
	return r.hint("`turnout gate %s %s` shows each with its answer; `--force` skips gates", m.service, m.to).holds(cur.still(svc))
}

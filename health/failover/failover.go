// Package failover moves services to a side that is ready when no server of the active one is, by each service's
// policy. It knows what the switch knows, and changes things through Switch.Apply as everybody else: its changes are
// refused, journalled and proven like an operator's, and history shows them as done by "failover".
//
//	something changed: Kick -> look: the service's View, of the snapshot in force
//	a decision:        Decide (pure) -> act: hold, fence, swap, release, maintenance
//	nothing changes:   each service that is not calm is looked at every quarter of a second, all others every few seconds
//
// What has to survive a restart is in the journal: holds and maintenance with whose they are, and the mark of the last
// failover. Not promised: that a failover loses nothing of what the dead side had been sent.
package failover

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
)

const (
	lookAgain  = 250 * time.Millisecond // at services that are not calm
	lookAtAll  = 5 * time.Second
	dialLimit  = 1500 * time.Millisecond // for whether a server still accepts connections: a kernel asks again after 1 s when its queue was full
	holdSpare  = 10 * time.Second        // how much longer our holds last than the policy says: maintenance comes before their end
	fenceTime  = 30 * time.Second
	fenceAgain = 5 * time.Second // after it has failed
)

// Options of an Automation.
type Options struct {
	Switch *proxy.Switch
	Log    *zap.Logger
	// Dial tells whether a server accepts connections.
	Dial func(ctx context.Context, srv *proxy.Server) error
	// Fence runs a command for a server that must stop; nil is success.
	Fence func(ctx context.Context, command []string, srv *proxy.Server) error
}

// Automation decides for all services of a switch.
type Automation struct {
	opt    Options
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // something is in kicked; holds one

	mu       sync.Mutex
	kicked   map[string]bool
	services map[string]*service
}

// service is what is remembered of one between two looks; guarded by Automation.mu.
type service struct {
	acting   bool
	restless bool      // was not calm at the last look
	waits    bool      // our hold or maintenance was in force at the last look
	gaveUp   bool      // an operator ended it
	fenced   time.Time // when the fence command succeeded

	unfenced  time.Time // when it failed last
	notFenced string    // and why

	both time.Time // since when two sides have looked active
	said string    // the last reason for doing nothing
}

// New begins to look. Close ends it.
func New(opt Options) *Automation {
	a := &Automation{opt: opt, wake: make(chan struct{}, 1), kicked: map[string]bool{}, services: map[string]*service{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.work.Go(a.run) // ends with Close
	return a
}

// Close waits for what is being done. A fence command that runs is ended.
func (a *Automation) Close() {
	a.cancel()
	a.work.Wait()
}

// Kick has a service looked at now; "" all of them.
func (a *Automation) Kick(name string) {
	a.mu.Lock()
	a.kicked[name] = true
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // is awake
	}
}

func (a *Automation) run() {
	events, unsubscribe := a.opt.Switch.Subscribe()
	defer unsubscribe()
	again, all := time.NewTicker(lookAgain), time.NewTicker(lookAtAll)
	defer again.Stop()
	defer all.Stop()
	for ticks := true; ; {
		if restless := len(a.restless()) > 0; restless != ticks {
			if ticks = restless; ticks {
				again.Reset(lookAgain)
			} else {
				again.Stop()
			}
		}
		select {
		case <-a.ctx.Done():
			return
		case <-a.wake:
			a.mu.Lock()
			names := a.kicked
			a.kicked = map[string]bool{}
			a.mu.Unlock()
			a.lookAt(names)
		case <-events: // which of them concerns whom is not worth telling apart
			for len(events) > 0 {
				<-events
			}
			a.lookAt(map[string]bool{"": true})
		case <-again.C:
			a.lookAt(a.restless())
		case <-all.C:
			a.lookAt(map[string]bool{"": true})
		}
	}
}

func (a *Automation) restless() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := map[string]bool{}
	for name, s := range a.services {
		if s.restless {
			names[name] = true
		}
	}
	return names
}

func (a *Automation) lookAt(names map[string]bool) {
	snap := a.opt.Switch.Current()
	for _, svc := range snap.Services {
		if svc.Spec.Health != nil && len(svc.Pools) > 1 && (names[""] || names[svc.Spec.Name]) {
			a.look(snap, svc)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.services, func(name string, s *service) bool { return snap.Service(name) == nil && !s.acting })
}

// look decides for one service and sets going what is to be done, unless something is being done already.
func (a *Automation) look(snap *proxy.Snapshot, svc *proxy.Service) {
	name := svc.Spec.Name
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.services[name]
	if s == nil {
		s = &service{}
		a.services[name] = s
	}
	if s.acting {
		return
	}
	v := view(snap, svc)
	a.conflict(svc, s, v)
	active := v.pool(v.Active)
	waits := v.HeldBy == ours || v.ClosedBy == ours
	switch {
	case !active.Dead:
		s.gaveUp, s.fenced, s.said = false, time.Time{}, ""
		a.opt.Switch.SetStays(name, "")
	case s.waits && !waits:
		s.gaveUp = true
	}
	s.waits = waits
	v.GaveUp = s.gaveUp
	spec := svc.Spec.Failover
	if spec == nil || !spec.Automatic {
		s.restless = !s.both.IsZero()
		a.advise(svc, s, v)
		return
	}
	d := Decide(spec, v, time.Now())
	s.restless = !d.Calm || !s.both.IsZero()
	if d.Act == Nothing {
		if active.Dead {
			a.opt.Switch.SetStays(name, d.Why)
		}
		if active.Dead && d.Why != s.said {
			s.said = d.Why
			a.opt.Log.Warn("no failover yet", zap.String("service", name), zap.String("reason", d.Why))
		}
		return
	}
	s.acting = true
	fenced := s.fenced
	a.work.Go(func() { // ends with the change it makes, or a fence's deadline
		now := a.act(svc, v, d, fenced)
		a.mu.Lock()
		s.acting, s.fenced = false, now
		current := a.opt.Switch.Current().Service(name)
		s.waits = current != nil && (heldBy(current) == ours || closedBy(current) == ours)
		a.mu.Unlock()
		if a.ctx.Err() == nil {
			a.Kick(name)
		}
	})
}

// advise says, once, that an operator could move a service to a side that is ready.
func (a *Automation) advise(svc *proxy.Service, s *service, v View) {
	active := v.pool(v.Active)
	to := candidate(&proxy.FailoverSpec{}, &v)
	if !active.Dead || to == "" || v.ClosedBy != "" {
		return
	}
	if why := active.Why + to; s.said != why {
		s.said = why
		name := svc.Spec.Name
		a.opt.Log.Warn("no server of the active pool is ready, and another pool is", zap.String("service", name), zap.String("pool", v.Active),
			zap.String("ready", to), zap.String("reason", active.Why))
		a.opt.Switch.Tell("failover", name, fmt.Sprintf("%s: no server of %s is ready (%s), %s is: `turnout swap %s %s` moves to it", name, v.Active, active.Why, to, name, to))
	}
}

// conflict keeps the alarm of two sides that both look active. Must be called with a.mu held.
func (a *Automation) conflict(svc *proxy.Service, s *service, v View) {
	name := svc.Spec.Name
	other, both := Conflict(v)
	h := svc.Spec.Health
	settle := time.Duration(h.Fall+1)*h.Interval + h.Limit // one side may be seen to have gone only so much later
	switch {
	case !both:
		s.both = time.Time{}
		if svc.Conflict() {
			a.opt.Switch.SetConflict(name, false, name+": only one side looks active again")
			a.opt.Log.Info("conflict is over", zap.String("service", name))
		}
	case s.both.IsZero():
		s.both = time.Now()
	case time.Since(s.both) > settle && !svc.Conflict():
		why := fmt.Sprintf("%s: both %s and %s look active, and the service is exclusive; staying on %s", name, v.Active, other, v.Active)
		a.opt.Switch.SetConflict(name, true, why)
		a.opt.Log.Error("conflict: two sides look active", zap.String("service", name), zap.String("active", v.Active), zap.String("other", other))
	}
}

// act carries a decision out. It returns when the fence command has last succeeded.
func (a *Automation) act(svc *proxy.Service, v View, d Decision, fenced time.Time) time.Time {
	name, spec := svc.Spec.Name, svc.Spec.Failover
	ch := proxy.Change{Target: name, Who: proxy.TheFailover, Reason: d.Why}
	switch d.Act {
	case Hold:
		ch.Verb, ch.For, ch.Wait, ch.Spare = proxy.VerbHold, spec.Hold+holdSpare, spec.Hold+holdSpare, holdSpare
	case Release:
		ch.Verb = proxy.VerbRelease
	case Maintain:
		ch.Verb, ch.On, ch.Soft = proxy.VerbMaintenance, true, true
		if a.apply(svc, ch) && v.HeldBy == ours {
			a.apply(svc, proxy.Change{Verb: proxy.VerbRelease, Target: name, Who: proxy.TheFailover, Reason: "maintenance took over"})
		}
		return fenced
	case Reopen:
		ch.Verb = proxy.VerbMaintenance
	case Swap, Fence:
		if v.needsLook(spec, d) {
			if d, fenced = a.closer(svc, v, fenced); d.Act != Swap {
				if d.Act == Nothing {
					a.blockedBy(name, d.Why)
					return fenced
				}
				return a.act(svc, v, d, fenced)
			}
		}
		ch.Verb, ch.To, ch.Reason, ch.Failback = proxy.VerbSwap, d.To, d.Why, d.Failback
		if svc.Spec.Exclusive && !d.Failback {
			ch.Drain = time.Millisecond // who is still connected there is connected to what is dead
		}
	default:
		return fenced
	}
	a.apply(svc, ch)
	return fenced
}

// closer decides anew, knowing whether the active pool still accepts connections, and fences it when that is wanted.
func (a *Automation) closer(svc *proxy.Service, v View, fenced time.Time) (Decision, time.Time) {
	spec := svc.Spec.Failover
	alive := a.answering(svc)
	v.Answers, v.Fenced = len(alive) > 0, !fenced.IsZero()
	v.Fence = a.fenceFailed(svc.Spec.Name)
	d := Decide(spec, v, time.Now())
	if d.Act != Fence {
		return d, fenced
	}
	if err := a.fence(svc, spec, alive); err != nil {
		v.Fence = err.Error()
		a.noteFence(svc.Spec.Name, v.Fence)
	} else {
		v.Fenced, fenced = true, time.Now()
	}
	return Decide(spec, v, time.Now()), fenced
}

// fenceFailed is why the fence command failed a moment ago; "" when it may be tried again.
func (a *Automation) fenceFailed(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.services[name]; s != nil && time.Since(s.unfenced) < fenceAgain {
		return s.notFenced
	}
	return ""
}

func (a *Automation) noteFence(name, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.services[name]; s != nil {
		s.unfenced, s.notFenced = time.Now(), why
	}
}

// needsLook tells whether it matters if the active pool still accepts connections.
func (v *View) needsLook(p *proxy.FailoverSpec, d Decision) bool {
	return !d.Failback && (v.Exclusive || v.Mark != nil && time.Now().Before(v.Mark.LockedUntil(p.Lockout)))
}

// blockedBy says once why nothing was done.
func (a *Automation) blockedBy(name, why string) {
	a.mu.Lock()
	s := a.services[name]
	said := s != nil && s.said == why
	if s != nil {
		s.said = why
	}
	a.mu.Unlock()
	a.opt.Switch.SetStays(name, why)
	if !said {
		a.opt.Log.Warn("no failover yet", zap.String("service", name), zap.String("reason", why))
		a.opt.Switch.Tell("failover", name, name+": no failover yet: "+why)
	}
}

// answering lists the servers of the active pool that accept connections.
func (a *Automation) answering(svc *proxy.Service) []*proxy.Server {
	ctx, cancel := context.WithTimeout(a.ctx, dialLimit)
	defer cancel()
	servers := svc.Active.Servers()
	yes := make([]bool, len(servers))
	var asked sync.WaitGroup
	for i, srv := range servers {
		asked.Go(func() { yes[i] = a.opt.Dial(ctx, srv) == nil }) // ends with ctx
	}
	asked.Wait()
	var out []*proxy.Server
	for i, srv := range servers {
		if yes[i] {
			out = append(out, srv)
		}
	}
	return out
}

// fence stops the servers that still accept connections, one after the other.
func (a *Automation) fence(svc *proxy.Service, spec *proxy.FailoverSpec, alive []*proxy.Server) error {
	for _, srv := range alive {
		ctx, cancel := context.WithTimeout(a.ctx, fenceTime)
		err := a.opt.Fence(ctx, spec.Fence, srv)
		cancel()
		if err != nil {
			return fmt.Errorf("%s still accepts connections and could not be fenced: %w", srv.Name, err)
		}
		a.opt.Log.Warn("fenced", zap.String("service", svc.Spec.Name), zap.String("pool", srv.Pool), zap.String("server", srv.Name))
		a.opt.Switch.Tell("failover", svc.Spec.Name, fmt.Sprintf("%s: %s/%s was fenced", svc.Spec.Name, srv.Pool, srv.Name))
	}
	return nil
}

// apply makes a change, to its commit. A refusal is no failure of ours: something else is under way, and the next look
// decides anew.
func (a *Automation) apply(svc *proxy.Service, ch proxy.Change) bool {
	op, err := a.opt.Switch.Apply(a.ctx, ch)
	var why string
	if err == nil {
		v := op.View()
		for v.State == proxy.StateRunning && a.ctx.Err() == nil { // a hand-over, up to its commit; its drain goes on
			select {
			case <-time.After(2 * time.Millisecond):
			case <-a.ctx.Done():
			}
			v = op.View()
		}
		if v.Err == nil {
			a.opt.Log.Warn("failover", zap.String("service", svc.Spec.Name), zap.String("did", string(ch.Verb)), zap.String("to", ch.To),
				zap.String("reason", ch.Reason), zap.Uint64("revision", v.Revision))
			return true
		}
		why = v.Err.Message
	} else {
		why = err.Error()
	}
	a.blockedBy(svc.Spec.Name, why)
	return false
}

func heldBy(svc *proxy.Service) string {
	if svc.Hold == nil {
		return ""
	}
	return svc.Hold.By
}

func closedBy(svc *proxy.Service) string {
	if svc.Maintenance == nil {
		return ""
	}
	return svc.Maintenance.By
}

// view is a service of a snapshot.
func view(snap *proxy.Snapshot, svc *proxy.Service) View {
	v := View{Active: svc.Active.Name, Exclusive: svc.Spec.Exclusive, Frozen: snap.Frozen != nil, HeldBy: heldBy(svc), ClosedBy: closedBy(svc), Mark: svc.Failover}
	if svc.Hold != nil {
		v.HeldSince = svc.Hold.Since
	}
	for _, p := range svc.Pools {
		seen := Pool{Name: p.Name, Ready: p.Proven(), Dead: p.Dead()}
		var whys []string
		for _, m := range p.Willing() {
			if m.Health.State == proxy.HealthReady && (seen.ReadySince.IsZero() || m.Health.Since.Before(seen.ReadySince)) {
				seen.ReadySince = m.Health.Since
			}
			if m.Health.Down() {
				why := m.Name + " " + m.Health.State.String()
				for _, of := range []string{m.Health.Check, m.Health.Reason} {
					if of != "" {
						why += ": " + of
					}
				}
				whys = append(whys, why)
			}
		}
		switch {
		case len(p.Willing()) == 0:
			seen.Why = "no server of " + p.Name + " takes new work"
		case seen.Dead:
			seen.Why = p.Name + " is not ready: " + strings.Join(whys, "; ")
		}
		v.Pools = append(v.Pools, seen)
	}
	return v
}

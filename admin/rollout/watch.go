package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// look is what is known of one service's watch. It is touched by one look at a time, and by nobody else but for busy, over, next and
// shown, which are written with Rollout.mu held.
type look struct {
	r       *Rollout
	service string
	watch   *proxy.Watch
	rule    *health.Rule
	wrong   error // the rule cannot be used

	ring     sampleRing
	progress map[string]*health.Progress // check and server → its history since the watch began
	fails    map[string]int              // check and server → failures in a row
	pending  bool                        // something fails, and not yet often enough to tell
	missed   bool                        // its first look came after the deadline
	noted    time.Time                   // when it was last journalled that a breach is not rolled back
	told     string                      // and why not

	busy  bool
	over  bool // its latest look was after the deadline and found nothing
	next  time.Time
	shown State
}

func newLook(r *Rollout, svc *proxy.Service) *look {
	l := &look{r: r, service: svc.Spec.Name, watch: svc.Watch, progress: map[string]*health.Progress{}, fails: map[string]int{}}
	l.rule, l.wrong = health.NewRule(svc.Watch.If, r.opt.Checks.Names())
	return l
}

func (l *look) interval() time.Duration {
	if svc := l.r.opt.Switch.Current().Service(l.service); svc != nil && svc.Spec.Watch.Interval > 0 {
		return svc.Spec.Watch.Interval
	}
	return time.Second
}

// look asks once, and acts on what it finds.
func (l *look) look(ctx context.Context) {
	svc := l.r.opt.Switch.Current().Service(l.service)
	if !l.of(svc) {
		return
	}
	st := State{Looks: l.shown.Looks + 1}
	broken, why := l.judge(ctx, svc, &st)
	late := !time.Now().Before(l.watch.Until)
	if st.Looks == 1 {
		l.missed = late && l.watch.Until.Sub(l.watch.Since) > 2*svc.Spec.Watch.Interval
	}
	l.r.mu.Lock()
	l.over = late && !broken && !l.pending
	l.r.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return
	case broken:
		l.rollBack(ctx, svc, why, &st)
	case late && !l.pending:
		l.passed(ctx, svc, &st)
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.shown = st
}

// usable compiles the rule anew when it could not be used: a reload may have brought back what it names.
func (l *look) usable() bool {
	if l.wrong != nil {
		l.rule, l.wrong = health.NewRule(l.watch.If, l.r.opt.Checks.Names())
	}
	if l.wrong == nil {
		for _, name := range l.rule.Checks() {
			if l.r.opt.Checks.Check(name) == nil {
				l.wrong = fmt.Errorf("the file has no check %q any more", name)
			}
		}
	}
	return l.wrong == nil
}

// judge reads counters and checks, and holds the rule against them.
func (l *look) judge(ctx context.Context, svc *proxy.Service, st *State) (bool, string) {
	l.pending = false
	if !l.usable() {
		st.Note = "nothing is judged: the rule cannot be used: " + l.wrong.Error()
		return false, ""
	}
	spec := &svc.Spec.Watch
	watched := l.pool(svc)
	l.ring.add(readingOf(watched))
	st.Readings = l.ring.over(spec.Over, svc.Spec.Mode == proxy.HTTP)
	few := st.Readings["requests"]+st.Readings["dial_failures"] < float64(spec.Min)
	if few {
		st.Note = fmt.Sprintf("fewer than %d requests in %s: rates and latencies are not judged", spec.Min, spec.Over)
		for name := range st.Readings {
			if name == "error_rate" || strings.HasPrefix(name, "latency_") {
				st.Readings[name] = 0
			}
		}
	}
	passes, reasons := l.ask(ctx, watched, spec.Fall)
	st.Checks = reasons
	ready := watched.Able()
	if svc.Spec.Health == nil && l.rule.Ready() { // nobody else asks, and without traffic nothing else shows
		ready = l.reach(ctx, svc, watched, reasons)
	}
	broken, why, err := l.rule.Broken(st.Readings, l.watch.Baseline, ready, passes)
	if err != nil {
		st.Note = "the rule cannot be worked out: " + err.Error()
		return false, ""
	}
	if !broken {
		return false, ""
	}
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if reasons[name] != "" && !passes[name] {
			why += "; " + name + ": " + reasons[name]
		}
	}
	return true, why
}

// reach asks whether a server of the pool answers, as the gate of the swap did; it does while not `fall` looks in a row say
// no.
func (l *look) reach(ctx context.Context, svc *proxy.Service, pool *proxy.Pool, reasons map[string]string) bool {
	fails := l.r.opt.Switch.Unreachable(ctx, svc, pool)
	if fails == nil || ctx.Err() != nil {
		l.fails[reachable] = 0
		return true
	}
	l.fails[reachable]++
	reasons[reachable] = strings.Join(fails, "; ")
	few := l.fails[reachable] < svc.Spec.Watch.Fall
	l.pending = l.pending || few
	return few
}

// reachable is where reach counts and tells: no check is called so in a rule.
const reachable = "ready"

// pool is the one that is on trial: in a staged swap the one that has a share.
func (l *look) pool(svc *proxy.Service) *proxy.Pool {
	if p := svc.Pool(l.watch.Pool); p != nil {
		return p
	}
	return svc.Active
}

// ask runs the checks that the rule reads, on each server that takes new work. A check passes while no server has failed
// it `fall` times in a row; what must advance has patience of its own.
func (l *look) ask(ctx context.Context, pool *proxy.Pool, fall int) (passes map[string]bool, reasons map[string]string) {
	passes, reasons = map[string]bool{}, map[string]string{}
	type asked struct {
		name, key string
		check     *health.Check
		answer    chan health.Answer
	}
	var all []asked
	for _, name := range l.rule.Checks() {
		passes[name] = true
		check := l.r.opt.Checks.Check(name)
		if check == nil { // a reload just now
			continue
		}
		for _, t := range l.r.targets(check, pool) {
			a := asked{name, name + " " + t.Name, check, make(chan health.Answer, 1)}
			all = append(all, a)
			go func() { // ends with the check's own timeout
				limited, cancel := context.WithTimeout(ctx, limit(check))
				defer cancel()
				a.answer <- check.Run(limited, t)
			}()
		}
	}
	for _, a := range all {
		answer := <-a.answer
		if ctx.Err() != nil {
			return passes, reasons // given up: no evidence
		}
		needs := fall
		if a.check.Must() {
			if l.progress[a.key] == nil {
				l.progress[a.key] = a.check.NewProgress(nil)
			}
			if answer.OK {
				needs = 1
			}
			answer = l.progress[a.key].Judge(answer)
		}
		switch {
		case answer.OK || answer.Pending:
			l.fails[a.key] = 0
		default:
			l.fails[a.key]++
			reasons[a.name] = answer.Reason
			if l.fails[a.key] >= needs {
				passes[a.name] = false
			} else {
				l.pending = true
			}
		}
	}
	return passes, reasons
}

func limit(c *health.Check) time.Duration {
	if d := c.Limit(); d > 0 {
		return d
	}
	return health.DefaultTimeout
}

// targets are who a check is asked of: its own address, or each server of the pool that takes new work.
func (r *Rollout) targets(c *health.Check, pool *proxy.Pool) []health.Target {
	if own(c) || pool == nil {
		return []health.Target{{Name: c.Name()}}
	}
	var out []health.Target
	for i := range pool.Members {
		if m := &pool.Members[i]; m.Gives() || !m.Drained && m.Weight > 0 {
			out = append(out, r.opt.Checks.Target(m.Server))
		}
	}
	return out
}

// own tells whether a check names whom it asks: then it is of something that the service depends on.
func own(c *health.Check) bool {
	return c.Address() != "" || c.Kind() == "exec" || c.Kind() == "postgres"
}

// rollBack takes the swap back. What keeps it from that is said, and tried again at the next look, also after the watch's
// deadline.
func (l *look) rollBack(ctx context.Context, svc *proxy.Service, why string, st *State) {
	begun := time.Now()
	cur := l.r.opt.Switch.Current()
	target, all := cur.SwappedWith(l.service)
	op, err := l.r.opt.Switch.RollBack(ctx, l.service, why)
	if err != nil {
		if l.gone() || ctx.Err() != nil {
			return // another change came first
		}
		st.Breach, st.Refused = why, err.Error()
		if st.BreachSince = l.shown.BreachSince; st.BreachSince.IsZero() {
			st.BreachSince = begun
		}
		r := &proxy.Refusal{}
		_ = errors.As(err, &r)
		st.Hint = wayOut(r, target, serving(cur, all))
		l.tell(st)
		return
	}
	v := op.View()
	l.r.opt.Log.Warn("rolled back", zap.String("service", l.service), zap.String("target", target), zap.String("breach", why), zap.Uint64("revision", v.Revision),
		zap.Duration("after", time.Since(l.watch.Since)), zap.Duration("took", time.Since(begun)))
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	for _, name := range all {
		l.r.rolledBack[name]++
	}
	st.Note = "rolled back: " + why
}

// serving is the pool that is active in all of the services; POOL when they differ.
func serving(cur *proxy.Snapshot, services []string) string {
	pool := ""
	for _, name := range services {
		if svc := cur.Service(name); svc != nil && (pool == "" || pool == svc.Active.Name) {
			pool = svc.Active.Name
			continue
		}
		return "POOL"
	}
	return pool
}

// wayOut is what to do about a rollback that was refused.
func wayOut(r *proxy.Refusal, target, pool string) string {
	const again = "the door tries again at each look"
	switch {
	case r.Code == proxy.CodeGate:
		return fmt.Sprintf("%s: start a server there; `turnout back %s --force` goes back all the same; `turnout swap %s %s --watch 0s` keeps the new side", again, target, target, pool)
	case r.Hint != "":
		return again + "; " + r.Hint
	}
	return again
}

// gone tells whether the watch has ended, by another change.
func (l *look) gone() bool { return !l.of(l.r.opt.Switch.Current().Service(l.service)) }

// of tells whether the service is in a watch that began with this one; nil: there is no such service any more.
func (l *look) of(svc *proxy.Service) bool {
	return svc != nil && svc.Watch != nil && svc.Watch.Since.Equal(l.watch.Since)
}

// noteEvery is the least time between two lines of the journal that say what keeps a breach from being rolled back.
const noteEvery = time.Minute

// tell logs what keeps a breach from being acted upon when it changes, and journals it, which is an event too.
func (l *look) tell(st *State) {
	if st.Refused != l.shown.Refused {
		l.r.opt.Log.Error("breach, and not rolled back", zap.String("service", l.service), zap.String("breach", st.Breach), zap.String("refused", st.Refused), zap.String("hint", st.Hint))
	}
	if st.Refused == l.told && l.shown.Refused != "" || time.Since(l.noted) < noteEvery { // what changes too soon is noted later, if it lasts
		return
	}
	l.noted, l.told = time.Now(), st.Refused
	text := fmt.Sprintf("watch: breached, rollback refused because %s; the breach: %s", st.Refused, st.Breach)
	if err := l.r.opt.Switch.Note(proxy.Note{Target: l.service, Text: text, Outcome: proxy.OutcomeFailed, Who: proxy.TheDoor}); err != nil {
		l.r.opt.Log.Error("a breach could not be journalled", zap.String("service", l.service), zap.Error(err))
	}
}

// passed ends a watch at its deadline, or goes on with a staged swap.
func (l *look) passed(ctx context.Context, svc *proxy.Service, st *State) {
	lasted := l.watch.Until.Sub(l.watch.Since).Round(time.Millisecond)
	if len(l.watch.Steps) > 0 {
		err := l.wrong
		if err == nil {
			_, err = l.r.opt.Switch.NextStep(ctx, l.service)
		}
		if st.Note = "next step"; err != nil && !l.gone() {
			l.rollBack(ctx, svc, "the next step cannot be taken: "+err.Error(), st)
		}
		return
	}
	if waits := l.others(); waits != "" {
		st.Note = "nothing was found; it ends together with the watch of " + waits
		return
	}
	looks := "looks"
	if st.Looks == 1 {
		looks = "look"
	}
	outcome, reason := proxy.WatchPassed, fmt.Sprintf("%s without a breach, %d %s", lasted, st.Looks, looks)
	switch {
	case l.wrong != nil:
		outcome, reason = proxy.WatchSuperseded, "its rule could not be used, nothing was judged: "+l.wrong.Error()
	case l.missed:
		reason = "its deadline passed while no door was there to look"
	}
	if err := l.r.opt.Switch.EndWatch(l.service, l.watch.Since, outcome, reason); err != nil {
		st.Note = err.Error()
	}
}

// others names a service that was swapped with this one and whose watch does not end yet: they end as one, or go back as one.
func (l *look) others() string {
	cur := l.r.opt.Switch.Current()
	_, all := cur.SwappedWith(l.service)
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	for _, name := range all {
		if !l.of(cur.Service(name)) {
			continue
		}
		if other := l.r.looks[name]; other == nil || !other.over || !other.watch.Since.Equal(l.watch.Since) {
			return name
		}
	}
	return ""
}

// Keeps says which watch could not be judged any more with those checks, of a service that the file still has; "": none.
func (r *Rollout) Keeps(spec *proxy.Spec, checks []string) string {
	for i := range spec.Services {
		svc := r.opt.Switch.Current().Service(spec.Services[i].Name)
		if svc == nil || svc.Watch == nil {
			continue
		}
		if _, err := health.NewRule(svc.Watch.If, checks); err != nil {
			return fmt.Sprintf("%s is watched until %s, rolled back if %s, and with this file that cannot be judged: %v", svc.Spec.Name, svc.Watch.Until.Format(time.TimeOnly), svc.Watch.If, err)
		}
	}
	return ""
}

// CheckRule refuses a rule that cannot be worked out, or could be meant otherwise.
func (r *Rollout) CheckRule(text string) error {
	rule, err := health.NewRule(text, r.opt.Checks.Names())
	if err != nil {
		return err
	}
	return rule.Ambiguous()
}

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

// look is what is known of one service's watch. But for busy, next and shown, which are guarded by Rollout.mu, it is
// touched by one look at a time.
type look struct {
	r       *Rollout
	service string
	watch   *proxy.Watch
	rule    *health.Rule
	wrong   error // the rule cannot be used

	ring     sampleRing
	progress map[string]*health.Progress // check and server → its history since the watch began
	fails    map[string]int              // check and server → failures in a row
	refused  string                      // why it was not rolled back at the look before

	busy  bool
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
	if svc == nil || svc.Watch == nil || !svc.Watch.Since.Equal(l.watch.Since) {
		return
	}
	st := State{Looks: l.shown.Looks + 1}
	if l.wrong != nil {
		st.Note = "the rule cannot be used any more: " + l.wrong.Error()
	} else if broken, why := l.judge(ctx, svc, &st); broken {
		st.Note = l.rollBack(ctx, why)
	} else if !time.Now().Before(l.watch.Until) {
		st.Note = l.passed(ctx, svc, &st)
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.shown = st
}

// judge reads counters and checks, and holds the rule against them.
func (l *look) judge(ctx context.Context, svc *proxy.Service, st *State) (bool, string) {
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
	return l.fails[reachable] < svc.Spec.Watch.Fall
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
		if check == nil {
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

// rollBack takes the swap back. What keeps it from that is said, and tried again at the next look.
func (l *look) rollBack(ctx context.Context, why string) string {
	begun := time.Now()
	op, err := l.r.opt.Switch.RollBack(ctx, l.service, why)
	if err != nil {
		refused := err.Error()
		var r *proxy.Refusal
		if errors.As(err, &r) {
			refused = r.Message
		}
		if refused != l.refused { // once, not at each look
			l.r.opt.Log.Error("breach, and not rolled back", zap.String("service", l.service), zap.String("breach", why), zap.String("error", refused))
		}
		l.refused = refused
		return "breach: " + why + "; not rolled back: " + refused
	}
	v := op.View()
	l.r.opt.Log.Warn("rolled back", zap.String("service", l.service), zap.String("breach", why), zap.Uint64("revision", v.Revision),
		zap.Duration("after", time.Since(l.watch.Since)), zap.Duration("took", time.Since(begun)))
	return "rolled back: " + why
}

// passed ends a watch at its deadline, or goes on with a staged swap.
func (l *look) passed(ctx context.Context, svc *proxy.Service, st *State) string {
	lasted := l.watch.Until.Sub(l.watch.Since).Round(time.Millisecond)
	if len(l.watch.Steps) > 0 {
		if _, err := l.r.opt.Switch.NextStep(ctx, l.service); err != nil {
			why := "the next step cannot be taken: " + err.Error()
			return l.rollBack(ctx, why)
		}
		return "next step"
	}
	looks := "looks"
	if st.Looks == 1 {
		looks = "look"
	}
	reason := fmt.Sprintf("%s without a breach, %d %s", lasted, st.Looks, looks)
	if st.Looks <= 1 && lasted > 2*svc.Spec.Watch.Interval {
		reason = "its deadline passed while no door was there to look"
	}
	if err := l.r.opt.Switch.EndWatch(l.service, l.watch.Since, reason); err != nil {
		return err.Error()
	}
	return reason
}

// CheckRule refuses a rule that cannot be worked out.
func (r *Rollout) CheckRule(text string) error {
	_, err := health.NewRule(text, r.opt.Checks.Names())
	return err
}

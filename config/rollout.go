package config

import (
	"time"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// The table of watch, and what gates and watch must be together with checks.

type watchKeys struct {
	lasts      value[time.Duration]
	rollbackIf value[string]
	interval   value[time.Duration]
	over       value[time.Duration]
	min        value[int]
	fall       value[int]
}

// DefaultRule is what breaks a watch that says nothing.
const DefaultRule = "error_rate > 0.05 || !ready"

var watchShape = keysOf(
	key("for", "How long after a swap a breach swaps back. Without it, only when the swap asks for it.",
		duration(time.Second), func(w *watchKeys) *value[time.Duration] { return &w.lasts }),
	key("rollback_if", "An expression that is true when something is wrong: over error_rate, requests, dial_failures, latency_p50, latency_p90, latency_p99, connections, baseline.(these), ready, and each check by its name (with _ for -).",
		expressionShape.or(DefaultRule), func(w *watchKeys) *value[string] { return &w.rollbackIf }),
	key("interval", "From one look to the next.",
		duration(50*time.Millisecond).or(time.Second), func(w *watchKeys) *value[time.Duration] { return &w.interval }),
	key("over", "How much time rates and latencies are of.",
		duration(time.Second).or(10*time.Second), func(w *watchKeys) *value[time.Duration] { return &w.over }),
	key("min_requests", "With fewer requests (tcp: connections) in that time nothing is concluded from rates and latencies.",
		whole(1, 1_000_000).or(20), func(w *watchKeys) *value[int] { return &w.min }),
	key("fall", "Failures in a row that make a check count as failed; one that must advance counts at once.",
		whole(1, 100).or(3), func(w *watchKeys) *value[int] { return &w.fall }),
)

// rollout reads what a service wants to hold before a swap, and after it.
func (c *checker) rollout(k *serviceKeys, f *fileKeys, spec *proxy.ServiceSpec) {
	spec.Gates = c.checkNames(k.gates, f)
	spec.RequireSnapshot = k.requireSnapshot.v
	w := &k.watch.v
	spec.Watch = proxy.WatchSpec{For: w.lasts.v, RollbackIf: w.rollbackIf.v, Interval: w.interval.v, Over: w.over.v, Min: w.min.v, Fall: w.fall.v}
	if w.rollbackIf.bad || spec.Watch.RollbackIf == "" {
		return
	}
	var names []string
	for i := range f.checks.v {
		names = append(names, f.checks.v[i].name)
	}
	rule, err := health.NewRule(spec.Watch.RollbackIf, names)
	if err == nil && w.rollbackIf.written {
		err = rule.Ambiguous()
	}
	if err != nil {
		c.refuse(w.rollbackIf.place, w.rollbackIf.raw, err.Error())
	}
}

package rollout

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Kinds of a gate, in the order in which they are told: what comes first is to be mended first.
const (
	KindGuard      = "guard"      // of the door: the state it starts from must be clear
	KindDependency = "dependency" // asked at an address of its own
	KindServer     = "server"     // asked of a server of the new pool
	KindReady      = "ready"      // what health checks say of the new pool, or a connection: one server is enough
)

// Gate is one thing that must hold before a swap, and whether it does.
type Gate struct {
	Kind   string
	Check  string
	Kinds  string // the kind of the check: http, tcp, …
	Server string // KindServer, KindReady
	Answer health.Answer
}

// maxGate bounds how long one gate may take; one that must see a value advance takes up to its `within`.
const maxGate = 2 * time.Minute

// Gates asks what must hold before a service is swapped to a pool: first what it depends on, side by side, then, if all of
// that holds, the servers. A server whose database is away stands still, and it would take its `within` to find that out.
// pool nil: it is not up yet, so only what the service depends on is asked.
func (r *Rollout) Gates(ctx context.Context, svc *proxy.Service, pool *proxy.Pool) []Gate {
	out := r.guards(svc)
	var dependencies, servers []*health.Check
	for _, name := range svc.Spec.Gates {
		switch check := r.opt.Checks.Check(name); {
		case check == nil:
			out = append(out, Gate{Kind: KindGuard, Check: name, Answer: health.Answer{Check: name, Reason: "the file has no such check", At: time.Now()}})
		case own(check):
			dependencies = append(dependencies, check)
		case pool != nil:
			servers = append(servers, check)
		}
	}
	first := r.askAll(ctx, KindDependency, dependencies, nil)
	out = append(out, first...)
	if slices.ContainsFunc(first, func(g Gate) bool { return !g.Answer.OK }) {
		return out
	}
	return append(out, r.askAll(ctx, KindServer, servers, pool)...)
}

// askAll asks checks of all they are about, side by side.
func (r *Rollout) askAll(ctx context.Context, kind string, checks []*health.Check, pool *proxy.Pool) []Gate {
	var asked sync.WaitGroup
	var all []*Gate
	for _, check := range checks {
		for _, t := range r.targets(check, pool) {
			g := &Gate{Kind: kind, Check: check.Name(), Kinds: check.Kind()}
			if kind == KindServer {
				g.Server = t.Name
			}
			all = append(all, g)
			asked.Go(func() { g.Answer = ask(ctx, check, t) }) // ends with the check's timeout, or its within
		}
	}
	asked.Wait()
	out := make([]Gate, len(all))
	for i, g := range all {
		out[i] = *g
	}
	return out
}

// ask runs a check now. One that must see its value advance is asked until it has, for `within` at most.
func ask(ctx context.Context, check *health.Check, t health.Target) health.Answer {
	ctx, cancel := context.WithTimeout(ctx, maxGate)
	defer cancel()
	progress := check.NewProgress(nil)
	for {
		limited, stop := context.WithTimeout(ctx, limit(check))
		a := progress.Judge(check.Run(limited, t))
		stop()
		if !a.Pending {
			return a
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return a
		}
	}
}

// guards are what the door itself wants: a clear state to start from.
func (r *Rollout) guards(svc *proxy.Service) []Gate {
	var out []Gate
	guard := func(name, reason, status string) {
		out = append(out, Gate{Kind: KindGuard, Check: name, Answer: health.Answer{Check: name, OK: reason == "", Reason: reason, Status: status, At: time.Now()}})
	}
	if len(svc.Spec.Gates) > 0 || svc.Spec.RequireSnapshot > 0 {
		_, ambiguous := r.opt.Config()
		guard("file", ambiguous, "in force as it is written")
	}
	if need := svc.Spec.RequireSnapshot; need > 0 {
		name, at, err := r.newest(svc.Spec.Name)
		switch age := time.Since(at).Round(time.Second); {
		case err != nil:
			guard("snapshot", err.Error(), "")
		case name == "":
			guard("snapshot", fmt.Sprintf("there is no snapshot; want one of the last %s: `turnout snapshot take NAME`", need), "")
		case age > need:
			guard("snapshot", fmt.Sprintf("the newest one, %s, is %s old; want one of the last %s: `turnout snapshot take NAME`", name, age, need), "")
		default:
			guard("snapshot", "", fmt.Sprintf("%s, %s old", name, age))
		}
	}
	return out
}

// Missing is what keeps a swap from being made, in words, what is to be mended first first; for proxy.Options.Gates.
func (r *Rollout) Missing(ctx context.Context, svc *proxy.Service, pool *proxy.Pool) []string {
	return Missing(r.Gates(ctx, svc, pool))
}

// Missing is what does not hold of gates, in words.
func Missing(gates []Gate) []string {
	var out []string
	for _, g := range gates {
		if g.Answer.OK {
			continue
		}
		text := "gate " + g.Check
		if g.Server != "" {
			text += " of " + g.Server
		}
		if g.Kind == KindDependency {
			text = "fix this first: dependency " + g.Check
		}
		out = append(out, text+": "+g.Answer.Reason)
	}
	return out
}

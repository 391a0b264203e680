package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/rollout"
	"github.com/turnout-proxy/turnout/proxy"
)

// gateLimit bounds one asking of all gates of a target.
const gateLimit = 5 * time.Minute

// getGate asks what must hold before a swap of a service or group, now, and changes nothing.
func (s *Server) getGate(c *call) (any, error) {
	target, to := c.path("target"), c.q.Get("to")
	snap := s.opt.Switch.Current()
	ctx, cancel := context.WithTimeout(c.ctx, gateLimit)
	defer cancel()
	out := &api.Gates{Target: target, OK: true}
	planned, err := s.opt.Switch.Plan(ctx, proxy.Change{Verb: proxy.VerbSwap, Target: target, To: to, Who: c.who, Force: true})
	if err != nil {
		return nil, err
	}
	out.Plan = planned.View().Plan
	for _, name := range snap.Concerned(target) {
		svc := snap.Service(name)
		pool := destination(svc, to)
		if pool == nil { // the active one is asked too, when it is named: is it well before anything is changed?
			continue
		}
		out.To = pool.Name
		gates := s.opt.Rollout.Gates(ctx, svc, pool)
		for _, g := range gates {
			out.Gates = append(out.Gates, gateOf(name, &g))
		}
		out.Gates = append(out.Gates, s.readiness(ctx, name, pool)...)
		out.Missing = append(out.Missing, rollout.Missing(gates)...)
	}
	ready := map[string]bool{} // one server of a pool is enough
	for i := range out.Gates {
		g := &out.Gates[i]
		if g.Kind == rollout.KindReady {
			ready[g.Service] = ready[g.Service] || g.OK
		}
	}
	for _, name := range snap.Concerned(target) {
		if ok, asked := ready[name]; asked && !ok {
			out.Missing = append(out.Missing, name+": no server of "+out.To+" is ready")
		}
	}
	out.OK = len(out.Missing) == 0
	return out, nil
}

// destination is the pool that a swap leads to; nil when it is not clear.
func destination(svc *proxy.Service, to string) *proxy.Pool {
	if to != "" {
		return svc.Pool(to)
	}
	for _, p := range svc.Pools {
		if p != svc.Active && len(svc.Pools) == 2 {
			return p
		}
	}
	return nil
}

func gateOf(service string, g *rollout.Gate) api.Gate {
	a := &g.Answer
	return api.Gate{Service: service, Kind: g.Kind, Server: g.Server,
		Answer: api.Answer{Check: g.Check, Kind: g.Kinds, OK: a.OK, Pending: a.Pending, Reason: a.Reason, Status: a.Status, Value: a.Value, Took: api.Duration(a.Took), At: a.At}}
}

// readiness is what the servers of a pool answer to what they are watched by.
func (s *Server) readiness(ctx context.Context, service string, pool *proxy.Pool) []api.Gate {
	var out []api.Gate
	for i := range pool.Members {
		m := &pool.Members[i]
		if m.Drained || m.Weight == 0 {
			continue
		}
		g := api.Gate{Service: service, Kind: rollout.KindReady, Server: m.Name, Answer: api.Answer{Check: "ready", OK: true, At: time.Now()}}
		for _, a := range s.opt.Probe(ctx, m.Server) {
			if g.OK && !a.OK {
				g.Answer = a
			}
			g.Took = max(g.Took, a.Took)
		}
		out = append(out, g)
	}
	return out
}

// watchOf shows a service's watch.
func (s *Server) watchOf(svc *proxy.Service) *api.Watch {
	w := svc.Watch
	if w == nil {
		return nil
	}
	out := &api.Watch{Since: w.Since, Until: w.Until, If: w.If, Pool: w.Pool, Baseline: w.Baseline}
	for _, p := range w.Steps {
		out.Steps = append(out.Steps, p.Float())
	}
	if s.opt.Rollout != nil {
		if st, known := s.opt.Rollout.Watch(svc.Spec.Name); known {
			out.Readings, out.Checks, out.Looks, out.Note = st.Readings, st.Checks, st.Looks, st.Note
			out.Breach, out.BreachSince, out.Refused, out.Hint = st.Breach, st.BreachSince, st.Refused, st.Hint
		}
	}
	return out
}

func watchedOf(w *proxy.Watched) *api.Watched {
	if w == nil {
		return nil
	}
	return &api.Watched{Since: w.Since, Ended: w.Ended, Outcome: w.Outcome, Reason: w.Reason, Left: w.Left}
}

// steps reads the shares of a staged swap: growing, the last one the whole.
func steps(percents []float64) ([]proxy.Percent, error) {
	var out []proxy.Percent
	for _, f := range percents {
		p, err := proxy.PercentOf(f)
		if err != nil || p == 0 || len(out) > 0 && p <= out[len(out)-1] {
			return nil, usage("steps: %v: want growing shares such as 5, 25, 100", percents)
		}
		out = append(out, p)
	}
	if len(out) > 0 && out[len(out)-1] != proxy.Whole {
		out = append(out, proxy.Whole)
	}
	return out, nil
}

// watched fills in what a swap says of watching, with the readings from before it.
func (s *Server) watched(ch *proxy.Change, req *api.SwapRequest) error {
	if req.Watch != nil {
		if ch.Watch = time.Duration(*req.Watch); ch.Watch < 0 {
			return negative("watch", *req.Watch)
		} else if ch.Watch == 0 {
			ch.Watch = -1 // none, whatever the file says
		}
	}
	ch.RollbackIf = req.RollbackIf
	if s.opt.Rollout == nil {
		return nil
	}
	if ch.RollbackIf != "" {
		if err := s.opt.Rollout.CheckRule(ch.RollbackIf); err != nil {
			return usage("rollback_if: %v", err)
		}
	}
	snap := s.opt.Switch.Current()
	ch.Baseline = s.opt.Rollout.Baseline(snap, snap.Concerned(ch.Target))
	if len(req.Steps) == 0 {
		return nil
	}
	all, err := steps(req.Steps)
	switch {
	case err != nil:
		return err
	case req.Every <= 0:
		return usage("steps want every: how long each lasts")
	case ch.Verb == proxy.VerbBack:
		return usage("back goes at once: leave out steps")
	case len(all) == 1:
		return nil
	}
	svc := snap.Service(ch.Target)
	if svc == nil {
		return usage("steps are of one service, and %q is none", ch.Target)
	}
	pool := destination(svc, ch.To)
	if pool == nil {
		return nil // the plan says what is wrong
	}
	if !ch.Force {
		if missing := s.opt.Rollout.Missing(context.Background(), svc, pool); len(missing) > 0 {
			return &api.Error{Code: api.CodeGate, Message: fmt.Sprintf("%s not split to %s: %s", ch.Target, pool.Name, missing[0]), Details: missing[1:],
				Hint: fmt.Sprintf("`turnout gate %s %s` shows each with its answer; `--force` skips gates", ch.Target, pool.Name)}
		}
	}
	ch.Verb, ch.To, ch.Shares, ch.Steps, ch.Every = proxy.VerbSplit, "", []proxy.Share{{Pool: pool.Name, Percent: all[0]}}, all[1:], time.Duration(req.Every)
	if req.Watch == nil {
		ch.Watch = svc.Spec.Watch.For
	}
	if ch.Watch <= 0 {
		ch.Watch = time.Nanosecond // stages are watched; the swap at their end is not
	}
	return nil
}

func (s *Server) getSnapshots(*call) (any, error) {
	all, damaged, err := s.opt.Rollout.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.Snapshot, 0, len(all)+len(damaged))
	for i := range all {
		out = append(out, snapshotOf(&all[i]))
	}
	for i := range damaged {
		d := &damaged[i]
		out = append(out, api.Snapshot{Name: d.Name, File: d.File, Damaged: d.Err.Error(), Services: map[string]api.SnapshotOf{}})
	}
	return out, nil
}

func snapshotOf(s *rollout.Snapshot) api.Snapshot {
	out := api.Snapshot{Name: s.Name, Taken: s.Taken, By: s.By, Reason: s.Reason, Config: s.Config, Revision: s.Revision, Services: map[string]api.SnapshotOf{}}
	for name, svc := range s.Services {
		of := api.SnapshotOf{Active: svc.Active, Readings: svc.Readings}
		for _, a := range svc.Answers {
			of.Answers = append(of.Answers, api.Gate{Service: name, Server: a.Server, Answer: api.Answer{Check: a.Check, OK: a.OK, Reason: a.Reason, Value: a.Value, At: a.At}})
		}
		out.Services[name] = of
	}
	return out
}

func (s *Server) postSnapshot(c *call, req *api.SnapshotRequest) (any, error) {
	snap := s.opt.Switch.Current()
	target := req.Target
	if target == "" {
		target = proxy.All
	}
	names := snap.Concerned(target)
	for _, n := range names {
		if snap.Service(n) == nil {
			return nil, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no service or group is named %q", target), Hint: proxy.Among(target, snap.Names())}
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, gateLimit)
	defer cancel()
	name := c.path("name")
	taken, replaced, err := s.opt.Rollout.Take(ctx, name, c.who.Name, req.Reason, names, s.metricNames(), req.Replace)
	if err != nil {
		return nil, s.snapshotError(name, replaced, err)
	}
	out, text := snapshotOf(taken), "snapshot "+name+" taken"
	if replaced != nil {
		out.Replaced = &replaced.Taken
		text += ", in the place of that of " + replaced.Taken.Local().Format(time.DateTime)
	}
	if err := s.opt.Switch.Note(proxy.Note{Target: target, Text: text, Outcome: proxy.OutcomeDone, Who: c.who}); err != nil {
		return nil, err
	}
	return out, nil
}

// snapshotError says what to do about an error of the snapshot of that name; there: the one that there is.
func (s *Server) snapshotError(name string, there *rollout.Snapshot, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		e := &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("there is a snapshot %s already", name), Hint: "take one of another name; `turnout snapshot take --force` replaces it"}
		if there != nil {
			e.Message += fmt.Sprintf(", taken at %s by %s", there.Taken.Local().Format(time.DateTime), there.By)
			e.Holds = "it stays as it is"
		}
		return e
	case errors.Is(err, rollout.ErrName):
		return usage("%q: %v", name, err)
	case errors.Is(err, fs.ErrNotExist):
		hint := "`turnout snapshot take NAME` takes one; there are none"
		if all, _, err := s.opt.Rollout.List(); err == nil && len(all) > 0 {
			names := make([]string, len(all))
			for i := range all {
				names[i] = all[i].Name
			}
			hint = proxy.Among(name, names)
		}
		return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("there is no snapshot %q", name), Hint: hint}
	case errors.Is(err, rollout.ErrDamaged):
		return &api.Error{Code: api.CodeFailed, Message: err.Error(), Holds: "the file was left as it is",
			Hint: fmt.Sprintf("take another one: `turnout snapshot take NAME`; `turnout snapshot take %s --force` puts one in its place", name)}
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("snapshot %s: %v", name, err), Holds: "the snapshots that there are stay as they are", Hint: "make room in state_dir, or mend its disk, then try again"}
}

// getCompare compares a snapshot with another, or with this moment.
func (s *Server) getCompare(c *call) (any, error) {
	was, err := s.opt.Rollout.Load(c.path("name"))
	if err != nil {
		return nil, s.snapshotError(c.path("name"), nil, err)
	}
	var result rollout.Compared
	if with := c.q.Get("with"); with != "" {
		is, err := s.opt.Rollout.Load(with)
		if err != nil {
			return nil, s.snapshotError(with, nil, err)
		}
		if is.Taken.Before(was.Taken) {
			return nil, usage("snapshot %s is older than %s: it would be told the wrong way round; `turnout snapshot compare %s --with %s`", with, was.Name, with, was.Name)
		}
		result = rollout.Compare(was, is)
	} else {
		ctx, cancel := context.WithTimeout(c.ctx, gateLimit)
		defer cancel()
		result = s.opt.Rollout.CompareNow(ctx, was, s.metricNames())
	}
	return &api.Compared{Name: was.Name, Taken: was.Taken, With: c.q.Get("with"), Worse: result.Worse, Other: result.Other}, nil
}

// metricNames are those of the exposition.
func (s *Server) metricNames() []string {
	families, err := s.registry.Gather()
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(families))
	for _, f := range families {
		out = append(out, f.GetName())
	}
	slices.Sort(out)
	return out
}

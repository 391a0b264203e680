package runbook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
)

// request is what every change carries.
func (s *Step) request() api.ChangeRequest {
	wait := false
	return api.ChangeRequest{Reason: s.Reason, Force: s.Force, Wait: &wait}
}

// ask sends a step's change to the door.
func (s *Step) ask(ctx context.Context, door *client.Client, r api.ChangeRequest) (*api.Operation, error) {
	drain, hold, lasts := api.Duration(s.Drain), api.Duration(s.Hold), api.Duration(s.For)
	switch s.Verb {
	case "swap", "back":
		req := api.SwapRequest{ChangeRequest: r, To: s.Pool, Servers: s.Servers, Drain: drain, Then: s.Then, Exclusive: s.Exclusive,
			Hold: hold, StopOld: s.StopOld != "", StartNew: s.StartNew != "", WaitFor: s.WaitFor, RollbackIf: s.RollbackIf}
		if watch := api.Duration(s.Watch); s.Watch > 0 || s.NoWatch {
			req.Watch = &watch
		}
		if s.Verb == "back" {
			return door.Back(ctx, s.Target, req)
		}
		return door.Swap(ctx, s.Target, req)
	case "keep":
		return door.Keep(ctx, s.Target, api.KeepRequest{ChangeRequest: r, Servers: s.Servers, Drain: drain, Then: s.Then})
	case "split":
		return door.Split(ctx, s.Target, api.SplitRequest{ChangeRequest: r, Shares: map[string]float64{s.Pool: s.Percent}, Drain: drain, Then: s.Then})
	case "hold":
		return door.Hold(ctx, s.Target, api.HoldRequest{ChangeRequest: r, For: lasts})
	case "release":
		return door.Release(ctx, s.Target, r)
	case "maintenance":
		req := api.MaintenanceRequest{ChangeRequest: r, On: &s.On, For: lasts, Soft: s.Soft, Message: s.Message, Drain: drain, Then: s.Then}
		if s.Cancel {
			req.On, req.Cancel = nil, true
		}
		if s.At != "" {
			at, err := config.When(s.At, time.Now())
			if err != nil {
				return nil, err
			}
			req.At = &at
		}
		return door.Maintenance(ctx, s.Target, req)
	case "read-only":
		return door.ReadOnly(ctx, s.Target, api.ReadOnlyRequest{ChangeRequest: r, On: &s.On, For: lasts, Message: s.Message})
	case "drain":
		return door.Drain(ctx, s.Target, s.Pool, s.Server, api.DrainRequest{ChangeRequest: r, Drain: drain, Then: s.Then})
	case "ready":
		req := api.ReadyRequest{ChangeRequest: r}
		if s.SlowStart > 0 || s.NoSlowStart {
			req.SlowStart = new(api.Duration(s.SlowStart))
		}
		return door.Ready(ctx, s.Target, s.Pool, s.Server, req)
	case "weight":
		return door.Weight(ctx, s.Target, s.Pool, s.Server, api.WeightRequest{ChangeRequest: r, Weight: &s.Weight})
	}
	panic("runbook: BUG: not a change: " + s.Verb)
}

// change asks for a change and sees it through, drains included. A hand-over that has not committed when ctx ends is
// taken back; a change that is in force stays, and its drain goes on in the door.
func (r *run) change(ctx context.Context, s *Step) (string, error) {
	req := s.request()
	if req.Reason == "" {
		req.Reason = r.reason(s)
	}
	var sides []string
	if s.StopOld != "" || s.StartNew != "" {
		sides = r.sides(ctx, s)
	}
	op, err := s.ask(ctx, r.opt.Door, req)
	if op == nil {
		return "", err
	}
	told, hooked := 0, map[string]bool{}
	for {
		for ; told < len(op.Steps); told++ {
			r.opt.Note("%s: %s", op.Steps[told].Name, op.Steps[told].Text)
		}
		if op.State == "done" || op.State == "failed" {
			return ended(op)
		}
		command := map[string]string{"stop_old": s.StopOld, "start_new": s.StartNew}[op.Waiting]
		if op.State == "waiting" && command != "" && !hooked[op.Waiting] {
			hooked[op.Waiting] = true
			r.hook(ctx, op, command, sides)
		}
		next, err := r.opt.Door.Operation(ctx, op.ID, len(op.Steps), 5*time.Second)
		if err != nil && r.inForce(ctx, op, err) {
			return fmt.Sprintf("%s, revision %d; the door was started again before its drain had ended", strings.Join(op.Plan, "; "), op.Revision), nil
		}
		if err != nil {
			return "", r.leave(ctx, op, err)
		}
		if op = next; op.State == "waiting" { // the door answers at once while it waits for a hook
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// inForce tells of an operation that the door no longer answers for whether it was started again since, with the change still
// journalled. What was to drain ended with the door that had it.
func (r *run) inForce(ctx context.Context, op *api.Operation, why error) bool {
	var e *api.Error
	if !op.Changed || op.Revision == 0 || !errors.As(why, &e) || e.Code != api.CodeUnreachable && e.Code != api.CodeNotFound {
		return false
	}
	r.await(ctx)
	st, err := r.opt.Door.Status(ctx, "")
	return err == nil && st.Revision >= op.Revision
}

// ended is how an operation ended, in words.
func ended(op *api.Operation) (string, error) {
	if op.Error != nil {
		return "", op.Error
	}
	var out []string
	for i := range op.Proofs {
		p := &op.Proofs[i]
		out = append(out, fmt.Sprintf("%s: %s -> %s, overlap %s, held %d, re-steered %d, remaining %d, cut %d",
			p.Service, p.From, p.To, time.Duration(p.Overlap), p.Held, p.Resteered, p.Remaining, p.Cut))
	}
	if out == nil {
		out = op.Plan
	}
	words := fmt.Sprintf("%s, revision %d", strings.Join(out, "; "), op.Revision)
	if op.Cut > 0 && len(op.Proofs) == 0 {
		words += fmt.Sprintf(", %d cut", op.Cut)
	}
	return words, nil
}

// sides is what hooks find in their environment: which pool the hand-over leads from, and to.
func (r *run) sides(ctx context.Context, s *Step) []string {
	st, err := r.opt.Door.Status(ctx, "")
	if err != nil {
		return nil // the change that follows says why
	}
	var from, to []string
	services := st.Groups[s.Target]
	if _, ok := st.Services[s.Target]; ok {
		services = []string{s.Target}
	}
	for _, name := range services {
		svc := st.Services[name]
		dest := s.Pool
		if s.Verb == "back" {
			if dest = svc.Previous; len(services) > 1 {
				dest = svc.PreviousPool
			}
		}
		for pool := range svc.Pools {
			if dest == "" && len(svc.Pools) == 2 && pool != svc.Active {
				dest = pool
			}
		}
		from, to = append(from, svc.Active), append(to, dest)
	}
	return []string{"TURNOUT_SERVICE=" + s.Target, "TURNOUT_FROM=" + strings.Join(slices.Compact(from), ","), "TURNOUT_TO=" + strings.Join(slices.Compact(to), ",")}
}

// hook runs a command of a hand-over while clients wait.
func (r *run) hook(ctx context.Context, op *api.Operation, command string, sides []string) {
	r.opt.Note("%s: running %s", op.Waiting, command)
	err := r.opt.Run(ctx, Command{Shell: command, Dir: r.dir(), Env: append(r.env(), sides...)})
	if ctx.Err() != nil { // the swap is taken back as a whole, which says so
		return
	}
	answer := api.ContinueRequest{Step: op.Waiting}
	if err != nil {
		answer.Error = err.Error()
	}
	if _, err := r.opt.Door.Continue(context.WithoutCancel(ctx), op.ID, answer); err != nil {
		r.opt.Note("%s: %v", op.Waiting, err) // it ended meanwhile: its own state says how
	}
}

// leave says what holds when the step's time is up or the operator leaves.
func (r *run) leave(ctx context.Context, op *api.Operation, why error) error {
	if ctx.Err() == nil {
		return why
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if len(op.Proofs) > 0 || op.State == "draining" {
		return &api.Error{Code: codeOf(context.Cause(ctx)), Message: fmt.Sprintf("%s: the change is in force; its drain goes on in the door", context.Cause(ctx)), Hint: "`turnout status " + op.Target + " --wait drained` waits for it"}
	}
	e := &api.Error{Code: codeOf(context.Cause(ctx)), Message: fmt.Sprintf("%s: taken back before it was in force", context.Cause(ctx))}
	if _, err := r.opt.Door.Continue(after, op.ID, api.ContinueRequest{Abort: true}); err != nil {
		e.Message, e.Hint = fmt.Sprintf("%s: the door could not be told to go back: %v", context.Cause(ctx), err), "it goes back at the hold's deadline"
	}
	return e
}

func codeOf(why error) string {
	if errors.Is(why, errStepTime) {
		return api.CodeTimeout
	}
	return api.CodeFailed
}

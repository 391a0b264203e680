package runbook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// await waits for a door that does not answer, once in a run: one that stays away is not waited for at each step.
func (r *run) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, doorPatience)
	defer cancel()
	for said := false; !r.gone; said = true {
		_, err := r.opt.Door.Version(ctx)
		var e *api.Error
		if r.gone = ctx.Err() != nil; !errors.As(err, &e) || e.Code != api.CodeUnreachable {
			return
		}
		if !said {
			r.opt.Note("%s; waiting up to %s for it", e.Message, doorPatience)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// doorPatience is how long a run waits for a door that is being started again. Nothing was asked of it yet, so that nothing
// is done twice.
const doorPatience = 15 * time.Second

// watch waits until the watches of a swap have ended; one that was rolled back fails the step. A door that restarts
// meanwhile goes on with them.
func (r *run) watch(ctx context.Context, s *Step, begun time.Time) error {
	asked := time.Now()
	for {
		st, err := r.opt.Door.Status(ctx, "")
		if err == nil {
			left, failed := watches(st, s.Target, begun)
			if failed != nil || !left {
				return failed
			}
		} else if ctx.Err() == nil && time.Since(asked) > time.Minute {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watches tells whether a target is still watched, and what is wrong: its swap was taken back, or is not watched to the
// end, or is to be taken back and cannot be, and the watch's deadline has come.
func watches(st *api.Status, target string, since time.Time) (left bool, failed error) {
	services := st.Groups[target]
	if services == nil {
		services = []string{target}
	}
	for _, name := range services {
		svc, there := st.Services[name]
		left = left || svc.Watch != nil
		fail := func(code, format string, args ...any) {
			if failed == nil || code == api.CodeRolledBack {
				failed = &api.Error{Code: code, Message: fmt.Sprintf(format, args...)}
			}
		}
		w := svc.Watched
		switch {
		case !there:
			fail(api.CodeConflict, "the watch of %s was ended by another change: a reload took the service away", name)
		case w != nil && w.Outcome == "rolled_back" && w.Ended.After(since):
			fail(api.CodeRolledBack, "%s rolled back: %s", name, w.Reason)
		case w != nil && w.Outcome == "superseded" && w.Since.After(since):
			fail(api.CodeConflict, "the watch of %s was ended by another change: %s", name, w.Reason)
		case svc.Watch != nil && svc.Watch.Breach != "" && time.Now().After(svc.Watch.Until):
			fail(api.CodeFailed, "%s is breached and could not be rolled back until its watch's deadline: %s; %s", name, svc.Watch.Refused, svc.Watch.Hint)
		}
	}
	return left, failed
}

func (r *run) wait(ctx context.Context, s *Step) error {
	if s.Until == "" {
		select {
		case <-time.After(s.For):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	pending := ""
	for {
		st, err := r.opt.Door.Status(ctx, s.Target)
		if err == nil {
			if pending = unmet(st, s.Until); pending == "" {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return &api.Error{Code: codeOf(context.Cause(ctx)), Message: fmt.Sprintf("%s: not %s: %s", context.Cause(ctx), s.Until, pending)}
		}
	}
}

// unmet says what is still missing; "" when nothing is.
func unmet(st *api.Status, until string) string {
	var parts []string
	for name, svc := range st.Services {
		switch {
		case until == "watched" && svc.Watch != nil:
			parts = append(parts, name+" is watched")
		case until == "ready" && svc.State != "serving":
			parts = append(parts, name+" is "+svc.State)
		case until == "drained":
			for pool, p := range svc.Pools {
				for server, sv := range p.Servers {
					if sv.State == "draining" {
						parts = append(parts, fmt.Sprintf("%s/%s/%s has %d", name, pool, server, sv.Connections))
					}
				}
			}
		}
	}
	return strings.Join(parts, "; ")
}

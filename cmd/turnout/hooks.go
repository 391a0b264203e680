package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// hookEvery is how often the operation is looked at while a hook runs.
const hookEvery = 100 * time.Millisecond

// runHook runs the command of a step with this user's rights and tells the door how it went. The command is
// killed, with all it started, when the operation ends first or the wait does.
func (ch *change) runHook(w *wait, step, command string) error {
	ch.hooked[step] = true
	c := ch.cli
	begun := time.Now()
	env, err := ch.hookEnv(w.ctx)
	if err != nil {
		return err
	}
	c.notef("%s: running %s", step, quote(command))
	hook := exec.Command("sh", "-c", command) //nolint:gosec // the operator's own command, with the operator's own rights
	hook.Env = append(os.Environ(), env...)
	hook.Stdout, hook.Stderr = c.err, c.err
	ownGroup(hook)
	failure := ""
	if err := hook.Start(); err != nil {
		failure = err.Error()
	} else {
		ended := make(chan error, 1)
		go func() { ended <- hook.Wait() }() // ends with the hook
		err, gone := ch.watchHook(w, step, ended)
		if gone {
			killGroup(hook)
			<-ended
			c.notef("%s: killed after %s", step, took(begun))
			return w.early()
		}
		if err != nil {
			failure = hookFailure(err)
		}
	}
	if failure == "" {
		c.notef("%s: exit status 0 after %s", step, took(begun))
	} else {
		c.notef("%s: %s after %s", step, failure, took(begun))
	}
	_, err = ch.door.Continue(w.ctx, ch.op.ID, api.ContinueRequest{Step: step, Error: failure})
	var e *api.Error
	if err == nil || errors.As(err, &e) && e.Code == api.CodeConflict {
		return ch.look(w.ctx) // in a conflict it ended meanwhile: its own state says how
	}
	return err
}

// watchHook waits for the hook. gone is true when the operation no longer waits for it.
func (ch *change) watchHook(w *wait, step string, ended <-chan error) (err error, gone bool) {
	tick := time.NewTicker(hookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err, false
		case <-w.ctx.Done():
			return nil, true
		case <-tick.C:
			// A door that cannot be asked is no reason to kill a hook half way: the hook's end will
			// show whether the door is gone.
			if ch.look(w.ctx) == nil && (ch.op.State != "waiting" || ch.op.Waiting != step) {
				return nil, true
			}
			ch.showProgress(w.ctx)
		}
	}
}

// look asks how the operation stands, without waiting.
func (ch *change) look(ctx context.Context) error {
	op, err := ch.door.Operation(ctx, ch.op.ID, -1, 0)
	if err == nil {
		ch.op = op
	}
	return err
}

// hookEnv tells the hook what is being done. Between the hold and the commit the active pool is the old one.
func (ch *change) hookEnv(ctx context.Context) ([]string, error) {
	st, err := ch.door.Status(ctx, "")
	if err != nil {
		return nil, err
	}
	list := members(st, ch.target)
	unsplit := ch.verb == "back" && slices.ContainsFunc(list, func(name string) bool { return st.Services[name].Split != nil })
	var from, to []string
	for _, name := range list {
		s := st.Services[name]
		dest := s.Active // where it goes back to when it is a split that is taken back
		if !unsplit {
			dest = ch.destination(s, len(list) > 1)
		}
		from, to = append(from, s.Active), append(to, dest)
	}
	return []string{"TURNOUT_SERVICE=" + ch.target, "TURNOUT_FROM=" + words(from), "TURNOUT_TO=" + words(to)}, nil
}

// destination is where the swap leads for a service; together: with others of its group.
func (ch *change) destination(s api.Service, together bool) string {
	switch {
	case ch.verb == "back" && together:
		return s.PreviousPool
	case ch.verb == "back":
		return s.Previous
	case ch.to != "":
		return ch.to
	}
	for _, pool := range sortedKeys(s.Pools) {
		if pool != s.Active {
			return pool
		}
	}
	return ""
}

// words joins what differs, with commas.
func words(list []string) string {
	var out []string
	for _, s := range list {
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return strings.Join(out, ",")
}

func hookFailure(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Sprintf("exit status %d", exit.ExitCode())
	}
	return err.Error()
}

func took(begun time.Time) time.Duration { return time.Since(begun).Round(time.Millisecond) }

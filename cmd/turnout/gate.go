package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) gateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gate TARGET [POOL]",
		Short: "Ask everything that must hold before a swap, and say what each answers",
		Long: `Ask everything that must hold before a swap of a service or group, now, and say what each answers: the door itself, what
the service depends on, the servers of the new pool. What is to be fixed first comes first. Exit code 4: something is
missing, and a swap would be refused. Only looks; changes nothing.`,
		Example:           "  turnout gate node\n  turnout gate indexer standby -o json",
		Args:              c.wants(1, 2, "TARGET [POOL]"),
		ValidArgsFunction: c.complete(targets, pools),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			to := ""
			if len(args) == 2 {
				to = args[1]
			}
			w := newWait(c.timeout)
			defer w.stop()
			d := client.Dial(c.socket)
			defer d.Close()
			gates, err := d.Gate(w.ctx, target, to)
			if err != nil {
				return err
			}
			c.showGates(gates)
			return failedGates(gates)
		},
	}
}

func (c *cli) showGates(g *api.Gates) {
	if c.json() {
		c.writeJSON(g)
		return
	}
	var rows [][]cell
	for i := range g.Gates {
		gate := &g.Gates[i]
		rows = append(rows, []cell{text(gate.Service), text(gate.Kind), text(gate.Check), text(orDash(gate.Server)), verdict(&gate.Answer),
			text(ageOf(gate.At)), text(told(&gate.Answer))})
	}
	if rows != nil {
		c.table([]string{"SERVICE", "GATE", "CHECK", "SERVER", "PASSES", "AGE", "ANSWER"}, rows)
	}
	for _, line := range g.Plan {
		c.printf("would: %s", line)
	}
}

// ageOf is how old an answer is, to a tenth of a second.
func ageOf(at time.Time) string { return time.Since(at).Round(100 * time.Millisecond).String() }

func failedGates(g *api.Gates) error {
	if g.OK {
		return nil
	}
	return &api.Error{Code: api.CodeGate, Message: fmt.Sprintf("%s cannot be swapped to %s: %s", g.Target, g.To, g.Missing[0]), Details: g.Missing[1:],
		Holds: "nothing was changed"}
}

// awaitWatch waits until the watches of a swap have ended, and says how; seen is false when there were none. A door that
// restarts meanwhile goes on with them.
func (ch *change) awaitWatch(w *wait) (seen bool, _ error) {
	told := map[string]bool{}
	since := map[string]time.Time{}
	gone := time.Time{}
	var ended error
	for {
		ctx, cancel := context.WithTimeout(w.ctx, statusPatience)
		st, err := ch.door.Status(ctx, "")
		cancel()
		switch {
		case w.early() != nil:
			ch.cli.notef("the watch goes on in the door: `turnout status %s` shows it", ch.target)
			return true, ch.leftEarly(w)
		case err != nil && gone.IsZero():
			gone = time.Now()
		case err != nil && time.Since(gone) > statusPatience:
			return true, ch.lost(err)
		case err == nil:
			gone = time.Time{}
			done, err := ch.watches(st, told, since)
			if err != nil && (ended == nil || isRolledBack(err)) { // of several in a group the worst
				ended = err
			}
			if done {
				return len(since) > 0 || len(told) > 0, ended
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-w.ctx.Done():
		}
	}
}

func isRolledBack(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeRolledBack
}

// tellWatches says which watches go on when the command leaves before them.
func (ch *change) tellWatches(ctx context.Context) {
	st, err := ch.door.Status(ctx, "")
	if err != nil {
		return
	}
	for _, name := range members(st, ch.target) {
		if w := st.Services[name].Watch; w != nil {
			ch.cli.notef("the watch of %s goes on in the door until %s: a breach swaps back", name, w.Until.Local().Format(time.TimeOnly))
		}
	}
}

func (ch *change) leftEarly(w *wait) error {
	e := &api.Error{Code: api.CodeFailed, Message: w.early().Error() + " while the swap is watched", Holds: "it is in force, and a breach takes it back"}
	if w.early() == errTimedOut {
		e.Code = api.CodeTimeout
	}
	return e
}

// watches looks how the watches stand; done when none is left.
func (ch *change) watches(st *api.Status, told map[string]bool, since map[string]time.Time) (done bool, err error) {
	done = true
	for _, name := range members(st, ch.target) {
		s := st.Services[name]
		if told[name] {
			continue
		}
		ours := s.Watched != nil && s.Watched.Since.Equal(since[name]) // and whoever came in between may watch anew
		if s.Watch != nil && !ours {
			done = false
			if since[name] != s.Watch.Since {
				since[name] = s.Watch.Since
				ch.cli.notef("watch: %s until %s; rolled back if %s", name, s.Watch.Until.Local().Format(time.TimeOnly), s.Watch.If)
			}
			if e := ch.breached(name, s.Watch, st); e != nil {
				return true, e
			}
			ch.cli.progress("watch: %s, %s left, %s", name, left(&s.Watch.Until), cmp.Or(s.Watch.Note, s.Watch.Breach))
			continue
		}
		if s.Watched == nil || s.Watched.Since.Before(ch.op.Started) || s.Watched.Since.Before(since[name]) {
			continue
		}
		told[name] = true
		ch.cli.notef("watch: %s %s after %s: %s", name, wordOf(s.Watched.Outcome), s.Watched.Ended.Sub(s.Watched.Since).Round(time.Millisecond), s.Watched.Reason)
		switch s.Watched.Outcome {
		case "rolled_back":
			err = &api.Error{Code: api.CodeRolledBack, Message: fmt.Sprintf("%s rolled back: %s", ch.target, s.Watched.Reason), Holds: ch.holds(st), Hint: "`turnout history " + ch.target + " --long` shows it"}
		case "superseded":
			err = &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("the watch of %s was ended by another change: %s", name, s.Watched.Reason), Holds: ch.holds(st)}
		}
	}
	for _, name := range sortedKeys(since) {
		if _, there := st.Services[name]; !there && !told[name] {
			told[name] = true
			err = &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("the watch of %s was ended by another change: a reload took the service away", name), Holds: ch.holds(st)}
		}
	}
	return done, err
}

// breached says of a breach that cannot be rolled back what is known, when that changes. At the watch's deadline the command
// waits no longer; the door does.
func (ch *change) breached(name string, w *api.Watch, st *api.Status) error {
	if w.Breach == "" {
		delete(ch.refused, name)
		return nil
	}
	if w.Refused != ch.refused[name] {
		ch.refused[name] = w.Refused
		ch.cli.notef("watch: %s breached: %s", name, w.Breach)
		ch.cli.notef("watch: rollback refused because %s", w.Refused)
		ch.cli.notef("watch: %s", w.Hint)
	}
	if time.Now().Before(w.Until) {
		return nil
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s is breached and could not be rolled back until its watch's deadline: %s", name, w.Refused), Holds: ch.holds(st), Hint: w.Hint}
}

func wordOf(outcome string) string {
	if outcome == "rolled_back" {
		return "rolled back"
	}
	return outcome
}

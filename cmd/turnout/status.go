package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) statusCommand() *cobra.Command {
	var watch bool
	var until string
	cmd := &cobra.Command{
		Use:   "status [SERVICE]",
		Short: "Say what is active, what drains, what is held, and where the journal differs from the file",
		Example: `  turnout status                              every service
  turnout status node --watch                 one, with its servers, drawn anew as it changes
  turnout status --wait ready --timeout 10s   until the door serves (exit 5: it does not yet)
  turnout status node --wait drained          until no drain of the service goes on`,
		Args:              c.wants(0, 1, "one SERVICE at most"),
		ValidArgsFunction: c.complete(services),
		RunE: func(cmd *cobra.Command, args []string) error {
			service := ""
			if len(args) > 0 {
				service = args[0]
			}
			if until != "" && until != "ready" && until != "drained" {
				return c.usage(cmd, "--wait "+quote(until)+": want ready or drained", "")
			}
			if until != "" && watch {
				return c.usage(cmd, "--wait and --watch exclude each other", "")
			}
			w := newWait(c.timeout)
			defer w.stop()
			d := client.Dial(c.socket)
			defer d.Close()
			if watch {
				return c.watch(w, d, service)
			}
			st, err := c.await(w, d, service, until)
			if err != nil {
				return err
			}
			c.showStatus(st, service)
			return nil
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew whenever something happens, until Ctrl-C")
	cmd.Flags().StringVar(&until, "wait", "", "wait until `ready` or drained")
	_ = cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{"ready", "drained"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// statusPatience is how long a door may take to say how it is when nothing else was asked for.
const statusPatience = 10 * time.Second

// await asks for the status until it is as wanted, and says once what it waits for; on a terminal it keeps saying.
func (c *cli) await(w *wait, d *client.Client, service, until string) (*api.Status, error) {
	pending := "" // as last seen: the wait may be over before the next answer
	for first := true; ; first = first && pending == "" {
		ctx, cancel := context.WithTimeout(w.ctx, statusPatience)
		st, err := d.Status(ctx, service)
		cancel()
		switch {
		case err != nil && until == "ready" && errGone(err):
			pending = "no door answers at " + c.socket
		case err != nil && w.early() == nil:
			return nil, err
		case err == nil:
			if pending = unmet(st, until); pending == "" {
				return st, nil
			}
		}
		switch {
		case pending == "" || c.json():
		case c.live:
			c.progress("waiting for %s: %s", until, pending)
		case first:
			c.notef("waiting for %s: %s", until, pending)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-w.ctx.Done():
			return nil, waitedInVain(w.early(), until, cmp.Or(pending, "the door has not answered"))
		}
	}
}

// errGone tells whether the error says that no door is there.
func errGone(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeUnreachable
}

func waitedInVain(why error, until, pending string) error {
	e := &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s while waiting for %s", why, until), Holds: pending}
	if until == "" {
		e.Message = why.Error()
	}
	if errors.Is(why, errTimedOut) {
		e.Code = api.CodeTimeout
	}
	return e
}

// unmet says what is still missing; "" when nothing is.
func unmet(st *api.Status, until string) string {
	var parts []string
	if until == "ready" && st.Stopping != nil {
		parts = append(parts, "the door is stopping")
	}
	for _, name := range sortedKeys(st.Services) {
		s := st.Services[name]
		switch until {
		case "ready":
			if s.Active == "" {
				parts = append(parts, name+" has no active pool")
			}
		case "drained":
			for _, d := range draining(s) {
				parts = append(parts, fmt.Sprintf("%s/%s still has %s", name, d.name, plural(d.connections, "connection")))
			}
		}
	}
	return strings.Join(parts, "; ")
}

func (c *cli) showStatus(st *api.Status, service string) {
	if c.json() {
		c.writeJSON(st)
		return
	}
	if s := st.Stopping; s != nil {
		c.printf("the door is stopping, since %s: no new clients, no changes; it waits until %s at the latest (%s left) for those that are there",
			s.Since.Local().Format(time.DateTime), s.Until.Local().Format(time.DateTime), left(&s.Until))
	}
	if service == "" {
		c.servicesTable(st)
	}
	for i, name := range members(st, service) {
		if i > 0 {
			c.printf("")
		}
		c.serviceDetails(name, st)
	}
	if f := st.Frozen; f != nil {
		c.printf("frozen by %s since %s%s", f.By, f.Since.Local().Format(time.DateTime), because(f.Reason))
	}
	for _, d := range st.Drift {
		c.printf("drift: %s", d)
	}
	if st.LastReloadError != "" {
		c.printf("last reload failed: %s", strings.ReplaceAll(st.LastReloadError, "\n", "\n  "))
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (c *cli) servicesTable(st *api.Status) {
	var rows [][]cell
	for _, name := range sortedKeys(st.Services) {
		s := st.Services[name]
		rows = append(rows, []cell{text(name), text(active(s)), serviceState(s), text(standbys(s)),
			number(s.Connections), number(s.Held), text(fmt.Sprint(st.Revision)), text(since(s.Since))})
	}
	c.table([]string{"SERVICE", "ACTIVE", "STATE", "STANDBY", "CONNS", "HELD", "REV", "SINCE"}, rows)
	for _, name := range sortedKeys(st.Services) {
		if a := st.Services[name].Next; a != nil {
			c.printf("%s: maintenance begins at %s, in %s", name, a.From.Local().Format(dayAndZone), left(&a.From))
		}
	}
	for _, g := range sortedKeys(st.Groups) {
		c.printf("group %s: %s", g, strings.Join(st.Groups[g], ", "))
		c.groupBackLine(g, st)
	}
	for _, name := range sortedKeys(st.Services) {
		switch w := st.Services[name].Watch; {
		case w == nil:
		case w.Breach != "":
			c.printf("watch: %s breached since %s, rollback refused because %s; `turnout status %s` says what to do", name, w.BreachSince.Local().Format(time.TimeOnly), w.Refused, name)
		default:
			c.printf("watch: %s until %s (%s left)", name, w.Until.Local().Format(time.TimeOnly), left(&w.Until))
		}
	}
}

// active is the active pool, while the service is split with its share.
func active(s api.Service) string {
	if s.Split == nil {
		return s.Active
	}
	return fmt.Sprintf("%s %s", s.Active, percent(s.Pools[s.Active].Percent))
}

// stateAt is the state with the active pool, as it is said: serving blue, 0 of 1 ready.
func stateAt(s api.Service) string {
	state := serviceState(s).text
	word := len(state)
	if i := strings.IndexAny(state, " ,"); i > 0 {
		word = i
	}
	return state[:word] + " " + s.Active + state[word:]
}

// serviceState is the state with how long it lasts at most.
func serviceState(s api.Service) cell {
	state := s.State
	switch {
	case s.State == "stopping": // whatever it was before
	case s.Maintenance != nil && s.Maintenance.Until != nil:
		state += " (" + left(s.Maintenance.Until) + " left)"
	case s.HeldUntil != nil && s.Maintenance == nil:
		state += " (" + left(s.HeldUntil) + " left)"
	case s.State == "serving" && s.ReadOnly != nil && s.ReadOnly.Until != nil:
		state = "read-only (" + left(s.ReadOnly.Until) + " left)"
	case s.State == "serving" && s.ReadOnly != nil:
		state = "read-only"
	case s.State == "serving" && s.Split != nil && s.Split.Until != nil:
		state = "split (" + left(s.Split.Until) + " left)"
	case s.State == "serving" && s.Split != nil:
		state = "split"
	}
	if ready, watched := readyOf(s.Pools[s.Active]); ready < watched && s.State == "serving" {
		state += fmt.Sprintf(", %d of %d ready", ready, watched)
	}
	return stateCell(state)
}

// standbys are the other pools, with what is special about them.
func standbys(s api.Service) string {
	var out []string
	for _, name := range sortedKeys(s.Pools) {
		if name != s.Active {
			share := ""
			if p := s.Pools[name]; p.Percent > 0 {
				share = " " + percent(p.Percent)
			}
			out = append(out, name+share+poolNote(s.Pools[name]))
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ", ")
}

func poolNote(p api.Pool) string {
	switch {
	case p.State == "draining" && p.SessionsUntil != nil:
		return fmt.Sprintf(" (draining %d, sessions stay for %s)", p.Connections, left(p.SessionsUntil))
	case p.State == "draining" && p.CloseUntil != nil && !p.DrainUntil.After(time.Now()):
		return fmt.Sprintf(" (closing %d, %s left)", p.Connections, left(p.CloseUntil))
	case p.State == "draining" && p.DrainUntil != nil:
		return fmt.Sprintf(" (draining %d, %s left)", p.Connections, left(p.DrainUntil))
	case p.State == "draining":
		return fmt.Sprintf(" (draining %d)", p.Connections)
	case p.State != "standby" && p.State != "active" && p.State != "split":
		return " (" + p.State + ")"
	}
	if ready, watched := readyOf(p); watched > 0 && ready < watched {
		return fmt.Sprintf(" (%d of %d ready)", ready, watched)
	}
	return ""
}

// readyOf counts the servers of a pool that are watched and those that are ready.
func readyOf(p api.Pool) (ready, watched int) {
	for _, sv := range p.Servers {
		if sv.Health == nil {
			continue
		}
		watched++
		if sv.Health.State == "ready" {
			ready++
		}
	}
	return ready, watched
}

// poolState is the state; while the service is split with the pool's share.
func poolState(s api.Service, p api.Pool) string {
	if s.Split == nil || p.Percent == 0 {
		return p.State
	}
	return p.State + " " + percent(p.Percent)
}

// watch shows the status whenever something happens and each second, until it is told to stop. A door that
// goes away is waited for.
func (c *cli) watch(w *wait, d *client.Client, service string) error {
	events := make(chan struct{}, 1)
	go c.listenForEvents(w.ctx, d, events) // ends with w
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var shown []byte
	for first := true; ; first = false {
		frame, err := c.frame(w, d, service)
		if w.early() != nil {
			return nil // watching has no end of its own: being told to stop is how it succeeds
		}
		if err != nil && (first || !errGone(err)) {
			return err
		}
		if !slices.Equal(frame, shown) {
			c.draw(frame, first)
			shown = frame
		}
		select {
		case <-events:
		case <-tick.C:
		case <-w.ctx.Done():
			return nil
		}
	}
}

func (c *cli) listenForEvents(ctx context.Context, d *client.Client, events chan<- struct{}) {
	for ctx.Err() == nil {
		for _, err := range d.Events(ctx, nil) {
			if err != nil {
				break
			}
			select {
			case events <- struct{}{}:
			default: // one is waiting already
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// frame is one picture of the status.
func (c *cli) frame(w *wait, d *client.Client, service string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.ctx, statusPatience)
	defer cancel()
	st, err := d.Status(ctx, service)
	var b bytes.Buffer
	drawn := &cli{ui: &ui{out: &b, err: io.Discard, colour: c.colour}, output: c.output}
	if err != nil {
		drawn.printf("no door answers at %s", c.socket)
		return b.Bytes(), err
	}
	drawn.showStatus(st, service)
	return b.Bytes(), nil
}

// draw puts a frame over the last one on a terminal, else below it.
func (c *cli) draw(frame []byte, first bool) {
	switch {
	case isTerminal(c.out) && !c.json():
		if first {
			_, _ = io.WriteString(c.out, "\x1b[2J")
		}
		_, _ = fmt.Fprintf(c.out, "\x1b[H%s\x1b[J", bytes.ReplaceAll(frame, []byte("\n"), []byte("\x1b[K\n")))
	case first:
		_, _ = c.out.Write(frame)
	default:
		_, _ = fmt.Fprintf(c.out, "\n%s", frame)
	}
}

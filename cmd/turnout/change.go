package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// changeFlags are what every change takes.
type changeFlags struct {
	reason     string
	ifRevision uint64
	force      bool
	plan       bool
	noWait     bool
}

func (f *changeFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.reason, "reason", "", "`why`, for history")
	fs.Uint64Var(&f.ifRevision, "if-revision", 0, "refuse (exit 7) unless this `revision` is the one in force")
	fs.BoolVar(&f.force, "force", false, "skip gates and guards; never a conflict")
	fs.BoolVar(&f.plan, "plan", false, "say what would happen and change nothing")
}

// addNoWait is for changes that set a drain going.
func (f *changeFlags) addNoWait(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "return as soon as the change is in force; drains go on in the door")
}

// request is the part of a wire type that all changes share. The door answers as soon as the change is in
// force; waiting for the rest is done here, where it can be shown and interrupted.
func (f *changeFlags) request() api.ChangeRequest {
	wait := false
	return api.ChangeRequest{Reason: f.reason, IfRevision: f.ifRevision, Force: f.force, Plan: f.plan, Wait: &wait}
}

// drainFlags say how the connections of what is sealed end.
type drainFlags struct {
	drain time.Duration
	then  string
}

func (f *drainFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.drain, "drain", 0, "how long old connections may take to end (default: the service's drain.timeout)")
	cmd.Flags().StringVar(&f.then, "then", "", "what becomes of those left at that `end`: close or keep (default: the service's drain.then)")
	_ = cmd.RegisterFlagCompletionFunc("then", cobra.FixedCompletions([]string{"close", "keep"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *drainFlags) check(c *cli, cmd *cobra.Command) error {
	if f.then != "" && f.then != "close" && f.then != "keep" {
		return c.usage(cmd, "--then "+quote(f.then)+": want close or keep", "")
	}
	return c.positive(cmd, "drain")
}

// positive refuses durations that make no sense; they were not given if they are zero.
func (c *cli) positive(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if d, err := cmd.Flags().GetDuration(name); err == nil && cmd.Flags().Changed(name) && d <= 0 {
			return c.usage(cmd, "--"+name+" "+d.String()+": want more than 0, such as 30s", "")
		}
	}
	return nil
}

// change asks the door for something and sees it through: the road of every command that changes anything.
type change struct {
	cli    *cli
	door   *client.Client
	verb   string
	target string // service or group; "" when the change is of none
	ask    func(ctx context.Context) (*api.Operation, error)
	hooks  map[string]string // step → shell command
	noWait bool
	to     string // of a swap; "" when not said
	watch  bool   // wait for the watch that the swap may have begun

	op        *api.Operation
	told      int               // steps written
	announced bool              // the result's first lines are written
	unseen    bool              // the door went away in the middle
	hooked    map[string]bool   // steps whose hook has run
	refused   map[string]string // service → why its breach was last said not to be rolled back
}

// do carries the change out. Its context ends with a signal or --timeout; see follow.go.
func (ch *change) do() error {
	ch.hooked, ch.refused = map[string]bool{}, map[string]string{}
	w := newWait(ch.cli.timeout, syscall.SIGPIPE)
	defer w.stop()
	if err := ch.begin(w); err != nil {
		return err
	}
	if ch.op.State == "planned" {
		ch.announce()
		return nil
	}
	err := ch.follow(w)
	var said errSaid
	lost := ch.announced && ch.unseen
	if !ch.watch || err != nil && !lost && !errors.As(err, &said) { // what was cut is said; how the watch ends counts
		return err
	}
	if lost { // with the door's death its drains are over, and its watches are not
		ch.cli.notef("%v", err)
	}
	seen, watched := ch.awaitWatch(w)
	if watched != nil || lost && seen {
		return watched
	}
	return err
}

// change carries out a change that has no hooks.
func (c *cli) change(verb, target string, f *changeFlags, ask func(ctx context.Context, d *client.Client) (*api.Operation, error)) error {
	d := client.Dial(c.socket)
	defer d.Close()
	ch := &change{cli: c, door: d, verb: verb, target: target, noWait: f.noWait,
		ask: func(ctx context.Context) (*api.Operation, error) { return ask(ctx, d) }}
	return ch.do()
}

package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// swapFlags are those of swap and back.
type swapFlags struct {
	changeFlags
	drainFlags
	exclusive bool
	hold      time.Duration
	stopOld   string
	startNew  string
	waitFor   string
	servers   []string // swap only
	watch     time.Duration
	rollback  string
	steps     []string
	every     time.Duration
}

func (f *swapFlags) add(cmd *cobra.Command) {
	f.changeFlags.add(cmd)
	f.addNoWait(cmd)
	f.drainFlags.add(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&f.exclusive, "exclusive", false, "never two at once: hold new clients, drain the old side to zero, then move")
	fs.DurationVar(&f.hold, "hold", 0, "let new clients wait at the door until the new side is ready, for so long at most; then back")
	fs.DurationVar(&f.watch, "watch", 0, "for so long a breach swaps back by itself, exit 8; 0s: not at all (default: the service's watch.for)")
	fs.StringVar(&f.rollback, "rollback-if", "", "`expression` that is a breach (default: the service's watch.rollback_if)")
	fs.StringVar(&f.stopOld, "stop-old", "", "shell `command` that stops the old side; run here, while clients wait")
	fs.StringVar(&f.waitFor, "wait-for", "", "a `check` of the configuration that the new side must pass, while clients wait")
	fs.StringVar(&f.startNew, "start-new", "", "shell `command` that starts the new side; run here, while clients wait")
}

func (c *cli) swapCommand() *cobra.Command {
	f := &swapFlags{}
	cmd := &cobra.Command{
		Use:   "swap TARGET [POOL]",
		Short: "Move all new work of a service or group to another pool",
		Long: `Move all new work of a service or group to another pool, at once. Without POOL: to the other one of two.
When it has answered, no new connection starts on the old side. Connections that are there drain.

--stop-old and --start-new are run by this command with your rights; TURNOUT_SERVICE, TURNOUT_FROM and
TURNOUT_TO are in their environment. If one fails, if you press Ctrl-C, or if this command is killed, clients
that wait are let in where they would have gone before.`,
		Example: `  turnout swap node                          to the other pool
  turnout swap api --to app2,app3            from whoever serves to these two servers
  turnout swap indexer standby --reason "image 2.9.1"
  turnout swap node --exclusive --stop-old "docker stop node-a" --start-new "docker start node-b"`,
		Args:              c.wants(1, 2, "TARGET [POOL]"),
		ValidArgsFunction: c.complete(targets, pools),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 2 {
				to = args[1]
			}
			return c.swap(cmd, f, args[0], to)
		},
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&f.servers, "to", nil, "`servers` of the pool, with commas: exactly these take new work, in one change (without POOL: of the active one)")
	cmd.Flags().StringSliceVar(&f.steps, "steps", nil, "shares of new work before the swap itself, such as `5%,25%`, each for --every and watched")
	cmd.Flags().DurationVar(&f.every, "every", 0, "how `long` each of --steps lasts")
	return cmd
}

func (c *cli) swap(cmd *cobra.Command, f *swapFlags, arg, to string) error {
	target, err := c.target(cmd, arg)
	if err != nil {
		return err
	}
	if err := f.check(c, cmd); err != nil {
		return err
	}
	if err := c.positive(cmd, "hold"); err != nil {
		return err
	}
	req := api.SwapRequest{ChangeRequest: f.request(), To: to, Servers: f.servers, Drain: api.Duration(f.drain), Then: f.then,
		Exclusive: f.exclusive, Hold: api.Duration(f.hold), StopOld: f.stopOld != "", StartNew: f.startNew != "", WaitFor: f.waitFor}
	if err := f.watching(c, cmd, &req); err != nil {
		return err
	}
	d := client.Dial(c.socket)
	defer d.Close()
	ask := d.Swap
	if cmd.Name() == "back" {
		ask = d.Back
	}
	hooks := map[string]string{}
	if f.stopOld != "" {
		hooks["stop_old"] = f.stopOld
	}
	if f.startNew != "" {
		hooks["start_new"] = f.startNew
	}
	ch := &change{cli: c, door: d, verb: cmd.Name(), target: target, to: to, hooks: hooks, noWait: f.noWait, watch: !f.noWait,
		ask: func(ctx context.Context) (*api.Operation, error) { return ask(ctx, target, req) }}
	return ch.do()
}

// watching reads what is to be watched for.
func (f *swapFlags) watching(c *cli, cmd *cobra.Command, req *api.SwapRequest) error {
	if cmd.Flags().Changed("watch") {
		if f.watch < 0 {
			return c.usage(cmd, "--watch "+f.watch.String()+": want a duration such as 2m, or 0s for none", "")
		}
		d := api.Duration(f.watch)
		req.Watch = &d
	}
	req.RollbackIf, req.Every = f.rollback, api.Duration(f.every)
	for _, s := range f.steps {
		p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil || !(p > 0 && p <= 100) {
			return c.usage(cmd, "--steps "+quote(s)+": want shares such as 5%,25%,100%", "")
		}
		req.Steps = append(req.Steps, p)
	}
	if (len(f.steps) > 0) != (f.every > 0) {
		return c.usage(cmd, "--steps and --every go together, as in --steps 5%,25%,100% --every 5m", "")
	}
	return nil
}

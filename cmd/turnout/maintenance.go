package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) maintenanceCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	var limit time.Duration
	var soft bool
	var message string
	cmd := &cobra.Command{
		Use:   "maintenance on|off TARGET",
		Short: "Let the door itself answer new clients of a service or group, or stop that",
		Long: `Let the door itself answer new clients of a service or group: new TCP connections are closed at once, requests get a page.
Connections that are there drain, or go on with --soft. --message is for the public: on the page and at the state URL; the
reason is not, it is for history. TARGET may be "all": every service, in one transaction.`,
		Example:           "  turnout maintenance on node --for 30m --soft --reason \"disk swap\"\n  turnout maintenance off node",
		Args:              c.wants(2, 2, "on or off, and TARGET"),
		ValidArgsFunction: c.complete(onOff, targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := c.isOn(cmd, args)
			if err != nil {
				return err
			}
			if !on && (limit != 0 || soft || message != "" || df.drain != 0 || df.then != "") {
				return c.usage(cmd, "--for, --soft, --message, --drain and --then belong to maintenance on", "")
			}
			if soft && (df.drain != 0 || df.then != "") {
				return c.usage(cmd, "--soft drains nothing; leave out --drain and --then", "")
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			if err := c.positive(cmd, "for"); err != nil {
				return err
			}
			target, err := c.target(cmd, args[1])
			if err != nil {
				return err
			}
			req := api.MaintenanceRequest{ChangeRequest: f.request(), On: &on, For: api.Duration(limit), Soft: soft, Message: message, Drain: api.Duration(df.drain), Then: df.then}
			return c.change("maintenance", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Maintenance(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	cmd.Flags().DurationVar(&limit, "for", 0, "off by itself after this `time`")
	cmd.Flags().BoolVar(&soft, "soft", false, "connections that are there go on")
	cmd.Flags().StringVar(&message, "message", "", "`text` for the public")
	return cmd
}

// isOn reads the arguments "on TARGET" or "off TARGET" of a command.
func (c *cli) isOn(cmd *cobra.Command, args []string) (bool, error) {
	on := func(word string) bool { return word == "on" || word == "off" }
	switch {
	case on(args[0]):
		return args[0] == "on", nil
	case on(args[1]):
		return false, c.usage(cmd, "on or off comes first", commandLine([]string{cmd.Name(), args[1], args[0]}))
	}
	return false, c.usage(cmd, cmd.Name()+" "+quote(args[0])+": want on or off", "")
}

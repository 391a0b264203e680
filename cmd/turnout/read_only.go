package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) readOnlyCommand() *cobra.Command {
	f := &changeFlags{}
	var limit time.Duration
	var message string
	cmd := &cobra.Command{
		Use:   "read-only on|off TARGET",
		Short: "Let the door itself answer requests that would write, or stop that",
		Long: `Let the door itself answer requests that would write, while data moves: any method but GET, HEAD, OPTIONS and TRACE gets
503 with Retry-After. Services of mode http. Requests that are under way go on, WebSockets too; new ones begin with a
GET and pass. Who passes a maintenance (maintenance.bypass) passes this, too. TARGET may be "all".`,
		Example:           "  turnout read-only on api --for 10m --reason \"copying the database\"\n  turnout read-only off api",
		Args:              c.wants(2, 2, "on or off, and TARGET"),
		ValidArgsFunction: c.complete(onOff, targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			word, err := c.isOn(cmd, args)
			if err != nil {
				return err
			}
			on := word == "on"
			if !on && (limit != 0 || message != "") {
				return c.usage(cmd, "--for and --message belong to read-only on", "")
			}
			if err := c.positive(cmd, "for"); err != nil {
				return err
			}
			target, err := c.target(cmd, args[1])
			if err != nil {
				return err
			}
			req := api.ReadOnlyRequest{ChangeRequest: f.request(), On: &on, For: api.Duration(limit), Message: message}
			return c.change("read-only", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.ReadOnly(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&limit, "for", 0, "off by itself after this `time`")
	cmd.Flags().StringVar(&message, "message", "", "`text` for the public: in the answers and at the state URL")
	return cmd
}

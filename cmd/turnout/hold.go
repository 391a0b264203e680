package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) holdCommand() *cobra.Command {
	f := &changeFlags{}
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "hold TARGET",
		Short: "Let new clients of a service or group wait at the door",
		Long: `Let new clients of a service or group wait at the door until release. The hold has its own deadline: if nobody
releases it, the door does. Connections that are there go on.`,
		Args:              c.wants(1, 1, "TARGET, a service or group"),
		ValidArgsFunction: c.complete(targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			if err := c.positive(cmd, "for"); err != nil {
				return err
			}
			req := api.HoldRequest{ChangeRequest: f.request(), For: api.Duration(limit)}
			return c.change("hold", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Hold(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&limit, "for", 0, "release by itself after this `time` (default 5m)")
	return cmd
}

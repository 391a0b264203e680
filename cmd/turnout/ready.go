package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) readyCommand() *cobra.Command {
	f := &changeFlags{}
	var slowly time.Duration
	cmd := &cobra.Command{
		Use:   "ready SERVICE/POOL[/SERVER]",
		Short: "Give a drained server, or a whole pool, new work again",
		Example: `  turnout ready api/blue/10.0.0.7:8080
  turnout ready api/blue/10.0.0.7:8080 --slow-start 60s`,
		Args:              c.wants(1, 1, "SERVICE/POOL or SERVICE/POOL/SERVER"),
		ValidArgsFunction: c.complete(places),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place(cmd, args)
			if err != nil {
				return err
			}
			req := api.ReadyRequest{ChangeRequest: f.request()}
			if cmd.Flags().Changed("slow-start") {
				if slowly < 0 {
					return c.usage(cmd, "--slow-start "+slowly.String()+": want 0s (at once) or more", "")
				}
				req.SlowStart = new(api.Duration(slowly))
			}
			return c.change("ready", p.service, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Ready(ctx, p.service, p.pool, p.server, req)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&slowly, "slow-start", 0, "time in which servers that were drained get their whole share of new work, a tenth at first (default: the service's slow_start)")
	return cmd
}

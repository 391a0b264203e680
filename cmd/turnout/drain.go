package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) drainCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	cmd := &cobra.Command{
		Use:   "drain SERVICE/POOL[/SERVER]",
		Short: "Give a server, or a whole pool, no new work and wait for its connections to end",
		Example: `  turnout drain api/blue/10.0.0.7:8080
  turnout drain api/blue --drain 2m --then keep`,
		Args:              c.wants(1, 1, "SERVICE/POOL or SERVICE/POOL/SERVER"),
		ValidArgsFunction: c.complete(places),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place(cmd, args)
			if err != nil {
				return err
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			req := api.DrainRequest{ChangeRequest: f.request(), Drain: api.Duration(df.drain), Then: df.then}
			return c.change("drain", p.service, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Drain(ctx, p.service, p.pool, p.server, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	return cmd
}

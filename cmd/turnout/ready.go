package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) readyCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:               "ready SERVICE/POOL[/SERVER]",
		Short:             "Give a drained server, or a whole pool, new work again",
		Args:              c.wants(1, 1, "SERVICE/POOL or SERVICE/POOL/SERVER"),
		ValidArgsFunction: c.complete(places),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place(cmd, args)
			if err != nil {
				return err
			}
			return c.change("ready", p.service, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Ready(ctx, p.service, p.pool, p.server, f.request())
			})
		},
	}
	f.add(cmd)
	return cmd
}

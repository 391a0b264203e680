package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) keepCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	cmd := &cobra.Command{
		Use:   "keep SERVICE SERVER...",
		Short: "Let only these servers of the active pool take new work, and drain the others",
		Long: `Let only these servers of a service's active pool take new work, in one change, and drain the others.
Refused (exit 4) when one of them does not answer, is drained itself, or when their max_connections leave no room for
the clients that are there. "turnout back SERVICE" makes the set that was serve again.`,
		Example:           "  turnout keep api app1 --drain 60s --reason \"database move\"",
		Args:              c.wants(1, 1<<16, "SERVICE and the servers to keep"),
		ValidArgsFunction: c.complete(services),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			req := api.KeepRequest{ChangeRequest: f.request(), Servers: args[1:], Drain: api.Duration(df.drain), Then: df.then}
			return c.change("keep", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Keep(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	return cmd
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) releaseCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:               "release TARGET",
		Short:             "Let in the clients that wait; harmless when nothing is held",
		Long:              "Let in the clients that wait. A swap that holds clients goes back to where it was. Harmless when nothing is held.",
		Args:              c.wants(1, 1, "TARGET, a service or group"),
		ValidArgsFunction: c.complete(targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			return c.change("release", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Release(ctx, target, f.request())
			})
		},
	}
	f.add(cmd)
	return cmd
}

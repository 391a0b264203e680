package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) unfreezeCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:               "unfreeze",
		Short:             "Allow changes again",
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return c.change("unfreeze", "", f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Unfreeze(ctx, f.request())
			})
		},
	}
	f.add(cmd)
	return cmd
}

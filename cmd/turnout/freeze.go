package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) freezeCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:               "freeze",
		Short:             "Refuse all changes until unfreeze; traffic goes on",
		Example:           `  turnout freeze --reason "audit until Monday"`,
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return c.change("freeze", "", f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Freeze(ctx, f.request())
			})
		},
	}
	f.add(cmd)
	return cmd
}

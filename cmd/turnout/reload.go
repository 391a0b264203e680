package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) reloadCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Let the door read its configuration file again and put it in force as one change",
		Long: `Let the door read its configuration file again and put it in force as one change. A file with a mistake changes
nothing. Connections and listeners that stay are not touched; those of servers that are gone drain.`,
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return c.change("reload", "", f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Reload(ctx, api.ReloadRequest{ChangeRequest: f.request()})
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	return cmd
}

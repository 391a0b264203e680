package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) splitCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	cmd := &cobra.Command{
		Use:   "split SERVICE POOL=PERCENT",
		Short: "Give another pool beside the active one a share of new work",
		Long: `Give another pool beside the active one a share of new work, from 0.1% to 99.9%. The servers of both pools share it by
their weights, the way the service balances. It lasts until the next swap, or "POOL=0%", after which that pool drains.`,
		Example:           "  turnout split api green=5%\n  turnout split api green=0%",
		Args:              c.wants(2, 2, "SERVICE and POOL=PERCENT"),
		ValidArgsFunction: c.complete(services),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			pool, share, ok := strings.Cut(args[1], "=")
			percent, bad := strconv.ParseFloat(strings.TrimSuffix(share, "%"), 64)
			if !ok || pool == "" || bad != nil || !(percent >= 0 && percent <= 100) {
				return c.usage(cmd, fmt.Sprintf("%s: want POOL=PERCENT, such as green=5%%", quote(args[1])), "")
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			req := api.SplitRequest{ChangeRequest: f.request(), Pool: pool, Percent: &percent, Drain: api.Duration(df.drain), Then: df.then}
			return c.change("split", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Split(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	return cmd
}

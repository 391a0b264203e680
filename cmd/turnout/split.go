package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/proxy"
)

func (c *cli) splitCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "split TARGET POOL=PERCENT… | off",
		Short: "Lead a part of the new clients of a service or group to another pool than the active one",
		Long: `Lead a part of the new clients of a service or group to another pool than the active one, which gets what is left.
Each split takes the place of the one before: a pool that is not named gets nothing any more, and drains. So does
"off", and a swap: they end the split, and the answer has the proof that no client was led there afterwards.
At the deadline of --for all new clients go to the active pool again, whoever is there to see it.
A pool whose servers cannot take a client leaves it to the active pool. An exclusive service cannot be split.`,
		Example: `  turnout split api green=5% --for 30m    one client in twenty goes to green, for half an hour at most
  turnout split api green=25%
  turnout swap api green                  all of them, or
  turnout split api off                   none`,
		Args:              c.wantsShares,
		ValidArgsFunction: c.complete(targets, shares, shares, shares),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := c.target(cmd, args[0])
			if err != nil {
				return err
			}
			shares, err := c.shares(cmd, args[1:])
			if err != nil {
				return err
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			if err := c.positive(cmd, "for"); err != nil {
				return err
			}
			if len(shares) == 0 && limit != 0 {
				return c.usage(cmd, "--for belongs to a split, not to its end", "")
			}
			req := api.SplitRequest{ChangeRequest: f.request(), Shares: shares, For: api.Duration(limit), Drain: api.Duration(df.drain), Then: df.then}
			return c.change("split", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Split(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	cmd.Flags().DurationVar(&limit, "for", 0, "all new clients go to the active pool again after this `time`")
	return cmd
}

func (c *cli) wantsShares(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return c.usage(cmd, cmd.CommandPath()+" needs TARGET, and POOL=PERCENT or off", "")
	}
	return nil
}

// shares reads POOL=PERCENT…; none is the end of the split.
func (c *cli) shares(cmd *cobra.Command, args []string) (map[string]float64, error) {
	out := map[string]float64{}
	if len(args) == 1 && args[0] == "off" {
		return out, nil
	}
	for _, arg := range args {
		pool, text, ok := strings.Cut(arg, "=")
		if !ok || pool == "" {
			return nil, c.usage(cmd, fmt.Sprintf("%s: want POOL=PERCENT such as green=5%%, or off", quote(arg)), "")
		}
		p, err := proxy.ParsePercent(text)
		if err != nil {
			return nil, c.usage(cmd, fmt.Sprintf("%s: %v", pool, err), "")
		}
		if _, twice := out[pool]; twice {
			return nil, c.usage(cmd, fmt.Sprintf("%s is named twice", pool), "")
		}
		out[pool] = p.Float()
	}
	return out, nil
}

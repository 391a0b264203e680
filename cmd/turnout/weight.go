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

func (c *cli) weightCommand() *cobra.Command {
	f := &changeFlags{}
	cmd := &cobra.Command{
		Use:               "weight SERVICE/POOL/SERVER N",
		Short:             "Set a server's share of new connections beside the others of its pool",
		Long:              "Set a server's share of new connections beside the others of its pool, from 0 (none) to 256. It lasts until it is\nset again; the file's weight stands in the file.",
		Example:           "  turnout weight api/blue/10.0.0.7:8080 10",
		Args:              c.wantsWeight,
		ValidArgsFunction: c.complete(servers),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place(cmd, args)
			if err != nil {
				return err
			}
			if p.server == "" {
				return c.usage(cmd, fmt.Sprintf("%s is a pool: want SERVICE/POOL/SERVER", quote(args[0])), "")
			}
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > 256 {
				return c.usage(cmd, fmt.Sprintf("weight %s: want a whole number from 0 to 256", quote(args[1])), "")
			}
			req := api.WeightRequest{ChangeRequest: f.request(), Weight: &n}
			return c.change("weight", p.service, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Weight(ctx, p.service, p.pool, p.server, req)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// wantsWeight also knows the form NAME=N that other tools have.
func (c *cli) wantsWeight(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		if name, n, ok := strings.Cut(args[0], "="); ok {
			return c.usage(cmd, "the weight is a word of its own", c.corrected(args[0], name, n))
		}
	}
	return c.wants(2, 2, "SERVICE/POOL/SERVER and a weight")(cmd, args)
}

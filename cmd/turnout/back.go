package main

import "github.com/spf13/cobra"

func (c *cli) backCommand() *cobra.Command {
	f := &swapFlags{}
	cmd := &cobra.Command{
		Use:   "back TARGET",
		Short: "Swap back to where a service or group was before its last swap",
		Long: `Swap back to where a service or group was before its last swap. It is a swap like any other, and takes its flags. While a
service is split, it takes the split back: all new clients go to the active pool. After "keep" or "swap --to", the back of
a service makes the set of servers that was serve again.
A group goes back as one, by pools: what "keep", "drain" or "weight" changed inside a pool stays as it is. It is refused
(exit 7) when its services were not last swapped together and would come to different pools; status says so before.`,
		Args:              c.wants(1, 1, "TARGET, a service or group"),
		ValidArgsFunction: c.complete(targets),
		RunE:              func(cmd *cobra.Command, args []string) error { return c.swap(cmd, f, args[0], "") },
	}
	f.add(cmd)
	return cmd
}

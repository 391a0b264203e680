package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the script that completes commands and names in your shell",
		Long: `Print the script that completes commands, flags, and the names of services, groups, pools and servers, which
it asks the running door for.`,
		Example:   "  source <(turnout completion bash)\n  turnout completion zsh >\"${fpath[1]}/_turnout\"",
		Args:      c.wants(1, 1, "a shell: bash, zsh, fish or powershell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.out, true)
			case "zsh":
				return root.GenZshCompletion(c.out)
			case "fish":
				return root.GenFishCompletion(c.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.out)
			}
			return c.usage(cmd, fmt.Sprintf("no completions for %s: want bash, zsh, fish or powershell", quote(args[0])), "")
		},
	}
}

// words of one argument that the door knows.
type candidates func(st *api.Status, before []string) []string

// complete completes each argument in its turn, asking the door. A door that is not there completes nothing.
func (c *cli) complete(each ...candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(each) || c.globals(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		st, err := client.Dial(c.socket).Status(ctx, "")
		if err != nil {
			st = &api.Status{}
		}
		return each[len(args)](st, args), cobra.ShellCompDirectiveNoFileComp
	}
}

func services(st *api.Status, _ []string) []string { return sortedKeys(st.Services) }

func targets(st *api.Status, _ []string) []string {
	return append(sortedKeys(st.Services), sortedKeys(st.Groups)...)
}

func onOff(*api.Status, []string) []string { return []string{"on", "off"} }

func onOffCancel(*api.Status, []string) []string { return []string{"on", "off", "cancel"} }

// pools of the service or group named just before, without those that are active everywhere.
func pools(st *api.Status, before []string) []string {
	found := map[string]bool{}
	for _, name := range members(st, before[len(before)-1]) {
		for pool := range st.Services[name].Pools {
			found[pool] = found[pool] || pool != st.Services[name].Active
		}
	}
	maps.DeleteFunc(found, func(_ string, standby bool) bool { return !standby })
	return sortedKeys(found)
}

// shares are the pools that a split can lead to, or its end.
func shares(st *api.Status, before []string) []string {
	out := []string{"off"}
	for _, pool := range pools(st, before[:1]) {
		out = append(out, pool+"=")
	}
	return out
}

func servers(st *api.Status, _ []string) []string {
	var out []string
	for _, service := range sortedKeys(st.Services) {
		for _, pool := range sortedKeys(st.Services[service].Pools) {
			for _, server := range sortedKeys(st.Services[service].Pools[pool].Servers) {
				out = append(out, strings.Join([]string{service, pool, server}, "/"))
			}
		}
	}
	return out
}

// places are pools and servers.
func places(st *api.Status, before []string) []string {
	var out []string
	for _, service := range sortedKeys(st.Services) {
		for _, pool := range sortedKeys(st.Services[service].Pools) {
			out = append(out, service+"/"+pool)
		}
	}
	return append(out, servers(st, before)...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
)

func (c *cli) maintenanceCommand() *cobra.Command {
	f := &changeFlags{}
	df := &drainFlags{}
	var limit time.Duration
	var soft bool
	var message, at string
	cmd := &cobra.Command{
		Use:   "maintenance on|off|cancel TARGET",
		Short: "Let the door itself answer new clients of a service or group, or stop that",
		Long: `Let the door itself answer new clients of a service or group: new TCP connections are closed at once, requests get a page.
Connections that are there drain, or go on with --soft. --message is for the public: on the page and at the state URL; the
reason is not, it is for history. TARGET may be "all": every service, in one transaction.

With --at it is announced: until then answers of http services say so in a header, and the state URL and status do; then it
begins by itself, and with --for it ends by itself. Another --at takes its place, cancel takes it back. TIME is 22:00 (the
next one, by the clock here), 2h (from now), or a whole date.`,
		Example: `  turnout maintenance on node --for 30m --soft --reason "disk swap"
  turnout maintenance off node
  turnout maintenance on node --at 22:00 --for 2h --message "bigger disks"
  turnout maintenance cancel node`,
		Args:              c.wants(2, 2, "on, off or cancel, and TARGET"),
		ValidArgsFunction: c.complete(onOffCancel, targets),
		RunE: func(cmd *cobra.Command, args []string) error {
			word, err := c.isOn(cmd, args, "cancel")
			if err != nil {
				return err
			}
			on := word == "on"
			if !on && (cmd.Flags().Changed("at") || limit != 0 || soft || message != "" || df.drain != 0 || df.then != "") {
				return c.usage(cmd, "--at, --for, --soft, --message, --drain and --then belong to maintenance on", "")
			}
			if soft && (df.drain != 0 || df.then != "") {
				return c.usage(cmd, "--soft drains nothing; leave out --drain and --then", "")
			}
			if err := df.check(c, cmd); err != nil {
				return err
			}
			if err := c.positive(cmd, "for"); err != nil {
				return err
			}
			target, err := c.target(cmd, args[1])
			if err != nil {
				return err
			}
			req := api.MaintenanceRequest{ChangeRequest: f.request(), On: &on, For: api.Duration(limit), Soft: soft, Message: message, Drain: api.Duration(df.drain), Then: df.then}
			if word == "cancel" {
				req.On, req.Cancel = nil, true
			}
			if cmd.Flags().Changed("at") {
				t, err := config.When(at, time.Now())
				if err != nil {
					return c.usage(cmd, "--at "+quote(at)+": "+err.Error(), "")
				}
				req.At = &t
			}
			return c.change("maintenance", target, f, func(ctx context.Context, d *client.Client) (*api.Operation, error) {
				return d.Maintenance(ctx, target, req)
			})
		},
	}
	f.add(cmd)
	f.addNoWait(cmd)
	df.add(cmd)
	cmd.Flags().DurationVar(&limit, "for", 0, "off by itself after this `time`")
	cmd.Flags().BoolVar(&soft, "soft", false, "connections that are there go on")
	cmd.Flags().StringVar(&message, "message", "", "`text` for the public")
	cmd.Flags().StringVar(&at, "at", "", "announce it: it begins at that `time`")
	return cmd
}

// isOn reads the arguments of a command that begin with a word: on, off, and whatever else it has.
func (c *cli) isOn(cmd *cobra.Command, args []string, others ...string) (word string, err error) {
	words := append([]string{"on", "off"}, others...)
	want := strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
	switch {
	case slices.Contains(words, args[0]):
		return args[0], nil
	case slices.Contains(words, args[1]):
		return "", c.usage(cmd, want+" comes first", commandLine([]string{cmd.Name(), args[1], args[0]}))
	}
	return "", c.usage(cmd, cmd.Name()+" "+quote(args[0])+": want "+want, "")
}

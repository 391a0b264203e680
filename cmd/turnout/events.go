package main

import (
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "events",
		Short:             "Follow what happens at the door, one line each, until Ctrl-C",
		Long:              "Follow what happens at the door from now on, one line each, until Ctrl-C or --timeout; with -o json one object each.",
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			w := newWait(c.timeout)
			defer w.stop()
			d := client.Dial(c.socket)
			defer d.Close()
			following := func() { c.notef("following the events of the door at %s", c.socket) }
			for e, err := range d.Events(w.ctx, following) {
				if w.early() != nil {
					return nil // following has no end of its own: being told to stop is how it succeeds
				}
				if err != nil {
					return err
				}
				c.event(e)
			}
			return nil
		},
	}
}

func (c *cli) event(e api.Event) {
	if c.json() {
		if line, err := json.Marshal(e); err == nil {
			c.printf("%s", line)
			c.wrote = true
		}
		return
	}
	subject := ""
	if e.Service != "" && !strings.HasPrefix(e.Text, e.Service+":") && !strings.HasPrefix(e.Text, e.Service+"/") {
		subject = e.Service + ": "
	}
	c.printf("%s  %-12s %s%s", e.Time.Local().Format("15:04:05.000"), e.Type, subject, e.Text)
}

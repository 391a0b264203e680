package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) probeCommand() *cobra.Command {
	times := 1
	every := time.Second
	cmd := &cobra.Command{
		Use:   "probe SERVICE/POOL[/SERVER]",
		Short: "Ask the checks of a pool's servers now, and say what each answered",
		Long: `Ask the checks of a pool's servers, or of one, now, and say what each answered. Traffic does not matter: a standby
is asked as well. Without health checks, it is asked whether a connection can be made. Exit code 4: in the last round
no server, or not the one named, passed all its checks. Only looks; changes nothing.`,
		Example: `  turnout probe node/standby
  turnout probe node/standby/s1 -n 20 --every 500ms`,
		Args:              c.wants(1, 1, "SERVICE/POOL or SERVICE/POOL/SERVER"),
		ValidArgsFunction: c.complete(places),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place(cmd, args)
			if err != nil {
				return err
			}
			if times < 1 || every <= 0 {
				return c.usage(cmd, fmt.Sprintf("-n %d --every %s: want both more than 0", times, every), "")
			}
			return c.probe(p, times, every)
		},
	}
	cmd.Flags().IntVarP(&times, "number", "n", 1, "how many `times` to ask")
	cmd.Flags().DurationVar(&every, "every", time.Second, "how long from one time to the next")
	return cmd
}

func (c *cli) probe(p place, times int, every time.Duration) error {
	w := newWait(c.timeout)
	defer w.stop()
	d := client.Dial(c.socket)
	defer d.Close()
	var last *api.Probe
	for i := range times {
		if i > 0 {
			select {
			case <-time.After(every):
			case <-w.ctx.Done():
				return w.early()
			}
		}
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute+statusPatience)
		probe, err := d.Probe(ctx, p.service, p.pool, p.server)
		cancel()
		if err != nil {
			return err
		}
		last = probe
		c.showProbe(p, probe)
	}
	return failedProbe(p, last)
}

func (c *cli) showProbe(p place, probe *api.Probe) {
	if c.json() {
		c.writeJSON(probe)
		return
	}
	var rows [][]cell
	for _, name := range sortedKeys(probe.Servers) {
		sv := probe.Servers[name]
		for i := range sv.Answers {
			a := &sv.Answers[i]
			rows = append(rows, []cell{text(name), text(a.Check), verdict(a), text(time.Duration(a.Took).Round(10 * time.Microsecond).String()), text(told(a))})
		}
	}
	c.table([]string{"SERVER", "CHECK", "PASSES", "TOOK", "ANSWER"}, rows)
}

func verdict(a *api.Answer) cell {
	switch {
	case a.OK:
		return cell{text: "yes"}
	case a.Pending:
		return cell{text: "not yet"}
	}
	return stateCell("no")
}

// told is what a check answered, in one line.
func told(a *api.Answer) string {
	said := a.Reason
	if a.OK {
		said = a.Status
	}
	if a.Value != nil {
		value, err := json.Marshal(a.Value)
		if err == nil {
			said = strings.TrimSpace(said + " value " + string(value))
		}
	}
	if body := strings.Join(strings.Fields(a.Body), " "); body != "" && body != said {
		if r := []rune(body); len(r) > 100 {
			body = string(r[:100]) + "…"
		}
		said = strings.TrimPrefix(said+": "+body, ": ")
	}
	if said == "" {
		return "-"
	}
	return said
}

// failedProbe is the gate's answer: a pool is ready with one server.
func failedProbe(p place, probe *api.Probe) error {
	passed := 0
	for _, sv := range probe.Servers {
		if sv.OK {
			passed++
		}
	}
	if passed > 0 {
		return nil
	}
	return &api.Error{Code: api.CodeGate, Message: fmt.Sprintf("%s: %d of %s ready", p, passed, plural(len(probe.Servers), "server"))}
}

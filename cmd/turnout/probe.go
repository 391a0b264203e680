package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) probeCommand() *cobra.Command {
	times := 1
	every := time.Second
	checks := false
	var req api.RequestRequest
	cmd := &cobra.Command{
		Use:   "probe SERVICE[/POOL[/SERVER]]",
		Short: "Ask servers now, whether they are active or not: by their checks, or http by requests through the door",
		Long: `Ask a pool's servers, or one, now, and say what each answered, whether they are active or not. Changes nothing. Of a
service without a pool all pools are asked, the active one first; the exit code is about that one.

A tcp service's servers are asked by their health checks; without any, whether a connection can be made. Exit code 4: in
the last round no server, or not the one named, passed all its checks.

An http service's are sent requests: in at a listener of the service, through the door, the way of every client's, but to
that pool or server. So it is the whole way that is seen to work before a swap leads clients there. Exit code 4: one was not
answered by a server, or with a status of 500 or more. --checks asks the checks instead.`,
		Example: `  turnout probe node
  turnout probe node/standby
  turnout probe node/standby/s1 -n 20 --every 500ms
  turnout probe api/green -n 20 --path /healthz --host api.example.org`,
		Args: c.wants(1, 1, "SERVICE, SERVICE/POOL or SERVICE/POOL/SERVER"),
		ValidArgsFunction: c.complete(func(st *api.Status, before []string) []string {
			return append(services(st, before), places(st, before)...)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, isPlace := parsePlace(args[0])
			if !isPlace && (args[0] == "" || strings.Contains(args[0], "/")) {
				return c.usage(cmd, fmt.Sprintf("%s: want SERVICE, SERVICE/POOL or SERVICE/POOL/SERVER", quote(args[0])), "")
			}
			if times < 1 || every <= 0 {
				return c.usage(cmd, fmt.Sprintf("-n %d --every %s: want both more than 0", times, every), "")
			}
			service := p.service
			if !isPlace {
				service = args[0]
			}
			svc, err := c.serviceNow(service)
			if err != nil {
				return err
			}
			byRequests := svc.Mode == "http" && !checks
			for _, name := range []string{"path", "host", "head"} {
				if cmd.Flags().Changed(name) && !byRequests {
					return c.usage(cmd, fmt.Sprintf("--%s: %s", name, notByRequests(service, checks)), "")
				}
			}
			if byRequests && !cmd.Flags().Changed("every") {
				every = 0
			}
			ask := func(p place, show func(any)) error {
				if byRequests {
					return c.probeByRequests(p, times, every, req, show)
				}
				return c.probe(p, times, every, show)
			}
			if isPlace {
				return ask(p, c.writeJSON)
			}
			return c.probeAll(service, svc, ask)
		},
	}
	cmd.Flags().IntVarP(&times, "number", "n", 1, "how many `times` to ask")
	cmd.Flags().DurationVar(&every, "every", time.Second, "how long from one time to the next; requests: at once")
	cmd.Flags().BoolVar(&checks, "checks", false, "http: ask the checks instead of sending requests")
	cmd.Flags().StringVar(&req.Path, "path", "", "http: what to ask for (default: the first route's, or /)")
	cmd.Flags().StringVar(&req.Host, "host", "", "http: the host that is asked (default: the first route's, or localhost)")
	cmd.Flags().BoolVar(&req.Head, "head", false, "http: HEAD rather than GET")
	return cmd
}

func notByRequests(service string, checks bool) string {
	if checks {
		return "it is of requests, and --checks sends none"
	}
	return service + " is not of mode http"
}

// serviceNow is how a service is.
func (c *cli) serviceNow(name string) (api.Service, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	d := client.Dial(c.socket)
	defer d.Close()
	st, err := d.Status(ctx, name)
	if err != nil {
		return api.Service{}, err
	}
	svc, isService := st.Services[name]
	if !isService {
		return svc, &api.Error{Code: api.CodeUsage, Message: name + " is a group: a service, a pool or a server is asked", Hint: "its services: " + strings.Join(sortedKeys(st.Services), ", ")}
	}
	return svc, nil
}

// probeAll asks all pools of a service, the active one first. The error is about that one: a standby may well wait.
func (c *cli) probeAll(service string, svc api.Service, ask func(p place, show func(any)) error) error {
	pools := sortedKeys(svc.Pools)
	slices.SortStableFunc(pools, func(a, b string) int {
		switch svc.Active {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	all := map[string]any{}
	var failed error
	for i, pool := range pools {
		if !c.json() {
			c.printf("%s%s/%s, %s:", [2]string{"", "\n"}[min(i, 1)], service, pool, svc.Pools[pool].State)
		}
		err := ask(place{service: service, pool: pool}, func(answer any) { all[pool] = answer })
		var refused *api.Error
		if err != nil && (!errors.As(err, &refused) || refused.Code != api.CodeGate) {
			return err
		}
		if pool == svc.Active {
			failed = err
		}
	}
	if c.json() {
		c.writeJSON(all)
	}
	return failed
}

// probe asks the checks; show gets what is answered, where JSON is wanted.
func (c *cli) probe(p place, times int, every time.Duration, show func(any)) error {
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
		if c.json() {
			show(probe)
		} else {
			c.showProbe(probe)
		}
	}
	return failedProbe(p, last)
}

func (c *cli) showProbe(probe *api.Probe) {
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
			said = oneLine(said + " value " + string(value))
		}
	}
	if body := oneLine(a.Body); body != "" && !strings.HasSuffix(said, body) { // a program's last line may be all it said
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

// oneLine makes a foreign text fit for a terminal: what would move the cursor, or worse, separates words.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
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

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// requests is what a probe by requests comes to.
type requests struct {
	Requests []*api.Requested `json:"requests"`
	Answered int              `json:"answered"` // by a server, with a status below 500
	Failed   int              `json:"failed"`
	Statuses map[int]int      `json:"statuses"` // how often each; without those that nobody answered
	Servers  map[string]int   `json:"servers"`  // who answered how often
	Fastest  api.Duration     `json:"fastest"`
	Median   api.Duration     `json:"median"`
	P95      api.Duration     `json:"p95"`
	Slowest  api.Duration     `json:"slowest"`
}

// probeByRequests sends requests through the door; show gets what came of them, where JSON is wanted.
func (c *cli) probeByRequests(p place, times int, every time.Duration, req api.RequestRequest, show func(any)) error {
	w := newWait(c.timeout)
	defer w.stop()
	d := client.Dial(c.socket)
	defer d.Close()
	var all requests
	for i := range times {
		if i > 0 {
			select {
			case <-time.After(every):
			case <-w.ctx.Done():
			}
		}
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute+statusPatience)
		got, err := d.Request(ctx, p.service, p.pool, p.server, req)
		cancel()
		if early := w.early(); early != nil {
			err = early
		}
		if err != nil {
			return err
		}
		all.Requests = append(all.Requests, got)
		if !c.json() {
			c.printf("%s", requestLine(i+1, got))
		}
	}
	all.sum()
	if c.json() {
		show(&all)
	} else {
		c.printf("%s through %s: %s", p, all.Requests[0].Through, &all)
	}
	if all.Failed > 0 {
		return &api.Error{Code: api.CodeGate, Message: fmt.Sprintf("%s: %d of %s failed", p, all.Failed, plural(times, "request"))}
	}
	return nil
}

func requestLine(n int, r *api.Requested) string {
	took := time.Duration(r.Took).Round(10 * time.Microsecond)
	switch {
	case r.Status == 0:
		return fmt.Sprintf("%3d  no answer after %s: %s", n, took, r.Reason)
	case r.Server == "":
		return fmt.Sprintf("%3d  %d  %s  answered by the door: %s", n, r.Status, took, r.Reason)
	case r.Reason != "":
		return fmt.Sprintf("%3d  %d  %s  %d bytes from %s: %s", n, r.Status, took, r.Bytes, r.Server, r.Reason)
	}
	return fmt.Sprintf("%3d  %d  %s  %s from %s", n, r.Status, took, plural(int(r.Bytes), "byte"), r.Server)
}

func (r *requests) sum() {
	r.Statuses, r.Servers = map[int]int{}, map[string]int{}
	var took []api.Duration
	for _, q := range r.Requests {
		if q.Status != 0 {
			r.Statuses[q.Status]++
		}
		if q.Server == "" || q.Reason != "" || q.Status >= 500 {
			r.Failed++
			continue
		}
		r.Answered++
		r.Servers[q.Server]++
		took = append(took, q.Took)
	}
	if slices.Sort(took); len(took) > 0 {
		r.Fastest, r.Median, r.P95, r.Slowest = took[0], took[len(took)/2], took[len(took)*95/100], took[len(took)-1]
	}
}

// String is the summary: "20 answered, 0 failed; 200: 20; fastest 0.4ms, median 0.6ms, p95 1ms, slowest 1.2ms".
func (r *requests) String() string {
	s := fmt.Sprintf("%d answered, %d failed", r.Answered, r.Failed)
	for i, status := range sortedInts(r.Statuses) {
		s += [2]string{"; ", ", "}[min(i, 1)] + fmt.Sprintf("%d: %d", status, r.Statuses[status])
	}
	if r.Answered > 0 {
		short := func(d api.Duration) time.Duration { return time.Duration(d).Round(10 * time.Microsecond) }
		s += fmt.Sprintf("; fastest %s, median %s, p95 %s, slowest %s", short(r.Fastest), short(r.Median), short(r.P95), short(r.Slowest))
	}
	return s
}

func sortedInts(m map[int]int) []int {
	var out []int
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

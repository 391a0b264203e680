package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

func (c *cli) topCommand() *cobra.Command {
	every, frames := time.Second, 0
	cmd := &cobra.Command{
		Use:   "top [SERVICE]",
		Short: "Show what each pool carries right now, the busiest first, until Ctrl-C",
		Long: `Show what each pool carries: new connections and requests a second, failed answers, latencies, bytes. The busiest pool comes
first. With SERVICE its servers are shown too. All figures are of the time since the frame before; the first comes after
--every. With -o json each frame is one line.

  NEW/S    connections established to servers; http: requests led to them
  REQ/S    http: requests answered by servers
  5XX/S    of these with a status from 500; and those that a server took and did not answer
  P50 P99  http: from a request's first byte to the end of its answer; between the bounds of the metric's buckets
  IN/S     bytes to servers; OUT/S to clients
  FAIL/S   connections to servers that could not be established

The row "(door)" has the requests that the door answered itself, such as 503 in maintenance.`,
		Example: `  turnout top
  turnout top api --every 5s
  turnout top -n 1 -o json      one frame, for a script`,
		Args:              c.wants(0, 1, "one SERVICE at most"),
		ValidArgsFunction: c.complete(services),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every < 100*time.Millisecond {
				return c.usage(cmd, "--every "+every.String()+": want 100ms or more", "")
			}
			if frames < 0 {
				return c.usage(cmd, "-n "+strconv.Itoa(frames)+": want a number of frames, or 0 for no end", "")
			}
			w := newWait(c.timeout)
			defer w.stop()
			d := client.Dial(c.socket)
			defer d.Close()
			return c.top(w, d, firstWord(args), every, frames)
		},
	}
	cmd.Flags().DurationVar(&every, "every", every, "time from frame to frame")
	cmd.Flags().IntVarP(&frames, "frames", "n", 0, "`number` of frames; 0: until Ctrl-C")
	return cmd
}

// top shows frames. A door that goes away is waited for.
func (c *cli) top(w *wait, d *client.Client, service string, every time.Duration, frames int) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	before, err := readLoads(w.ctx, d, service)
	for shown := 0; ; {
		if err != nil && (shown == 0 || !errGone(err)) && w.early() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return nil // looking has no end of its own: being told to stop is how it succeeds
		}
		var now *loads
		if now, err = readLoads(w.ctx, d, service); err != nil {
			before = nil
			if errGone(err) && shown > 0 && !c.json() {
				c.draw([]byte("no door answers at "+c.socket+"\n"), false)
			}
			continue
		}
		if before != nil {
			c.showTop(now.since(before), shown == 0)
			if shown++; shown == frames {
				return nil
			}
		}
		before = now
	}
}

// load is a row: what a pool, or a server of it, carries, or what the door itself answers for a service.
type load struct {
	Service string `json:"service"`
	Pool    string `json:"pool,omitempty"`   // "": what the door answered itself
	Server  string `json:"server,omitempty"` // "": all of the pool
	State   string `json:"state,omitempty"`

	Connections int `json:"connections"`

	New      float64  `json:"new_per_second"`
	Requests *float64 `json:"requests_per_second,omitempty"` // of http alone
	Failed   *float64 `json:"failed_requests_per_second,omitempty"`
	P50      *float64 `json:"p50_seconds,omitempty"` // absent when there was no request
	P99      *float64 `json:"p99_seconds,omitempty"`
	ToServer float64  `json:"bytes_to_server_per_second"`
	ToClient float64  `json:"bytes_to_client_per_second"`
	Failures float64  `json:"dial_failures_per_second"`
}

// frameOfTop is one frame, also on the wire of -o json.
type frameOfTop struct {
	Time        time.Time `json:"time"`
	Seconds     float64   `json:"seconds"` // that the figures are of
	Revision    uint64    `json:"revision"`
	Connections int       `json:"connections"`
	Held        int       `json:"held"`
	Loads       []load    `json:"loads"` // the busiest first
}

// counted is what has been counted for one row since the door started.
type counted struct {
	row                load
	started, failures  uint64 // connections to servers that were established, and that could not be
	toServer, toClient uint64 // bytes
	http               bool
	requests, failed   float64  // of http
	latency            []bucket // of its requests
}

// bucket has how many requests took le seconds at most.
type bucket struct{ le, count float64 }

// loads is one reading of all counters.
type loads struct {
	at       time.Time
	revision uint64
	conns    int
	held     int
	rows     []*counted
}

// readLoads reads the counters of all services, or of one and its servers.
func readLoads(ctx context.Context, d *client.Client, service string) (*loads, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	st, err := d.Status(ctx, service)
	if err != nil {
		return nil, err
	}
	exposition, err := d.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(exposition))
	if err != nil {
		return nil, fmt.Errorf("the door's metrics cannot be read: %w", err)
	}
	l := &loads{at: time.Now(), revision: st.Revision}
	for _, name := range sortedKeys(st.Services) {
		s := st.Services[name]
		l.conns, l.held = l.conns+s.Connections, l.held+s.Held
		for _, pool := range sortedKeys(s.Pools) {
			l.pool(name, pool, s, service != "", families)
		}
		if own := sumOf(families, "turnout_http_own_answers_total", "", map[string]string{"service": name}); s.Mode == "http" {
			failed := sumOf(families, "turnout_http_own_answers_total", "5", map[string]string{"service": name})
			l.rows = append(l.rows, &counted{row: load{Service: name}, http: true, requests: own, failed: failed})
		}
	}
	return l, nil
}

// pool adds a pool, and its servers when they are wanted.
func (l *loads) pool(service, pool string, s api.Service, servers bool, families map[string]*dto.MetricFamily) {
	p, of := s.Pools[pool], map[string]string{"service": service, "pool": pool}
	sum := &counted{row: load{Service: service, Pool: pool, State: poolState(s, p)}, http: s.Mode == "http"}
	sum.row.Connections = p.Connections
	sum.requests = sumOf(families, "turnout_http_requests_total", "", of)
	sum.failed = sumOf(families, "turnout_http_requests_total", "5", of) + sumOf(families, "turnout_http_requests_total", "none", of)
	sum.latency = bucketsOf(families["turnout_http_request_duration_seconds"], of)
	l.rows = append(l.rows, sum)
	for _, name := range sortedKeys(p.Servers) {
		srv := p.Servers[name]
		one := &counted{row: load{Service: service, Pool: pool, Server: name, State: srv.State}, started: srv.Total, failures: srv.DialFailures,
			toServer: srv.BytesToServer, toClient: srv.BytesToClient}
		one.row.Connections = srv.Connections
		sum.started, sum.failures = sum.started+one.started, sum.failures+one.failures
		sum.toServer, sum.toClient = sum.toServer+one.toServer, sum.toClient+one.toClient
		if servers {
			l.rows = append(l.rows, one)
		}
	}
}

// sumOf adds up what a family counted with these labels and a code that begins so.
func sumOf(families map[string]*dto.MetricFamily, family, code string, labels map[string]string) (sum float64) {
	for _, m := range families[family].GetMetric() {
		if has(m, labels) && strings.HasPrefix(labelOf(m, "code"), code) {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func bucketsOf(family *dto.MetricFamily, labels map[string]string) (out []bucket) {
	for _, m := range family.GetMetric() {
		if !has(m, labels) {
			continue
		}
		for _, b := range m.GetHistogram().GetBucket() {
			out = append(out, bucket{b.GetUpperBound(), float64(b.GetCumulativeCount())})
		}
	}
	return out
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func has(m *dto.Metric, labels map[string]string) bool {
	for name, value := range labels {
		if labelOf(m, name) != value {
			return false
		}
	}
	return true
}

// since is what happened from an earlier reading to this one. What has been counted anew, by a door that was started again
// or for a server that is new, counts from its begin.
func (l *loads) since(before *loads) *frameOfTop {
	f := &frameOfTop{Time: l.at, Seconds: l.at.Sub(before.at).Seconds(), Revision: l.revision, Connections: l.conns, Held: l.held}
	type key struct{ service, pool, server string }
	was := map[key]*counted{}
	for _, c := range before.rows {
		was[key{c.row.Service, c.row.Pool, c.row.Server}] = c
	}
	for _, c := range l.rows {
		old := was[key{c.row.Service, c.row.Pool, c.row.Server}]
		if old == nil || old.started > c.started || old.requests > c.requests {
			old = &counted{}
		}
		row := c.row
		row.New = float64(c.started-old.started) / f.Seconds
		row.Failures = float64(c.failures-min(old.failures, c.failures)) / f.Seconds
		row.ToServer = float64(c.toServer-min(old.toServer, c.toServer)) / f.Seconds
		row.ToClient = float64(c.toClient-min(old.toClient, c.toClient)) / f.Seconds
		if c.http {
			requests, failed := (c.requests-old.requests)/f.Seconds, max(0, c.failed-old.failed)/f.Seconds
			row.Requests, row.Failed = &requests, &failed
			if requests == 0 && row.Pool == "" {
				continue // the door has nothing to say
			}
			row.P50, row.P99 = quantile(c.latency, old.latency, 0.5), quantile(c.latency, old.latency, 0.99)
		}
		f.Loads = append(f.Loads, row)
	}
	f.sort()
	return f
}

// sort puts the busiest pool first, each with its servers behind it.
func (f *frameOfTop) sort() {
	busy := map[[2]string]float64{}
	for _, r := range f.Loads {
		if r.Server == "" {
			busy[[2]string{r.Service, r.Pool}] = r.New + value(r.Requests)
		}
	}
	slices.SortStableFunc(f.Loads, func(a, b load) int {
		return cmp.Or(cmp.Compare(busy[[2]string{b.Service, b.Pool}], busy[[2]string{a.Service, a.Pool}]),
			cmp.Compare(a.Service, b.Service), cmp.Compare(a.Pool, b.Pool))
	})
}

func value(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

// quantile is where the q-th part of the requests between two readings ends, as Prometheus' histogram_quantile estimates it:
// evenly spread within a bucket, and the largest bound for what is beyond it. nil when there was none.
func quantile(now, before []bucket, q float64) *float64 {
	counts := slices.Clone(now)
	for i := range before {
		if i < len(counts) {
			counts[i].count -= before[i].count
		}
	}
	if len(counts) == 0 || counts[len(counts)-1].count <= 0 {
		return nil
	}
	rank := q * counts[len(counts)-1].count
	low, below := 0.0, 0.0
	for _, b := range counts {
		if b.count >= rank {
			if math.IsInf(b.le, 1) {
				return &low
			}
			at := low + (b.le-low)*(rank-below)/(b.count-below)
			return &at
		}
		low, below = b.le, b.count
	}
	return &low
}

// The columns that only http has, from REQ/S on and before IN/S.
const firstOfHTTP, lastOfHTTP = 5, 9

func (c *cli) showTop(f *frameOfTop, first bool) {
	if c.json() {
		if line, err := json.Marshal(f); err == nil {
			c.printf("%s", line)
			c.wrote = true
		}
		return
	}
	var b bytes.Buffer
	drawn := &cli{ui: &ui{out: &b, err: io.Discard, colour: c.colour}, output: c.output}
	drawn.printf("%s  revision %d, %s, %s held", f.Time.Local().Format(time.TimeOnly), f.Revision, plural(f.Connections, "connection"), thousands(f.Held))
	http := slices.ContainsFunc(f.Loads, func(r load) bool { return r.Requests != nil })
	head := []string{"SERVICE", "POOL", "STATE", "CONNS", "NEW/S", "REQ/S", "5XX/S", "P50 MS", "P99 MS", "IN/S", "OUT/S", "FAIL/S"}
	if !http {
		head = slices.Delete(head, firstOfHTTP, lastOfHTTP)
	}
	rows := make([][]cell, len(f.Loads))
	for i, r := range f.Loads {
		name := cmp.Or(r.Pool, "(door)")
		if r.Server != "" {
			name = "  " + r.Server
		}
		failed := text(rate(r.Failed))
		if value(r.Failed) > 0 {
			failed.paint = red
		}
		failures := text(rate(&r.Failures))
		if r.Failures > 0 {
			failures.paint = red
		}
		rows[i] = []cell{text(r.Service), text(name), stateCell(r.State), number(r.Connections), text(rate(&r.New)), text(rate(r.Requests)), failed,
			text(milliseconds(r.P50)), text(milliseconds(r.P99)), text(size(r.ToServer)), text(size(r.ToClient)), failures}
		if !http {
			rows[i] = slices.Delete(rows[i], firstOfHTTP, lastOfHTTP)
		}
	}
	drawn.table(head, rows)
	c.draw(b.Bytes(), first)
}

// rate writes a number a second; what is seldom keeps a digit.
func rate(r *float64) string {
	switch {
	case r == nil:
		return ""
	case *r > 0 && *r < 10:
		return strconv.FormatFloat(*r, 'f', 1, 64)
	}
	return thousands(int(math.Round(*r)))
}

func milliseconds(seconds *float64) string {
	if seconds == nil {
		return ""
	}
	return strconv.FormatFloat(*seconds*1000, 'f', 1, 64)
}

// size writes bytes in the largest unit that leaves a whole number before the point.
func size(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	digits := 0
	for bytes >= 1024 && len(units) > 1 {
		bytes, units, digits = bytes/1024, units[1:], 1
	}
	return strconv.FormatFloat(bytes, 'f', digits, 64) + " " + units[0]
}

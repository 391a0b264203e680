package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/proxy"
)

// scrape parses the exposition that the door gives on its socket.
func (d *door) scrape() map[string]*dto.MetricFamily {
	d.t.Helper()
	resp, err := d.raw().Get("http://turnout/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return families
}

// value of the metric whose label values are, in order of their names, those given; -1: there is none.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range families["turnout_"+name].GetMetric() {
		same := len(m.GetLabel()) == len(labels)
		for i, l := range m.GetLabel() {
			same = same && l.GetValue() == labels[i]
		}
		if same {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

func TestMetrics_AreAsPrometheusWantsThem(t *testing.T) {
	d := open(t)
	d.done(d.Swap(t.Context(), "all", api.SwapRequest{}))
	at := time.Now().Add(time.Hour)
	d.done(d.Maintenance(t.Context(), "api", api.MaintenanceRequest{On: new(true), At: &at}))
	problems, err := testutil.GatherAndLint(d.server.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if problems, err = testutil.CollectAndLint(collector{d.server}); err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	for name, f := range d.scrape() {
		if strings.HasPrefix(name, "turnout_") && f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
}

func TestMetrics_SayWhenAnAnnouncedMaintenanceBegins(t *testing.T) {
	d := open(t)
	const metric = "maintenance_announced_timestamp_seconds"
	want := func(api, db float64) {
		t.Helper()
		m := d.scrape()
		if a, b := value(m, metric, "api"), value(m, metric, "db"); a != api || b != db {
			t.Errorf("got %v and %v, want %v and %v", a, b, api, db)
		}
	}
	want(-1, -1)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true), At: &at}))
	want(-1, float64(at.Unix()))
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{Cancel: true}))
	want(-1, -1)
}

func TestMetrics_CountWhatHappened(t *testing.T) {
	d := open(t)
	for range 4 {
		d.plane.connect(t, "api")
	}
	d.done(d.Swap(t.Context(), "api", api.SwapRequest{Drain: api.Duration(time.Hour), ChangeRequest: api.ChangeRequest{Wait: new(false)}}))
	d.plane.connect(t, "api")
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true), Soft: true}))
	d.done(d.Freeze(t.Context(), api.ChangeRequest{}))
	m := d.scrape()
	for _, c := range []struct {
		want   float64
		name   string
		labels []string // by name: direction, pool, server, service
	}{
		{1, "build_info", []string{"abc", "go1.26", "1.2.3"}},
		{4, "revision", nil},
		{1, "frozen", nil},
		{0, "service_active_pool", []string{"blue", "api"}},
		{1, "service_active_pool", []string{"green", "api"}},
		{1, "maintenance", []string{"db"}},
		{0, "maintenance", []string{"api"}},
		{5, "clients_accepted_total", []string{"api"}},
		{0, "clients_refused_total", []string{"malformed", "api"}},
		{2, "connections_total", []string{"blue", "b1", "api"}},
		{2, "connections_open", []string{"blue", "b2", "api"}},
		{0, "connection_dials_in_progress", []string{"green", "g1", "api"}},
		{0, "dial_failures_total", []string{"green", "g1", "api"}},
		{20, "bytes_total", []string{"to_client", "green", "g1", "api"}},
		{10, "bytes_total", []string{"to_server", "green", "g1", "api"}},
		{4, "drain_remaining", []string{"blue", "api"}},
		{0, "drain_remaining", []string{"green", "api"}},
		{0, "cut_total", []string{"blue", "api"}},
		{0, "resteered_total", []string{"blue", "api"}},
		{0, "held", []string{"api"}},
		{0, "held_total", []string{"api"}},
		{0, "swaps_total", []string{"failed"}},
		{0, "swap_overlap_seconds", []string{"api"}},
		{-1, "swap_overlap_seconds", []string{"db"}},
		{0, "config_reloads_total", []string{"success"}},
		{1, "config_last_reload_successful", nil},
		{0, "journal_errors_total", nil},
	} {
		if got := value(m, c.name, c.labels...); got != c.want {
			t.Errorf("turnout_%s%v = %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, name := range []string{"last_swap_timestamp_seconds", "config_last_reload_success_timestamp_seconds"} {
		at := m["turnout_"+name].GetMetric()[0].GetGauge().GetValue()
		if since := time.Since(time.UnixMilli(int64(at * 1000))); since < -time.Second || since > time.Minute {
			t.Errorf("turnout_%s is %v", name, at)
		}
	}
	if m["go_goroutines"] == nil || m["process_open_fds"] == nil {
		t.Error("the process' own metrics are missing")
	}
}

func TestReload_PutsTheFileInForceAndSaysWhatChanged(t *testing.T) {
	d := open(t)
	next := spec()
	next.Services[0].Pools[0].Servers[0].Weight = 3
	inForce := false
	d.setFile(&Reloading{Spec: next, Detail: "turnout.yaml abc", Words: []string{"service api: weight 1 → 3"}, InForce: func() { inForce = true }}, nil)
	op := d.done(d.Reload(t.Context(), api.ReloadRequest{ChangeRequest: api.ChangeRequest{Plan: true}}))
	if op.State != "planned" || op.Plan[0] != "service api: weight 1 → 3" || inForce || d.status().Reloads != 0 {
		t.Fatal("plan: ", asJSON(op))
	}
	op = d.done(d.Reload(t.Context(), api.ReloadRequest{}))
	if op.State != "done" || !op.Changed || op.Plan[0] != "service api: weight 1 → 3" || !inForce {
		t.Fatal(asJSON(op))
	}
	if again := d.done(d.Operation(t.Context(), op.ID, 0, 0)); again.Plan[0] != op.Plan[0] {
		t.Error(asJSON(again))
	}
	if st := d.status(); st.Reloads != 1 || st.Services["api"].Pools["blue"].Servers["b1"].Weight != 3 {
		t.Error(asJSON(st))
	}
}

func TestReload_OfABadFileChangesNothingAndTellsEveryMistake(t *testing.T) {
	d := open(t)
	d.setFile(nil, fmt.Errorf("load: %w", config.Errors{{File: "turnout.yaml", Line: 3, Column: 1, Message: "unknown key"}, {File: "turnout.yaml", Line: 9, Column: 5, Message: "no servers"}}))
	_, err := d.Reload(t.Context(), api.ReloadRequest{})
	e := refused(t, err, api.CodeFailed)
	if e.Message != "not reloaded: turnout.yaml has 2 mistakes" || len(e.Details) != 2 || e.Details[0] != "turnout.yaml:3:1: unknown key" || e.Holds != "the file read last stays in force, revision 1" {
		t.Error(asJSON(e))
	}
	m := d.scrape()
	if value(m, "config_last_reload_successful") != 0 || value(m, "config_reloads_total", "failure") != 1 || !strings.Contains(d.status().LastReloadError, "turnout.yaml:9:5: no servers") {
		t.Error(d.status().LastReloadError)
	}
	d.setFile(&Reloading{Spec: spec()}, nil)
	op := d.done(d.Reload(t.Context(), api.ReloadRequest{}))
	if op.Changed || d.status().LastReloadError != "" || value(d.scrape(), "config_last_reload_successful") != 1 {
		t.Error(asJSON(op))
	}
}

func TestReload_ThatTheSwitchRefusesCountsAsFailed(t *testing.T) {
	d := open(t)
	d.setFile(&Reloading{Spec: spec(), InForce: func() { t.Error("in force") }}, nil)
	d.done(d.Freeze(t.Context(), api.ChangeRequest{}))
	_, err := d.server.Reload(t.Context(), proxy.Who{Name: "signal"}, api.ReloadRequest{})
	refused(t, err, api.CodeConflict)
	if st := d.status(); !strings.HasPrefix(st.LastReloadError, "frozen by") || st.Reloads != 0 {
		t.Error(asJSON(st))
	}
}

// A door that waits for a drain in here does not hear the signal that tells it to stop.
func TestReload_BySignalDoesNotWaitForDrains(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "db")
	next := spec()
	next.Services, next.Groups = next.Services[:1], nil
	d.setFile(&Reloading{Spec: next}, nil)
	op, err := d.server.Reload(t.Context(), proxy.Who{Name: "signal"}, api.ReloadRequest{})
	if err != nil || op.State != "draining" {
		t.Error(err, asJSON(op))
	}
}

// A reload takes b1 away and gives b2 another address while both have connections: status and metrics count
// them until they end, and no counter falls.
func TestReload_ConnectionsOfRemovedServersAreCountedUntilTheyEnd(t *testing.T) {
	d := open(t)
	first, second := d.plane.connect(t, "api"), d.plane.connect(t, "api")
	d.plane.connect(t, "db")
	next := spec()
	next.Services = next.Services[:1]
	next.Groups = nil
	next.Services[0].Pools[0].Servers = []proxy.ServerSpec{{Name: "b2", Address: "elsewhere:1", Weight: 1}}
	d.setFile(&Reloading{Spec: next}, nil)
	op := d.done(d.Reload(t.Context(), api.ReloadRequest{ChangeRequest: api.ChangeRequest{Wait: new(false)}}))
	if op.State != "draining" {
		t.Error(asJSON(op))
	}
	d.plane.connect(t, "api")
	svc := d.status().Services["api"]
	blue := svc.Pools["blue"]
	if svc.Connections != 3 || blue.Connections != 3 || blue.DrainUntil == nil || len(blue.Servers) != 3 {
		t.Error(asJSON(svc))
	}
	if b1, b2 := blue.Servers["b1"], blue.Servers["b2 (removed)"]; b1.State != "draining" || b2.Connections != 1 || b2.Address != "b2.test:1" || blue.Servers["b2"].Connections != 1 {
		t.Error(asJSON(blue))
	}
	if gone := d.status().Services["db"]; gone.State != "removed" || gone.Connections != 1 || gone.Pools["primary"].State != "draining" {
		t.Error(asJSON(gone))
	}
	m := d.scrape()
	if value(m, "connections_total", "blue", "b2", "api") != 2 || value(m, "connections_open", "blue", "b1", "api") != 1 || value(m, "drain_remaining", "primary", "db") != 1 {
		t.Error("the metrics lost a connection")
	}
	d.plane.Cut([]*proxy.Server{first, second}, proxy.CutNow.All())
	if value(d.scrape(), "cut_total", "blue", "api") != 2 {
		t.Error("cuts on servers that are gone are not counted")
	}
	m = d.scrape()
	if value(m, "cut_total", "blue", "api") != 2 || value(m, "connections_total", "blue", "b2", "api") != 2 || value(m, "connections_total", "blue", "b1", "api") != -1 {
		t.Error("a counter fell when a removed server's last connection had ended")
	}
	if svc = d.status().Services["api"]; svc.Connections != 1 || len(svc.Pools["blue"].Servers) != 1 {
		t.Error(asJSON(svc))
	}
}

func TestObserve_TellsHealthAndReadinessInWords(t *testing.T) {
	d := open(t)
	addr, err := d.server.OpenMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		resp, err := http.Get("http://" + addr.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(text)))
	}
	want := func(path, answer string) {
		t.Helper()
		if got := get(path); got != answer {
			t.Errorf("%s: %s, want %s", path, got, answer)
		}
	}
	want("/healthz", "200 running")
	want("/readyz", "503 starting")
	d.server.Serves()
	want("/readyz", "200 ready")
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true)}))
	want("/readyz", "200 ready")
	d.done(d.Drain(t.Context(), "api", "blue", "", api.DrainRequest{ChangeRequest: api.ChangeRequest{Force: true}}))
	want("/readyz", "503 api: no server of blue, its active pool, takes new work: all are drained or have weight 0")
	d.server.Stops(time.Now().Add(time.Minute))
	want("/readyz", "503 stopping")
	want("/healthz", "200 running")
	if got := get("/metrics"); !strings.HasPrefix(got, "200 # HELP") {
		t.Errorf("/metrics: %.60s", got)
	}
	want("/v1/status", "404 404 page not found") // nothing can be changed or read in detail from the network
}

func TestEvents_CarryEachChangeWithItsNumber(t *testing.T) {
	d := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var types []string
	var last uint64
	change := func() {
		_, _ = d.Hold(ctx, "api", api.HoldRequest{})
		_, _ = d.Release(ctx, "api", api.ChangeRequest{})
		_, _ = d.Swap(ctx, "api", api.SwapRequest{})
	}
	for e, err := range d.Events(ctx, func() { go change() }) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq != last+1 || e.Service != "api" || e.Text == "" || e.Time.IsZero() {
			t.Errorf("event: %s", asJSON(e))
		}
		last = e.Seq
		if types = append(types, e.Type); len(types) == 4 {
			break
		}
	}
	if got := strings.Join(types, " "); got != "hold release swap drained" {
		t.Error(got)
	}
}

func TestEvents_BeatWhileNothingHappens(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.heartbeat = time.Millisecond })
	resp, err := d.raw().Get("http://turnout/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Error(ct)
	}
	const want = ": turnout events from here on\n\n: still here\n\n: still here\n\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
		t.Errorf("%v %q", err, got)
	}
}

func TestEvents_AReaderThatDoesNotReadIsDropped(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.write, s.limits.heartbeat = 50*time.Millisecond, 10*time.Microsecond })
	c := d.dial()
	if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: turnout\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is open", func() bool { return d.server.streams.Load() == 1 })
	eventually(t, "the stream is dropped", func() bool { return d.server.streams.Load() == 0 })
}

func TestHistory_JoinsEachChangeWithItsOutcome(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	d.done(d.Swap(t.Context(), "all", api.SwapRequest{Drain: api.Duration(time.Millisecond), ChangeRequest: api.ChangeRequest{Reason: "image 2.9.1"}}))
	d.done(d.Drain(t.Context(), "api", "blue", "b1", api.DrainRequest{}))
	d.plane.connect(t, "db")
	d.done(d.Swap(t.Context(), "db", api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: new(false)}}))
	lines := func(target string, limit int) string {
		records, err := d.History(t.Context(), target, limit)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range records {
			out = append(out, fmt.Sprintf("%s %s %s", r.Verb, r.Target, r.Outcome))
		}
		return strings.Join(out, "; ")
	}
	for _, c := range []struct {
		target string
		limit  int
		want   string
	}{
		{"", 0, "start  done; swap all cut; drain api/blue/b1 done; swap db running"},
		{"", 2, "drain api/blue/b1 done; swap db running"},
		{"all", 0, "swap all cut"},
		{"api", 0, "swap all cut; drain api/blue/b1 done"},
		{"api/blue", 0, "drain api/blue/b1 done"},
		{"api/blue/b1", 0, "drain api/blue/b1 done"},
		{"db/standby", 0, ""},
		{"db", 0, "swap all cut; swap db running"},
	} {
		if got := lines(c.target, c.limit); got != c.want {
			t.Errorf("history %s %d:\ngot  %s\nwant %s", c.target, c.limit, got, c.want)
		}
	}
	var e *api.Error
	if _, err := d.History(t.Context(), "ap", 0); !errors.As(err, &e) || e.Code != api.CodeNotFound {
		t.Errorf("of an unknown name: %v", err)
	}
	records, _ := d.History(t.Context(), "all", 0)
	if r := records[0]; r.Reason != "image 2.9.1" || r.From != "blue,primary" || r.To != "green,standby" || len(r.Proofs) != 2 || r.Who.Name == "" {
		t.Error(asJSON(r))
	}
}

func TestHistory_SaysWhatAnEarlierRunLeftUnfinished(t *testing.T) {
	d := open(t)
	for _, payload := range []string{
		`{"seq":10,"verb":"start","outcome":"done"}`, `{"seq":11,"verb":"swap","target":"x"}`,
		`{"seq":12,"verb":"start","outcome":"done"}`, `{"seq":13,"verb":"swap","target":"x"}`, `{"seq":14,"of":13,"outcome":"failed","detail":"not ready"}`, `{"seq":15,"verb":"hold","target":"x"}`,
	} {
		_ = d.journal.Append([]byte(payload))
	}
	records, err := d.History(t.Context(), "x", 0)
	if err != nil || len(records) != 3 || records[0].Outcome != "interrupted" || records[1].Outcome != "failed" || records[1].Detail != "not ready" || records[2].Outcome != "running" {
		t.Error(err, asJSON(records))
	}
}

func TestHistory_ShowsWhatCanStillBeRead(t *testing.T) {
	d := open(t)
	whole := d.server.opt.History
	d.server.opt.History = func(f func([]byte) error) error {
		return errors.Join(whole(f), errors.New("history-1.log: damaged"))
	}
	records, err := d.History(t.Context(), "", 0)
	if err != nil || len(records) != 1 || d.logs.FilterMessage("part of the history cannot be read").Len() != 1 {
		t.Error(err, asJSON(records))
	}
}

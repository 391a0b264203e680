package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// copyExample puts files of an example beside the door's configuration, where its runbooks and scripts expect each other.
func (d *door) copyExample(example string, names ...string) {
	d.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("..", "examples", example, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(d.dir, name), b, 0o755) //nolint:gosec // scripts among them
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// runbook begins `turnout run FILE` in the door's folder, with what its scripts need.
func (d *door) runbook(env []string, file string, args ...string) *process {
	d.t.Helper()
	cmd := d.command(append([]string{"run", filepath.Join(d.dir, file)}, args...)...)
	cmd.Dir = d.dir
	cmd.Env = append(append(cmd.Env, "PATH="+filepath.Dir(turnout)+":"+os.Getenv("PATH")), env...)
	return launch(d.t, cmd)
}

// endPID ends a server that a script started, by the file with its number.
func endPID(t *testing.T, path string) {
	t.Cleanup(func() {
		b, err := os.ReadFile(path)
		if err != nil {
			return // it was never started, or has ended
		}
		if pid, err := strconv.Atoi(string(b)); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// toyRecord reads the lines of one event from a toy server's record.
func toyRecord(t *testing.T, path, event string) (at []time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var e nodeEvent
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == event {
			at = append(at, time.Unix(0, e.At))
		}
	}
	return at
}

// lastOf is the newest record of a verb in the door's history.
func (d *door) lastOf(service, verb string) (last api.Record) {
	d.t.Helper()
	all, err := d.Client.History(context.Background(), service, 100)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range all {
		if r.Verb == verb {
			last = r
		}
	}
	return last
}

// exitsLike fails the test unless a command ended with that code and said all of this.
func exitsLike(t *testing.T, r result, code int, said ...string) {
	t.Helper()
	for _, text := range said {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("was to say %q: %s", text, r)
		}
	}
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r)
	}
}

// orders are the clients of the operator's node: each asks for the price, or places an order.
type orders struct {
	*rate
	acknowledged []string       // guarded by rate.mu, as is met
	met          map[string]int // version → answers
}

func startOrders(front string) *orders {
	o := &orders{met: map[string]int{}}
	o.rate = &rate{address: front, stop: make(chan struct{})}
	o.request = func(n int) *http.Request {
		q, _ := http.NewRequest(http.MethodGet, "http://"+front+"/v1/price", nil)
		if n%2 == 1 {
			q, _ = http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/v1/orders?id=%d", front, n), nil)
		}
		q.Header.Set("X-Client", "e2e")
		return q
	}
	o.answered = func(q *http.Request, body []byte) {
		var a struct{ Order, Version string }
		_ = json.Unmarshal(body, &a)
		o.met[a.Version]++
		if q.Method == http.MethodPost {
			o.acknowledged = append(o.acknowledged, a.Order)
		}
	}
	o.begin(ratePerSecond())
	return o
}

func (o *orders) metVersion(v string) int { o.mu.Lock(); defer o.mu.Unlock(); return o.met[v] }

// examples/controlled-rollout, as its README says: a standby that is not ready, a dependency that is down, a version
// that is healthy and stands still, the same with the operator's terminal gone, and one that is good.
func TestExample_ControlledRollout(t *testing.T) {
	needs(t, "setsid")
	pg := startPostgres(t, "operator")["operator"]
	cache := freePort(t)
	redis := startRedisAt(t, cache)
	front, blue, green := freePort(t), freePort(t), freePort(t)
	const within = 4 * time.Second
	env := []string{"FRONT=" + front, "BLUE=" + blue, "GREEN=" + green, "REDIS=" + cache, "WITHIN=" + within.String(),
		"PG_DSN=postgres://postgres@" + pg.address + "/postgres", "NODE=" + exampleProgram(t, "controlled-rollout/node")}
	d := exampleDoor(t, "controlled-rollout", env...)
	d.copyExample("controlled-rollout", "rollout.yaml", "update.sh")
	for _, side := range []string{"blue", "green"} {
		endPID(t, filepath.Join(d.dir, side+".pid"))
		up := d.command()
		up.Path, up.Args, up.Dir = filepath.Join(d.dir, "update.sh"), []string{"update.sh"}, d.dir
		up.Env = append(append(up.Env, env...), "TO="+side, "VERSION=2.9.0", "FAULT=")
		if r := ended(t, launch(t, up)); r.code != 0 {
			t.Fatalf("update.sh: %s", r)
		}
	}
	record := filepath.Join(d.dir, "green.record")
	rollout := func(version, fault string, more ...string) *process {
		return d.runbook(env, "rollout.yaml", append([]string{"--set", "VERSION=" + version, "--set", "FAULT=" + fault}, more...)...)
	}
	eventually(t, "both sides are ready", func() bool {
		pools := d.service("operator").Pools
		return pools["blue"].Servers["blue"].State == "ready" && pools["green"].Servers["green"].State == "ready"
	})
	clients := startOrders(front)
	stop := atomic.Bool{}
	defer func() {
		if !stop.Load() {
			clients.end()
		}
	}()
	eventually(t, "traffic flows", func() bool { n, _ := clients.total(); return n > 30 })
	still := func(what string) {
		t.Helper()
		if svc := d.service("operator"); svc.Active != "blue" || svc.State != "serving" || svc.Watch != nil {
			t.Errorf("%s: %s serves (%s)", what, svc.Active, svc.State)
		}
	}

	exitsLike(t, d.cli("swap", "operator"), 4, "gate snapshot: there is no snapshot; want one of the last 15m0s", "still serving blue")
	unready := ended(t, rollout("2.9.1", "unready"))
	exitsLike(t, unready, 4, "gate status of green: 200 OK: ready=false", "failed in step 4 of 5")
	t.Logf("unready:\n%s", unready)
	still("unready")

	_ = redis.Process.Kill()
	<-redis.ended
	down := ended(t, rollout("2.9.1", ""))
	exitsLike(t, down, 4, "fix this first: dependency redis: connect: connection refused", "failed in step 2 of 5")
	if strings.Contains(down.out, "tx-moves") {
		t.Errorf("a node without its cache is not asked whether it moves: %s", down)
	}
	t.Logf("dependency down:\n%s", down)
	still("dependency down")
	startRedisAt(t, cache)

	bad := ended(t, rollout("2.9.2", "stall", "--set", "FOR=10m"))
	exitsLike(t, bad, 8, "operator rolled back: ", "must advance within "+within.String(), "failed in step 5 of 5")
	t.Logf("stalls:\n%s", bad)
	still("stalls")
	d.sawRollback(t, clients, "2.9.2", record, within)

	dead := rollout("2.9.3", "stall", "--set", "FOR=10m")
	eventually(t, "green is watched", func() bool { return d.service("operator").Watch != nil })
	_ = dead.Process.Kill()
	<-dead.ended
	eventually(t, "the door swaps back by itself", func() bool { return d.service("operator").Active == "blue" })
	d.sawRollback(t, clients, "2.9.3", record, within)
	exitsLike(t, ended(t, rollout("2.9.3", "stall")), 7, "was interrupted inside step 5")
	_ = os.Remove(filepath.Join(d.dir, "rollout.yaml.run"))

	good := ended(t, rollout("2.9.4", "", "--set", "FOR=5s"))
	exitsLike(t, good, 0, "5 steps done after")
	t.Logf("good:\n%s", good)
	if svc := d.service("operator"); svc.Active != "green" || svc.Watched == nil || svc.Watched.Outcome != "passed" {
		t.Errorf("after the good one: %s serves, watched %+v", svc.Active, svc.Watched)
	}
	n := clients.metVersion("2.9.4")
	eventually(t, "the good version serves on", func() bool { return clients.metVersion("2.9.4") > n+20 })
	clients.end()
	stop.Store(true)
	if len(clients.failed) > 0 {
		t.Errorf("%d of %d requests failed: %+v", len(clients.failed), clients.asked, clients.failed[0])
	}
	kept := map[string]bool{}
	for id := range strings.Lines(psql(t, pg.address, "select id from orders")) {
		kept[strings.TrimSpace(id)] = true
	}
	for _, id := range clients.acknowledged {
		if !kept[id] {
			t.Errorf("order %s was acknowledged and is not in the database", id)
		}
	}
	t.Logf("%d requests, %d failed; %d orders, all kept; met by version: %v", clients.asked, len(clients.failed), len(clients.acknowledged), clients.met)
}

// sawRollback looks for the cause in history and status, and tells the figures.
func (d *door) sawRollback(t *testing.T, clients *orders, version, record string, within time.Duration) {
	t.Helper()
	back, swap := d.lastOf("operator", "back"), d.lastOf("operator", "swap")
	if back.Who.Name != "door" || back.To != "blue" || !strings.Contains(back.Reason, "must advance within "+within.String()) {
		t.Errorf("history: %+v", back)
	}
	exitsLike(t, d.cli("status", "operator"), 0, "watch rolled back at ", "must advance within "+within.String())
	met := clients.metVersion(version)
	if met == 0 {
		t.Errorf("nobody met %s", version)
	}
	moved, stalled := toyRecord(t, record, "moved"), toyRecord(t, record, "stalled")
	breach := moved[len(moved)-1].Add(within)
	t.Logf("%s: stood still %s after the swap; back %s after the swap, %s after what must advance was overdue; %d requests met it, each answered",
		version, stalled[len(stalled)-1].Sub(swap.Time).Round(time.Millisecond), back.Time.Sub(swap.Time).Round(time.Millisecond), back.Time.Sub(breach).Round(time.Millisecond), met)
}

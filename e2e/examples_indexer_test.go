package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// peers of the p2p network stay connected, talk, and come again when they are cut.
type peers struct {
	stop chan struct{}
	work sync.WaitGroup

	mu       sync.Mutex
	greeted  map[string]int // server → connections that it took
	said     int
	failures []string // a connection that was never greeted
}

func startPeers(address string, n int) *peers {
	p := &peers{stop: make(chan struct{}), greeted: map[string]int{}}
	for range n {
		p.work.Go(func() { // ends with stop
			for !p.over() {
				p.connect(address)
			}
		})
	}
	return p
}

func (p *peers) over() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// connect stays until the other side ends the connection. Whoever has been greeted may be cut; nobody else.
func (p *peers) connect(address string) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		p.failed(err)
		return
	}
	defer c.Close() //nolint:errcheck // it comes again
	in := bufio.NewReader(c)
	for n := 0; !p.over(); n++ {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := fmt.Fprintf(c, "%d\n", n)
		line := ""
		if err == nil {
			line, err = in.ReadString('\n')
		}
		if err != nil {
			if n == 0 {
				p.failed(err)
			}
			return
		}
		p.mu.Lock()
		if p.said++; n == 0 {
			p.greeted[strings.Fields(line)[0]]++
		}
		p.mu.Unlock()
		pace(20 * time.Millisecond)
	}
}

func (p *peers) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, err.Error())
}

func (p *peers) of(server string) int { p.mu.Lock(); defer p.mu.Unlock(); return p.greeted[server] }

// indexerEvents are the lines of both indexers' records, in the order of time.
func indexerEvents(t *testing.T, dir string) (all []nodeEvent) {
	t.Helper()
	for _, name := range []string{"main", "backup"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".record"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var e nodeEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b nodeEvent) int { return int(a.At - b.At) })
	return all
}

// neverTwo holds the records against the promise: while one indexer is up, or has a client, the other is and has not. It
// tells the longest time in which neither was up.
func neverTwo(t *testing.T, events []nodeEvent) (gaps []time.Duration) {
	t.Helper()
	up, clients := map[string]bool{}, map[string]int{}
	other := map[string]string{"main": "backup", "backup": "main"}
	var down int64
	for _, e := range events {
		switch e.Event {
		case "up":
			if up[e.Node] = true; down != 0 {
				gaps = append(gaps, time.Duration(e.At-down))
			}
		case "down":
			up[e.Node], down = false, e.At
		case "begin":
			clients[e.Node]++
		case "end":
			clients[e.Node]--
		}
		if up["main"] && up["backup"] {
			t.Errorf("both are up at %s", time.Unix(0, e.At))
			return gaps
		}
		if e.Event == "begin" && clients[other[e.Node]] > 0 {
			t.Errorf("%s got a client while %s had %d", e.Node, other[e.Node], clients[other[e.Node]])
			return gaps
		}
	}
	return gaps
}

// examples/subquery-indexer, as its README says: the backup cannot be started, and clients wait until main is up again;
// the operator's terminal dies in the middle; then over and back; then no new agreements, while known ones go on.
func TestExample_SubQueryIndexer(t *testing.T) {
	needs(t, "setsid")
	coordinator, query, p2p := freePort(t), freePort(t), freePort(t)
	env := []string{"COORDINATOR=" + coordinator, "QUERY=" + query, "P2P=" + p2p, "KNOWN_KEY=a key of the test",
		"INDEXER=" + exampleProgram(t, "subquery-indexer/indexer")}
	for _, side := range []string{"MAIN", "BACKUP"} {
		for _, port := range []string{"COORDINATOR", "QUERY", "P2P"} {
			env = append(env, side+"_"+port+"="+freePort(t))
		}
	}
	d := exampleDoor(t, "subquery-indexer", env...)
	d.copyExample("subquery-indexer", "move.yaml", "start.sh", "stop.sh")
	for _, side := range []string{"main", "backup"} {
		endPID(t, filepath.Join(d.dir, side+".pid"))
	}
	if err := os.Mkdir(filepath.Join(d.dir, "main.data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "main.data", "agreements"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	start := d.command()
	start.Path, start.Args, start.Dir, start.Env = filepath.Join(d.dir, "start.sh"), []string{"start.sh", "main"}, d.dir, append(start.Env, env...)
	if r := ended(t, launch(t, start)); r.code != 0 {
		t.Fatalf("start.sh: %s", r)
	}
	eventually(t, "main is ready", func() bool { return d.service("coordinator").Pools["main"].Servers["main"].State == "ready" })

	acknowledged := []string{} // guarded by the rate's mu
	clients := &rate{stop: make(chan struct{})}
	clients.request = func(n int) *http.Request {
		q, _ := http.NewRequest(http.MethodGet, "http://"+query+"/query", nil)
		if n%2 == 1 {
			q, _ = http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/agreements?id=a%d", coordinator, n), nil)
		}
		return q
	}
	clients.answered = func(_ *http.Request, body []byte) {
		var a struct{ Agreement string }
		if _ = json.Unmarshal(body, &a); a.Agreement != "" {
			acknowledged = append(acknowledged, a.Agreement)
		}
	}
	clients.begin(ratePerSecond())
	network := startPeers(p2p, 3)
	finish := sync.OnceFunc(func() { close(network.stop); network.work.Wait(); clients.end() })
	defer finish()
	flows := func(why string, talk string) {
		t.Helper()
		n, _ := clients.total()
		eventually(t, why, func() bool { m, _ := clients.total(); return m > n+30 && network.of(talk) > 0 })
	}
	flows("traffic flows", "main")

	squatter, err := net.Listen("tcp", strings.TrimPrefix(env[len(env)-1], "BACKUP_P2P="))
	if err != nil {
		t.Fatal(err)
	}
	bad := ended(t, d.runbook(env, "move.yaml"))
	_ = squatter.Close()
	exitsLike(t, bad, 1, "address already in use", "start_new failed: exit status 1", "on failure 1 of 2, start main again: done after",
		"now: coordinator serving main", "p2p serving main", "query serving main")
	t.Logf("the backup cannot be started:\n%s", bad)
	_, longest := clients.total()
	t.Logf("the longest wait in the failed move was %s", longest.Round(time.Millisecond))
	flows("traffic flows on main", "main")

	// The wrong way round: what serves is neither overwritten nor joined by another.
	wrong := ended(t, d.runbook(env, "move.yaml", "--set", "FROM=backup", "--set", "TO=main"))
	exitsLike(t, wrong, 1, "step 1 of 5, main is down: failed after", "backup not started: main is up")

	d.terminalDies(t, env)
	flows("traffic flows on main after that", "main")

	before := d.look().Revision
	over := ended(t, d.runbook(env, "move.yaml", "--restart"))
	exitsLike(t, over, 0, "5 steps done after", "coordinator: main -> backup, overlap 0s", "query: main -> backup, overlap 0s", "p2p: main -> backup, overlap 0s")
	t.Logf("over:\n%s", over)
	_, longest = clients.total()
	t.Logf("the longest wait was %s", longest.Round(time.Millisecond))
	for _, name := range []string{"coordinator", "query", "p2p"} {
		if svc := d.service(name); svc.Active != "backup" || svc.State != "serving" {
			t.Errorf("%s: %s serves (%s)", name, svc.Active, svc.State)
		}
	}
	if r := d.lastOf("indexer", "swap"); r.Revision <= before || r.From != "main" && !strings.Contains(r.From, "main") || len(r.Proofs) != 3 {
		t.Errorf("one record is of all three: %+v", r)
	}
	flows("traffic flows on the backup", "backup")
	back := ended(t, d.runbook(env, "move.yaml", "--set", "FROM=backup", "--set", "TO=main"))
	exitsLike(t, back, 0, "5 steps done after")
	flows("traffic flows on main again", "main")

	finish()
	if len(clients.failed) > 0 {
		t.Errorf("%d of %d requests failed: %+v", len(clients.failed), clients.asked, clients.failed[0])
	}
	if len(network.failures) > 0 {
		t.Errorf("%d peers were not let in: %s", len(network.failures), network.failures[0])
	}
	gaps := neverTwo(t, indexerEvents(t, d.dir))
	var kept []string
	if _, body := d.get(t, http.DefaultClient, "http://"+coordinator+"/agreements"); json.Unmarshal([]byte(body), &kept) != nil {
		t.Fatalf("agreements: %s", body)
	}
	for _, id := range acknowledged {
		if !slices.Contains(kept, id) {
			t.Errorf("agreement %s was acknowledged and is gone", id)
		}
	}
	t.Logf("%d requests, %d failed; %d agreements, all kept; peers greeted %v times; nobody was up for %v; never two", clients.asked, len(clients.failed), len(acknowledged), network.greeted, gaps)

	d.softMaintenance(t, coordinator, query)
}

// terminalDies in the middle of the hand-over: main is stopped, its database is being copied, and what copies it goes on and starts
// the backup. Clients wait at the door; the operator puts things right, and lets them in.
func (d *door) terminalDies(t *testing.T, env []string) {
	t.Helper()
	slow := "#!/bin/sh\nuntil [ -e main.pid ] || [ -e dead ]; do sleep 0.02; done\nexec cp -a \"$@\"\n"
	if err := os.WriteFile(filepath.Join(d.dir, "slow.sh"), []byte(slow), 0o755); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	there := func(name string) bool { _, err := os.Stat(filepath.Join(d.dir, name)); return err == nil }
	run := d.runbook(env, "move.yaml", "--set", "COPY=./slow.sh")
	eventually(t, "main is stopped and its database is being copied", func() bool { return strings.Contains(run.err.String(), "start_new: running") })
	_ = run.Process.Kill()
	<-run.ended
	if err := os.WriteFile(filepath.Join(d.dir, "dead"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the backup was started by what the run had begun", func() bool { return there("backup.pid") })
	for _, name := range []string{"coordinator", "query", "p2p"} {
		if s := d.service(name); s.State != "handover" || s.Active != "main" {
			t.Errorf("%s is %s at %s", name, s.State, s.Active)
		}
	}
	exitsLike(t, ended(t, d.runbook(env, "move.yaml", "--set", "COPY=./slow.sh", "--resume")), 1, "another change of coordinator is under way: swap indexer since ", "nothing was done")
	for _, command := range [][]string{{"stop.sh", "backup"}, {"start.sh", "main"}} {
		cmd := d.command()
		cmd.Path, cmd.Args, cmd.Dir, cmd.Env = filepath.Join(d.dir, command[0]), command, d.dir, append(cmd.Env, env...)
		if r := ended(t, launch(t, cmd)); r.code != 0 {
			t.Fatalf("%v: %s", command, r)
		}
	}
	exitsLike(t, d.cli("release", "indexer"), 0, "indexer: the swap under way was taken back", "coordinator: released to main, ")
}

// softMaintenance: known clients go on, others are told; then all three ports at once, in one revision.
func (d *door) softMaintenance(t *testing.T, coordinator, query string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	known := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if status, body := d.get(t, known, "http://"+coordinator+"/agreements"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	d.must("maintenance", "on", "coordinator", "--soft", "--for", "30m", "--reason", "winding down")
	if status, body := d.get(t, known, "http://"+coordinator+"/agreements"); status != http.StatusOK {
		t.Errorf("a known client: %d %s", status, body)
	}
	status, body := d.get(t, stranger, "http://"+coordinator+"/agreements")
	if status != http.StatusServiceUnavailable {
		t.Errorf("a new client: %d %s", status, body)
	}
	t.Logf("soft maintenance, a new client: %d %s", status, body)
	if status, _ := d.get(t, stranger, "http://"+query+"/query"); status != http.StatusOK {
		t.Errorf("queries go on: %d", status)
	}
	d.must("maintenance", "off", "coordinator")

	before := d.look().Revision
	d.must("maintenance", "on", "indexer", "--for", "30m")
	look := d.look()
	for _, name := range []string{"coordinator", "query", "p2p"} {
		if look.Services[name].State != "maintenance" {
			t.Errorf("%s is %s", name, look.Services[name].State)
		}
	}
	if look.Revision != before+1 {
		t.Errorf("revision %d after %d: all ports are of one change", look.Revision, before)
	}
	d.must("maintenance", "off", "indexer")
}

func (d *door) get(t *testing.T, h *http.Client, url string) (int, string) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Accept", "application/json")
	resp, err := h.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

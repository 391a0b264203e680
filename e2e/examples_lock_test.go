package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// exampleDoor is a door with the configuration of an example, in a folder of its own.
func exampleDoor(t *testing.T, example string, env ...string) *door {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "examples", example, "turnout.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rest []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "state_dir:") && !strings.HasPrefix(line, "admin:") {
			rest = append(rest, line)
		}
	}
	d := newDoor(t, strings.Join(rest, ""))
	d.env = env
	return d.start()
}

// exampleProgram builds a program of the examples, such as node, once.
func exampleProgram(t *testing.T, folder string) string {
	t.Helper()
	path := filepath.Join(root, strings.ReplaceAll(folder, "/", "-"))
	build, _ := built.LoadOrStore(folder, sync.OnceValue(func() error {
		if out, err := exec.Command("go", "build", "-o", path, "../examples/"+folder).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	if err := build.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return path
}

var built sync.Map // of exampleProgram

// lockNode is a node of an example, which can be started again.
type lockNode struct {
	t                         *testing.T
	name, addr, lock, startup string
	record, pid               string
	*process
}

func newLockNode(t *testing.T, name, lock string, startup time.Duration) *lockNode {
	dir := room(t)
	return &lockNode{t: t, name: name, addr: freePort(t), lock: lock, startup: startup.String(), record: filepath.Join(dir, name+".record"), pid: filepath.Join(dir, name+".pid")}
}

func (n *lockNode) begin() {
	n.t.Helper()
	p := launch(n.t, exec.Command(exampleProgram(n.t, "node"), "-name", n.name, "-listen", n.addr, "-lock", n.lock, "-startup", n.startup, "-record", n.record))
	n.process = p
	if err := os.WriteFile(n.pid, fmt.Appendf(nil, "%d", p.Process.Pid), 0o644); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = p.Process.Kill(); <-p.ended })
	eventually(n.t, n.name+" waits for the lock", func() bool { return strings.Contains(p.out.String(), "waiting for the lock") })
}

// stop is the command that an operator stops the node with; it returns when the process has ended.
func (n *lockNode) stop() string {
	return fmt.Sprintf("kill -TERM $(cat %s) && while kill -0 $(cat %[1]s) 2>/dev/null; do sleep 0.02; done", n.pid)
}

// nodeEvent is one line of a node's record.
type nodeEvent struct {
	Node, Event string
	At          int64
}

func records(t *testing.T, nodes ...*lockNode) []nodeEvent {
	t.Helper()
	var all []nodeEvent
	for _, n := range nodes {
		b, err := os.ReadFile(n.record)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var e nodeEvent
			if json.Unmarshal([]byte(line), &e) == nil {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b nodeEvent) int { return int(a.At - b.At) })
	return all
}

// overlap is by how much the requests of two nodes lie over each other: each time the traffic moves, what the old node
// got after the new one had got its first. moves counts how often it moved.
func overlap(events []nodeEvent) (longest time.Duration, moves int) {
	last := map[string]int64{}
	current, since := "", int64(0)
	for _, e := range events {
		if e.Event != "request" {
			continue
		}
		if e.Node != current {
			if seen, before := last[e.Node]; before && current != "" && seen > since {
				longest = max(longest, time.Duration(e.At-since))
			}
			current, since = e.Node, e.At
			moves++
		}
		last[e.Node] = e.At
	}
	return longest, moves - 1
}

// rate asks a door at a steady pace.
type rate struct {
	address string
	stop    chan struct{}
	work    sync.WaitGroup
	// request makes the n-th request, and answered gets what came with 200; it is called by one at a time.
	request  func(n int) *http.Request
	answered func(r *http.Request, body []byte)

	mu      sync.Mutex
	asked   int
	longest time.Duration
	failed  []failedAsk
}

type failedAsk struct {
	began time.Time
	why   string
}

func startRate(address string, perSecond int) *rate {
	r := &rate{address: address, stop: make(chan struct{}), answered: func(*http.Request, []byte) {}}
	r.request = func(int) *http.Request {
		q, _ := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
		return q
	}
	return r.begin(perSecond)
}

func (r *rate) begin(perSecond int) *rate {
	h := &http.Client{Timeout: slower(60 * time.Second), Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	r.work.Go(func() { // ends with stop
		defer h.CloseIdleConnections()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		var asking sync.WaitGroup
		defer asking.Wait()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				q := r.request(n)
				asking.Go(func() { r.ask(h, q) }) // ends with its answer
			case <-r.stop:
				return
			}
		}
	})
	return r
}

func (r *rate) ask(h *http.Client, q *http.Request) {
	began := time.Now()
	resp, err := h.Do(q)
	why := ""
	var b []byte
	if err != nil {
		why = err.Error()
	} else {
		b, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			why = fmt.Sprintf("%s %s: %s: %s %v", q.Method, q.URL.Path, resp.Status, b, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.longest = max(r.longest, time.Since(began))
	if why != "" {
		r.failed = append(r.failed, failedAsk{began, why})
		return
	}
	r.answered(q, b)
}

// total is how many have been answered; it forgets the longest wait.
func (r *rate) total() (asked int, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, longest = r.asked, r.longest
	r.longest = 0
	return asked, longest
}

func (r *rate) end() { close(r.stop); r.work.Wait() }

// webSocket opens one through the door, and returns the greeting.
func webSocket(t *testing.T, address string) (net.Conn, string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(slower(30 * time.Second)))
	_, _ = fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("WebSocket: %v %v", resp, err)
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil || head[0] != 0x81 {
		t.Fatalf("greeting: %x %v", head, err)
	}
	name := make([]byte, head[1])
	if _, err := io.ReadFull(in, name); err != nil {
		t.Fatal(err)
	}
	return c, string(name)
}

// startupTime is what a node needs from the lock to its open port: E2E_STARTUP, for figures, else short.
func startupTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("E2E_STARTUP")); err == nil {
		return d
	}
	return 700 * time.Millisecond
}

// ratePerSecond is E2E_RATE, for figures, else what a busy machine can do.
func ratePerSecond() int {
	if n, err := strconv.Atoi(os.Getenv("E2E_RATE")); err == nil {
		return n
	}
	return 50
}

// examples/chainlink-file-lock, as its README says: there and back by hand, then the active one is killed.
func TestExample_ChainlinkFileLock(t *testing.T) {
	lock := "file:" + filepath.Join(room(t), "node.db")
	startup := startupTime()
	primary, standby := newLockNode(t, "primary", lock, startup), newLockNode(t, "standby", lock, startup)
	primary.begin()
	eventually(t, "the primary serves", func() bool { return strings.Contains(primary.out.String(), "serving on") })
	standby.begin() // it waits for the lock
	front := freePort(t)
	d := exampleDoor(t, "chainlink-file-lock", "FRONT="+front, "PRIMARY="+primary.addr, "STANDBY="+standby.addr)
	d.awaitNode("primary", "ready")
	d.awaitNode("standby", "waiting")
	socket, greeting := webSocket(t, front)
	if greeting != "primary" {
		t.Errorf("the WebSocket is greeted by %s", greeting)
	}
	load := startRate(front, ratePerSecond())
	defer load.end()
	eventually(t, "traffic flows", func() bool { n, _ := load.total(); return n > 30 })

	there := d.cli("swap", "node", "standby", "--hold", "120s", "--drain", "1s", "--stop-old", primary.stop(), "--wait-for", "serves")
	if there.code != 6 { // the WebSocket was cut at the drain's deadline
		t.Fatalf("swap: %s", there)
	}
	t.Logf("there:\n%s%s", there.out, there.err)
	if _, err := socket.Read(make([]byte, 64)); err != nil && err != io.EOF {
		t.Logf("the WebSocket ended: %v", err)
	}
	_, longest := load.total()
	t.Logf("there: the longest wait was %s; the standby needs %s", longest.Round(time.Millisecond), startup)
	primary.begin()
	d.awaitNode("primary", "waiting")
	back := d.must("back", "node", "--hold", "120s", "--drain", "5s", "--stop-old", standby.stop(), "--wait-for", "serves")
	t.Logf("back:\n%s%s", back.out, back.err)
	_, longest = load.total()
	t.Logf("back: the longest wait was %s", longest.Round(time.Millisecond))
	load.mu.Lock()
	if len(load.failed) > 0 {
		t.Errorf("%d of %d requests failed in the planned hand-overs: %+v", len(load.failed), load.asked, load.failed[0])
	}
	load.failed = nil
	load.mu.Unlock()

	standby.begin()
	d.awaitNode("standby", "waiting")
	killed := time.Now()
	_ = primary.Process.Kill()
	<-primary.ended
	dead := time.Now()
	eventually(t, "the door follows the lock", func() bool { return d.service("node").Active == "standby" && d.service("node").State == "serving" })
	n, _ := load.total()
	eventually(t, "traffic flows again", func() bool { m, _ := load.total(); return m > n+30 })
	t.Logf("kill -9: active, and released, after %s; the standby needs %s", time.Since(killed).Round(time.Millisecond), startup)
	load.judge(t, dead)
	longestOverlap, moves := overlap(records(t, primary, standby))
	if longestOverlap > 0 || moves != 3 {
		t.Errorf("the nodes' records overlap by %s in %d moves, want 0 in 3", longestOverlap, moves)
	}
}

// judge: only what had been sent to the dead node may have failed; dead is when its process had ended.
func (r *rate) judge(t *testing.T, dead time.Time) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.failed {
		if f.began.After(dead) {
			t.Errorf("a request that began %s after the death failed: %s", f.began.Sub(dead), f.why)
		}
	}
	whys := map[string]int{}
	for _, f := range r.failed {
		whys[f.why]++
	}
	t.Logf("%d requests, %d failed that began before the death: %v", r.asked, len(r.failed), whys)
}

func (d *door) awaitNode(name, state string) {
	d.t.Helper()
	eventually(d.t, name+" is "+state, func() bool { return d.service("node").Pools[name].Servers[name].State == state })
}

// examples/chainlink-advisory-lock, as its README says: the active one is killed, comes back, is handed back to, and
// then loses its session with the database while its port stays open.
func TestExample_ChainlinkAdvisoryLock(t *testing.T) {
	pg := startPostgres(t, "lock")["lock"]
	dsn := "postgres://postgres@" + pg.address + "/postgres"
	startup := startupTime()
	primary, secondary := newLockNode(t, "primary", dsn, startup), newLockNode(t, "secondary", dsn, startup)
	primary.begin()
	eventually(t, "the primary serves", func() bool { return strings.Contains(primary.out.String(), "serving on") })
	secondary.begin()
	front := freePort(t)
	d := exampleDoor(t, "chainlink-advisory-lock", "FRONT="+front, "PRIMARY="+primary.addr, "SECONDARY="+secondary.addr, "PG_DSN="+dsn)
	d.awaitNode("primary", "ready")
	d.awaitNode("secondary", "waiting")
	load := startRate(front, ratePerSecond())
	defer load.end()
	eventually(t, "traffic flows", func() bool { n, _ := load.total(); return n > 30 })

	killed := time.Now()
	_ = primary.Process.Kill()
	<-primary.ended
	dead := time.Now()
	eventually(t, "the door follows the lock", func() bool { return d.service("node").Active == "secondary" && d.service("node").State == "serving" })
	t.Logf("kill -9: followed after %s; the secondary needs %s", time.Since(killed).Round(time.Millisecond), startup)
	n, _ := load.total()
	eventually(t, "traffic flows again", func() bool { m, _ := load.total(); return m > n+30 })
	load.judge(t, dead)

	primary.begin() // it waits: the lock stays where it is, and so does the traffic
	before := len(records(t, primary))
	eventually(t, "the returning node is watched", func() bool { s := d.service("node").Pools["primary"].Servers["primary"]; return s.State == "failing" })
	n, _ = load.total()
	eventually(t, "traffic flows on", func() bool { m, _ := load.total(); return m > n+30 })
	if after := len(records(t, primary)); after != before || d.service("node").Active != "secondary" {
		t.Errorf("the returning node got %d requests, and %s is active", after-before, d.service("node").Active)
	}
	failedBefore := load.failures()
	back := d.must("back", "node", "--exclusive", "--hold", "120s", "--drain", "5s", "--stop-old", secondary.stop(), "--wait-for", "holds-lock", "--reason", "hand back")
	t.Logf("back:\n%s%s", back.out, back.err)
	if n := load.failures(); n != failedBefore {
		t.Errorf("%d requests failed in the hand-back", n-failedBefore)
	}

	secondary.begin()
	eventually(t, "both are watched", func() bool { return d.service("node").Pools["primary"].Servers["primary"].State == "ready" })
	psql(t, pg.address, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted")
	eventually(t, "the door follows the lock though the port is open", func() bool { return d.service("node").Active == "secondary" && d.service("node").State == "serving" })
	c, err := net.DialTimeout("tcp", primary.addr, 5*time.Second)
	if err != nil {
		t.Errorf("the port was to stay open: %v", err)
	} else {
		_ = c.Close()
	}
	if r := d.lastSwapOf("node"); r.Who.Name != "failover" || r.To != "secondary" {
		t.Errorf("history: %+v", r)
	}
	_ = secondary.Process.Signal(syscall.SIGTERM)
}

func (r *rate) failures() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.failed) }

func (d *door) lastSwapOf(service string) (last struct {
	Who struct{ Name string }
	To  string
}) {
	d.t.Helper()
	all, err := d.Client.History(context.Background(), service, 50)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range all {
		if r.Verb == "swap" || r.Verb == "back" {
			last.Who.Name, last.To = r.Who.Name, r.To
		}
	}
	return last
}

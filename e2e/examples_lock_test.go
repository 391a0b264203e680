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
	t.Logf("there: the longest wait was %s; the standby needs %s", load.settle(t).Round(time.Millisecond), startup)
	primary.begin()
	d.awaitNode("primary", "waiting")
	back := d.must("back", "node", "--hold", "120s", "--drain", "5s", "--stop-old", standby.stop(), "--wait-for", "serves")
	t.Logf("back:\n%s%s", back.out, back.err)
	t.Logf("back: the longest wait was %s", load.settle(t).Round(time.Millisecond))
	load.mu.Lock()
	if len(load.failed) > 0 {
		t.Errorf("%d of %d requests failed in the planned hand-overs: %+v", len(load.failed), load.asked, load.failed[0])
	}
	t.Logf("%d requests there and back, %d failed", load.asked, len(load.failed))
	load.failed = nil
	load.mu.Unlock()

	standby.begin()
	d.awaitNode("standby", "waiting")
	dead, sent := load.kill(primary)
	eventually(t, "the door follows the lock", func() bool { return d.service("node").Active == "standby" && d.service("node").State == "serving" })
	longest := load.settle(t)
	t.Logf("kill -9: %s; the standby needs %s; the longest wait was %s", d.followed(dead), startup, longest.Round(time.Millisecond))
	load.judge(t, sent)
	t.Logf("%.0f requests/s in all", load.pace())
	longestOverlap, moves := overlap(records(t, primary, standby))
	if longestOverlap > 0 || moves != 3 {
		t.Errorf("the nodes' records overlap by %s in %d moves, want 0 in 3", longestOverlap, moves)
	}
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

	dead, sent := load.kill(primary)
	eventually(t, "the door follows the lock", func() bool { return d.service("node").Active == "secondary" && d.service("node").State == "serving" })
	longest := load.settle(t)
	t.Logf("kill -9: %s; the secondary needs %s; the longest wait was %s", d.followed(dead), startup, longest.Round(time.Millisecond))
	load.judge(t, sent)

	primary.begin() // it waits: the lock stays where it is, and so does the traffic
	before := len(records(t, primary))
	eventually(t, "the returning node is watched", func() bool { s := d.service("node").Pools["primary"].Servers["primary"]; return s.State == "failing" })
	n, _ := load.total()
	eventually(t, "traffic flows on", func() bool { m, _ := load.total(); return m > n+30 })
	if after := len(records(t, primary)); after != before || d.service("node").Active != "secondary" {
		t.Errorf("the returning node got %d requests, and %s is active", after-before, d.service("node").Active)
	}
	if r := d.must("status", "node"); !strings.Contains(r.out, "`turnout back node` leads to primary, which is not ready: it is refused until that is, but for --stop-old CMD, if it only waits for secondary to stop") {
		t.Errorf("status does not say how to hand back:\n%s", r.out)
	}
	failedBefore := load.failures()
	back := d.must("back", "node", "--exclusive", "--hold", "120s", "--drain", "5s", "--stop-old", secondary.stop(), "--wait-for", "holds-lock", "--reason", "hand back")
	t.Logf("back:\n%s%s", back.out, back.err)
	t.Logf("back: the longest wait was %s", load.settle(t).Round(time.Millisecond))
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

// followed says when the failover of the node's service held, moved and let in, counted from an instant.
func (d *door) followed(dead time.Time) string {
	d.t.Helper()
	all, err := d.Client.History(context.Background(), "node", 50)
	if err != nil {
		d.t.Fatal(err)
	}
	var steps []string
	for _, r := range all {
		if r.Who.Name == "failover" && r.Time.After(dead) {
			steps = append(steps, fmt.Sprintf("%s after %s", r.Verb, r.Time.Sub(dead).Round(time.Millisecond)))
		}
	}
	return strings.Join(steps, ", ")
}

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

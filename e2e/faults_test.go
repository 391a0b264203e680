package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// pair starts two sides and a door before them.
func pair(t *testing.T, more string) (d *door, address string, a, b *side) {
	t.Helper()
	a, b = startSide(t, 'a'), startSide(t, 'b')
	address = freePort(t)
	return newDoor(t, pairOf(address, a, b, more)).start(), address, a, b
}

// leads fails unless a new connection reaches that side.
func leads(t testing.TB, address string, want byte) {
	t.Helper()
	if got := once(address); got.err != nil || got.side != want {
		t.Errorf("a new connection: side %q, %v; want side %q", got.side, got.err, want)
	}
}

// wants fails unless the command ended with that code and its words.
func (r result) wants(t testing.TB, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("want exit code %d: %s", code, r)
	}
	for _, w := range words {
		if !strings.Contains(r.out+r.err, w) {
			t.Errorf("want the words %q: %s", w, r)
		}
	}
}

// P5: a door killed at any moment of a swap comes back with that swap wholly done or not at all; what was answered is
// never lost, and history says which.
func TestCrash_ASwapIsWhollyDoneOrNotAtAllAndHistoryAgrees(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	ctx := context.Background()
	done, undone := 0, 0
	for round := range lighter(40, 3) {
		other := map[string]string{"a": "b", "b": "a"}
		active, revision := d.service("svc").Active, d.look().Revision
		killed := make(chan struct{})
		wait := time.Duration(rand.Int64N(int64(slower(12 * time.Millisecond))))
		p := d.process
		go func() { pace(wait); _ = p.Process.Kill(); close(killed) }() // ends with the kill
		asked := ""
		for {
			asked = other[active]
			op, err := d.Client.Swap(ctx, "svc", api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: &no, Reason: fmt.Sprintf("round %d", round)}, To: asked})
			if err != nil {
				break
			}
			active, revision = asked, op.Revision
		}
		<-killed
		d.kill9()
		d.start()
		st := d.look()
		now := st.Services["svc"].Active
		records, err := d.Client.History(ctx, "svc", 1)
		if err != nil {
			t.Fatal(err)
		}
		if st.Revision < revision {
			t.Errorf("round %d: revision %d was answered, the door came back with %d", round, revision, st.Revision)
		}
		switch now {
		case active:
			undone++
		case asked:
			done++
			if st.Revision <= revision {
				t.Errorf("round %d: the swap to %s is done and the revision is still %d", round, asked, st.Revision)
			}
		default:
			t.Errorf("round %d: came back with %q", round, now)
		}
		if len(records) == 1 && (records[0].To != now || records[0].Revision > st.Revision) {
			t.Errorf("round %d: %s is active at revision %d; history ends with %+v", round, now, st.Revision, records[0])
		}
		if len(records) == 0 && now != "a" {
			t.Errorf("round %d: %s is active and history is empty", round, now)
		}
		if len(records) == 1 && (records[0].Outcome == "running") {
			t.Errorf("round %d: history says %q of a swap before the restart", round, records[0].Outcome)
		}
		leads(t, address, now[0])
	}
	t.Logf("%d kills: the swap under way was done %d times and not done %d times", done+undone, done, undone)
}

// tmpfs mounts a small disk.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	needsRoot(t)
	dir := room(t)
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		missing(t, "the right to mount a tmpfs ("+err.Error()+")")
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
}

func TestJournal_AFullDiskRefusesTheChangeAndTrafficGoesOn(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, "size=256k")
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, "")
	d.state = filepath.Join(disk, "state")
	d.setHead("")
	d.write(pairOf(address, a, b, longDrain))
	d.start()
	stay := startRegulars(t, address, 10, 10*time.Millisecond)
	l := startLoad(address, lighter(500, 4), 16)
	fill(t, filepath.Join(disk, "ballast"))
	// What is left of the journal's last page is used up first.
	var r result
	acknowledged := "a"
	eventually(t, "a swap is refused", func() bool {
		to := map[string]string{"a": "b", "b": "a"}[acknowledged]
		if r = d.cli("swap", "svc", to, "--no-wait"); r.code == 0 {
			acknowledged = to
		}
		return r.code != 0
	})
	r.wants(t, 1, "journal", "space", "still", "turnout: hint:")
	t.Logf("refused: %s", r)
	before := d.look()
	if got := before.Services["svc"].Active; got != acknowledged {
		t.Errorf("%s is active, %s was acknowledged last", got, acknowledged)
	}
	leads(t, address, acknowledged[0])
	d.cli("drain", "svc/"+map[string]string{"a": "b", "b": "a"}[acknowledged]).wants(t, 1, "journal")
	if n := d.metric("turnout_journal_errors_total"); n < 2 {
		t.Errorf("turnout_journal_errors_total is %v", n)
	}
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	to := map[string]string{"a": "b", "b": "a"}[acknowledged]
	d.must("swap", "svc", to, "--no-wait")
	leads(t, address, to[0])
	noFailures(t, l.stop())
	for _, err := range stay.rest() {
		t.Error(err)
	}
	d.kill9()
	d.start()
	if got := d.service("svc").Active; got != to {
		t.Errorf("came back with %s active, %s was acknowledged last", got, to)
	}
}

func TestJournal_AReadOnlyStateDirIsRefusedAtTheStartWithWords(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, "size=256k")
	d := newDoor(t, "")
	d.state = filepath.Join(disk, "state")
	d.setHead("")
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d.write(pairOf(freePort(t), a, b, ""))
	if err := syscall.Mount("none", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=256k"); err != nil {
		t.Fatal(err)
	}
	ended(t, d.serve()).wants(t, 1, disk, "read-only")
}

// A file that suddenly cannot be written is what a disk remounted read-only looks like to a running door.
func TestJournal_ThatTurnsReadOnlyRefusesTheChangeAndTrafficGoesOn(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	d, address, _, _ := pair(t, longDrain)
	journal := filepath.Join(d.state, "journal.log")
	if b, err := exec.Command("chattr", "+i", journal).CombinedOutput(); err != nil {
		missing(t, "chattr on this file system ("+strings.TrimSpace(string(b))+")")
	}
	thaw := func() { _ = exec.Command("chattr", "-i", journal).Run() }
	t.Cleanup(thaw)
	r := d.cli("swap", "svc", "b", "--no-wait")
	r.wants(t, 1, "journal", "still")
	leads(t, address, 'a')
	if got := d.service("svc").Active; got != "a" {
		t.Errorf("%s is active after a refused swap", got)
	}
	thaw()
	d.must("swap", "svc", "b", "--no-wait")
	leads(t, address, 'b')
}

func TestServe_ASecondDoorOnTheSameStateDirIsRefused(t *testing.T) {
	t.Parallel()
	d, address, a, b := pair(t, "")
	second := newDoor(t, "")
	second.state = d.state
	second.setHead("")
	second.write(pairOf(freePort(t), a, b, ""))
	ended(t, second.serve()).wants(t, 1, d.state, "is held by", fmt.Sprint(d.Process.Pid))
	leads(t, address, 'a')
	d.must("swap", "svc", "b")
}

func TestServe_ReplacesAStaleAdminSocketAndRefusesALiveOne(t *testing.T) {
	t.Parallel()
	d, address, a, b := pair(t, "")
	second := newDoor(t, "")
	second.socket = d.socket
	second.setHead("")
	second.write(pairOf(freePort(t), a, b, ""))
	ended(t, second.serve()).wants(t, 1, d.socket, "another door answers")
	d.must("status")
	d.kill9() // leaves its socket behind
	if _, err := os.Stat(d.socket); err != nil {
		t.Fatalf("no stale socket: %v", err)
	}
	d.start()
	d.must("swap", "svc", "b")
	leads(t, address, 'b')
	if info, err := os.Stat(d.socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	d.signal(syscall.SIGTERM)
	if code := d.awaitEnd(t, slower(5*time.Second)); code != 0 {
		t.Errorf("SIGTERM without clients ended with %d", code)
	}
	if _, err := os.Stat(d.socket); err == nil {
		t.Error("the socket is still there after an orderly end")
	}
	d.cli("status").wants(t, 3, d.socket)
}

// P7: mistakes on the command line and at the socket change nothing and say what holds.
func TestMistakes_ChangeNothingAndSayWhatHolds(t *testing.T) {
	t.Parallel()
	d, address, a, b := pair(t, "    drain: {timeout: 20s}\n")
	before := d.look().Revision
	d.cli("swap", "nosuch").wants(t, 1, "nosuch", "svc")
	d.cli("swap", "svc", "c").wants(t, 1, `"c"`, "a, b", "still")
	d.cli("drain", "svc/a/nosuch").wants(t, 1, "nosuch", a.addr)
	d.cli("swap", "svc", "a").wants(t, 0, "already")
	d.cli("swap", "svc", "--drain", "10").wants(t, 2, "unit")
	d.cli("swap", "svc", "b", "--if-revision", "77").wants(t, 7, "77")
	d.cli("swap", "svc", "b", "--plan").wants(t, 0, "a -> b")
	b.down()
	d.cli("swap", "svc", "b").wants(t, 4, "connection refused", "still", "--force")
	if st := d.look(); st.Revision != before || st.Services["svc"].Active != "a" {
		t.Errorf("mistakes led to revision %d with %s active", st.Revision, st.Services["svc"].Active)
	}
	leads(t, address, 'a')
	d.cli("swap", "svc", "b", "--force").wants(t, 0, "a -> b")
	if got := once(address); got.err == nil {
		t.Errorf("side %c served though the forced side is down", got.side)
	}
	d.must("back", "svc", "--force")
	leads(t, address, 'a')
	b.up()
	d.must("freeze", "--reason", "audit")
	d.cli("swap", "svc", "b").wants(t, 7, "frozen", "audit")
	d.must("unfreeze")

	// A swap during a drain supersedes it; a second swap while one is being handed over is a conflict.
	stay := startRegulars(t, address, 1, time.Hour)
	first := d.begin("swap", "svc", "b")
	eventually(t, "the drain goes on", func() bool { return strings.Contains(first.out.String(), "a -> b") })
	d.must("swap", "svc", "a", "--no-wait")
	ended(t, first).wants(t, 0, "later change")
	handover := d.begin("swap", "svc", "b", "--hold", "20s", "--stop-old", "exec sleep 30")
	eventually(t, "the hook runs", func() bool { return strings.Contains(handover.err.String(), "running") })
	d.cli("swap", "svc", "b").wants(t, 7, "another change")
	d.must("release", "svc")
	if r := ended(t, handover); r.code == 0 {
		t.Errorf("a hand-over that was taken back: %s", r)
	}
	leads(t, address, 'a')
	for _, err := range stay.rest() {
		t.Error(err)
	}
}

func TestAdminSocket_BadInputCostsOnlyItself(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, "")
	post := func(body io.Reader) (int, string) {
		h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
		}}, Timeout: slower(20 * time.Second)}
		resp, err := h.Post("http://turnout/v1/services/svc/swap", "application/json", body)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for body, want := range map[string]string{
		"no JSON at all": "JSON", `{"to": 7}`: "to", `{"too": "b"}`: "too", `{"to": "b"`: "", `[]`: "",
	} {
		if code, text := post(strings.NewReader(body)); code != 400 || !strings.Contains(text, want) || !strings.Contains(text, `"error"`) {
			t.Errorf("body %s: %d %s", body, code, text)
		}
	}
	before := d.resident()
	code, text := post(io.LimitReader(zeros{}, 10<<20))
	if code/100 == 2 || code >= 500 {
		t.Errorf("a body of 10 MiB: %d %s", code, text)
	}
	if grown := d.resident() - before; grown > 8 && !raced {
		t.Errorf("a body of 10 MiB cost %.1f MiB", grown)
	}

	// Clients that open the socket and say nothing.
	descriptors := d.descriptors()
	var silent []net.Conn
	for range 1000 {
		c, err := net.Dial("unix", d.socket)
		if err != nil {
			t.Fatalf("admin connection %d: %v", len(silent)+1, err)
		}
		silent = append(silent, c)
	}
	began := time.Now()
	d.must("swap", "svc", "b")
	leads(t, address, 'b')
	t.Logf("with 1,000 silent admin connections a swap by the CLI took %s", time.Since(began))
	for _, c := range silent {
		_ = c.Close()
	}
	eventually(t, "their descriptors are back", func() bool { return d.descriptors() <= descriptors+2 })
	if st := d.service("svc"); st.Active != "b" {
		t.Errorf("%s is active", st.Active)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// P6: a door whose clients have used up their descriptors refuses nobody for good, does not spin, can be asked and told
// all the while, knows that its servers are well, and recovers.
func TestDescriptors_UsedUpAreSurvived(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, "checks: {up: {tcp: {}}}\n"+pairOf(address, a, b, longDrain+"    health: {checks: [up], interval: 50ms, timeout: 2s, rise: 1, fall: 1}\n"))
	d.nofile = 80 // ten of them are not for clients
	d.start()
	open := d.descriptors()
	var conns []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", address) // the kernel takes them
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_, _ = c.Write(make([]byte, 8))
	}
	eventually(t, "the descriptors are used up", func() bool { return d.descriptors() >= 69 })
	used, began := d.cpu(), time.Now()
	eventually(t, "half a second has gone by", func() bool { return time.Since(began) > 500*time.Millisecond })
	busy, lasted := d.cpu()-used, time.Since(began)
	if busy > lasted*7/10 {
		t.Errorf("the door burned %s of processor time in %s without descriptors", busy, lasted)
	}
	if d.over() {
		t.Fatalf("the door ended: %s", d.process.err.String())
	}
	for _, pool := range d.service("svc").Pools {
		for name, s := range pool.Servers {
			if s.State != "ready" {
				t.Errorf("server %s is %s: %+v", name, s.State, s.Health)
			}
		}
	}
	d.must("swap", "svc", "b", "--no-wait")
	d.must("swap", "svc", "a", "--no-wait")
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "the descriptors are back", func() bool { return d.descriptors() <= open+2 })
	leads(t, address, 'a')
	d.must("swap", "svc", "b")
	leads(t, address, 'b')
	if !strings.Contains(d.process.err.String(), "descriptors") {
		t.Errorf("the log says nothing of descriptors:\n%s", d.logged())
	}
	t.Logf("80 descriptors, 200 clients: %s of processor time in %s of starvation", busy, lasted)
}

// The next server of the pool serves when one refuses, or hangs in connect.
func TestServers_ThatRefuseOrHangInConnectArePassedOver(t *testing.T) {
	t.Parallel()
	good := startSide(t, 'g')
	hanging := hangs(t)
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc:\n    listen: %q\n    timeouts: {connect: 800ms}\n    pools: {a: [%q, %q, %q]}\n", listen, freePort(t), hanging, good.addr)).start()
	for range 6 {
		leads(t, listen, 'g')
	}
	for name, s := range d.service("svc").Pools["a"].Servers {
		if name != good.addr && s.DialFailures == 0 {
			t.Errorf("server %s has no dial failure", name)
		}
	}
}

// hangs is an address at which connect() gets no answer: its accept queue is full.
func hangs(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for silent := 0; silent < 3; { // once may be this machine's fault
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			silent++
			continue
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return address
}

// What a server does to its connections reaches the client as it was: a reset as a reset, an end as an end.
func TestServers_ThatResetOrHalfCloseAtOnceAreToldAsTheyAre(t *testing.T) {
	t.Parallel()
	behave := func(do func(*net.TCPConn)) string {
		l, err := net.Listen("tcp", freePort(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go do(c.(*net.TCPConn))
			}
		}()
		return l.Addr().String()
	}
	resets := behave(func(c *net.TCPConn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_ = c.SetLinger(0)
		_ = c.Close()
	})
	halves := behave(func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "bye\n")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		heard.Store(string(b))
		_ = c.Close()
	})
	r, h := freePort(t), freePort(t)
	newDoor(t, fmt.Sprintf("services:\n  r: {listen: %q, pools: {a: [%q]}}\n  h: {listen: %q, pools: {a: [%q]}}\n", r, resets, h, halves)).start()
	if got, err := ask(t, "tcp", r, "hello\n"); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the server reset the connection; the client saw %q, %v", got, err)
	}
	c, err := net.Dial("tcp", h)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); string(b) != "bye\n" || err != nil {
		t.Errorf("the server said bye and half-closed; the client saw %q, %v", b, err)
	}
	if _, err := io.WriteString(c, "still talking"); err != nil {
		t.Error(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	eventually(t, "the server heard what came after its half-close", func() bool { v, _ := heard.Load().(string); return v == "still talking" })
}

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// pipe is a named pipe between a hook and its test.
func pipe(t *testing.T, dir, name string) *os.File {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // both ways: opening waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// hooks answers hooks of the CLI: each writes the pool it is about and waits for a word.
type hooks struct{ stop, start string } // commands

func startHooks(t *testing.T, onStop, onStart func(pool string)) hooks {
	t.Helper()
	dir := room(t)
	listen := func(name string, do func(string)) string {
		asked, answer := pipe(t, dir, name), pipe(t, dir, name+"-done")
		go func() { // ends when the pipe is closed
			for lines := bufio.NewScanner(asked); lines.Scan(); {
				do(lines.Text())
				_, _ = io.WriteString(answer, "done\n")
			}
		}()
		return filepath.Join(dir, name)
	}
	stop, start := listen("stop", onStop), listen("start", onStart)
	return hooks{
		stop:  fmt.Sprintf(`echo "$TURNOUT_FROM" >%s; read ok <%[1]s-done`, stop),
		start: fmt.Sprintf(`echo "$TURNOUT_TO" >%s; read ok <%[1]s-done`, start),
	}
}

// P4: with an exclusive swap no instant has clients on both sides, by the servers' own records; and whoever came
// meanwhile waited and was served.
func TestSwapExclusive_NeverTwoAtOnceUnderLoadWithHooks(t *testing.T) {
	sides := map[string]*side{"a": startSide(t, 'a'), "b": startSide(t, 'b')}
	sides["b"].down() // only one of the two runs at any time
	address := freePort(t)
	d := newDoor(t, pairOf(address, sides["a"], sides["b"], "    hold: {timeout: 30s}\n    drain: {timeout: 400ms}\n")).start()
	var mu sync.Mutex
	var leftBehind []string
	listening := int64(0)
	h := startHooks(t, func(pool string) {
		mu.Lock()
		defer mu.Unlock()
		if n := sides[pool].tally().open; n > 0 {
			leftBehind = append(leftBehind, fmt.Sprintf("%s was stopped with %d clients", pool, n))
		}
		sides[pool].down()
	}, func(pool string) {
		go func() { // a server needs a moment until it listens; the hook does not wait for it
			pace(150 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			listening = sides[pool].up()
		}()
	})
	l := startLoad(address, lighter(1000, 5), 200)
	eventually(t, "clients are served", func() bool { return sides["a"].tally().served > 10 })
	for i, to := range []string{"b", "a", "b", "a"} {
		args := []string{"swap", "svc", to, "--exclusive", "--hold", "20s", "--stop-old", h.stop, "--start-new", h.start, "-o", "json", "--reason", fmt.Sprintf("e2e %d", i)}
		var idle *regulars
		if i == 0 { // clients that stay are cut at the drain's deadline, so that the old side gets to zero
			idle = startRegulars(t, address, 20, time.Minute)
		}
		r := d.cli(args...)
		if want := 0; i == 0 && r.code != 6 || i > 0 && r.code != want {
			t.Fatalf("swap %d: %s", i, r)
		}
		if idle != nil {
			idle.close()
		}
		mu.Lock()
		ready := listening
		mu.Unlock()
		op := lastOperation(t, r.out)
		first := int64(0)
		eventually(t, "the new side serves", func() bool {
			for _, v := range sides[to].record() {
				if v.first >= ready {
					first = v.first
					return true
				}
			}
			return false
		})
		p, gate := op.Proofs[0], time.Time{}
		for _, s := range op.Steps {
			if s.Name == "gate" {
				gate = s.At
			}
		}
		firstNew := "none yet"
		if p.FirstStartNew != nil {
			firstNew = p.FirstStartNew.Sub(gate).String()
		}
		t.Logf("swap %d to %s: %d held, %d cut, gate -> release %s, gate -> first start on new %s; by the servers: listening -> first client's byte %s",
			i, to, p.Held, p.Cut, p.At.Sub(gate), firstNew, time.Duration(first-ready))
		if i == 0 && p.Cut != 20 {
			t.Errorf("%d connections cut, want the 20 that stayed", p.Cut)
		}
		if p.Held == 0 || p.Overlap != 0 {
			t.Errorf("swap %d: proof %+v", i, p)
		}
		pace(100 * time.Millisecond)
	}
	attempts := l.stop()
	noFailures(t, attempts)
	for _, s := range leftBehind {
		t.Error(s)
	}
	eventually(t, "both are quiet", func() bool { return sides["a"].quiet() && sides["b"].quiet() })
	if a, b, n := overlapping(sides["a"].record(), sides["b"].record()); n > 0 {
		t.Errorf("%d times clients on both sides at once, e.g. a: %+v b: %+v", n, a, b)
	}
	if st := d.service("svc"); st.State != "serving" || st.Held != 0 || st.Active != "a" {
		t.Errorf("in the end: %s %s, %d held", st.State, st.Active, st.Held)
	}
	t.Logf("%d connections, 0 failed, never on both", len(attempts))
}

// lastOperation reads the last JSON value of a command's output.
func lastOperation(t *testing.T, out string) *api.Operation {
	t.Helper()
	op := decode[api.Operation](t, out)
	if len(op.Proofs) == 0 {
		t.Fatalf("no proof in %s", out)
	}
	return &op
}

// overlapping counts pairs of neighbours in time of which one began on the one side before the other had ended on
// the other side.
func overlapping(a, b []visit) (va, vb visit, n int) {
	type mark struct {
		visit
		side int
	}
	var all []mark
	for _, v := range a {
		all = append(all, mark{v, 0})
	}
	for _, v := range b {
		all = append(all, mark{v, 1})
	}
	slices.SortFunc(all, func(x, y mark) int { return int(x.first - y.first) })
	var latest [2]mark // the visit that ends last, of those that began so far
	for _, m := range all {
		if other := latest[1-m.side]; other.closed > m.first {
			n++
			va, vb = m.visit, other.visit
			if m.side == 1 {
				va, vb = vb, va
			}
		}
		if m.closed > latest[m.side].closed {
			latest[m.side] = m
		}
	}
	return va, vb, n
}

// P3 and P6: while both servers are down and the service is held, clients wait; one more than may wait gets its
// explicit answer; release serves all the others.
func TestHold_ThreeSecondsWithBothServersDownAndNoClientError(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	most := lighter(3000, 3)
	d := newDoor(t, pairOf(address, a, b, fmt.Sprintf("    hold: {timeout: 60s, max: %d}\n", most))).start()
	if r := d.must("hold", "svc", "--for", "1m"); !strings.Contains(r.out, "svc") {
		t.Errorf("hold: %s", r)
	}
	held := time.Now()
	a.down()
	b.down()
	results := make([]attempt, most)
	var wg sync.WaitGroup
	for i := range most {
		wg.Go(func() { // they arrive over two seconds
			pace(2 * time.Second * time.Duration(i) / time.Duration(most))
			results[i] = once(address)
		})
	}
	eventually(t, fmt.Sprintf("%d clients wait", most), func() bool { return d.service("svc").Held == most })
	began := time.Now()
	over, c := greet(address)
	if c != nil || over.reply != 0 {
		t.Errorf("client %d was served by %c while all are held", most+1, over.side)
	}
	if took := time.Since(began); took > slower(2*time.Second) || errors.Is(over.err, os.ErrDeadlineExceeded) {
		t.Errorf("client %d waited %s for its answer: %v", most+1, took, over.err)
	}
	t.Logf("client %d of %d: %v after %s", most+1, most, over.err, time.Since(began))
	if n := d.metric(`turnout_clients_refused_total{reason="hold_overflow",service="svc"}`); n != 1 {
		t.Errorf("hold_overflow counts %v", n)
	}
	eventually(t, "three seconds of hold", func() bool { return time.Since(held) >= 3*time.Second })
	b.up()
	d.must("swap", "svc", "b") // accepted in a hold, at once in force; nobody is let in yet
	if st := d.service("svc"); st.Held != most || st.Active != "b" {
		t.Errorf("after the swap in a hold: %d held, %s active", st.Held, st.Active)
	}
	released := time.Now()
	d.must("release", "svc")
	wg.Wait()
	noFailures(t, results)
	for _, r := range results {
		if r.err == nil && r.side != 'b' {
			t.Errorf("a waiting client was led to %c", r.side)
			break
		}
	}
	t.Logf("%d clients waited up to %s, all served within %s of release", most, time.Since(held), time.Since(released))
	d.must("release", "svc") // harmless when nothing is held
}

// P8: a hold that nobody releases ends by itself.
func TestHold_EndsByItself(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, pairOf(address, a, b, "")).start()
	asked := mono()
	if _, err := d.Client.Hold(context.Background(), "svc", api.HoldRequest{For: api.Duration(2 * time.Second)}); err != nil {
		t.Fatal(err)
	}
	got := once(address)
	if got.err != nil || got.side != 'a' || time.Duration(got.reply-asked) < 2*time.Second {
		t.Errorf("the client of an abandoned hold, %s after it was asked for: %+v", time.Duration(got.reply-asked), got)
	}
	t.Logf("it waited for %s", time.Duration(got.reply-got.begin))
	if st := d.service("svc"); st.State != "serving" || st.HeldUntil != nil {
		t.Errorf("afterwards: %+v", st)
	}
}

// A client whose hold.timeout is over gets the explicit answer; the hold goes on.
func TestHold_AClientWaitsNoLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, pairOf(address, a, b, "    hold: {timeout: 300ms}\n")).start()
	d.must("hold", "svc", "--for", "1m")
	began := time.Now()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v: want the end of the stream", n, err)
	}
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("turned away after %s", took)
	}
	if st, err := d.Client.Status(context.Background(), "svc"); err != nil || st.Services["svc"].State != "held" {
		t.Errorf("the hold: %+v, %v", st, err)
	}
}

package stream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func (d *door) held() int { return d.Current().Service("svc").Held() }

func (d *door) hold() { d.t.Helper(); d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"}) }

func (d *door) release() { d.t.Helper(); d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"}) }

func TestHold_TheClientBeyondTheMostIsClosedAtOnce(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Hold.Max = 50
	d := openDoor(t, spec)
	d.hold()
	var conns []net.Conn
	for range 50 {
		conns = append(conns, d.dial("svc"))
	}
	waitFor(t, "50 held", func() bool { return d.held() == 50 })
	for range 3 {
		if s, err := readAll(d.dial("svc")); s != "" || err != nil {
			t.Fatalf("%q, %v", s, err)
		}
	}
	conns[7].Close() // makes room for one
	waitFor(t, "49 held", func() bool { return d.held() == 49 })
	conns[7] = d.dial("svc")
	waitFor(t, "50 held", func() bool { return d.held() == 50 })
	if n := d.Current().Service("svc").Counts(); n.Overflowed != 3 || n.HeldTotal != 51 {
		t.Errorf("%+v", n)
	}
	d.release()
	for _, c := range conns {
		if got := readLine(t, c); got != "a" {
			t.Fatal(got)
		}
	}
}

func TestHold_AClientIsClosedWhenItHasWaitedTooLong(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Hold.Timeout = 200 * time.Millisecond
	d := openDoor(t, spec)
	d.hold()
	begun := time.Now()
	if s, err := readAll(d.dial("svc")); s != "" || err != nil {
		t.Fatalf("%q, %v", s, err)
	}
	if took := time.Since(begun); took < 190*time.Millisecond || took > 10*time.Second {
		t.Errorf("after %v", took)
	}
	if n := d.Current().Service("svc").Counts(); n.Expired != 1 || d.held() != 0 {
		t.Errorf("%+v", n)
	}
}

func TestHold_AClientThatLeavesIsForgottenAndOneThatSpokeIsServed(t *testing.T) {
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, err := readAll(c)
		fmt.Fprintf(c, "%s %v", all, err)
	})
	// A client may be in three places when it is made to wait: just accepted, being dialled for, and that after its
	// PROXY header, so that the loop has heard of it before.
	for _, place := range []string{"accepted", "dialing", "header and dialing"} {
		t.Run(place, func(t *testing.T) {
			nowhere, _ := deaf(t)
			spec := pools([]string{"good", srv.address()}, []string{"deaf", nowhere})
			spec.Services[0].Timeouts.Connect = 15 * time.Second
			spec.Services[0].ProxyProtocol.Accept = place == "header and dialing"
			d := openDoor(t, spec)
			if place == "accepted" {
				d.hold()
			} else {
				d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "deaf", Force: true})
			}
			conns := map[string]*net.TCPConn{}
			for _, name := range []string{"silent", "rude", "rude speaker", "speaker", "waiting", "late"} {
				c := d.dial("svc").(*net.TCPConn)
				if spec.Services[0].ProxyProtocol.Accept {
					fmt.Fprint(c, "PROXY UNKNOWN\r\n")
				}
				conns[name] = c
			}
			fmt.Fprint(conns["speaker"], "question")
			_ = conns["speaker"].CloseWrite()
			fmt.Fprint(conns["waiting"], "question")
			fmt.Fprint(conns["rude speaker"], "question")
			waitFor(t, "all there", func() bool { return d.held()+d.counts(nowhere).Dialing == 6 })
			conns["silent"].Close()
			reset(conns["rude"])
			reset(conns["rude speaker"])
			if place != "accepted" {
				d.hold()
			}
			waitFor(t, "those who left are forgotten", func() bool { return d.held() == 3 && d.plane.Connections() == 3 })
			fmt.Fprint(conns["late"], "question")
			_ = conns["late"].CloseWrite()
			if place != "accepted" {
				d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "good"})
			}
			d.release()
			for _, name := range []string{"speaker", "late", "waiting"} {
				c := conns[name]
				if name == "waiting" {
					_ = c.CloseWrite()
				}
				if got, err := readAll(c); got != "question <nil>" || err != nil {
					t.Errorf("%s got %q, %v", name, got, err)
				}
			}
			d.gone()
		})
	}
}

func TestHold_ReleaseLetsInByOrderOfArrival(t *testing.T) {
	var mu sync.Mutex
	var order []byte
	// Only the accept order of the server tells; so it is kept by the listener's one goroutine.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan bool)
	const clients = 100
	go func() {
		defer close(done)
		for range clients {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			_, _ = io.ReadFull(c, b)
			mu.Lock()
			order = append(order, b[0])
			mu.Unlock()
			c.Close()
		}
	}()
	d := openDoorWith(t, pools([]string{"a", l.Addr().String()}), 1, nil)
	d.hold()
	for i := range clients {
		_, _ = d.dial("svc").Write([]byte{byte(i)})
		waitFor(t, "held", func() bool { return d.held() == i+1 })
	}
	d.release()
	<-done
	for i, b := range order {
		if int(b) != i {
			t.Fatalf("place %d went to client %d", i, b)
		}
	}
}

// The evening's work: both servers are down for a while, and no client knows.
func TestHold_BothServersDownAndUpAgainWithoutAClientError(t *testing.T) {
	down := 500 * time.Millisecond
	if soak() {
		down = 3 * time.Second
	}
	a, b := echo(t, "a"), echo(t, "b")
	d := openDoor(t, pools([]string{"blue", a.address()}, []string{"green", b.address()}))
	addr := d.addr("svc")
	var stop atomic.Bool
	var ok, failed atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for !stop.Load() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
				fmt.Fprintln(c, "ping")
				got := make([]byte, 7)
				if _, err := io.ReadFull(c, got); err != nil || string(got[1:]) != "\nping\n" {
					failed.Add(1)
				} else {
					ok.Add(1)
				}
				reset(c)
			}
		})
	}
	waitFor(t, "traffic", func() bool { return ok.Load() > 200 })
	d.hold()
	waitFor(t, "blue is idle", func() bool { return d.counts(a.address()).Connections == 0 })
	a.Close()
	b.Close()
	waitFor(t, "all wait", func() bool { return d.held() == 50 })
	time.Sleep(down)
	l, err := net.Listen("tcp", b.address())
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, "b", func(c net.Conn) {
		defer c.Close()
		fmt.Fprintln(c, "b")
		_, _ = io.Copy(c, c)
	})
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green"})
	if n := d.held(); n != 50 {
		t.Errorf("the swap of a held service let in %d", 50-n)
	}
	before := ok.Load()
	d.release()
	waitFor(t, "traffic", func() bool { return ok.Load() > before+200 })
	stop.Store(true)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d failed, %d were served", failed.Load(), ok.Load())
	}
}

// A release of more than may be dialled for at once goes on by itself, also when servers are slow or fail.
func TestHold_ReleaseOfManyGoesOnByItself(t *testing.T) {
	const clients = 1000
	dead := refused(t)
	d := openDoor(t, pools([]string{"a", dead, echo(t, "a").address()}))
	d.hold()
	var conns []net.Conn
	for range clients {
		conns = append(conns, d.dial("svc"))
	}
	waitFor(t, "all held", func() bool { return d.held() == clients })
	for i := 0; i < clients; i += 10 {
		reset(conns[i])
	}
	d.release()
	for i, c := range conns {
		if i%10 == 0 {
			continue
		}
		if got := readLine(t, c); got != "a" {
			t.Fatal(got)
		}
		c.Close()
	}
	d.gone()
}

func TestMaintenance_TurnsNewClientsAwayAndSoftKeepsOthers(t *testing.T) {
	for _, soft := range []bool{true, false} {
		t.Run(fmt.Sprint("soft=", soft), func(t *testing.T) {
			d := openDoor(t, pools([]string{"a", echo(t, "a").address()}))
			known := d.dial("svc")
			readLine(t, known)
			d.hold()
			waiting := d.dial("svc")
			waitFor(t, "held", func() bool { return d.held() == 1 })
			d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: soft, Drain: 100 * time.Millisecond})
			for _, c := range []net.Conn{waiting, d.dial("svc"), d.dial("svc")} {
				if s, err := readAll(c); s != "" || err != nil {
					t.Fatalf("%q, %v", s, err)
				}
			}
			if soft {
				if got := ask(t, known, "still here"); got != "still here" {
					t.Fatal(got)
				}
			} else if s, err := readAll(known); s != "" || err != nil {
				t.Fatalf("%q, %v", s, err)
			}
			if n := d.Current().Service("svc").Counts(); n.Refused != 3 {
				t.Errorf("%+v", n)
			}
			d.release()
			d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
			if got := readLine(t, d.dial("svc")); got != "a" {
				t.Fatal(got)
			}
		})
	}
}

// Only so many are let in at once, so that a server which has just begun is not flooded; the proof once told only of those.
func TestHandover_TheProofCountsAllThatWaitedForIt(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	d := openDoor(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Hold: 20 * time.Second, StopOld: true})
	waitFor(t, "the hook is waited for", func() bool { return op.View().Waiting == "stop_old" })
	var conns []net.Conn
	for range 600 {
		conns = append(conns, d.dial("svc"))
	}
	waitFor(t, "600 wait", func() bool { return d.held() == 600 })
	if err := op.Continue("stop_old", ""); err != nil {
		t.Fatal(err)
	}
	if p := d.ended(op); p.Held != 600 {
		t.Errorf("the proof tells of %d that waited, want 600", p.Held)
	}
	told := false
	for _, s := range op.View().Steps {
		told = told || s.Name == "commit" && strings.Contains(s.Text, "600 waiting clients released")
	}
	if !told {
		t.Errorf("steps: %+v", op.View().Steps)
	}
	for _, c := range conns {
		if got := readLine(t, c); got != "green" {
			t.Fatal(got)
		}
	}
}

// drainOf begins a drain of blue by a swap.
func (d *door) drainOf(deadline time.Duration, then proxy.Then) *proxy.Operation {
	d.t.Helper()
	return d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Drain: deadline, Then: then})
}

func (d *door) ended(op *proxy.Operation) proxy.Proof {
	d.t.Helper()
	waitFor(d.t, "the operation has ended", func() bool { s := op.View().State; return s == proxy.StateDone || s == proxy.StateFailed })
	return op.View().Proofs[0]
}

func TestDrain_AtTheDeadlineIdleConnectionsAreCutAtOnceInOrder(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	d := openDoor(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	var conns []net.Conn
	for range 20 {
		c := d.dial("svc")
		readLine(t, c)
		conns = append(conns, c)
	}
	begun := time.Now()
	op := d.drainOf(100*time.Millisecond, "")
	for _, c := range conns {
		if s, err := readAll(c); s != "" || err != nil { // an orderly end
			t.Fatalf("%q, %v", s, err)
		}
	}
	if took := time.Since(begun); took < 90*time.Millisecond || took > 10*time.Second {
		t.Errorf("cut after %v", took)
	}
	d.gone()
	for _, c := range conns {
		if sockErr(c) {
			t.Fatal("a reset after the orderly end")
		}
	}
	if p := d.ended(op); p.Cut != 20 || p.Remaining != 0 || !p.Drained {
		t.Errorf("%+v", p)
	}
}

// A server that answers in pieces with short gaps is not cut between them. One whose gap was long, since this machine did
// other things, may be.
func TestDrain_AnAnswerInPiecesIsNotCutInTheMiddle(t *testing.T) {
	const pieces, clients = 60, 10
	var paused [clients]atomic.Int64 // the longest gap of that client's answer
	srv := serve(t, "blue", func(c *net.TCPConn) {
		defer c.Close()
		line := make([]byte, 2)
		if _, err := io.ReadFull(c, line); err != nil {
			return
		}
		before := time.Now()
		for range pieces {
			_, _ = c.Write(bytesOf(1, 100))
			gap := &paused[line[0]-'0']
			gap.Store(max(gap.Load(), int64(time.Since(before))))
			before = time.Now()
			time.Sleep(5 * time.Millisecond)
		}
		fmt.Fprint(c, "end\n")
		_, _ = io.Copy(io.Discard, c)
	})
	judged := 0
	for range 20 {
		d := openDoor(t, pools([]string{"blue", srv.address()}, []string{"green", echo(t, "green").address()}))
		var conns []net.Conn
		for i := range clients {
			paused[i].Store(0)
			c := d.dial("svc")
			fmt.Fprintln(c, i)
			conns = append(conns, c)
		}
		for _, c := range conns {
			if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		op := d.drainOf(50*time.Millisecond, "")
		for i, c := range conns {
			all, err := readAll(c)
			if paused[i].Load() >= proxy.IdleCut {
				continue
			}
			judged++
			if want := (pieces-1)*100 + 4; len(all) != want || all[len(all)-4:] != "end\n" || err != nil {
				t.Errorf("%d of %d bytes, %v", len(all), want, err)
			}
		}
		if p := d.ended(op); p.Cut != clients || p.Remaining != 0 {
			t.Errorf("%+v", p)
		}
		if judged >= clients/2 {
			return
		}
	}
	t.Errorf("only %d answers without a long gap: the test shows too little", judged)
}

// A server that pauses in the middle of an answer is not cut there, however often loops look, and its client is told the end
// only when it asks again: by an end of stream, with nothing of the new question carried.
func TestDrain_APauseInAnAnswerIsNotItsEnd(t *testing.T) {
	asked, more := make(chan string, 10), make(chan string)
	srv := serve(t, "blue", func(c *net.TCPConn) {
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				close(asked)
				return
			}
			asked <- line
			for part := range more {
				fmt.Fprint(c, part)
				if part == "end\n" {
					break
				}
			}
		}
	})
	d := openDoor(t, pools([]string{"blue", srv.address()}, []string{"green", echo(t, "green").address()}))
	blue := d.Current().Service("svc").Pool("blue").Servers()
	c := d.dial("svc")
	fmt.Fprintln(c, "what?")
	if got := <-asked; got != "what?\n" {
		t.Fatal(got)
	}
	<-d.plane.Cut(blue, proxy.CutAfterAnswer.All())
	for _, part := range []string{"a", "b", "end\n"} {
		more <- part
		got := make([]byte, len(part))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != part {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := blue[0].Connections(); n != 1 {
		t.Fatalf("%d connections after the answer", n)
	}
	fmt.Fprintln(c, "and now?")
	if s, err := readAll(c); s != "" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	d.gone()
	if sockErr(c) {
		t.Error("a reset after the orderly end")
	}
	if got, ok := <-asked; ok {
		t.Errorf("the server was asked %q", got)
	}
}

// A busy client that asks again and again is cut between an answer and its next question, never in an answer. One that
// asked longer ago than the time after which a connection counts as idle is not judged: this machine may have done other
// things for all of it.
func TestDrain_ABusyConnectionIsCutBetweenTwoAnswers(t *testing.T) {
	const answer = 200_000
	srv := serve(t, "blue", func(c *net.TCPConn) {
		defer c.Close()
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			_, _ = c.Write(bytesOf(1, answer))
		}
	})
	d := openDoor(t, pools([]string{"blue", srv.address()}, []string{"green", echo(t, "green").address()}))
	var wg sync.WaitGroup
	var whole atomic.Int64
	for range 8 {
		c := d.dial("svc")
		wg.Go(func() {
			got := make([]byte, answer)
			for {
				asked := time.Now()
				if _, err := c.Write([]byte("?")); err != nil {
					return
				}
				if n, err := io.ReadFull(c, got); err != nil {
					if n != 0 && int64(time.Since(asked)) < proxy.IdleCut {
						t.Errorf("cut after %d of %d bytes: %v", n, answer, err)
					}
					return
				}
				whole.Add(1)
			}
		})
	}
	waitFor(t, "traffic", func() bool { return whole.Load() > 50 })
	op := d.drainOf(50*time.Millisecond, "")
	wg.Wait()
	if p := d.ended(op); p.Cut != 8 || p.Remaining != 0 {
		t.Errorf("%+v", p)
	}
}

// What cannot be helped: a client that does not read, a server that never answers. They end, by a reset.
func TestDrain_WhatNeverComesToRestIsResetInTheEnd(t *testing.T) {
	much := bytesOf(1, 32<<20)
	srv := serve(t, "blue", func(c *net.TCPConn) {
		b := make([]byte, 1)
		_, _ = io.ReadFull(c, b)
		if b[0] == 'm' {
			_, _ = c.Write(much)
		}
	})
	d := openDoor(t, pools([]string{"blue", srv.address()}, []string{"green", echo(t, "green").address()}))
	deafClient, unanswered := d.dialSmall("svc", 4096), d.dial("svc")
	fmt.Fprint(deafClient, "m")
	fmt.Fprint(unanswered, "?")
	waitFor(t, "stalled", func() bool { return d.plane.Lent().Pipes == 1 })
	waitFor(t, "asked", func() bool { return carriedBytes(d) > 1<<20 })
	op := d.drainOf(50*time.Millisecond, "")
	if p := d.ended(op); p.Cut != 2 || p.Remaining != 0 {
		t.Errorf("%+v", p)
	}
	for _, c := range []net.Conn{deafClient, unanswered} {
		if n, err := verify(c, 1); !isReset(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func TestDrain_ThenKeepLeavesConnections(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", echo(t, "blue").address()}, []string{"green", echo(t, "green").address()}))
	c := d.dial("svc")
	readLine(t, c)
	op := d.drainOf(50*time.Millisecond, proxy.ThenKeep)
	if p := d.ended(op); p.Cut != 0 || p.Remaining != 1 {
		t.Errorf("%+v", p)
	}
	if got := ask(t, c, "still here"); got != "still here" {
		t.Fatal(got)
	}
}

func TestDrain_ASwapBackSupersedesIt(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", echo(t, "blue").address()}, []string{"green", echo(t, "green").address()}))
	c := d.dial("svc")
	readLine(t, c)
	op := d.drainOf(300*time.Millisecond, "")
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "blue"})
	if p := d.ended(op); p.Cut != 0 || !p.Superseded {
		t.Errorf("%+v", p)
	}
	end := time.Now().Add(500 * time.Millisecond) // past the old deadline
	for time.Now().Before(end) {
		if got := ask(t, c, "still here"); got != "still here" {
			t.Fatal(got)
		}
	}
	if got := readLine(t, d.dial("svc")); got != "blue" {
		t.Fatal(got)
	}
}

// The swap back comes when the drain has already asked for connections to end after their next answer.
func TestDrain_ASwapBackDuringItsLastPhaseCutsNothingMore(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", echo(t, "blue").address()}, []string{"green", echo(t, "green").address()}))
	srv := d.Current().Service("svc").Pool("blue").Servers()
	busy := d.dial("svc")
	readLine(t, busy)
	thaw := d.plane.Freeze()
	fmt.Fprintln(busy, "asked before") // it is busy when the cut comes
	d.plane.Cut(srv, proxy.CutAfterAnswer.All())
	swapped := make(chan bool)
	go func() {
		defer close(swapped)
		d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Then: proxy.ThenKeep})
		d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "blue"})
	}()
	waitFor(t, "the first swap is stored", func() bool { return d.Current().Service("svc").Active.Name == "green" })
	time.Sleep(5 * time.Millisecond) // its quiet point is posted right after, nothing shows when
	thaw()
	<-swapped
	for _, line := range []string{"asked before", "still here", "and still"} {
		if line != "asked before" {
			fmt.Fprintln(busy, line)
		}
		if got := readLine(t, busy); got != line {
			t.Fatal(got)
		}
	}
}

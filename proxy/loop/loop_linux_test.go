package loop

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// start runs a loop for the test and stops it in the end.
func start(t testing.TB, prepare ...func(*Loop)) *Loop {
	t.Helper()
	l, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(l)
	}
	ended := make(chan struct{})
	go func() { // ends by Stop
		defer close(ended)
		l.Run()
	}()
	t.Cleanup(func() {
		l.Stop()
		<-ended
	})
	return l
}

// pair makes two connected non-blocking stream sockets.
func pair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Close(fds[0])
		Close(fds[1])
	})
	return fds[0], fds[1]
}

func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestLoop_AnEventFindsItsHandlerWithItsToken(t *testing.T) {
	a, b := pair(t)
	type got struct {
		t  Token
		ev Events
	}
	events := make(chan got, 10)
	tok := MakeToken(3, genMask, 1<<32-1, 1)
	start(t, func(l *Loop) {
		l.Handle(3, func(t Token, ev Events) { events <- got{t, ev} })
		if err := l.Add(a, tok); err != nil {
			t.Fatal(err)
		}
	})
	if g := <-events; g.t != tok || g.ev != Out {
		t.Fatalf("first %x %x, want writable", g.t, g.ev)
	}
	Send(b, []byte("hello"))
	if g := <-events; g.t != tok || g.ev&In == 0 {
		t.Fatalf("then %x %x, want readable", g.t, g.ev)
	}
	Shutdown(b, ShutWrite)
	if g := <-events; g.ev&(In|RDHUP) != In|RDHUP || g.ev&Hup != 0 {
		t.Fatalf("then %x, want half-closed", g.ev)
	}
	Shutdown(b, ShutBoth)
	if g := <-events; g.ev&Hup == 0 {
		t.Fatalf("then %x, want closed", g.ev)
	}
}

func TestLoop_DelAndModChangeWhatIsTold(t *testing.T) {
	a, b := pair(t)
	var events []Events
	l := start(t, func(l *Loop) {
		l.Handle(1, func(_ Token, ev Events) { events = append(events, ev) })
	})
	settle := func() []Events {
		// An event that is due is in the batch that follows; the second Do comes after that batch.
		l.Do(func() { l.Again(MakeToken(2, 0, 0, 0)) })
		l.Do(func() {})
		l.Do(func() {})
		var list []Events
		l.Do(func() { list, events = events, nil })
		return list
	}
	l.Do(func() { l.Handle(2, func(Token, Events) {}) })
	l.Do(func() {
		if err := l.Add(a, MakeToken(1, 0, 0, 0)); err != nil {
			t.Error(err)
		}
		if err := l.Add(a, MakeToken(1, 0, 0, 0)); err != syscall.EEXIST {
			t.Errorf("added twice: %v", err)
		}
		if err := l.Mod(a, MakeToken(1, 0, 0, 0), In|ET); err != nil {
			t.Error(err)
		}
	})
	if list := settle(); len(list) != 0 {
		t.Fatalf("only reading was wanted, got %x", list)
	}
	Send(b, []byte("x"))
	if list := settle(); len(list) != 1 || list[0] != In {
		t.Fatalf("got %x, want readable once", list)
	}
	l.Do(func() {
		if err := l.Del(a); err != nil {
			t.Error(err)
		}
		if err := l.Del(a); err != syscall.ENOENT {
			t.Errorf("taken out twice: %v", err)
		}
	})
	Send(b, []byte("x"))
	if list := settle(); len(list) != 0 {
		t.Fatalf("got %x after Del", list)
	}
}

func TestLoop_DoWaitsAndPostKeepsOrder(t *testing.T) {
	l := start(t)
	var wg sync.WaitGroup
	n := 0 // the loop's; the race detector watches
	for range 8 {
		wg.Go(func() {
			mine := 0
			for i := range 500 {
				if !l.Post(func() {
					n++
					if mine != i {
						t.Errorf("function %d ran after %d others of its goroutine", i, mine)
					}
					mine++
				}) {
					t.Error("Post refused")
				}
			}
			if !l.Do(func() {
				if mine != 500 {
					t.Errorf("Do overtook: %d of 500 had run", mine)
				}
			}) {
				t.Error("Do refused")
			}
		})
	}
	wg.Wait()
	l.Do(func() {
		if n != 4000 {
			t.Errorf("%d ran, want 4000", n)
		}
	})
}

func TestAll_WaitsForEachLoopHoweverLongAndLeavesOutTheStopped(t *testing.T) {
	loops := []*Loop{start(t), start(t), start(t)}
	loops[1].Stop()
	loops[1].Do(func() {}) // its end
	ran := [3]int{}        // each its loop's; the race detector watches
	for range 200 {
		All(loops, func(i int) { ran[i]++ })
	}
	began := Clock()
	All(loops, func(i int) {
		if i == 2 {
			for Clock()-began < 3*patience { // a long batch
			}
		}
		ran[i]++
	})
	if ran != [3]int{201, 0, 201} {
		t.Errorf("ran %v times, want 201 on the first and the last", ran)
	}
	All(nil, func(int) { t.Error("there is no loop") })
}

func TestLoop_DoIsAnsweredWithinALongBatch(t *testing.T) {
	// Every handler call blocks until the test lets it go on, so the test knows how many pass.
	step := make(chan struct{})
	handled := 0
	l := start(t, func(l *Loop) {
		l.Handle(1, func(Token, Events) {
			<-step
			handled++
		})
		for i := range uint32(1000) {
			l.Again(MakeToken(1, 0, i, 0))
		}
	})
	for range 10 {
		step <- struct{}{}
	}
	answered := make(chan int, 1)
	go func() { // ends when Do is answered
		var n int
		l.Do(func() { n = handled })
		answered <- n
	}()
	for !l.mail.pending.Load() && len(answered) == 0 {
		runtime.Gosched()
	}
	for {
		select {
		case step <- struct{}{}:
		case n := <-answered:
			if n > 10+64 {
				t.Fatalf("answered after %d handlers", n)
			}
			close(step)
			return
		}
	}
}

func TestLoop_AgainComesAfterTheBatchAndOncePerCall(t *testing.T) {
	var order []string
	done := make(chan struct{})
	start(t, func(l *Loop) {
		again := 0
		l.Handle(1, func(tok Token, ev Events) {
			if ev != 0 {
				order = append(order, "event")
				if len(order) == 1 {
					l.Again(tok)
				}
				return
			}
			order = append(order, "again")
			if again++; again < 3 {
				l.Again(tok)
				return
			}
			close(done)
		})
		for i := range uint32(3) {
			a, _ := pair(t)
			if err := l.Add(a, MakeToken(1, 0, i, 0)); err != nil {
				t.Fatal(err)
			}
		}
	})
	<-done
	if got := strings.Join(order, " "); got != "event event event again again again" {
		t.Fatal(got)
	}
}

func TestLoop_TimersFireOnTheLoopAndNotEarly(t *testing.T) {
	type shot struct{ late time.Duration }
	shots := make(chan shot, 100)
	l := start(t)
	var w *Wheel
	want := map[uint32]int64{}
	l.Do(func() {
		w = l.NewWheel(func(slot uint32) { shots <- shot{time.Duration(Clock() - want[slot])} })
		for i := range uint32(20) {
			want[i] = Clock() + int64(i)*int64(time.Millisecond)
			w.Set(i, want[i])
		}
	})
	var worst time.Duration
	for range 20 {
		s := <-shots
		if s.late < 0 {
			t.Fatalf("fired %v early", -s.late)
		}
		worst = max(worst, s.late)
	}
	t.Logf("at most %v late", worst)
}

func TestLoop_TimersFireWithoutEpollPwait2Too(t *testing.T) {
	l := start(t, func(l *Loop) { l.poller.noPwait = true })
	fired := make(chan struct{})
	l.Do(func() {
		l.NewWheel(func(uint32) { close(fired) }).Set(1, Clock()+2e6)
	})
	<-fired
}

func TestLoop_SleepsWhenThereIsNothingToDo(t *testing.T) {
	l := start(t, func(l *Loop) { l.NewWheel(func(uint32) {}).Set(1, Clock()+int64(time.Hour)) })
	for range 100 { // some life, so that it believes in polling
		l.Do(func() {})
	}
	before := l.Stats()
	for before.Posts < 100 { // what a loop counts shows only when it blocks: the rounds of before are not those of after
		runtime.Gosched()
		before = l.Stats()
	}
	<-time.After(300 * time.Millisecond)
	after := l.Stats()
	// A cascade of the wheel may fall into it; anything more would be busy waiting.
	if rounds := after.Loops - before.Loops; rounds > 8 {
		t.Fatalf("%d rounds in 300 ms of nothing", rounds)
	}
}

func TestLoop_StatsTellWhatHappened(t *testing.T) {
	l := start(t)
	for range 50 {
		l.Do(func() {})
	}
	for l.Stats().Posts != 50 || l.Stats().Loops == 0 || l.Stats().Waits == 0 {
		runtime.Gosched()
	}
}

func TestLoop_AfterStopNothingIsTakenAndNothingIsLeftOpen(t *testing.T) {
	before := openFDs(t)
	for range 20 {
		l, err := New(0)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { // ends by Stop
			defer close(ended)
			l.Run()
		}()
		ran := false
		l.Do(func() {
			p, ok := l.GetPipe()
			if !ok {
				t.Error("no pipe")
			}
			l.PutPipe(p)
		})
		var wg sync.WaitGroup
		var said, did atomic.Int64
		for range 4 {
			wg.Go(func() {
				for l.Post(func() { did.Add(1) }) {
					said.Add(1)
				}
			})
		}
		l.Stop()
		l.Stop()
		<-ended
		wg.Wait()
		if said.Load() != did.Load() {
			t.Fatalf("%d posts were taken, %d were run", said.Load(), did.Load())
		}
		if l.Do(func() { ran = true }) || l.Post(func() { ran = true }) || ran {
			t.Fatal("a stopped loop took work")
		}
		l.Stop()
	}
	if after := openFDs(t); after != before {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestLoop_StopsFromItsOwnGoroutine(t *testing.T) {
	l := start(t)
	l.Do(func() { l.Stop() })
	for l.Post(func() {}) {
		runtime.Gosched()
	}
}

func TestLoop_StoppedBeforeRunIsClosedAndNeverRuns(t *testing.T) {
	before := openFDs(t)
	never, err := New(0)
	if err != nil {
		t.Fatal(err)
	}
	waiter := make(chan bool)
	go func() { waiter <- never.Do(func() {}) }() // ends by Stop
	never.Stop()
	if <-waiter {
		t.Fatal("a function ran on a loop that never ran")
	}
	never.Run() // returns at once
	if after := openFDs(t); after != before {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestLoop_DoOnItsOwnLoopIsABug(t *testing.T) {
	l := start(t)
	l.Do(func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic: it would wait for itself")
			}
		}()
		l.Do(func() {})
	})
}

func TestLoop_APanicInAHandlerEndsTheProcess(t *testing.T) {
	if os.Getenv("TURNOUT_TEST_PANIC") != "" {
		l, _ := New(0)
		l.Handle(1, func(Token, Events) { panic("the handler's own words") })
		l.Again(MakeToken(1, 0, 0, 0))
		go l.Run()
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "TURNOUT_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("the handler's own words")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestLoop_AnEventWithoutAHandlerSaysSo(t *testing.T) {
	l, err := New(0)
	if err != nil {
		t.Fatal(err)
	}
	l.Again(MakeToken(9, 0, 0, 0))
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "BUG") || !strings.Contains(s, "kind 9") {
			t.Fatalf("panic %q", s)
		}
		if l.Post(func() {}) {
			t.Fatal("a loop that panicked takes work")
		}
	}()
	l.Run()
}

func TestLoop_AllocatesNothingPerEventTimerAndAgain(t *testing.T) {
	const turns = 2000
	a, b := pair(t)
	var before, after runtime.MemStats
	done := make(chan struct{})
	start(t, func(l *Loop) {
		n := 0
		tok := MakeToken(1, 0, 0, 0)
		var w *Wheel
		w = l.NewWheel(func(slot uint32) { w.Set(slot, l.Now()+int64(time.Millisecond)) })
		w.Set(7, l.Now())
		msg := []byte("x")
		l.Handle(1, func(Token, Events) {
			for {
				if _, errno := Recv(a, l.Buffer()); errno != 0 {
					break
				}
			}
			n++
			switch {
			case n == 100:
				runtime.ReadMemStats(&before)
			case n == 100+turns:
				runtime.ReadMemStats(&after)
				close(done)
			case n > 100+turns:
				return
			}
			if l.Del(a) != nil || l.Add(a, tok) != nil {
				t.Error("Del and Add failed")
			}
			if n%3 == 0 {
				l.Again(tok)
			} else {
				Send(b, msg)
			}
			h := l.GetBuf(100)
			copy(l.Bytes(h), msg)
			l.PutBuf(h)
		})
		if err := l.Add(a, tok); err != nil {
			t.Fatal(err)
		}
	})
	<-done
	if n := after.Mallocs - before.Mallocs; n > turns/100 { // the runtime's own
		t.Fatalf("%d allocations in %d turns", n, turns)
	}
}

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// two is a service with the pools blue (b1) and green (g1).
func two(t *testing.T, service string) *proxy.Spec {
	return specOf(t, []string{"  " + service, "    blue b1", "    green g1"})
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		proxy.Anchor()
		f(t)
		time.Sleep(24 * time.Hour) // whatever was set going ends
	})
}

func must(t *testing.T, sw *proxy.Switch, ch proxy.Change) *proxy.Operation {
	t.Helper()
	op, err := sw.Apply(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// TestSwapBack_IsNotHitByCutsOfBefore: the deadline has come and the loops were told to cut blue, but have not
// come to it yet; then a swap leads back to blue, and a client starts there. That client used to be cut.
func TestSwapBack_IsNotHitByCutsOfBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, two(t, "web"), &proxy.Memory{})
		connect := func() *client {
			c := p.arrive("c", "web", 0)
			p.claim(c)
			return c
		}
		p.mu.Lock()
		old := connect()
		p.mu.Unlock()
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Drain: time.Second})
		time.Sleep(time.Second - time.Millisecond)
		p.mu.Lock()
		p.late = true
		p.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		var fresh *client
		p.mu.Lock()
		p.store = func() {
			if fresh == nil {
				fresh = connect()
			}
		}
		p.mu.Unlock()
		must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web"})
		p.mu.Lock()
		defer p.mu.Unlock()
		if old.why != "cut" {
			t.Errorf("the old client is %q; the test wants it cut at the deadline", old.why)
		}
		if fresh.state != started || fresh.srv.Pool != "blue" {
			t.Errorf("the client that started after the swap back is in state %d, ended: %q", fresh.state, fresh.why)
		}
	})
}

// TestProof_DoesNotTakeALaterStartForItsOwn: a change of weights comes between the swap and the first start.
func TestProof_DoesNotTakeALaterStartForItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, two(t, "web"), &proxy.Memory{})
		connect := func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.claim(p.arrive("c", "web", 0))
		}
		connect()
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web"})
		time.Sleep(time.Second)
		connect()
		sw.Refresh(op)
		first := op.View().Proofs[0].FirstStartNew
		if first.IsZero() || first.Before(op.View().Proofs[0].At) {
			t.Errorf("first start on new %v, swapped %v", first, op.View().Proofs[0].At)
		}
		must(t, sw, proxy.Change{Verb: proxy.VerbWeight, Target: "web", Pool: "green", Server: "g1", Weight: 2})
		time.Sleep(time.Second)
		connect()
		sw.Refresh(op)
		if again := op.View().Proofs[0].FirstStartNew; !again.Equal(first) {
			t.Errorf("first start on new was %v, is %v", first, again)
		}
	})
}

func TestStop_ComesBackWhenHandOversHaveGoneBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, j := newPlane(1), &journal{}
		sw := doorOn(t, p, j, two(t, "web exclusive"), &proxy.Memory{})
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", StopOld: true})
		synctest.Wait()
		p.mu.Lock()
		c := p.arrive("c", "web", 0)
		p.claim(c)
		p.mu.Unlock()
		if c.state != waiting {
			t.Fatal("the client is not held")
		}
		sw.Stop("test")
		if v := op.View(); v.State != proxy.StateFailed || c.state != started || c.srv.Pool != "blue" {
			t.Errorf("the hand-over is %s and the client in state %d", v.State, c.state)
		}
		if sw.Timers() != 0 {
			t.Error("timers are left behind")
		}
		records := j.history()
		if last := records[len(records)-1]; last.Verb != proxy.VerbStop {
			t.Errorf("the last record is %s, not the stop", last.Verb)
		}
	})
}

// TestExpire_LeavesANewerHold: the deadline comes in the very moment in which the hold is set anew. Its timer has
// seen the old hold, and waits for its turn.
func TestExpire_LeavesANewerHold(t *testing.T) {
	for range 50 {
		inBubble(t, func(t *testing.T) {
			j := &journal{before: func() { // Switch.mu is held
				for range 1000 {
					runtime.Gosched()
				}
			}}
			sw := doorOn(t, newPlane(1), j, two(t, "web"), &proxy.Memory{})
			must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web", For: 10 * time.Second})
			time.Sleep(10 * time.Second)
			must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web", For: time.Hour})
			synctest.Wait()
			if sw.Current().Service("web").Hold == nil {
				t.Fatal("the old hold's deadline has ended the new one")
			}
		})
	}
}

func TestOperation_RefusedOnesAreNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), &proxy.Memory{})
		op := must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web", For: time.Hour})
		for range 1000 { // a script that asks for what cannot be
			for _, verb := range []proxy.Verb{proxy.VerbSwap, proxy.VerbDrain} {
				if _, err := sw.Apply(t.Context(), proxy.Change{Verb: verb, Target: "web", To: "red", Pool: "red"}); err == nil {
					t.Fatal("there is no such pool")
				}
			}
		}
		if sw.Operation(op.View().ID) != op {
			t.Error("refused changes have pushed out a real one")
		}
	})
}

func TestSwitch_ALooseSubscriberLosesEventsAndSeesTheGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), &proxy.Memory{})
		events, leave := sw.Subscribe()
		for range 300 {
			must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web"})
		}
		n, last := 0, uint64(0)
		for len(events) > 0 {
			e := <-events
			if e.Seq <= last {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			n, last = n+1, e.Seq
		}
		must(t, sw, proxy.Change{Verb: proxy.VerbRelease, Target: "web"})
		if e := <-events; n >= 300 || e.Seq == last+1 {
			t.Errorf("%d events, then number %d after %d: no gap to be seen", n, e.Seq, last)
		}
		leave()
		must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web"})
		if len(events) > 0 {
			t.Error("an event after the subscription had ended")
		}
	})
}

// slots lists what each listener slot leads to.
func slots(snap *proxy.Snapshot) []string {
	var out []string
	snap.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		out = append(out, fmt.Sprintf("%d %s %s", slot, spec, svc.Spec.Name))
	})
	return out
}

// TestReload_ListenersThatStayKeepTheirSlot: a slot is an open socket; the fake plane panics when one leads to
// another address.
func TestReload_ListenersThatStayKeepTheirSlot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := func(a, b string) *proxy.Spec {
			body := []string{"  a listen=" + a, "    blue b1"}
			if b != "" {
				body = append(body, "  b listen="+b, "    blue b1")
			}
			return specOf(t, body)
		}
		sw := doorOn(t, newPlane(1), &journal{}, spec(":1,:2", ":3,h:0,h:0"), &proxy.Memory{})
		for _, tt := range []struct {
			a, b string
			want []string
		}{
			{":2,:1", ":3,h:0,h:0", []string{"0 :1 a", "1 :2 a", "2 :3 b", "3 h:0 b", "4 h:0 b"}},
			{":3,:2", ":1,h:0,h:0", []string{"0 :1 b", "1 :2 a", "2 :3 a", "3 h:0 b", "4 h:0 b"}}, // sockets change hands
			{":3,h:0", ":1,h:0", []string{"0 :1 b", "2 :3 a", "3 h:0 b", "5 h:0 a"}},              // but not where the kernel chose the port
			{":3", "", []string{"2 :3 a"}},
			{":3,:1", "", []string{"2 :3 a", "6 :1 a"}}, // closed in between, so another socket
		} {
			must(t, sw, proxy.Change{Verb: proxy.VerbReload, Spec: spec(tt.a, tt.b)})
			if got := slots(sw.Current()); !slices.Equal(got, tt.want) {
				t.Errorf("a on %s, b on %s: %v, want %v", tt.a, tt.b, got, tt.want)
			}
		}
	})
}

// TestReload_ServicesThatStayAreTheSame: services that stay are the same values, so that loops see no change of steering.
func TestReload_ServicesThatStayAreTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, specOf(t, []string{"  a", "    blue b1", "    green g1", "  b", "    blue b1"}), &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "a"})
		before := sw.Current()
		must(t, sw, proxy.Change{Verb: proxy.VerbReload, Spec: specOf(t, []string{"  a", "    blue b1", "    green g1", "  b", "    blue b1 b2"})})
		after := sw.Current()
		if before.Service("a") != after.Service("a") {
			t.Error("a is another value")
		}
		b, c := before.Service("b"), after.Service("b")
		if b == c || b.Live != c.Live || b.Pools[0].Members[0].Server != c.Pools[0].Members[0].Server {
			t.Error("b has lost its counters or its server")
		}
	})
}

// TestStart_FailsWhenTheServerWasSealedMeanwhile: the claim was made from a snapshot that is gone.
func TestStart_FailsWhenTheServerWasSealedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), &proxy.Memory{})
		c := sw.Claimer(0)
		old := sw.Current()
		got, _ := c.Claim(old.At(0), 0, 0)
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web"})
		synctest.Wait()
		if c.Start(0, got.Server, old.Revision) {
			t.Fatal("P1: started on the old side")
		}
		if n := got.Server.Counts(); n.Dialing != 0 || n.Connections != 0 || n.Resteered != 1 {
			t.Errorf("%+v", n)
		}
		// A change elsewhere does not take a dial back.
		got, _ = c.Claim(sw.Current().At(0), 0, 0)
		rev := sw.Current().Revision
		must(t, sw, proxy.Change{Verb: proxy.VerbFreeze})
		if !c.Start(0, got.Server, rev) {
			t.Error("a dial to the active side was taken back")
		}
		c.End(got.Server, false)
	})
}

// TestApply_GivesUpWithItsCaller: the caller of a swap goes away while the gate asks.
func TestApply_GivesUpWithItsCaller(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, two(t, "web"), &proxy.Memory{})
		p.is["web/green/g1"] = deaf
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sw.Apply(ctx, proxy.Change{Verb: proxy.VerbSwap, Target: "web"})
		var r *proxy.Refusal
		if !errors.As(err, &r) || r.Code != proxy.CodeGate || sw.Busy() != 0 || sw.Current().Revision != 1 {
			t.Errorf("%v, %d busy, revision %d", err, sw.Busy(), sw.Current().Revision)
		}
	})
}

// TestProof_StoredIsNeverBehindTheFirstStart: a loop sees the next snapshot, and starts, before the clock is read
// behind the store. The proof used to say that the first start on new came before the swap.
func TestProof_StoredIsNeverBehindTheFirstStart(t *testing.T) {
	at := time.Now()
	for _, tt := range []struct{ stored, lastOld, firstNew, wantAt, wantOverlap int64 }{
		{stored: 100, lastOld: 90, firstNew: 120, wantAt: 100},
		{stored: 100, lastOld: 90, firstNew: 95, wantAt: 95},
		{stored: 100, lastOld: 0, firstNew: 95, wantAt: 95},
		{stored: 100, lastOld: 90, firstNew: 0, wantAt: 100},
		{stored: 100, lastOld: 99, firstNew: 98, wantAt: 98, wantOverlap: 1}, // not by this door; but it would be told
	} {
		p := proxy.Settled(at, tt.stored, tt.lastOld, tt.firstNew)
		if got := tt.stored + int64(p.At.Sub(at)); got != tt.wantAt || int64(p.Overlap) != tt.wantOverlap {
			t.Errorf("%+v: stored at %d, overlap %d", tt, got, p.Overlap)
		}
		if p.LastStartOld.IsZero() != (tt.lastOld == 0) || tt.wantOverlap == 0 && p.LastStartOld.After(p.At) {
			t.Errorf("%+v: last start on old %v, swapped %v", tt, p.LastStartOld, p.At)
		}
		if p.FirstStartNew.IsZero() != (tt.firstNew == 0) || tt.firstNew != 0 && p.FirstStartNew.Before(p.At) {
			t.Errorf("%+v: first start on new %v, swapped %v", tt, p.FirstStartNew, p.At)
		}
	}
}

// P8 on a machine whose clock is wrong: it is set back a week while the door is down in a hold of a minute.
func TestClock_SetBackWhileNoDoorWasThereDoesNotPutOffADeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		later := time.Now().Add(7 * 24 * time.Hour) // that is what the clock said
		memory := &proxy.Memory{Services: map[string]*proxy.ServiceMemory{"web": {
			Active:      "blue",
			Hold:        &proxy.Hold{Since: later, Until: later.Add(time.Minute), Wait: time.Second},
			Maintenance: &proxy.Maintenance{Since: later, Until: later.Add(2 * time.Minute)},
			Watch:       &proxy.Watch{Since: later, Until: later.Add(3 * time.Minute)},
		}}}
		sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), memory)
		if svc := sw.Current().Service("web"); svc.Hold == nil || svc.Maintenance == nil {
			t.Fatal("the hold or the maintenance is not there after the restart")
		}
		if left := time.Until(sw.Current().Service("web").Watch.Until); left != 3*time.Minute {
			t.Errorf("the watch lasts for another %s", left)
		}
		time.Sleep(time.Minute + time.Second)
		if svc := sw.Current().Service("web"); svc.Hold != nil || svc.Maintenance == nil {
			t.Errorf("a minute later: hold %+v, maintenance %+v", svc.Hold, svc.Maintenance)
		}
		time.Sleep(time.Minute)
		if svc := sw.Current().Service("web"); svc.Maintenance != nil {
			t.Errorf("two minutes later: maintenance %+v", svc.Maintenance)
		}
	})
}

// The same while the door runs: its deadlines and proofs carry the monotonic clock, which nobody sets.
func TestClock_DeadlinesOfARunningDoorAreMonotonic(t *testing.T) {
	sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), &proxy.Memory{})
	must(t, sw, proxy.Change{Verb: proxy.VerbHold, Target: "web", For: time.Hour})
	must(t, sw, proxy.Change{Verb: proxy.VerbMaintenance, Target: "web", On: true, For: time.Hour})
	svc := sw.Current().Service("web")
	for _, until := range []time.Time{svc.Hold.Until, svc.Maintenance.Until} {
		if !strings.Contains(until.String(), " m=") {
			t.Errorf("%s has no monotonic part: a clock that jumps would move this deadline", until)
		}
	}
}

// What drains do is put off until the change that began or ended them is answered, and never for long.
func TestDrain_LeavesTheProcessorsToTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, two(t, "web"), &proxy.Memory{})
		state := func(op *proxy.Operation) proxy.State {
			synctest.Wait()
			return op.View().State
		}
		answered := make(chan struct{})
		first := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Answered: answered})
		if s := state(first); s != proxy.StateDraining {
			t.Errorf("before its answer it is %s", s)
		}
		close(answered)
		if s := state(first); s != proxy.StateDone {
			t.Errorf("after its answer it is %s", s)
		}
		second := must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web", Answered: make(chan struct{})})
		if s := state(second); s != proxy.StateDraining {
			t.Errorf("the second, before its answer, is %s", s)
		}
		time.Sleep(time.Second)
		if s := state(second); s != proxy.StateDone {
			t.Errorf("nobody takes its answer, and a second later it is %s", s)
		}
	})
}

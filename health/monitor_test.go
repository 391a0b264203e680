package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a check that answers as it is told, in the bubble's time.
type fake struct {
	mu    sync.Mutex
	err   error
	hang  bool
	value int
	asked []time.Time
	open  int // questions that are not answered
	most  int // at a time
	// takes, if set, is how long the nth answer takes, and what it is.
	takes func(n int) (time.Duration, error)
}

func (f *fake) set(err error, hang bool) { f.mu.Lock(); f.err, f.hang = err, hang; f.mu.Unlock() }

func (f *fake) atATime() int { f.mu.Lock(); defer f.mu.Unlock(); return f.most }

func (f *fake) times() []time.Time { f.mu.Lock(); defer f.mu.Unlock(); return slices.Clone(f.asked) }

func (f *fake) ask(ctx context.Context, t Target) (result, error) {
	f.mu.Lock()
	f.asked = append(f.asked, time.Now())
	err, hang, v, n, takes := f.err, f.hang, f.value, len(f.asked), f.takes
	f.open++
	f.most = max(f.most, f.open)
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.open--; f.mu.Unlock() }()
	if takes != nil {
		var pause time.Duration
		pause, err = takes(n)
		time.Sleep(pause)
	}
	if hang {
		<-ctx.Done()
		return result{}, ctx.Err()
	}
	return result{good: true, status: "fine", vars: redisVars{Body: map[string]any{"n": v}}}, err
}

func (f *fake) check(name string, spec Spec) *Check {
	spec.Name = name
	c := &Check{spec: spec, name: "fake", probe: f}
	if spec.Value != "" {
		c.value, _ = compile("value", spec.Value, redisVars{}, false)
	}
	return c
}

type told struct {
	mu  sync.Mutex
	all []string
}

func (h *told) tell(t Transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf("%s %s>%s %s %s", t.ID, t.From, t.To, t.Check, t.Reason))
}

func (h *told) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.all, want) {
		t.Errorf("told %q, want %q", h.all, want)
	}
	h.all = nil
}

func TestMonitor_TellsTransitionsOnceAndWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{err: errors.New("lock is held")}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{})}})
		time.Sleep(10 * time.Second)
		h.want(t, "a unknown>waiting up lock is held")
		f.set(nil, false)
		time.Sleep(10 * time.Second)
		h.want(t, "a waiting>ready  ")
		f.set(errors.New("gone"), false)
		time.Sleep(10 * time.Second)
		h.want(t, "a ready>failing up gone")
		m.Excuse("a")
		h.want(t, "a failing>waiting up gone")
		if r := m.Snapshot()[0]; r.State != Waiting || len(r.Checks[0].Last) != lastAnswers || r.Checks[0].Last[4].Reason != "gone" {
			t.Errorf("%+v", r)
		}
	})
}

func TestMonitor_OneFailureIsNoFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{})}, Rise: 1, Fall: 2, Interval: time.Second, Fast: time.Second})
		time.Sleep(5 * time.Second)
		h.want(t, "a unknown>ready  ")
		before := len(f.times())
		f.set(errors.New("once"), false)
		for len(f.times()) == before {
			time.Sleep(10 * time.Millisecond)
		}
		f.set(nil, false)
		time.Sleep(5 * time.Second)
		h.want(t)
	})
}

func TestMonitor_AHangIsFoundWithinFallTimesIntervalPlusTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{})}, Interval: time.Second, Timeout: 500 * time.Millisecond})
		time.Sleep(5 * time.Second)
		h.want(t, "a unknown>ready  ")
		f.set(nil, true)
		time.Sleep(3*time.Second + 500*time.Millisecond)
		h.want(t, "a ready>failing up no answer within 500ms")
	})
}

// A timeout may be longer than the interval. Then the server is asked on while it owes an answer, so that what hangs is not
// found only after fall x timeout.
func TestMonitor_AHangIsFoundInTimeAlsoWhenTheTimeoutIsLongerThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{Timeout: 10 * time.Second})}, Interval: time.Second})
		time.Sleep(5 * time.Second)
		h.want(t, "a unknown>ready  ")
		f.set(nil, true)
		time.Sleep(3*time.Second + 10*time.Second)
		h.want(t, "a ready>failing up no answer within 10s")
		time.Sleep(time.Minute)
		if n := f.atATime(); n != 3 {
			t.Errorf("%d questions at a time, want as many as failures count", n)
		}
		f.set(nil, false)
		time.Sleep(time.Minute)
		if r, _ := m.Get("a"); r.State != Ready {
			t.Errorf("it answers again, and is %s", r.State)
		}
	})
}

// What is answered late says how the server was. It does not outweigh what was asked later and is answered already.
func TestMonitor_ALateAnswerDoesNotOutweighALaterQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		f.takes = func(n int) (time.Duration, error) {
			if n > 5 && n%2 == 0 {
				return 3 * time.Second, errors.New("late") // every other one
			}
			return 0, nil
		}
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{Timeout: 10 * time.Second})}, Interval: time.Second, Fall: 2})
		time.Sleep(time.Minute)
		h.want(t, "a unknown>ready  ")
	})
}

func TestMonitor_ProgramsAndQueriesAreNotRunTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []string{"exec", "postgres"} {
			f := &fake{takes: func(int) (time.Duration, error) { return 3 * time.Second, nil }}
			m := NewMonitor(nil)
			c := f.check("slow", Spec{Timeout: 10 * time.Second})
			c.name = kind
			m.Put("a", Plan{Checks: []*Check{c}, Interval: time.Second})
			time.Sleep(time.Minute)
			for range 10 {
				m.Ask("a")
				time.Sleep(time.Second)
			}
			if r, _ := m.Get("a"); r.State != Ready || f.atATime() != 1 || len(f.times()) < 20 {
				t.Errorf("%s: %s, %d at a time, asked %d times", kind, r.State, f.atATime(), len(f.times()))
			}
			m.Close()
		}
	})
}

func TestMonitor_AHangingCheckBlocksNoOtherAndAllMustPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang, quick, h := &fake{hang: true}, &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{hang.check("slow", Spec{Timeout: time.Hour}), quick.check("up", Spec{})}})
		m.Put("b", Plan{Checks: []*Check{quick.check("up", Spec{})}})
		time.Sleep(20 * time.Second)
		h.want(t, "b unknown>ready  ")
		if n := len(quick.times()); n < 38 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestMonitor_StartsStaggeredAndKeepsItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMonitor(nil)
		defer m.Close()
		var all []*fake
		begin := time.Now()
		for i := range 50 {
			f := &fake{}
			all = append(all, f)
			m.Put(fmt.Sprint(i), Plan{Checks: []*Check{f.check("up", Spec{})}, Rise: 1})
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		first := map[time.Duration]bool{}
		for _, f := range all {
			times := f.times()
			first[times[0].Sub(begin)] = true
			if times[0].Sub(begin) > 200*time.Millisecond {
				t.Errorf("first after %v", times[0].Sub(begin))
			}
			for i := range times[1:] {
				if d := times[i+1].Sub(times[i]); d > time.Second || d < 900*time.Millisecond {
					t.Fatalf("%v between two", d)
				}
			}
		}
		if len(first) < 40 {
			t.Errorf("only %d different starts", len(first))
		}
	})
}

func TestMonitor_AReloadKeepsWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		plan := func(address string) Plan {
			return Plan{Target: Target{Name: "s", Address: address}, Checks: []*Check{f.check("up", Spec{})}}
		}
		m.Set(map[string]Plan{"a": plan("1"), "b": plan("1"), "c": plan("1")})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		h.mu.Lock()
		h.all = nil
		h.mu.Unlock()
		m.Set(map[string]Plan{"a": plan("1"), "b": plan("2")})
		states := fmt.Sprint()
		for _, r := range m.Snapshot() {
			states += r.ID + " " + r.State.String() + " "
		}
		if states != "a ready b unknown " {
			t.Error(states)
		}
		time.Sleep(5 * time.Second)
		h.want(t, "b unknown>ready  ")
	})
}

// A file with a mistake in a check must not be worse than a server that dies: what serves goes on until it was shown dead,
// and what is dead is not taken for alive because it is asked something else.
func TestMonitor_AnotherCheckLeavesWhatIsKnownOpenAndWhatIsDownDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad, h := &fake{}, &fake{err: errors.New("no such page")}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		with := func(names map[string]*fake) Plan {
			var p Plan
			for _, name := range slices.Sorted(maps.Keys(names)) {
				p.Checks = append(p.Checks, names[name].check(name, Spec{}))
			}
			return p
		}
		m.Put("a", with(map[string]*fake{"up": good}))
		time.Sleep(5 * time.Second)
		h.want(t, "a unknown>ready  ")
		m.Put("a", with(map[string]*fake{"up": good, "mistyped": bad}))
		h.want(t, "a ready>unknown  its checks have changed")
		time.Sleep(5 * time.Second)
		h.want(t, "a unknown>failing mistyped no such page")
		silent := &fake{hang: true}
		m.Put("a", with(map[string]*fake{"up": good, "new": silent}))
		time.Sleep(500 * time.Millisecond)
		if r, _ := m.Get("a"); r.State != Failing || r.Check != "mistyped" || r.Reason != "no such page" {
			t.Errorf("a new check has not spoken yet, and it is %+v", r)
		}
		h.want(t)
		silent.set(nil, false)
		time.Sleep(5 * time.Second)
		if r, _ := m.Get("a"); r.State != Ready {
			t.Errorf("a new check passes, and it is %+v", r)
		}
	})
}

func TestMonitor_ASlowListenerHoldsNobodyUpAndMissesNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		var got []State
		release := make(chan struct{})
		m := NewMonitor(func(tr Transition) { got = append(got, tr.To); <-release })
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{})}})
		for range 3 {
			f.set(nil, false)
			time.Sleep(5 * time.Second)
			f.set(errors.New("x"), false)
			time.Sleep(5 * time.Second)
		}
		if r, _ := m.Get("a"); r.State != Failing {
			t.Error(r.State)
		}
		close(release)
		synctest.Wait()
		m.Close()
		if !slices.Equal(got, []State{Ready, Failing}) {
			t.Error(got)
		}
	})
}

func TestMonitor_NothingIsProvenWithoutHistoryAndStandingStillFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{value: 7}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		c := f.check("progress", Spec{Value: "body.n", Must: "advance", Within: 5 * time.Second})
		m.Put("a", Plan{Checks: []*Check{c}, Rise: 1, Fall: 1})
		time.Sleep(4 * time.Second)
		h.want(t)
		f.mu.Lock()
		f.value++
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		h.want(t, "a unknown>ready  ")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r, _ := m.Get("a"); r.State != Failing || r.Check != "progress" {
			t.Errorf("%+v", r)
		}
	})
}

func TestProgress_SaysStandsFellAndNotYet(t *testing.T) {
	now := time.Now()
	c := &Check{spec: Spec{Must: "advance", Within: time.Minute}}
	p := c.NewProgress(func() time.Time { return now })
	for _, step := range []struct {
		after   time.Duration
		value   any
		pending bool
		reason  string
	}{
		{0, 812, true, "not enough history yet: at 812 for 0s, must advance within 1m0s"},
		{time.Second, "0x32d", false, ""},
		{time.Minute, 813, false, ""},
		{time.Second, 813, false, "stands at 813 for 1m1s, must advance within 1m0s"},
		{time.Second, 640, false, "fell from 813 to 640"},
		{time.Second, 640, false, "fell from 813 to 640"},
		{time.Second, 641.5, false, ""},
		{time.Second, "soon", false, `value: "soon" is not a number`},
		{time.Second, "1e999999999", false, `value: "1e999999999" is not a number`},
		{time.Second, nil, false, "value: is missing or null"},
	} {
		now = now.Add(step.after)
		a := p.Judge(Answer{OK: true, Value: step.value})
		if a.Pending != step.pending || a.Reason != step.reason || a.OK != (step.reason == "") {
			t.Errorf("%v: %+v, want %q", step.value, a, step.reason)
		}
	}
	if ok, why := Fresh("0x10", 20, 3); ok || why != "0x10 is 4 behind 20, want at most 3" {
		t.Error(why)
	}
	if ok, _ := Fresh("0/16B3748", "0/16B3749", 1); !ok {
		t.Error("one behind is fresh")
	}
}

func TestMonitor_AFailedDialIsLookedIntoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		port := &fake{err: errors.New("connect: connection refused")}
		was := connectCheck
		connectCheck = port.check("connect", Spec{})
		defer func() { connectCheck = was }()
		m.Put("a", Plan{Checks: []*Check{f.check("role", Spec{})}, Interval: time.Hour, Fast: 100 * time.Millisecond, Rise: 1})
		time.Sleep(time.Second)
		h.want(t, "a unknown>ready  ")
		m.Suspect("a")
		time.Sleep(50 * time.Millisecond)
		h.want(t) // one failure is no fall
		time.Sleep(250 * time.Millisecond)
		h.want(t, "a ready>failing connect connection refused")
		port.set(nil, false)
		time.Sleep(time.Hour + time.Second)
		h.want(t, "a failing>ready  ")
		if r, _ := m.Get("a"); len(r.Checks) != 1 {
			t.Errorf("it goes on asking: %+v", r.Checks)
		}
	})
}

func TestMonitor_WhatAGateHasSeenPassIsReadyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := &fake{err: errors.New("lock is held")}, &told{}
		m := NewMonitor(h.tell)
		defer m.Close()
		m.Put("a", Plan{Checks: []*Check{f.check("up", Spec{})}, Rise: 5})
		time.Sleep(10 * time.Second)
		h.want(t, "a unknown>waiting up lock is held")
		f.set(nil, false)
		m.Confirm("a")
		h.want(t, "a waiting>ready  ")
		f.set(errors.New("gone"), false)
		time.Sleep(10 * time.Second)
		h.want(t, "a ready>failing up gone")
	})
}

func TestCheck_IsFreshAgainstAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, other := &fake{value: 100}, &fake{value: 103}
		ref := other.check("head", Spec{Value: "body.n", Address: "10.0.0.1:1"})
		ref.turn = make(chan struct{}, 1)
		c := mine.check("fresh", Spec{Value: "body.n", Reference: ref, Behind: 3})
		if a := c.Run(t.Context(), Target{}); !a.OK {
			t.Errorf("three behind: %+v", a)
		}
		other.mu.Lock()
		other.value = 104
		other.mu.Unlock()
		time.Sleep(time.Second)
		if a := c.Run(t.Context(), Target{}); a.OK || a.Reason != "100 is 4 behind 104, want at most 3" {
			t.Errorf("four behind: %+v", a)
		}
		for range 10 {
			c.Run(t.Context(), Target{})
		}
		if n := len(other.times()); n != 2 {
			t.Errorf("the reference was asked %d times", n)
		}
		other.set(errors.New("connection refused"), false)
		time.Sleep(time.Second)
		if a := c.Run(t.Context(), Target{}); a.OK || !a.Pending || a.Reason != "nothing to compare with: head: connection refused" {
			t.Errorf("no reference: %+v", a)
		}
	})
}

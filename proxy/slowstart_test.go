package proxy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// claimsOfB counts how many of n claims went to server b.
func claimsOfB(sw *proxy.Switch, n int) int {
	return strings.Count(picks(sw.Claimer(0), sw.Current().Service("web"), n, 0), "b")
}

// wantTenths checks that b gets k tenths of what a gets.
func wantTenths(t *testing.T, sw *proxy.Switch, when string, k int) {
	t.Helper()
	if n := claimsOfB(sw, 10*(10+k)); n != 10*k {
		t.Errorf("%s: b got %d of %d, want %d: %d tenths of its share", when, n, 10*(10+k), 10*k, k)
	}
	m := sw.Current().Service("web").Pool("blue").Members[1]
	if percent, _, under := m.SlowStart(); percent != 10*k || under != (k < 10) {
		t.Errorf("%s: told as %d %%, under way %v; want %d %%", when, percent, under, 10*k)
	}
}

func TestSlowStart_AServerMadeReadyGetsATenthMoreEachNinthOfTheTime(t *testing.T) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections} {
		inBubble(t, func(t *testing.T) {
			sw := doorOn(t, newPlane(1), &journal{}, one(balance, equal(2)...), &proxy.Memory{})
			must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b"})
			op := must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "b", SlowStart: 90 * time.Second})
			if v := op.View(); !strings.Contains(strings.Join(v.Plan, "\n"), "slow start of 1m30s") {
				t.Errorf("said %q", v.Plan)
			}
			if balance == proxy.LeastConnections { // each claim is given up at once, so all are empty: ties only
				time.Sleep(91 * time.Second)
				wantTold(t, sw, 100)
				return
			}
			revision := sw.Current().Revision
			time.Sleep(time.Second)
			for k := 1; k <= 10; k++ {
				wantTenths(t, sw, time.Duration(10*k-10).String(), k)
				time.Sleep(10 * time.Second)
			}
			if sw.Current().Revision != revision {
				t.Error("its steps count as changes")
			}
		})
	}
}

func wantTold(t *testing.T, sw *proxy.Switch, percent int) {
	t.Helper()
	m := sw.Current().Service("web").Pool("blue").Members[1]
	if p, _, _ := m.SlowStart(); p != percent {
		t.Errorf("told as %d %%, want %d %%", p, percent)
	}
}

// With connections that stay, a server in its slow start gets a new one only where it has far fewer.
func TestSlowStart_LeastConnectionsCountsATenthOfTheWeight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.LeastConnections, equal(2)...)
		spec.Services[0].SlowStart = time.Minute
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b"})
		must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "b"})
		c, svc, b := sw.Claimer(0), sw.Current().Service("web"), 0
		for range 110 {
			got, verdict := c.Claim(svc, 0, 0)
			if verdict != proxy.Dial {
				t.Fatal(verdict)
			}
			if got.Server.Name == "b" {
				b++
			}
		}
		if b != 10 {
			t.Errorf("b got %d of 110 that stay, want 10", b)
		}
	})
}

func TestSlowStart_OfTheServiceHoldsForWhoFailedAndForWhoWasDrained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.RoundRobin, equal(2)...)
		spec.Services[0].SlowStart = 90 * time.Second
		spec.Services[0].Health = &proxy.HealthSpec{Checks: []string{"up"}}
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		is := func(state proxy.HealthState) {
			sw.SetHealth("web", "blue", "b", proxy.Health{State: state, Since: time.Now(), Reason: "test"})
		}
		is(proxy.HealthReady) // for the first time since the door started: it serves already
		wantTenths(t, sw, "at the start", 10)
		is(proxy.HealthFailing)
		is(proxy.HealthReady)
		time.Sleep(21 * time.Second)
		wantTenths(t, sw, "ready for 21 s", 3)
		is(proxy.HealthFailing)
		wantTold(t, sw, 100)
		is(proxy.HealthReady)
		wantTenths(t, sw, "ready anew", 1)

		reloaded := one(proxy.RoundRobin, equal(2)...)
		reloaded.Services[0].SlowStart = 90 * time.Second
		reloaded.Services[0].Health = &proxy.HealthSpec{Checks: []string{"up"}}
		reloaded.Services[0].Drain.Timeout = time.Hour
		time.Sleep(11 * time.Second)
		must(t, sw, proxy.Change{Verb: proxy.VerbReload, Spec: reloaded})
		wantTenths(t, sw, "after a reload", 2)
		time.Sleep(10 * time.Second)
		wantTenths(t, sw, "10 s after the reload", 3)

		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b"})
		wantTold(t, sw, 100)
		must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "b", SlowStart: -1})
		wantTenths(t, sw, "ready at once", 10)
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b"})
		must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "b"})
		wantTenths(t, sw, "ready again", 1)
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "a"})
		if got := picks(sw.Claimer(0), sw.Current().Service("web"), 3, 0); got != "b b b" {
			t.Errorf("alone it gets %q", got)
		}
	})
}

// The end is told once, and Stop ends the steps.
func TestSlowStart_ItsEndIsAnEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		sw := doorOn(t, newPlane(1), &journal{}, one(proxy.SourceHash, equal(2)...), &proxy.Memory{})
		events, done := sw.Subscribe()
		defer done()
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Force: true})
		must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", SlowStart: time.Minute})
		time.Sleep(2 * time.Minute)
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "a"})
		must(t, sw, proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "a", SlowStart: time.Minute})
		sw.Stop("test")
		time.Sleep(2 * time.Minute)
		var over []string
		for len(events) > 0 {
			if e := <-events; strings.Contains(e.Text, "slow start over") {
				over = append(over, e.Text)
			}
		}
		if len(over) != 2 || !slices.Contains(over, "web/blue/a: slow start over, it has its whole share") {
			t.Errorf("%q", over)
		}
	})
}

// share is how many of n claims each server gets, by name.
func share(sw *proxy.Switch, n int) map[string]int {
	out := map[string]int{}
	for _, name := range strings.Fields(picks(sw.Claimer(0), sw.Current().Service("web"), n, 0)) {
		out[name]++
	}
	return out
}

func TestSlowStart_OfWhoComesIntoTheServingSetBesideOneThatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.RoundRobin, equal(4)...)
		spec.Services[0].SlowStart = 90 * time.Second
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		to := func(servers ...string) proxy.Change {
			return proxy.Change{Verb: proxy.VerbSwap, Target: "web", Servers: servers, Force: true}
		}
		want := func(when string, n int, want map[string]int) {
			t.Helper()
			if got := share(sw, n); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		must(t, sw, to("a", "b"))
		want("the other two drained", 20, map[string]int{"a": 10, "b": 10})

		ch := to("b", "c")
		planned, err := sw.Plan(t.Context(), ch)
		if err != nil || !strings.Contains(strings.Join(planned.View().Plan, "\n"), "; slow start of 1m30s for c") {
			t.Errorf("planned %v, %v", planned, err)
		}
		op := must(t, sw, ch)
		if v := op.View(); !strings.Contains(strings.Join(v.Plan, "\n"), "; slow start of 1m30s for c") {
			t.Errorf("said %q", v.Plan)
		}
		want("c comes in", 11, map[string]int{"b": 10, "c": 1})
		time.Sleep(21 * time.Second)
		want("21 s later", 13, map[string]int{"b": 10, "c": 3})

		// d comes in while c is not there yet; b goes: nobody has a whole share, so all have.
		op = must(t, sw, to("c", "d"))
		if v := op.View(); strings.Contains(strings.Join(v.Plan, "\n"), "slow start") {
			t.Errorf("said %q", v.Plan)
		}
		want("nobody goes on with a whole share", 20, map[string]int{"c": 10, "d": 10})

		op = must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web", Force: true})
		if v := op.View(); !strings.Contains(strings.Join(v.Plan, "\n"), "; slow start of 1m30s for b") {
			t.Errorf("said %q", v.Plan)
		}
		want("back", 11, map[string]int{"b": 1, "c": 10})
		time.Sleep(2 * time.Minute)
		want("in the end", 20, map[string]int{"b": 10, "c": 10})

		must(t, sw, to("a", "d"))
		want("all are new", 20, map[string]int{"a": 10, "d": 10})
	})
}

func TestSlowStart_TheServingSetOfAPoolThatWasNotServingSharesEvenly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.RoundRobin, equal(2)...)
		spec.Services[0].SlowStart = 90 * time.Second
		spec.Services[0].Pools = append(spec.Services[0].Pools, proxy.PoolSpec{Name: "green", Servers: []proxy.ServerSpec{{Name: "g", Address: "g", Weight: 1}, {Name: "h", Address: "h", Weight: 1}}})
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "green", Server: "h"})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Servers: []string{"g", "h"}, Force: true})
		if got := share(sw, 20); got["g"] != 10 || got["h"] != 10 {
			t.Errorf("of another pool: %v", got)
		}
		must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web", Force: true})
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "green", Server: "h"})
		must(t, sw, proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "green", Percent: 50_00}}})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Servers: []string{"g", "h"}, Force: true})
		if got := share(sw, 11); got["g"] != 10 || got["h"] != 1 {
			t.Errorf("of a pool that had a share, beside one that served: %v", got)
		}
	})
}

// A server that is known to be down has its slow start when it is ready; one that is down already takes nobody's work, so it is
// none beside which another may come in slowly.
func TestSlowStart_OfWhoComesInLooksAtHealth(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.RoundRobin, equal(3)...)
		spec.Services[0].SlowStart = 90 * time.Second
		spec.Services[0].Health = &proxy.HealthSpec{Checks: []string{"up"}}
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		is := func(server string, state proxy.HealthState) {
			sw.SetHealth("web", "blue", server, proxy.Health{State: state, Since: time.Now(), Reason: "test"})
		}
		under := func(i int) bool {
			m := sw.Current().Service("web").Pool("blue").Members[i]
			_, _, under := m.SlowStart()
			return under
		}
		is("a", proxy.HealthReady)
		is("b", proxy.HealthReady)
		is("c", proxy.HealthReady)
		to := func(servers ...string) {
			must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Servers: servers, Force: true})
		}
		to("a")
		is("c", proxy.HealthFailing)
		to("a", "c")
		if under(2) {
			t.Error("c is down and has its slow start")
		}
		is("c", proxy.HealthReady)
		if !under(2) {
			t.Error("c is ready and has no slow start")
		}
		to("a")
		is("a", proxy.HealthFailing)
		to("a", "b")
		if under(1) {
			t.Error("a is down, and b has a slow start beside it")
		}
	})
}

func TestSlowStart_ARollbackHasNone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		spec := one(proxy.RoundRobin, equal(3)...)
		spec.Services[0].SlowStart = 90 * time.Second
		sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Servers: []string{"a", "b"}, Force: true})
		time.Sleep(time.Second)
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Servers: []string{"b", "c"}, Force: true, Watch: time.Hour, RollbackIf: "true"})
		if _, err := sw.RollBack(t.Context(), "web", "test"); err != nil {
			t.Fatal(err)
		}
		if got := share(sw, 20); got["a"] != 10 || got["b"] != 10 {
			t.Errorf("%v", got)
		}
	})
}

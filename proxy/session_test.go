package proxy_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// sticky is a spec of a service whose drains last a minute and are by session.
func sticky(t *testing.T) *proxy.Spec {
	spec := specOf(t, []string{"  web", "    blue b1 b2", "    green g1"})
	spec.Services[0].Mode = proxy.HTTP
	spec.Services[0].Sticky = &proxy.StickySpec{Cookie: "sid"}
	spec.Services[0].Drain = proxy.DrainSpec{Timeout: time.Minute, Then: proxy.ThenClose, BySession: true}
	return spec
}

// led tells where requests of the sessions on the servers of web go, and one without a session.
func (p *plane) led(sw *proxy.Switch) (b1, b2, g1, none string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := sw.Current()
	svc := snap.Service("web")
	to := func(wish proxy.Wish) string {
		got, verdict := p.claims[0].ClaimFor(svc, 0, 0, wish)
		if verdict != proxy.Dial {
			return "nowhere"
		}
		defer p.claims[0].GiveUp(got.Server)
		return got.Server.Name
	}
	blue, green := svc.Pool("blue").Servers(), svc.Pool("green").Servers()
	return to(proxy.Session(blue[0].ID())), to(proxy.Session(blue[1].ID())), to(proxy.Session(green[0].ID())), to(proxy.Wish{})
}

func TestDrainBySession_SessionsStayUpToTheDeadlineAndOthersGoElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, sticky(t), &proxy.Memory{})
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"})
		time.Sleep(59 * time.Second)
		if b1, b2, g1, none := p.led(sw); b1 != "b1" || b2 != "b2" || g1 != "g1" || none != "g1" {
			t.Errorf("during the drain: %s %s %s %s", b1, b2, g1, none)
		}
		if v := op.View(); v.State != proxy.StateDraining || !v.Proofs[0].BySession {
			t.Errorf("the drain, which has no connection: %s, %+v", v.State, v.Proofs)
		}
		if svc := sw.Current().Service("web"); svc.Gives(svc.Pool("blue").Servers()[0]) || !svc.KeepsSessions(svc.Pool("blue").Servers()[0]) {
			t.Error("blue gives, or keeps no sessions")
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if b1, b2, _, none := p.led(sw); b1 != "g1" || b2 != "g1" || none != "g1" {
			t.Errorf("after the drain: %s %s %s", b1, b2, none)
		}
		if v := op.View(); v.State != proxy.StateDone || v.Cut != 0 || !v.Proofs[0].Drained {
			t.Errorf("after the drain: %s, %+v", v.State, v.Proofs)
		}
	})
}

func TestDrainBySession_WhichChangesLetSessionsStay(t *testing.T) {
	for name, c := range map[string]struct {
		before, change proxy.Change
		b1, none       string
	}{
		"swap":                {change: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"}, b1: "b1", none: "g1"},
		"drain of one server": {change: proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b1"}, b1: "b1", none: "b2"},
		"keep":                {change: proxy.Change{Verb: proxy.VerbKeep, Target: "web", Servers: []string{"b2"}}, b1: "b1", none: "b2"},
		"the end of a share":  {before: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"}, change: proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "green", Percent: proxy.Whole}}}, b1: "b1", none: "g1"},
		"back":                {before: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Drain: time.Second}, change: proxy.Change{Verb: proxy.VerbBack, Target: "web"}, b1: "b1"},
		"an exclusive swap":   {change: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Exclusive: true}, b1: "g1", none: "g1"},
		"a failover":          {change: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Who: proxy.TheFailover}, b1: "g1", none: "g1"},
		"maintenance":         {change: proxy.Change{Verb: proxy.VerbMaintenance, Target: "web", On: true}, b1: "nowhere", none: "nowhere"},
		"a hold":              {before: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"}, change: proxy.Change{Verb: proxy.VerbHold, Target: "web"}, b1: "nowhere", none: "nowhere"},
		"an exclusive swap after one by session": {before: proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b1"},
			change: proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green", Exclusive: true, Drain: time.Millisecond}, b1: "g1", none: "g1"},
		"ready again": {before: proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b1"},
			change: proxy.Change{Verb: proxy.VerbReady, Target: "web", Pool: "blue", Server: "b1"}, b1: "b1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := newPlane(1)
				sw := doorOn(t, p, &journal{}, sticky(t), &proxy.Memory{})
				for _, ch := range []proxy.Change{c.before, c.change} {
					if ch.Verb != "" {
						op := must(t, sw, ch)
						for i := 0; ch.Exclusive && i < 100 && op.View().State == proxy.StateRunning; i++ {
							time.Sleep(time.Second)
						}
					}
				}
				b1, _, _, none := p.led(sw)
				if b1 != c.b1 || c.none != "" && none != c.none {
					t.Errorf("the session is led to %s, others to %s; want %s, %s", b1, none, c.b1, c.none)
				}
			})
		})
	}
}

func TestDrainBySession_ASwapBackAndAnExclusiveOneLeaveNoSessionBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, sticky(t), &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"})
		must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web"})
		if _, _, g1, _ := p.led(sw); g1 == "g1" {
			t.Error("back let sessions stay on the side that was left")
		}
		must(t, sw, proxy.Change{Verb: proxy.VerbMaintenance, Target: "web", On: true})
		must(t, sw, proxy.Change{Verb: proxy.VerbMaintenance, Target: "web"})
		if b1, _, g1, none := p.led(sw); b1 != "b1" || g1 == "g1" || none == "g1" {
			t.Errorf("%s %s %s", b1, g1, none)
		}
	})
}

func TestDrainBySession_ADownServerIsLeftAndOneTriedInVainToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		spec := sticky(t)
		spec.Services[0].Health = &proxy.HealthSpec{}
		sw := doorOn(t, p, &journal{}, spec, &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"})
		sw.SetHealth("web", "blue", "b1", proxy.Health{State: proxy.HealthFailing, Since: time.Now(), Reason: "x"})
		if b1, b2, _, _ := p.led(sw); b1 != "g1" || b2 != "b2" {
			t.Errorf("b1 is down: %s, %s", b1, b2)
		}
		svc := sw.Current().Service("web")
		wish := proxy.Session(svc.Pool("blue").Servers()[1].ID())
		var tried proxy.Tried
		for _, want := range []string{"b2", "g1"} { // after b2 never b1, which gets no new work
			got, verdict := p.claims[0].ClaimFor(svc, 0, tried, wish)
			if verdict != proxy.Dial || got.Server.Name != want {
				t.Fatalf("got %v, %v; want %s", got.Server, verdict, want)
			}
			p.claims[0].Fail(got.Server, "refused")
			tried.Add(got.Position)
		}
	})
}

func TestDrainBySession_AFailedDialOfASessionNeverLeadsIntoAPoolWithoutAShare(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		spec := specOf(t, []string{"  web", "    blue b1", "    green g1 g2", "    red r1"})
		spec.Services[0].Mode, spec.Services[0].Sticky, spec.Services[0].Drain = proxy.HTTP, &proxy.StickySpec{Cookie: "sid"}, sticky(t).Services[0].Drain
		sw := doorOn(t, p, &journal{}, spec, &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "green", Percent: 50_00}}})
		must(t, sw, proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "red", Percent: 50_00}}})
		svc := sw.Current().Service("web")
		wish := proxy.Session(svc.Pool("green").Servers()[0].ID())
		var tried proxy.Tried
		got, verdict := p.claims[0].ClaimFor(svc, 0, tried, wish)
		if verdict != proxy.Dial {
			t.Fatal(verdict, svc.Split, svc.Serving.Name)
		}
		if got.Server.Name != "g1" {
			t.Fatal(got.Server.Name)
		}
		p.claims[0].Fail(got.Server, "refused")
		tried.Add(got.Position)
		if got, verdict := p.claims[0].ClaimFor(svc, 0, tried, wish); verdict != proxy.Dial || got.Server.Pool == "green" {
			t.Errorf("led to %s/%s", got.Server.Pool, got.Server.Name)
		} else {
			p.claims[0].GiveUp(got.Server)
		}
	})
}

func TestDrainBySession_ARestartLetsSessionsStayUpToTheSameDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		j := &journal{}
		sw := doorOn(t, p, j, sticky(t), &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"})
		time.Sleep(30 * time.Second)
		mem, err := j.replay(len(j.records))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(mem) // as a checkpoint
		mem = &proxy.Memory{}
		if err := mem.LoadCheckpoint(b); err != nil {
			t.Fatal(err)
		}
		sw.Stop("test")
		again := newPlane(1)
		sw = doorOn(t, again, &journal{}, sticky(t), mem)
		if b1, _, _, none := again.led(sw); b1 != "b1" || none != "g1" {
			t.Errorf("after the restart: %s %s", b1, none)
		}
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		if b1, _, _, _ := again.led(sw); b1 != "g1" {
			t.Errorf("after the deadline: %s", b1)
		}
		if svc := sw.Current().Service("web"); !svc.Pool("blue").Members[0].KeepsSessions().IsZero() {
			t.Error("the snapshot says that sessions stay")
		}
	})
}

// The server of a session and those of its service take turns in vain: each is tried once, whichever pool it is in, and then
// there is none. (The session's used to be forgotten with the next pool, and was dialled for ever.)
func TestSession_ItsServerIsTriedOnceWhateverPoolFollows(t *testing.T) {
	for name, changes := range map[string][]proxy.Change{
		"on the active side": nil,
		"on the other side":  {{Verb: proxy.VerbSwap, Target: "web", To: "green"}},
		"while it is split":  {{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "green", Percent: 50_00}}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := newPlane(1)
				sw := doorOn(t, p, &journal{}, sticky(t), &proxy.Memory{})
				for _, ch := range changes {
					must(t, sw, ch)
				}
				svc := sw.Current().Service("web")
				wish := proxy.Session(svc.Pool("blue").Servers()[1].ID())
				var tried proxy.Tried
				var order []string
				for {
					got, verdict := p.claims[0].ClaimFor(svc, 0, tried, wish)
					if verdict != proxy.Dial {
						break
					}
					p.claims[0].Fail(got.Server, "connection refused")
					tried.Add(got.Position)
					if order = append(order, got.Server.Name); len(order) > 10 {
						t.Fatalf("it is tried for ever: %v", order)
					}
				}
				if len(order) < 2 || order[0] != "b2" || slices.Contains(order[1:], "b2") {
					t.Errorf("tried: %v", order)
				}
			})
		})
	}
}

// A pool that gets no new work is drained, before its servers are worked on: those who were on it long ago stay where they are.
func TestDrainBySession_ADrainOfTheOtherSideLeadsNobodyThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, sticky(t), &proxy.Memory{})
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "green"})
		time.Sleep(time.Hour)
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "blue", Server: "b1"})
		if b1, b2, _, _ := p.led(sw); b1 != "g1" || b2 != "g1" {
			t.Errorf("sessions of blue are led to %s and %s", b1, b2)
		}
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", To: "blue"})
		must(t, sw, proxy.Change{Verb: proxy.VerbDrain, Target: "web", Pool: "green", Drain: 2 * time.Minute})
		time.Sleep(90 * time.Second)
		if _, _, g1, _ := p.led(sw); g1 != "g1" {
			t.Errorf("sessions that were on green still, and were given more time, are led to %s", g1)
		}
	})
}

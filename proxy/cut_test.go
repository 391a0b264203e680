package proxy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// closing is a door whose drains end 100 connections over ten minutes, every second one of them in the middle of an answer.
func closing(t *testing.T) (*plane, *proxy.Switch, []*client) {
	p := newPlane(2)
	spec := two(t, "web")
	spec.Services[0].Drain = proxy.DrainSpec{Timeout: time.Minute, Then: proxy.ThenClose, CloseOver: 10 * time.Minute}
	sw := doorOn(t, p, &journal{}, spec, &proxy.Memory{})
	p.mu.Lock()
	defer p.mu.Unlock()
	var clients []*client
	for i := range 100 {
		c := p.arrive("c", "web", i/50)
		p.claim(c)
		c.busy = i%2 == 0
		clients = append(clients, c)
	}
	return p, sw, clients
}

func (p *plane) countStarted(clients []*client) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range clients {
		if c.state == started {
			n++
		}
	}
	return n
}

func TestCloseOver_EndsConnectionsEvenlyOverItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, sw, clients := closing(t)
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web"})
		time.Sleep(time.Minute)
		for minute := range 10 {
			synctest.Wait()
			if n, want := p.countStarted(clients), 100-10*minute; n < want-4 || n > want+4 {
				t.Errorf("%d minutes after the deadline %d are left, want about %d", minute, n, want)
			}
			if d := sw.Drains(); len(d) != 1 || !d[0].Closing.Equal(d[0].Until.Add(10*time.Minute)) {
				t.Fatalf("drains: %+v", d)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * time.Second)
		if v := op.View(); v.State != proxy.StateDone || v.Cut != 100 {
			t.Errorf("%s, %d cut", v.State, v.Cut)
		}
	})
}

func TestCloseOver_ASwapBackSparesThoseThatAreLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, sw, clients := closing(t)
		must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web"})
		time.Sleep(6 * time.Minute)
		must(t, sw, proxy.Change{Verb: proxy.VerbBack, Target: "web"})
		left := p.countStarted(clients)
		if left < 45 || left > 55 {
			t.Errorf("%d left half way", left)
		}
		time.Sleep(time.Hour)
		if n := p.countStarted(clients); n != left {
			t.Errorf("%d of %d left an hour after the swap back", n, left)
		}
		if n := len(sw.Drains()); n != 0 {
			t.Errorf("%d drains", n)
		}
	})
}

func TestCloseOver_AnExclusiveSwapEndsAllAtOnceForOthersWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, sw, clients := closing(t)
		for exclusive, want := range map[bool]string{false: "cut after 1m0s, spread over 10m0s", true: "cut after 1m0s"} {
			planned, err := sw.Plan(t.Context(), proxy.Change{Verb: proxy.VerbSwap, Target: "web", Exclusive: exclusive})
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(planned.View().Plan, "; "); !strings.HasSuffix(text, want) {
				t.Errorf("planned: %q", text)
			}
		}
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Exclusive: true})
		time.Sleep(time.Minute + 2*time.Second)
		if n := p.countStarted(clients); n != 0 {
			t.Errorf("%d left two seconds after the deadline", n)
		}
		if v := op.View(); v.State != proxy.StateDone || v.Err != nil {
			t.Errorf("%s, %v", v.State, v.Err)
		}
	})
}

// Loops that come to nothing for longer than a way of cutting lasts: each has its turn all the same, the gentlest first.
func TestDrain_EachWayOfCuttingHasItsTurnsHoweverLateTheLoopsAre(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlane(1)
		sw := doorOn(t, p, &journal{}, two(t, "web"), &proxy.Memory{})
		p.mu.Lock()
		p.behind = 2 * time.Second
		busy := p.arrive("c", "web", 0)
		p.claim(busy)
		busy.busy, busy.stuck = true, true
		p.mu.Unlock()
		op := must(t, sw, proxy.Change{Verb: proxy.VerbSwap, Target: "web", Drain: time.Second})
		for op.View().Ended.IsZero() {
			time.Sleep(time.Second)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for how, want := range map[proxy.Cut]int{proxy.CutNot: 1, proxy.CutIdle: 25, proxy.CutAfterAnswer: 25, proxy.CutNow: 50} {
			if p.looks[how] < want {
				t.Errorf("told %d times to cut in way %d, want at least %d: %v", p.looks[how], how, want, p.looks)
			}
		}
	})
}

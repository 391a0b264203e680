package failover

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/turnout-proxy/turnout/proxy"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const (
	ready   = "ready"
	dead    = "dead"
	unknown = "unknown"
)

// two is a view of a service whose pools a (active) and b are as said.
func two(a, b string) View {
	pool := func(name, is string) Pool {
		p := Pool{Name: name, Ready: is == ready, Dead: is == dead}
		if p.Dead {
			p.Why = name + " is not ready"
		}
		if p.Ready {
			p.ReadySince = noon.Add(-time.Hour)
		}
		return p
	}
	return View{Active: "a", Pools: []Pool{pool("a", a), pool("b", b)}}
}

func TestDecide_Table(t *testing.T) {
	policy := proxy.FailoverSpec{Automatic: true, Lockout: 10 * time.Minute, Hold: time.Minute}
	failedOver := func(ago time.Duration) *proxy.FailoverMark {
		return &proxy.FailoverMark{At: noon.Add(-ago), From: "b", Count: 1}
	}
	for _, c := range []struct {
		name string
		view View
		make func(v *View, p *proxy.FailoverSpec)
		want string
	}{
		{"all is well", two(ready, ready), nil, "calm"},
		{"after a start nothing is known, so nothing is moved", two(unknown, ready), nil, "calm"},
		{"a standby that waits is well", two(ready, dead), nil, "calm"},
		{"the active dies and the other is ready", two(dead, ready), nil, "swap b: a is not ready"},
		{"the active dies and nothing is known of the other", two(dead, unknown), nil, "hold: a is not ready"},
		{"both are dead", two(dead, dead), nil, "hold: a is not ready"},
		{"both are dead, without a hold", two(dead, dead), func(_ *View, p *proxy.FailoverSpec) { p.Hold = 0 }, "nothing: a is not ready; b is not ready"},
		{"held, not long enough", two(dead, dead), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy, v.HeldSince = ours, noon.Add(-59*time.Second) }, "nothing: a is not ready; b is not ready"},
		{"held long enough", two(dead, dead), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy, v.HeldSince = ours, noon.Add(-time.Minute) },
			"maintain: no side was ready within 1m0s: a is not ready; b is not ready"},
		{"the other becomes ready while held", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy, v.HeldSince = ours, noon }, "swap b: a is not ready"},
		{"the active comes back while held", two(ready, dead), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy = ours }, "release: a is ready"},
		{"after a restart, held, nothing known", two(unknown, unknown), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy = ours }, "nothing: it is not known yet how a is"},
		{"in maintenance, all dead", two(dead, dead), func(v *View, _ *proxy.FailoverSpec) { v.ClosedBy = ours }, "nothing: a is not ready; b is not ready"},
		{"in maintenance, the other becomes ready", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.ClosedBy = ours }, "swap b: a is not ready"},
		{"in maintenance, the active is ready", two(ready, dead), func(v *View, _ *proxy.FailoverSpec) { v.ClosedBy = ours }, "reopen: a is ready"},
		{"an operator released our hold", two(dead, dead), func(v *View, _ *proxy.FailoverSpec) { v.GaveUp = true }, "nothing: a is not ready; b is not ready"},
		{"an operator holds", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.HeldBy = "ann" }, "nothing: held by ann"},
		{"an operator's maintenance", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.ClosedBy = "ann" }, "nothing: in maintenance by ann"},
		{"frozen", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Frozen = true }, "nothing: frozen"},
		{"locked out, it still answers", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Mark, v.Answers = failedOver(5*time.Minute), true },
			"hold: a is not ready"},
		{"locked out, but it is gone for good", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Mark = failedOver(5 * time.Minute) }, "swap b: a is not ready"},
		{"the lockout is over", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Mark, v.Answers = failedOver(11*time.Minute), true }, "swap b: a is not ready"},
		{"it flaps: the third failover locks out four times as long", two(dead, ready), func(v *View, p *proxy.FailoverSpec) {
			v.Mark, v.Answers, p.Hold = failedOver(30*time.Minute), true, 0
			v.Mark.Count = 3
		}, "nothing: locked out until 12:10:00: the last failover was at 11:30:00, and a still accepts connections"},
		{"exclusive, the old one is gone", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Exclusive = true }, "swap b: a is not ready"},
		{"exclusive, the old one still answers", two(dead, ready), func(v *View, _ *proxy.FailoverSpec) { v.Exclusive, v.Answers = true, true }, "hold: a is not ready"},
		{"exclusive, with a fence", two(dead, ready), func(v *View, p *proxy.FailoverSpec) { v.Exclusive, v.Answers, p.Fence = true, true, []string{"f"} }, "fence b: a is not ready"},
		{"exclusive, fenced", two(dead, ready), func(v *View, p *proxy.FailoverSpec) {
			v.Exclusive, v.Answers, v.Fenced, p.Fence = true, true, true, []string{"f"}
		}, "swap b: a is not ready"},
		{"exclusive, the fence failed", two(dead, ready), func(v *View, p *proxy.FailoverSpec) {
			v.Exclusive, v.Answers, v.Fence, p.Fence, p.Hold = true, true, "a: no power", []string{"f"}, 0
		}, "nothing: a: no power"},
		{"no failback by itself", two(ready, ready), func(v *View, _ *proxy.FailoverSpec) { v.Mark = failedOver(24 * time.Hour) }, "calm"},
		{"failback, long enough", two(ready, ready), func(v *View, p *proxy.FailoverSpec) { v.Mark, p.FailbackAfter = failedOver(2*time.Hour), time.Hour },
			"swap b: failback: b has been ready for 1h0m0s"},
		{"failback, not long enough", two(ready, ready), func(v *View, p *proxy.FailoverSpec) { v.Mark, p.FailbackAfter = failedOver(2*time.Hour), 2*time.Hour },
			"nothing: waits for b to be ready for 2h0m0s"},
		{"no failback of a failback", two(ready, ready), func(v *View, p *proxy.FailoverSpec) {
			v.Mark, p.FailbackAfter = failedOver(2*time.Hour), time.Hour
			v.Mark.Back = true
		}, "calm"},
		{"nobody may take over", two(dead, ready), func(_ *View, p *proxy.FailoverSpec) { p.To, p.Hold = []string{"a"}, 0 }, "nothing: a is not ready; no other pool may take over"},
		{"only to who is named", two(dead, ready), func(_ *View, p *proxy.FailoverSpec) { p.To, p.Hold = []string{"c"}, 0 }, "nothing: a is not ready; it is not known yet how c is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, v := policy, c.view
			if c.make != nil {
				c.make(&v, &p)
			}
			d := Decide(&p, v, noon)
			got := string(d.Act)
			switch {
			case d.Act == Nothing && d.Calm:
				got = "calm"
			case d.Act == Nothing:
				got = "nothing: " + d.Why
			case d.To != "":
				got += " " + d.To + ": " + d.Why
			default:
				got += ": " + d.Why
			}
			if c.view.Frozen || v.Frozen {
				got = "nothing: " + d.Why
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestConflict_OnlyWhereOneSideMayBeActive(t *testing.T) {
	v := two(ready, ready)
	if _, yes := Conflict(v); yes {
		t.Error("two ready sides are well where both may be")
	}
	v.Exclusive = true
	if other, yes := Conflict(v); !yes || other != "b" {
		t.Error("two sides of an exclusive service are ready")
	}
	for _, v := range []View{two(ready, dead), two(dead, ready), two(unknown, ready)} {
		if v.Exclusive = true; func() bool { _, yes := Conflict(v); return yes }() {
			t.Errorf("%+v", v)
		}
	}
}

// Whatever happens to the sides and whatever operators do, the invariants of Decide hold at every step of a world that
// carries out what was decided.
func TestDecide_KeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		is := rapid.SampledFrom([]string{ready, dead, unknown})
		p := &proxy.FailoverSpec{
			Automatic: true, Lockout: time.Duration(rapid.IntRange(0, 600).Draw(t, "lockout")) * time.Second,
			Hold:          time.Duration(rapid.IntRange(0, 60).Draw(t, "hold")) * time.Second,
			FailbackAfter: time.Duration(rapid.SampledFrom([]int{0, 0, 60}).Draw(t, "failback")) * time.Second,
		}
		if rapid.Bool().Draw(t, "fence") {
			p.Fence = []string{"fence"}
		}
		v := two(ready, ready)
		v.Exclusive = rapid.Bool().Draw(t, "exclusive")
		now := noon
		last := time.Time{}
		count := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			for i := range v.Pools {
				state := is.Draw(t, v.Pools[i].Name)
				was := v.Pools[i].Ready
				v.Pools[i].Ready, v.Pools[i].Dead = state == ready, state == dead
				if v.Pools[i].Ready && !was {
					v.Pools[i].ReadySince = now
				}
			}
			v.Answers = v.pool(v.Active).Ready || rapid.Bool().Draw(t, "answers")
			v.Fenced = len(p.Fence) > 0 && v.Answers && rapid.Bool().Draw(t, "fenced")
			v.Frozen = rapid.IntRange(0, 9).Draw(t, "frozen") == 0
			switch rapid.IntRange(0, 9).Draw(t, "operator") {
			case 0:
				v.HeldBy = "ann"
			case 1:
				v.ClosedBy = "ann"
			case 2:
				v.HeldBy, v.ClosedBy = "", ""
			}
			d := Decide(p, v, now)
			active := v.pool(v.Active)
			bad := func(format string, args ...any) {
				t.Fatalf("%s\ndecision %+v\nview %+v", fmt.Sprintf(format, args...), d, v)
			}
			if d.Act != Nothing && (v.Frozen || v.HeldBy == "ann" || v.ClosedBy == "ann") {
				bad("acts against an operator")
			}
			switch d.Act {
			case Swap:
				to := v.pool(d.To)
				if !to.Ready || d.To == v.Active {
					bad("to a pool that is not ready")
				}
				if !active.Dead && !d.Failback {
					bad("from a pool that is not dead")
				}
				if d.Failback && p.FailbackAfter == 0 {
					bad("a failback that nobody wants")
				}
				if !d.Failback && v.Answers && !last.IsZero() && now.Sub(last) < p.Lockout {
					bad("within the lockout")
				}
				if v.Exclusive && !d.Failback && v.Answers && !v.Fenced {
					bad("an exclusive service while the old side answers")
				}
				if count++; last.IsZero() || now.Sub(last) >= 4*p.Lockout {
					count = 1
				}
				last = now
				v.Mark = &proxy.FailoverMark{At: now, From: v.Active, Back: d.Failback, Count: count}
				v.Active = d.To
			case Hold:
				if p.Hold == 0 || !active.Dead {
					bad("a hold that nobody wants")
				}
				v.HeldBy, v.HeldSince = ours, now
			case Maintain:
				if now.Sub(v.HeldSince) < p.Hold || !active.Dead {
					bad("maintenance too soon")
				}
				v.HeldBy, v.ClosedBy = "", ours
			case Release:
				v.HeldBy = ""
			case Reopen:
				v.ClosedBy = ""
			}
		}
	})
}

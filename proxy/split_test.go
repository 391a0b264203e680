package proxy_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/turnout-proxy/turnout/proxy"
)

// threePools is a service with a pool blue of servers b0, b1, … that is active, a pool green and a pool red.
func threePools(balance proxy.Balance, blue, green, red int) *proxy.Spec {
	spec := one(balance)
	svc := &spec.Services[0]
	svc.Pools = nil
	for _, p := range []struct {
		name string
		n    int
	}{{"blue", blue}, {"green", green}, {"red", red}} {
		pool := proxy.PoolSpec{Name: p.name}
		for i := range p.n {
			pool.Servers = append(pool.Servers, proxy.ServerSpec{Name: fmt.Sprintf("%s%d", p.name, i), Address: fmt.Sprintf("%s:%d", p.name, i), Weight: 1})
		}
		svc.Pools = append(svc.Pools, pool)
	}
	return spec
}

// splitting is a door whose service is split.
func splitting(t testing.TB, spec *proxy.Spec, loops int, shares ...proxy.Share) *proxy.Switch {
	t.Helper()
	sw := doorOn(t, newPlane(loops), &journal{}, spec, &proxy.Memory{})
	if _, err := sw.Apply(context.Background(), proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: shares, Force: true}); err != nil {
		t.Fatal(err)
	}
	return sw
}

func TestSplit_GivesEachPoolItsExactShareInEveryWindowOfARound(t *testing.T) {
	for _, tt := range []struct {
		green, red proxy.Percent
		round      int
	}{{5_00, 0, 20}, {25_00, 10_00, 20}, {50, 0, 200}, {33_33, 33_33, 10000}, {100_00, 0, 1}, {99_99, 0, 10000}} {
		sw := splitting(t, threePools(proxy.RoundRobin, 3, 2, 1), 2, proxy.Share{Pool: "green", Percent: tt.green}, proxy.Share{Pool: "red", Percent: tt.red})
		svc := sw.Current().Service("web")
		for loop := range 2 { // each by itself
			c := sw.Claimer(loop)
			var got []string
			count, servers := map[string]int{}, map[string]int{}
			for n := 1; n <= 3*tt.round; n++ {
				claimed, verdict := c.Claim(svc, 0, 0)
				if verdict != proxy.Dial {
					t.Fatal(verdict)
				}
				c.GiveUp(claimed.Server)
				got = append(got, claimed.Server.Pool)
				count[claimed.Server.Pool]++
				servers[claimed.Server.Name]++
				if n > tt.round {
					count[got[n-1-tt.round]]--
				}
				if n >= tt.round && (count["green"] != tt.round*int(tt.green)/int(proxy.Whole) || count["red"] != tt.round*int(tt.red)/int(proxy.Whole)) {
					t.Fatalf("green=%s red=%s, loop %d: %v in the %d claims up to the %d.", tt.green, tt.red, loop, count, tt.round, n)
				}
			}
			for name, n := range servers { // within a pool the servers take turns, whatever the other pools' turns are
				for other, m := range servers {
					if name[:3] == other[:3] && max(n-m, m-n) > 1 {
						t.Errorf("green=%s red=%s, loop %d: %s has %d and %s %d", tt.green, tt.red, loop, name, n, other, m)
					}
				}
			}
		}
	}
}

func TestSplit_BySourceHashAClientStaysOnItsSideAndAGrowingShareKeepsWhomItHad(t *testing.T) {
	const clients = 20000
	side := func(sw *proxy.Switch) (pool []string, share float64) {
		svc, c := sw.Current().Service("web"), sw.Claimer(0)
		n := 0
		for i := range clients {
			got, verdict := c.Claim(svc, proxy.HashBytes([]byte{byte(i), byte(i >> 8), 1, 1}), 0)
			if verdict != proxy.Dial {
				t.Fatal(verdict)
			}
			c.GiveUp(got.Server)
			if pool = append(pool, got.Server.Pool); got.Server.Pool == "green" {
				n++
			}
		}
		return pool, float64(n) / clients
	}
	spec := threePools(proxy.SourceHash, 3, 2, 1)
	sw := splitting(t, spec, 1, proxy.Share{Pool: "green", Percent: 5_00})
	first, share := side(sw)
	if share < 0.04 || share > 0.06 {
		t.Errorf("%.3f of the clients for 5%%", share)
	}
	again, _ := side(sw)
	if _, err := sw.Apply(context.Background(), proxy.Change{Verb: proxy.VerbSplit, Target: "web", Shares: []proxy.Share{{Pool: "green", Percent: 25_00}}, Force: true}); err != nil {
		t.Fatal(err)
	}
	grown, share := side(sw)
	if share < 0.23 || share > 0.27 {
		t.Errorf("%.3f of the clients for 25%%", share)
	}
	for i := range first {
		if first[i] != again[i] || first[i] == "green" && grown[i] != "green" {
			t.Fatalf("client %d: %s, %s, with a larger share %s", i, first[i], again[i], grown[i])
		}
	}
}

func TestSplit_AClaimTakesNoAllocation(t *testing.T) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash} {
		sw := splitting(t, threePools(balance, 3, 2, 1), 1, proxy.Share{Pool: "green", Percent: 25_00})
		svc, c := sw.Current().Service("web"), sw.Claimer(0)
		if n := testing.AllocsPerRun(100, func() {
			got, _ := c.Claim(svc, 77, 0)
			c.GiveUp(got.Server)
		}); n != 0 {
			t.Errorf("%s: %v allocations", balance, n)
		}
	}
}

func TestSplit_WhoCannotBeTakenByItsPoolIsTakenByTheActiveOne(t *testing.T) {
	sw := splitting(t, threePools(proxy.RoundRobin, 1, 2, 0), 1, proxy.Share{Pool: "green", Percent: 50_00})
	svc, c := sw.Current().Service("web"), sw.Claimer(0)
	for range 10 {
		var tried proxy.Tried
		var pools []string
		for {
			got, verdict := c.Claim(svc, 0, tried)
			if verdict == proxy.NoServer {
				break
			}
			c.Fail(got.Server, "refused")
			tried.Add(got.Position)
			pools = append(pools, got.Server.Pool)
		}
		if s := fmt.Sprint(pools); s != "[blue]" && s != "[green green blue]" {
			t.Errorf("tried %s", s)
		}
	}
}

func TestPercent_ReadsWhatItWrites(t *testing.T) {
	for text, want := range map[string]string{"5%": "5%", "5": "5%", "0.5%": "0.5%", "33.33%": "33.33%", "100%": "100%", "0": "0%"} {
		if p, err := proxy.ParsePercent(text); err != nil || p.String() != want {
			t.Errorf("%s: %s, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "%", "-1%", "100.01%", "1.001%", "x", "NaN", "Inf", "5%%"} {
		if p, err := proxy.ParsePercent(text); err == nil {
			t.Errorf("%s: %s", text, p)
		}
	}
}

func TestSplit_ACanaryWhoseChecksFailGetsNoClientsUntilTheyPass(t *testing.T) {
	sw := splitting(t, threePools(proxy.RoundRobin, 1, 2, 0), 1, proxy.Share{Pool: "green", Percent: 50_00})
	c := sw.Claimer(0)
	toGreen := func() (n int) {
		for range 20 {
			got, verdict := c.Claim(sw.Current().Service("web"), 0, 0)
			if verdict != proxy.Dial {
				t.Fatal(verdict)
			}
			c.GiveUp(got.Server)
			if got.Server.Pool == "green" {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		server string
		state  proxy.HealthState
		want   int
	}{{"green0", proxy.HealthFailing, 10}, {"green1", proxy.HealthFailing, 0}, {"green0", proxy.HealthReady, 10}} {
		sw.SetHealth("web", "green", tt.server, proxy.Health{State: tt.state, Reason: "test"})
		if n := toGreen(); n != tt.want {
			t.Errorf("%s %s: %d of 20 to green, want %d", tt.server, tt.state, n, tt.want)
		}
		svc := sw.Current().Service("web")
		if green := svc.Pool("green").Members[1].Server; svc.Gives(green) != (tt.state == proxy.HealthFailing && tt.server == "green0") {
			t.Errorf("%s %s: gives to green1: %v", tt.server, tt.state, svc.Gives(green))
		}
	}
}

package proxy_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// one is a service with one pool of servers named a, b, c, … (s0, s1, … when there are many).
func one(balance proxy.Balance, servers ...proxy.ServerSpec) *proxy.Spec {
	for i := range servers {
		if servers[i].Name == "" {
			servers[i].Name = string(rune('a' + i))
			if len(servers) > 26 {
				servers[i].Name = fmt.Sprintf("s%d", i)
			}
		}
		if servers[i].Address == "" {
			servers[i].Address = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
		}
	}
	return &proxy.Spec{Services: []proxy.ServiceSpec{{Name: "web", Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: ":80"}},
		Pools: []proxy.PoolSpec{{Name: "blue", Servers: servers}}, Active: "blue", Balance: balance,
		Drain: proxy.DrainSpec{Timeout: 30 * time.Second, Then: proxy.ThenClose}, Hold: proxy.HoldSpec{Timeout: 30 * time.Second, Max: 100},
		Timeouts: proxy.TimeoutSpec{Connect: 3 * time.Second}}}}
}

func weights(w ...int) []proxy.ServerSpec {
	out := make([]proxy.ServerSpec, len(w))
	for i := range w {
		out[i].Weight = w[i]
	}
	return out
}

func equal(n int) []proxy.ServerSpec {
	out := make([]proxy.ServerSpec, n)
	for i := range out {
		out[i].Weight = 1
	}
	return out
}

// claimer is a door of one loop with the spec, and its service.
func claimer(t testing.TB, spec *proxy.Spec) (*proxy.Claimer, *proxy.Service) {
	sw := doorOn(t, newPlane(1), &journal{}, spec, &proxy.Memory{})
	return sw.Claimer(0), sw.Current().Service("web")
}

// picks claims n times and joins the names of the servers.
func picks(c *proxy.Claimer, svc *proxy.Service, n int, tried proxy.Tried) string {
	var out []string
	for range n {
		got, verdict := c.Claim(svc, 0, tried)
		if verdict != proxy.Dial {
			out = append(out, "-")
			continue
		}
		out = append(out, got.Server.Name)
		c.GiveUp(got.Server)
	}
	return strings.Join(out, " ")
}

func TestRoundRobin_IsSmooth(t *testing.T) {
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{5, 1, 1}, "a a b a c a a a a b a c a a"}, // the sequence that nginx made known
		{[]int{1, 1, 1}, "a b c a b c"},
		{[]int{7, 7}, "a b a b"},
		{[]int{10, 2, 2}, "a a b a c a a"}, // as 5:1:1
		{[]int{1, 0, 2}, "c a c c a c"},    // b has weight 0
		{[]int{3}, "a a a"},
		{[]int{0, 0}, "- -"},
	} {
		c, svc := claimer(t, one(proxy.RoundRobin, weights(tt.weights...)...))
		if got := picks(c, svc, strings.Count(tt.want, " ")+1, 0); got != tt.want {
			t.Errorf("weights %v: %s\nwant %s", tt.weights, got, tt.want)
		}
	}
}

func TestRoundRobin_GivesEachItsExactShareInEveryRound(t *testing.T) {
	w := []int{256, 1, 17, 3, 90, 1}
	c, svc := claimer(t, one(proxy.RoundRobin, weights(w...)...))
	sum := 0
	for _, n := range w {
		sum += n
	}
	for round := range 3 {
		count := map[string]int{}
		for _, name := range strings.Fields(picks(c, svc, sum, 0)) {
			count[name]++
		}
		for i, n := range w {
			if name := string(rune('a' + i)); count[name] != n {
				t.Errorf("round %d: %s got %d of %d, want %d", round, name, count[name], sum, n)
			}
		}
	}
}

func TestClaim_SkipsTriedServers(t *testing.T) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash} {
		c, svc := claimer(t, one(balance, weights(1, 256, 1)...))
		var tried proxy.Tried
		tried.Add(1)
		for range 600 {
			if got := picks(c, svc, 1, tried); got != "a" && got != "c" {
				t.Fatalf("%s: %s, though b was tried", balance, got)
			}
		}
		tried.Add(0)
		tried.Add(2)
		if _, v := c.Claim(svc, 0, tried); v != proxy.NoServer {
			t.Errorf("%s: verdict %d though all were tried", balance, v)
		}
	}
}

func TestClaim_FullServersAreSkippedAndThenWaitedFor(t *testing.T) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash} {
		for _, n := range []int{1, 3, 200} { // 200: more than Tried has bits
			servers := weights(make([]int, n)...)
			room := 0
			for i := range servers {
				servers[i].Weight, servers[i].MaxConnections = 1+i%3*100, 1+i%2
				room += servers[i].MaxConnections
			}
			c, svc := claimer(t, one(balance, servers...))
			var all []*proxy.Server
			for i := range room {
				got, v := c.Claim(svc, 7, 0)
				if v != proxy.Dial {
					t.Fatalf("%s, %d servers: verdict %d at claim %d of %d", balance, n, v, i+1, room)
				}
				if i%2 == 0 && !c.Start(0, got.Server, 1) {
					t.Fatal("not started")
				}
				all = append(all, got.Server)
			}
			if _, v := c.Claim(svc, 7, 0); v != proxy.Full {
				t.Fatalf("%s, %d servers: verdict %d though all are full", balance, n, v)
			}
			c.End(all[0], false)
			if got, v := c.Claim(svc, 9, 0); v != proxy.Dial || got.Server != all[0] {
				t.Errorf("%s, %d servers: verdict %d after one connection had ended", balance, n, v)
			}
		}
	}
}

func TestLeastConnections_FollowsLoadPerWeight(t *testing.T) {
	c, svc := claimer(t, one(proxy.LeastConnections, weights(3, 1, 2)...))
	count := map[string]int{}
	var all []*proxy.Server
	for range 600 {
		got, _ := c.Claim(svc, 0, 0)
		c.Start(0, got.Server, 1)
		count[got.Server.Name]++
		all = append(all, got.Server)
	}
	if count["a"] != 300 || count["b"] != 100 || count["c"] != 200 {
		t.Errorf("%v, want 300, 100 and 200", count)
	}
	for _, s := range all { // b empties: it gets the next ones, until it has its share again
		if s.Name == "b" {
			c.End(s, false)
		}
	}
	for i := range 100 {
		got, _ := c.Claim(svc, 0, 0)
		if got.Server.Name != "b" {
			t.Fatalf("%s at claim %d after b had emptied", got.Server.Name, i)
		}
		c.Start(0, got.Server, 1)
	}
}

func TestLeastConnections_TiesGoRound(t *testing.T) {
	c, svc := claimer(t, one(proxy.LeastConnections, weights(1, 1, 1)...))
	if got := picks(c, svc, 6, 0); got != "a b c a b c" {
		t.Errorf("%s: with no connections anywhere all should get their turn", got)
	}
}

// owners says which server each of n clients gets.
func owners(t testing.TB, n int, servers []proxy.ServerSpec) ([]string, map[string]int) {
	c, svc := claimer(t, one(proxy.SourceHash, servers...))
	out, count := make([]string, n), map[string]int{}
	for i := range out {
		key := proxy.HashBytes([]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		got, v := c.Claim(svc, key, 0)
		if v != proxy.Dial {
			t.Fatalf("verdict %d", v)
		}
		c.GiveUp(got.Server)
		out[i] = got.Server.Address
		count[got.Server.Address]++
	}
	return out, count
}

func TestSourceHash_RemovingAServerMovesOnlyItsShare(t *testing.T) {
	const clients = 20000
	for name, w := range map[string][]int{"uniform": {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, "weighted": {1, 2, 3, 4, 5, 1, 2, 3, 4, 5}} {
		t.Run(name, func(t *testing.T) {
			spec := one(proxy.SourceHash, weights(w...)...)
			servers := spec.Services[0].Pools[0].Servers
			before, count := owners(t, clients, servers)
			sum := 0
			for _, n := range w {
				sum += n
			}
			for i, s := range servers { // 5 standard deviations of a binomial distribution
				p := float64(w[i]) / float64(sum)
				if off := math.Abs(float64(count[s.Address]) - p*clients); off > 5*math.Sqrt(clients*p*(1-p)) {
					t.Errorf("%s has %d of %d clients, want about %.0f", s.Name, count[s.Address], clients, p*clients)
				}
			}
			for gone := range servers {
				var rest []proxy.ServerSpec
				rest = append(append(rest, servers[:gone]...), servers[gone+1:]...)
				after, _ := owners(t, clients, rest)
				for i := range after {
					if before[i] != servers[gone].Address && after[i] != before[i] {
						t.Fatalf("removing %s moved a client from %s to %s", servers[gone].Name, before[i], after[i])
					}
				}
			}
		})
	}
}

func TestSourceHash_AClientComesBackToItsServer(t *testing.T) {
	servers := one(proxy.SourceHash, equal(50)...).Services[0].Pools[0].Servers
	a, _ := owners(t, 1000, servers)
	b, _ := owners(t, 1000, servers)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("client %d: %s, then %s", i, a[i], b[i])
		}
	}
}

func TestClaim_AllocatesNothing(t *testing.T) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash} {
		for _, limit := range []int{0, 5} {
			servers := weights(5, 1, 1)
			for i := range servers {
				servers[i].MaxConnections = limit
			}
			c, svc := claimer(t, one(balance, servers...))
			key := uint64(0)
			if n := testing.AllocsPerRun(1000, func() {
				key++
				got, v := c.Claim(svc, key, 0)
				if v != proxy.Dial || !c.Start(0, got.Server, 1) {
					t.Fatal("not started")
				}
				c.Carried(got.Server, 1, 1)
				c.End(got.Server, false)
			}); n != 0 {
				t.Errorf("%s, max_connections %d: %v allocations a connection", balance, limit, n)
			}
		}
	}
}

// A round of uneven weights is tens of thousands of looks long; a claim that finds all full does not walk it, and
// says so. BenchmarkClaim has what it costs.
func TestClaim_UnevenWeightsAndFullServersAreFull(t *testing.T) {
	servers := equal(400)
	for i := range servers {
		servers[i].Weight, servers[i].MaxConnections = 1+i*7919%256, 1
	}
	c, svc := claimer(t, one(proxy.RoundRobin, servers...))
	for range servers {
		if _, v := c.Claim(svc, 0, 0); v != proxy.Dial {
			t.Fatalf("verdict %d", v)
		}
	}
	for range 10 {
		if _, v := c.Claim(svc, 0, 0); v != proxy.Full {
			t.Fatalf("verdict %d", v)
		}
	}
}

func BenchmarkClaim(b *testing.B) {
	for _, balance := range []proxy.Balance{proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", balance, n), func(b *testing.B) {
				c, svc := claimer(b, one(balance, equal(n)...))
				key := uint64(0)
				for b.Loop() {
					key++
					got, _ := c.Claim(svc, key, 0)
					c.Start(0, got.Server, 1)
					c.End(got.Server, false)
				}
			})
		}
	}
}

// BenchmarkSwap is a whole swap but for the disk and the loops: it must not grow with the number of services,
// but for the copy of a slice of pointers.
func BenchmarkSwap(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			spec := one(proxy.RoundRobin, equal(2)...)
			spec.Services[0].Pools = append(spec.Services[0].Pools, proxy.PoolSpec{Name: "green", Servers: []proxy.ServerSpec{{Name: "g", Address: "10.1.0.1:80", Weight: 1}}})
			for i := 1; i < n; i++ {
				more := spec.Services[0]
				more.Name, more.Listen = fmt.Sprintf("web%d", i), []proxy.ListenSpec{{Network: proxy.NetTCP, Address: fmt.Sprintf(":%d", 1000+i)}}
				spec.Services = append(spec.Services, more)
			}
			sw := doorOn(b, newPlane(2), &journal{}, spec, &proxy.Memory{})
			for b.Loop() {
				if _, err := sw.Apply(b.Context(), proxy.Change{Verb: proxy.VerbSwap, Target: "web", Force: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

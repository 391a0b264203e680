package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// racer is a plane whose loops are goroutines that run as fast as they can and share nothing.
type racer struct {
	sw       *proxy.Switch
	loops    []*racingLoop
	active   sync.Map      // revision → the active pool of web
	answered atomic.Uint64 // the highest revision whose change was answered
	running  sync.WaitGroup
	stop     atomic.Bool
	calls    sync.RWMutex // held to read while something is put into an inbox
	ended    bool         // inboxes are closed; a timer of the switch may come later still
	most     sync.Map     // server → *atomic.Int64: claims that the test knows of
}

type racingLoop struct {
	r       *racer
	claims  *proxy.Claimer
	inbox   chan func()
	rng     *rand.Rand
	clients []*racing
	starts  []raceStart
	wrong   error
}

type racing struct {
	slot  int
	rev   uint64
	tried proxy.Tried
	srv   *proxy.Server
	live  *proxy.Live // waits
	on    bool        // started
}

// raceStart is a start that has to have been on the active pool of a revision between the last one that was
// answered before it and the one in force after it.
type raceStart struct {
	from, to uint64
	pool     string
}

func (r *racer) Prepare(*proxy.Snapshot) (proxy.Prepared, error) { return r, nil }
func (r *racer) Commit()                                         {}
func (r *racer) Abort()                                          {}

func (r *racer) each(f func(l *racingLoop)) {
	var wg sync.WaitGroup
	for _, l := range r.loops {
		wg.Add(1)
		r.post(l, func() { defer wg.Done(); f(l) }, wg.Done)
	}
	wg.Wait()
}

// post has a loop call f, or calls otherwise when loops take no more.
func (r *racer) post(l *racingLoop, f, otherwise func()) {
	r.calls.RLock()
	defer r.calls.RUnlock()
	if r.ended {
		otherwise()
		return
	}
	l.inbox <- f
}

func (r *racer) Quiet(services []string) map[string]proxy.Tally {
	snap := r.sw.Current()
	r.active.Store(snap.Revision, snap.Service("web").Active.Name)
	var mu sync.Mutex
	out := map[string]proxy.Tally{}
	r.each(func(l *racingLoop) {
		snap := r.sw.Current()
		for _, c := range slices.Clone(l.clients) {
			svc := snap.At(c.slot)
			switch {
			case c.live != nil:
				l.admit(c)
			case c.srv != nil && !c.on && !svc.Gives(c.srv):
				l.known(c.srv, -1)
				l.claims.TakeBack(svc, c.srv)
				c.srv = nil
				l.steer(c)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, name := range services {
			out[name] = out[name].Add(l.claims.Tally(snap.Service(name)))
		}
	})
	return out
}

func (r *racer) Cut(servers []*proxy.Server, cuts proxy.Cuts) <-chan struct{} {
	carried := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(len(r.loops))
	go func() { // ends when all loops have, or take no more
		wg.Wait()
		close(carried)
	}()
	for _, l := range r.loops {
		r.post(l, func() {
			defer wg.Done()
			for _, c := range slices.Clone(l.clients) {
				if c.on && cuts.Of(0, 0) != proxy.CutNot && slices.Contains(servers, c.srv) {
					l.end(c, true)
				}
			}
		}, wg.Done)
	}
	return carried
}

// known counts a claim on a server that has max_connections 3, from after it was made to before it is ended.
func (l *racingLoop) known(srv *proxy.Server, n int64) {
	v, _ := l.r.most.LoadOrStore(srv, new(atomic.Int64))
	if now := v.(*atomic.Int64).Add(n); srv.Name == "b2" && now > 3 {
		l.wrong = fmt.Errorf("%d claims on %s, which takes 3", now, srv.Name)
	}
}

func (l *racingLoop) run() {
	for !l.r.stop.Load() {
		select {
		case f, open := <-l.inbox:
			if !open {
				return
			}
			f()
			continue
		default:
		}
		if len(l.clients) < 40 && l.rng.IntN(3) > 0 {
			c := &racing{}
			l.clients = append(l.clients, c)
			l.steer(c)
		} else if len(l.clients) > 0 {
			l.step(l.clients[l.rng.IntN(len(l.clients))])
		}
		if l.rng.IntN(50) == 0 {
			runtime.Gosched()
		}
	}
	for f := range l.inbox { // until it is closed
		f()
	}
}

func (l *racingLoop) forget(c *racing) {
	l.clients = slices.DeleteFunc(l.clients, func(x *racing) bool { return x == c })
}

func (l *racingLoop) steer(c *racing) {
	snap := l.r.sw.Current()
	svc := snap.At(c.slot)
	if c.rev != snap.Revision {
		c.rev, c.tried = snap.Revision, 0
	}
	got, verdict := l.claims.Claim(svc, l.rng.Uint64(), c.tried)
	switch verdict {
	case proxy.Dial:
		c.srv = got.Server
		l.known(c.srv, 1)
	case proxy.Wait, proxy.Full:
		if !l.claims.Hold(svc) {
			l.forget(c)
			return
		}
		c.live = svc.Live
	default:
		l.claims.Refused(svc)
		l.forget(c)
	}
}

func (l *racingLoop) admit(c *racing) {
	svc := l.r.sw.Current().At(c.slot)
	if svc.Hold != nil {
		return
	}
	l.claims.Unhold(svc, c.live, proxy.HoldReleased)
	c.live = nil
	l.steer(c)
}

func (l *racingLoop) step(c *racing) {
	switch {
	case c.live != nil && l.rng.IntN(20) == 0:
		l.claims.Unhold(l.r.sw.Current().At(c.slot), c.live, proxy.HoldLeft)
		l.forget(c)
	case c.live != nil:
		l.admit(c)
	case c.on:
		l.end(c, false)
	case l.rng.IntN(8) == 0:
		l.known(c.srv, -1)
		l.claims.Fail(c.srv, "refused")
		c.srv = nil
		l.steer(c)
	default:
		answered := l.r.answered.Load()
		if !l.claims.Start(c.slot, c.srv, c.rev) {
			l.known(c.srv, -1)
			c.srv = nil
			l.steer(c)
			return
		}
		c.on = true
		l.starts = append(l.starts, raceStart{answered, l.r.sw.Current().Revision, c.srv.Pool})
	}
}

func (l *racingLoop) end(c *racing, cut bool) {
	l.known(c.srv, -1)
	l.claims.End(c.srv, cut)
	l.forget(c)
}

// TestRace_SwapsAreExactWhileLoopsRun: loops, changes and readers at full speed. What the loops saw start has to
// agree with what was answered, and each proof with itself.
func TestRace_SwapsAreExactWhileLoopsRun(t *testing.T) {
	before := runtime.NumGoroutine()
	spec := one(proxy.RoundRobin, weights(2, 1)...)
	spec.Services[0].Pools[0].Servers = []proxy.ServerSpec{{Name: "b1", Address: "b1", Weight: 2}, {Name: "b2", Address: "b2", Weight: 1, MaxConnections: 3}}
	spec.Services[0].Pools = append(spec.Services[0].Pools, proxy.PoolSpec{Name: "green", Servers: []proxy.ServerSpec{{Name: "g1", Address: "g1", Weight: 1}}})
	spec.Services[0].Drain.Timeout = 20 * time.Millisecond
	other := spec.Services[0]
	other.Name, other.Listen = "api", []proxy.ListenSpec{{Network: proxy.NetTCP, Address: ":81"}}
	spec.Services = append(spec.Services, other)

	r := &racer{}
	sw := proxy.New(spec, &proxy.Memory{}, proxy.Options{Loops: 3, Journal: &journal{compactAt: 50}, Plane: r, Probe: func(context.Context, *proxy.Server) error { return nil }})
	r.sw = sw
	r.active.Store(sw.Current().Revision, "blue")
	for i := range 3 {
		l := &racingLoop{r: r, claims: sw.Claimer(i), inbox: make(chan func(), 16), rng: rand.New(rand.NewPCG(uint64(i), 1))}
		r.loops = append(r.loops, l)
		r.running.Go(l.run) // ends with stop and its inbox
	}
	if err := sw.Start(nil, "test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), max(soak(t), time.Second))
	defer cancel()
	var others sync.WaitGroup
	var swaps, refused atomic.Int64
	change := func(ch proxy.Change) *proxy.Operation {
		op, err := sw.Apply(ctx, ch)
		var refusal *proxy.Refusal
		switch {
		case errors.As(err, &refusal):
			refused.Add(1)
			return nil
		case err != nil:
			t.Error(err)
			return nil
		}
		v := op.View()
		if v.State == proxy.StateDraining || v.State == proxy.StateDone && v.Changed {
			for was := r.answered.Load(); was < v.Revision && !r.answered.CompareAndSwap(was, v.Revision); was = r.answered.Load() {
			}
		}
		return op
	}
	for n := range 2 {
		others.Go(func() { // swaps
			for i := 0; ctx.Err() == nil; i++ {
				op := change(proxy.Change{Verb: proxy.VerbSwap, Target: "web", Force: i%2 == 0, Exclusive: n == 1 && i%5 == 0, Hold: 100 * time.Millisecond})
				if op == nil {
					continue
				}
				swaps.Add(1)
				if i%4 == 0 {
					op.Wait(ctx, -1)
				}
				sw.Refresh(op)
				for _, p := range op.View().Proofs {
					if p.Overlap != 0 || p.LastStartOld.After(p.At) || !p.FirstStartNew.IsZero() && p.FirstStartNew.Before(p.At) {
						t.Errorf("last start on %s %v, swapped %v, first start on %s %v, overlap %v", p.From, p.LastStartOld, p.At, p.To, p.FirstStartNew, p.Overlap)
					}
				}
			}
		})
	}
	others.Go(func() { // other changes
		for i := 0; ctx.Err() == nil; i++ {
			change(proxy.Change{Verb: []proxy.Verb{proxy.VerbHold, proxy.VerbRelease, proxy.VerbSwap, proxy.VerbMaintenance, proxy.VerbMaintenance}[i%5], Target: "api", On: i%2 == 0, For: 5 * time.Millisecond})
			change(proxy.Change{Verb: []proxy.Verb{proxy.VerbDrain, proxy.VerbReady, proxy.VerbWeight}[i%3], Target: "web", Pool: "blue", Server: "b2", Weight: i % 4, Drain: time.Millisecond})
			change(proxy.Change{Verb: proxy.VerbReload, Spec: spec})
		}
	})
	others.Go(func() { // readers
		events, leave := sw.Subscribe()
		defer leave()
		for ctx.Err() == nil {
			snap := sw.Current()
			for _, svc := range snap.Services {
				if svc.Held() < 0 {
					t.Error("held is negative")
				}
				svc.Counts()
				for _, p := range svc.Pools {
					for i := range p.Members {
						p.Members[i].Counts()
					}
				}
			}
			sw.Drains()
			sw.Stats()
			_, _ = sw.Plan(context.Background(), proxy.Change{Verb: proxy.VerbSwap, Target: "web"}) // a conflict is as good an answer
			select {
			case <-events:
			default:
			}
		}
	})
	others.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(sw.Drains())+sw.Busy() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d drains and %d swaps do not end", len(sw.Drains()), sw.Busy())
		}
	}
	sw.Stop("test")
	r.stop.Store(true)
	r.calls.Lock()
	r.ended = true
	for _, l := range r.loops {
		close(l.inbox)
	}
	r.calls.Unlock()
	r.running.Wait()
	starts := 0
	for _, l := range r.loops {
		if l.wrong != nil {
			t.Error(l.wrong)
		}
		for _, s := range l.starts {
			starts++
			ok := false
			for rev := s.from; rev <= s.to && !ok; rev++ {
				pool, _ := r.active.Load(rev)
				ok = pool == nil || pool == s.pool // revision 0: nothing was answered yet
			}
			if !ok {
				t.Fatalf("a start on %s between revisions %d and %d", s.pool, s.from, s.to)
			}
		}
	}
	t.Logf("%d swaps, %d refused changes, %d starts", swaps.Load(), refused.Load(), starts)
	if swaps.Load() == 0 || starts == 0 {
		t.Error("nothing happened")
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
		}
	}
}

// TestRace_MaxConnectionsIsNeverExceeded: a claim that becomes a connection while another loop counts must not be
// missed by it.
func TestRace_MaxConnectionsIsNeverExceeded(t *testing.T) {
	const loops, limit = 2, 1
	servers := equal(1)
	servers[0].MaxConnections = limit
	sw := doorOn(t, newPlane(loops), &journal{}, one(proxy.RoundRobin, servers...), &proxy.Memory{})
	svc := sw.Current().Service("web")
	var now, most, got atomic.Int64
	var running sync.WaitGroup
	for i := range loops {
		c := sw.Claimer(i)
		running.Go(func() {
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
				claimed, verdict := c.Claim(svc, 0, 0)
				if verdict != proxy.Dial {
					continue
				}
				got.Add(1)
				n := now.Add(1)
				for was := most.Load(); was < n && !most.CompareAndSwap(was, n); was = most.Load() {
				}
				c.Start(0, claimed.Server, 1)
				for range 100 { // so that whoever was let in meanwhile is seen
					now.Load()
				}
				now.Add(-1)
				c.End(claimed.Server, false)
			}
		})
	}
	running.Wait()
	if most.Load() > limit {
		t.Errorf("%d connections at once to a server that takes %d", most.Load(), limit)
	}
	if n := svc.Active.Members[0].Counts(); n.Connections != 0 || n.Dialing != 0 || n.Total != uint64(got.Load()) {
		t.Errorf("%+v after %d claims", n, got.Load())
	}
}

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/turnout-proxy/turnout/proxy"
)

// soak is how long random tests go on: TURNOUT_SOAK, a duration; 0: as short as a test should be.
func soak(t *testing.T) time.Duration {
	d, err := time.ParseDuration(os.Getenv("TURNOUT_SOAK"))
	if err != nil && os.Getenv("TURNOUT_SOAK") != "" {
		t.Fatal(err)
	}
	return d
}

// TestProperty plays random changes, clients and faults on a door whose loops take random steps in the middle of
// every change, and looks at the promises:
//
//	P1  a start succeeds only on a server that a snapshot in force gives new work to, or that of the client's session
//	    while it stays there, and never on one that was sealed when a change was answered
//	P2  revisions come one by one, and the two services of a group are never on different pools
//	P4  an exclusive service never has connections to two pools
//	P5  at every step the journal gives the snapshot in force
//	P8  everything ends: operations, drains, holds, with nobody there to end them
//
// and that the counts are what the plane counts, and never negative.
func TestProperty(t *testing.T) {
	begun, length := time.Now(), max(soak(t), 3*time.Second)
	for time.Since(begun) < length && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			seed := rapid.Uint64().Draw(rt, "seed")
			steps := rapid.SliceOfN(rapid.Custom(drawAction), 40, 200).Draw(rt, "actions")
			var wrong, log string
			synctest.Test(t, func(t *testing.T) { wrong, log = act(t, seed, steps) })
			if wrong != "" {
				rt.Fatalf("%s\n%s", wrong, log)
			}
		})
	}
}

// action is one thing that happens; what its numbers mean depends on its kind.
type action struct {
	Kind, A, B, C, D int
}

var numbers = func() (n [64]int) {
	for i := range n {
		n[i] = i
	}
	return n
}()

func drawAction(rt *rapid.T) action {
	n := rapid.SampledFrom(numbers[:]) // IntRange prefers small ones
	return action{n.Draw(rt, "kind"), n.Draw(rt, "a"), n.Draw(rt, "b"), n.Draw(rt, "c"), n.Draw(rt, "d")}
}

// world is a door under random actions.
type world struct {
	sw      *proxy.Switch
	plane   *plane
	journal *journal
	rng     *rand.Rand // of the test's own goroutine
	log     strings.Builder
	variant [4]int // of the file
	applies sync.WaitGroup

	// All below with plane.mu held.
	wrong    string
	mem      proxy.Memory // the journal, read as it grows
	dirty    bool         // a deadline could not be journalled: the journal is behind until its service changes again
	answered uint64       // the highest revision whose change was answered
	ops      []*proxy.Operation
	history  []*proxy.Snapshot
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

func act(t *testing.T, seed uint64, steps []action) (wrong, log string) {
	proxy.Anchor()
	w := &world{plane: newPlane(3), journal: &journal{}, rng: rand.New(rand.NewPCG(seed, 1))}
	p := w.plane
	p.rng = rand.New(rand.NewPCG(seed, 2))
	p.quiet, p.onStart = w.quiet, w.started
	p.inexact = func(c *client) {
		w.fail("P1: %s started on %s, which no snapshot in force gave work to", c.name, c.srv.Address)
	}
	w.journal.before = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.between()
	}
	w.journal.written = func(b []byte) {
		if err := w.mem.LoadRecord(b); err != nil {
			w.fail("%v", err)
		}
	}
	w.sw = proxy.New(w.spec(), &proxy.Memory{}, proxy.Options{Loops: len(p.claims), Journal: w.journal, Plane: p, Probe: p.probe,
		Warn: func(msg string, _ error) { w.dirty = w.dirty || strings.Contains(msg, "journalled") }})
	p.sw = w.sw
	for i := range p.claims {
		p.claims[i] = w.sw.Claimer(i)
	}
	w.history = append(w.history, w.sw.Current())
	if err := w.sw.Start(nil, "test"); err != nil {
		t.Fatal(err)
	}
	for _, a := range steps {
		w.do(a)
		synctest.Wait()
		p.mu.Lock()
		if wrong := p.miscounted(); wrong != "" {
			w.fail("%s", wrong)
		}
		wrong := w.wrong
		p.mu.Unlock()
		if wrong != "" {
			break
		}
	}
	w.settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.wrong, w.log.String()
}

// settle lets everything end by itself, and looks whether it did.
func (w *world) settle() {
	p := w.plane
	w.journal.mu.Lock()
	w.journal.fail = nil
	w.journal.mu.Unlock()
	p.mu.Lock()
	p.is, p.rng = map[string]behaviour{}, nil
	p.mu.Unlock()
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	w.applies.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, op := range w.ops {
		if v := op.View(); v.Ended.IsZero() || v.State != proxy.StateDone && v.State != proxy.StateFailed {
			w.fail("P8: operation %s, %s %s, is %s a day later", v.ID, v.Verb, v.Target, v.State)
		}
	}
	if n := len(w.sw.Drains()); n > 0 {
		w.fail("P8: %d drains go on", n)
	}
	if n := w.sw.Busy(); n > 0 {
		w.fail("%d services are busy for ever", n)
	}
	if n := w.sw.Timers(); n > 0 {
		w.fail("%d timers are left behind", n)
	}
	for _, svc := range w.sw.Current().Services {
		if svc.Hold != nil {
			w.fail("P8: %s is held for ever", svc.Spec.Name)
		}
		if svc.Held() != 0 {
			w.fail("%s has %d waiting", svc.Spec.Name, svc.Held())
		}
	}
	mem, err := w.journal.replay(-1)
	if err != nil {
		w.fail("%v", err)
		return
	}
	if w.dirty {
		return
	}
	if wrong := remembered(w.sw.Current(), mem); wrong != "" {
		w.fail("P5, at the end: %s", wrong)
	}
	if w.journal.checkpoint != nil {
		return
	}
	// Wherever the door had died: what a restart reads is a snapshot that was in force, whole.
	m := &proxy.Memory{}
	for i, record := range w.journal.records {
		if err := m.LoadRecord(record); err != nil {
			w.fail("%v", err)
			return
		}
		at := max(m.Revision, 1) - w.history[0].Revision
		if wrong := remembered(w.history[at], m); wrong != "" {
			w.fail("P5, after %d records: %s", i+1, wrong)
		}
	}
}

// quiet is called with Switch.mu held, after each store.
func (w *world) quiet() {
	snap := w.sw.Current()
	last := w.history[len(w.history)-1]
	if snap != last && snap.Revision == last.Revision { // sessions have left a server, which is no change
		w.history[len(w.history)-1] = snap
	} else if snap != last {
		if snap.Revision != last.Revision+1 {
			w.fail("P2: revision %d follows %d", snap.Revision, last.Revision)
		}
		w.history = append(w.history, snap)
	}
	w.look(snap)
	if wrong := remembered(snap, &w.mem); wrong != "" && !w.dirty {
		w.fail("P5: %s", wrong)
	}
}

// look is a reader.
func (w *world) look(snap *proxy.Snapshot) {
	if a, b := snap.Service("a"), snap.Service("b"); a.Active.Name != b.Active.Name {
		w.fail("P2: a is on %s and b on %s in revision %d", a.Active.Name, b.Active.Name, snap.Revision)
	}
}

// started is called for each start.
func (w *world) started(c *client) {
	given := false
	for i := len(w.history) - 1; i >= 0 && w.history[i].Revision >= w.answered && !given; i-- {
		svc := w.history[i].At(c.slot)
		given = svc != nil && (svc.Gives(c.srv) || c.stays(svc))
	}
	if svc := w.sw.Current().At(c.slot); !given && (svc == nil || !svc.Gives(c.srv) && !c.stays(svc)) {
		w.fail("P1: %s started on %s, sealed when revision %d was answered", c.name, c.srv.Address, w.answered)
	}
	if c.srv.Service != "x" {
		return
	}
	for srv, n := range w.plane.conns {
		if n > 0 && srv.Service == "x" && srv.Pool != c.srv.Pool {
			w.fail("P4: %s started on x/%s while x/%s has %d connections", c.name, c.srv.Pool, srv.Pool, n)
		}
	}
}

// spec is the file in its present variant.
func (w *world) spec() *proxy.Spec {
	server := func(name string, weight, limit int) proxy.ServerSpec {
		return proxy.ServerSpec{Name: name, Address: name, Weight: weight, MaxConnections: limit}
	}
	pool := func(name string, s ...proxy.ServerSpec) proxy.PoolSpec { return proxy.PoolSpec{Name: name, Servers: s} }
	service := func(name string, pools ...proxy.PoolSpec) proxy.ServiceSpec {
		return proxy.ServiceSpec{Name: name, Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: ":" + name}}, Pools: pools, Active: pools[0].Name,
			Drain: proxy.DrainSpec{Timeout: 10 * time.Second, Then: proxy.ThenClose}, Hold: proxy.HoldSpec{Timeout: 20 * time.Second, Max: 5},
			Timeouts: proxy.TimeoutSpec{Connect: 3 * time.Second}}
	}
	a := service("a", pool("blue", server("a1", 3, 0), server("a2", 1, 0)), pool("green", server("a3", 1, 0)))
	b := service("b", pool("blue", server("b1", 1, 2)), pool("green", server("b2", 1, 1), server("b3", 2, 2)))
	b.Balance = proxy.LeastConnections
	x := service("x", pool("blue", server("x1", 1, 0), server("x2", 1, 0)), pool("green", server("x3", 1, 0), server("x4", 5, 1)))
	x.Exclusive = true
	y := service("y", pool("blue", server("y1", 1, 0), server("y2", 1, 0)), pool("green", server("y3", 1, 0)), pool("red", server("y4", 2, 0)))
	y.Balance, y.Drain.Then = proxy.SourceHash, proxy.ThenKeep
	a.Drain.CloseOver, b.Drain.CloseOver = 20*time.Second, time.Second
	b.Drain.BySession, x.Drain.BySession, y.Drain.BySession = true, true, true
	switch w.variant[0] {
	case 1:
		a.Pools[0].Servers = a.Pools[0].Servers[:1]
	case 2:
		a.Pools[0].Servers = append(a.Pools[0].Servers, server("a4", 1, 0))
	}
	switch w.variant[1] {
	case 1:
		x.Pools[0].Servers = x.Pools[0].Servers[:1]
	case 2:
		x.Pools[0].Servers[1].Address = "x2'"
	case 3:
		x.Pools = append(x.Pools, pool("red", server("x5", 1, 0)))
		x.Drain.Then = proxy.ThenKeep
	}
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{a, b, x}, Groups: map[string][]string{"g": {"a", "b"}}}
	switch w.variant[2] {
	case 0:
		spec.Services = append(spec.Services, y)
	case 1:
		y.Listen = append(y.Listen, proxy.ListenSpec{Network: proxy.NetTCP, Address: ":y2"})
		y.Pools = y.Pools[:2]
		spec.Services = append([]proxy.ServiceSpec{y}, spec.Services...)
	}
	if w.variant[3] == 1 {
		spec.Groups["all"] = []string{"x", "a", "b"}
	}
	return spec
}

func pick[T any](n int, from ...T) T { return from[n%len(from)] }

// do takes one action.
func (w *world) do(a action) {
	p := w.plane
	switch {
	case a.Kind < 14: // clients come
		p.mu.Lock()
		for range a.A%6 + 1 {
			c := p.arrive("c", pick(a.B, "a", "b", "x", "y"), w.rng.IntN(len(p.claims)))
			if c.key = w.rng.Uint64(); c.state != gone && w.rng.IntN(3) == 0 { // one with a session
				pools := w.sw.Current().At(c.slot).Pools
				servers := pools[w.rng.IntN(len(pools))].Servers()
				c.wish = proxy.Session(servers[w.rng.IntN(len(servers))].ID())
			}
		}
		p.mu.Unlock()
	case a.Kind < 26: // and go on
		p.mu.Lock()
		for range a.A + 1 {
			p.step(w.rng)
		}
		p.mu.Unlock()
	case a.Kind < 30:
		time.Sleep(time.Duration(a.A*a.A) * 10 * time.Millisecond) // up to 40 s
	case a.Kind < 34:
		p.mu.Lock()
		p.is[pick(a.A, "a1", "a3", "b1", "b2", "b3", "x1", "x3", "y1", "y3", "y4")] = pick(a.B, up, up, down, slow, deaf)
		p.mu.Unlock()
	case a.Kind < 36:
		p.mu.Lock()
		w.look(w.sw.Current())
		p.mu.Unlock()
		w.journal.mu.Lock()
		w.journal.compactAt = pick(a.A, 0, 10)
		w.journal.mu.Unlock()
	case a.Kind < 37: // somebody answers hooks, or aborts
		p.mu.Lock()
		ops := append([]*proxy.Operation(nil), w.ops...)
		p.mu.Unlock()
		for _, op := range ops {
			v := op.View()
			if v.Waiting != "" && a.A%3 > 0 {
				_ = op.Continue(v.Waiting, pick(a.B, "", "", "", "exit status 1")) // it may have gone on meanwhile
			} else if a.A%3 == 0 && v.Ended.IsZero() {
				op.Abort("test")
			}
		}
	case a.Kind == 37: // a watch finds a breach, or nothing
		service := pick(a.A, "a", "b", "x", "y")
		if svc := w.sw.Current().Service(service); svc != nil && svc.Watch != nil && a.B%2 == 0 {
			_ = w.sw.EndWatch(service, svc.Watch.Since, proxy.WatchPassed, "nothing")
		} else if svc != nil && svc.Watch != nil {
			w.apply("roll back "+service, a.D%4 == 0, func() (*proxy.Operation, error) { return w.sw.RollBack(context.Background(), service, "breach") })
		}
	case a.Kind == 38:
		w.journal.mu.Lock()
		w.journal.fail = pick(a.A, nil, errors.New("no space left on device"))
		w.journal.mu.Unlock()
	default:
		w.change(w.choose(a), a.D%4 == 0)
	}
}

// choose makes a change of an action's numbers.
func (w *world) choose(a action) proxy.Change {
	target := pick(a.A, "g", "x", "y", "g", "x")
	service := pick(a.A, "a", "b", "x", "y")
	long := time.Duration(a.C) * time.Second
	switch {
	case a.Kind < 48:
		ch := proxy.Change{Verb: pick(a.C, proxy.VerbSwap, proxy.VerbSwap, proxy.VerbBack), Target: target, Force: a.D%3 == 0, Drain: pick(a.D, 0, 0, time.Second, 20*time.Second)}
		if ch.Verb == proxy.VerbSwap {
			ch.To = pick(a.B, "blue", "green", "")
			if target != "g" {
				ch.To = pick(a.B, "blue", "green", "", "red")
			}
		}
		ch.Exclusive, ch.StopOld, ch.StartNew = a.D%5 == 0, a.D%7 == 0, a.D%11 == 0
		ch.Hold = pick(a.D, 0, 0, 0, 15*time.Second)
		ch.Watch = pick(a.B, 0, time.Hour)
		ch.Then = pick(a.D/4, "", "", proxy.ThenKeep, proxy.ThenClose)
		return ch
	case a.Kind < 50:
		return proxy.Change{Verb: proxy.VerbDrain, Target: service, Pool: pick(a.B, "blue", "green", "red"), Server: pick(a.C, "", "a1", "b3", "x1", "x4", "y1"), Force: a.D%4 == 0, Drain: pick(a.D, 0, 3*time.Second)}
	case a.Kind < 52 && a.D%4 == 2:
		return proxy.Change{Verb: proxy.VerbKeep, Target: service, Servers: pick(a.C, []string{"a1"}, []string{"b3", "b1"}, []string{"x1"}, []string{"y1"}), Force: a.B%2 == 0}
	case a.Kind < 52 && a.D%4 == 3:
		ch := proxy.Change{Verb: proxy.VerbSwap, Target: pick(a.A, "x", "y", "a", "b"), Servers: pick(a.C, []string{"a1"}, []string{"x1", "x2"}, []string{"x4"}, []string{"y1"}, []string{"b3"}, []string{"a2"}), Exclusive: a.A%5 == 0}
		if ch.Target == "x" || ch.Target == "y" { // the others are on the same pool, always
			ch.To = pick(a.B, "", "blue", "green")
		}
		return ch
	case a.Kind < 52:
		return proxy.Change{Verb: proxy.VerbReady, Target: service, Pool: pick(a.B, "blue", "green", "red")}
	case a.Kind == 52 && a.D%2 == 0:
		return proxy.Change{Verb: proxy.VerbWeight, Target: service, Pool: pick(a.B, "blue", "green"), Server: pick(a.C, "a1", "b3", "x1", "x4", "y1"), Weight: a.D % 5}
	case a.Kind < 54:
		ch := proxy.Change{Verb: proxy.VerbSplit, Target: pick(a.A, "g", "y", "a", "y", "x"), Force: a.D%3 == 0, For: long / 2,
			Drain: pick(a.D, 0, time.Second), Then: pick(a.D/4, "", proxy.ThenKeep)}
		for i, pool := range []string{"green", "red", "blue"} {
			if share := pick((a.B+i*a.C)%8, 0, 0, 5_00, 50_00, 33_33, 100_00, 1, 66_67); share > 0 {
				ch.Shares = append(ch.Shares, proxy.Share{Pool: pool, Percent: proxy.Percent(share)})
			}
		}
		return ch
	case a.Kind < 55:
		return proxy.Change{Verb: proxy.VerbHold, Target: target, For: long}
	case a.Kind < 57:
		return proxy.Change{Verb: proxy.VerbRelease, Target: target}
	case a.Kind < 59:
		return proxy.Change{Verb: proxy.VerbMaintenance, Target: target, On: a.B%2 == 0, Soft: a.D%2 == 0, For: long + time.Second}
	case a.Kind < 60:
		return proxy.Change{Verb: pick(a.B, proxy.VerbFreeze, proxy.VerbUnfreeze, proxy.VerbUnfreeze)}
	default:
		w.variant[a.A%4] = a.B % 4
		return proxy.Change{Verb: proxy.VerbReload, Spec: w.spec(), Force: a.D%4 == 0}
	}
}

// change applies a change; apart: without waiting, so that others come in between.
func (w *world) change(ch proxy.Change, apart bool) {
	ch.Who = proxy.Who{Name: "test"}
	w.apply(fmt.Sprintf("%s %s/%s/%s -> %q", ch.Verb, ch.Target, ch.Pool, ch.Server, ch.To), apart, func() (*proxy.Operation, error) { return w.sw.Apply(context.Background(), ch) })
}

// apply has a change made, and looks at what it was answered.
func (w *world) apply(what string, apart bool, change func() (*proxy.Operation, error)) {
	fmt.Fprintln(&w.log, what)
	done := make(chan struct{})
	w.applies.Go(func() {
		defer close(done)
		op, err := change()
		p := w.plane
		p.mu.Lock()
		defer p.mu.Unlock()
		var r *proxy.Refusal
		switch {
		case errors.As(err, &r):
			if r.Message == "" || r.Code == "" {
				w.fail("a refusal without words: %+v", r)
			}
		case err != nil:
			w.fail("not a refusal: %v", err)
		default:
			w.ops = append(w.ops, op)
			v := op.View()
			if v.State == proxy.StateDraining || v.State == proxy.StateDone && v.Changed {
				w.answered = max(w.answered, v.Revision)
			}
			for i := range v.Proofs {
				if v.Proofs[i].Overlap != 0 {
					w.fail("P1: overlap %v", v.Proofs[i].Overlap)
				}
			}
		}
	})
	if !apart {
		<-done
	}
}

package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/listen"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// Plane carries the clients of services of one mode.
type Plane interface {
	// Worker makes the plane's part on a loop, which does not run yet.
	Worker(l *loop.Loop) Worker
	// Commit tells that a snapshot with other services or listeners is in force, after all workers were told.
	Commit(next *proxy.Snapshot)
	// Close ends what the plane has beside its workers. No loop runs any more.
	Close()
}

// Worker is a plane's part on one loop. All its methods are called on that loop.
type Worker interface {
	// Welcome takes an accepted client of a listener slot. The worker closes fd.
	Welcome(listener uint32, fd int, peer loop.Addr)
	// TakeBack claims anew for every client whose claim leads where no new work goes any more, and is the first half
	// of the quiet point: Release, the second, lets in clients that wait though their service is no longer held.
	TakeBack()
	Release()
	// Reload brings what the worker keeps of services in line with a snapshot of other services or listeners.
	Reload()
	// Cut ends connections of a server as far as cuts allows.
	Cut(s *proxy.Server, cuts proxy.Cuts)
	// Leave tells that no more clients will come: those who are asked for nothing may go.
	Leave()
	// Len is the number of clients, waiting and being dialled for included.
	Len() int
	// End ends every connection.
	End()
}

// Options of a Front.
type Options struct {
	Switch *proxy.Switch
	Loops  int // how many event loops; the Switch must have been made for as many
	Log    *zap.Logger
	Certs  *certs.Manager // what services that terminate TLS show; nil: there are none
	// Ceiling is the first descriptor that clients, servers and pipes do not get, so that the door can be asked and
	// told, and can ask its servers, however many clients there are. 0: they may have them all.
	Ceiling int
}

// Front owns the loops and the listeners. It implements proxy.Plane, is given to Switch.Start, and belongs to
// whoever made it: Stop ends it.
type Front struct {
	Places Places

	certs   *certs.Manager
	lanes   []*secure.Lane // by loop
	sw      *proxy.Switch
	log     *zap.Logger
	doors   []*entrance
	loops   []*loop.Loop // of doors, in their order
	planes  map[proxy.Mode]Plane
	running sync.WaitGroup
	cancel  context.CancelFunc
	start   sync.Once
	stop    sync.Once

	mu      sync.Mutex
	sockets map[int]*listen.Socket // listener slot → socket
	closed  bool                   // CloseListeners was called

	toldMu    sync.Mutex            // held for a few instructions only, since loops wait for it
	unsecured map[string]*unsecured // by service

	starved atomic.Int64 // when starvation was last logged, Clock
}

// New makes the loops. Planes are added by Carry; the first Prepare starts the loops.
func New(opt Options) (*Front, error) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Front{certs: opt.Certs, sw: opt.Switch, log: opt.Log, planes: map[proxy.Mode]Plane{}, sockets: map[int]*listen.Socket{}, unsecured: map[string]*unsecured{}, cancel: cancel}
	f.Places.known = map[string]*Place{}
	for i := range opt.Loops {
		l, err := loop.New(i)
		if err != nil {
			cancel()
			for _, e := range f.doors {
				e.loop.Stop()
			}
			return nil, err
		}
		l.KeepBelow(opt.Ceiling)
		f.doors = append(f.doors, newEntrance(f, l))
	}
	for _, e := range f.doors {
		f.loops = append(f.loops, e.loop)
	}
	f.lanes = secure.NewLanes(f.loops, secure.Options{})
	go f.Places.refresh(ctx) // ends with Stop
	return f, nil
}

// Carry gives services of a mode to a plane. It must be called before the Switch starts the front.
func (f *Front) Carry(mode proxy.Mode, p Plane) {
	f.planes[mode] = p
	for _, e := range f.doors {
		w := p.Worker(e.loop)
		e.workers = append(e.workers, w)
		e.byMode[mode] = w
	}
}

// Loops is how many loops there are.
func (f *Front) Loops() int { return len(f.doors) }

// Lane is what TLS sessions on a loop are carried with, those of all planes alike.
func (f *Front) Lane(l *loop.Loop) *secure.Lane { return f.lanes[l.ID()] }

// TLS is what a new client of a listener slot is to be shown, which names the host; nil: nothing.
func (f *Front) TLS(slot int, host []byte) *tls.Config {
	snap := f.sw.Current()
	svc := snap.At(slot)
	if f.certs == nil || svc == nil || svc.Spec.TLS == nil {
		return nil
	}
	if all := snap.Sharers(slot); len(all) > 1 {
		return f.certs.ServerFor(all, string(host))
	}
	return f.certs.Server(svc.Spec.Name)
}

// TLSOf is TLS of one service, whose client has been told from others' already.
func (f *Front) TLSOf(service string) *tls.Config {
	if f.certs == nil {
		return nil
	}
	return f.certs.Server(service)
}

// ToServer is how TLS is spoken with a server of a service; nil: it is not.
func (f *Front) ToServer(service, address string) *tls.Config {
	if f.certs == nil {
		return nil
	}
	return f.certs.ToServer(service, address)
}

// Challenge answers an authority that asks whether a host is ours; see certs.Manager.Challenge.
func (f *Front) Challenge(host, path string) (body string, ok bool) {
	if f.certs == nil {
		return "", false
	}
	return f.certs.Challenge(host, path)
}

// ChallengePrefix begins the paths that Challenge is to be asked for.
const ChallengePrefix = certs.ChallengePrefix

// run starts the loops, once.
func (f *Front) run() {
	f.start.Do(func() {
		for _, e := range f.doors {
			f.running.Go(e.loop.Run) // ends with Stop
		}
	})
}

// prepared is a snapshot's new listeners, open but not accepting, and its certificates.
type prepared struct {
	f     *Front
	next  *proxy.Snapshot
	open  map[int]*listen.Socket
	certs proxy.Prepared // nil: none
}

// Prepare implements proxy.Plane.
func (f *Front) Prepare(next *proxy.Snapshot) (proxy.Prepared, error) {
	f.run()
	for _, err := range f.Places.prepare(context.Background(), next) {
		f.log.Warn("server does not resolve; dials to it fail until it does", zap.Error(err))
	}
	pr := &prepared{f: f, next: next, open: map[int]*listen.Socket{}}
	var errs []string
	if f.certs != nil {
		c, err := f.certs.Prepare(next)
		if err != nil {
			errs = append(errs, err.Error())
		}
		pr.certs = c
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		pr.Abort()
		return nil, errors.New("the door accepts no clients any more: it is stopping")
	}
	next.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		if f.sockets[slot] != nil || pr.open[slot] != nil {
			return
		}
		s, err := listen.Open(spec)
		if err != nil {
			errs = append(errs, fmt.Sprintf("service %s cannot listen on %s: %v", svc.Spec.Name, spec, err))
			return
		}
		pr.open[slot] = s
	})
	if len(errs) > 0 {
		pr.Abort()
		return nil, fmt.Errorf("%s", strings.Join(errs, "; "))
	}
	return pr, nil
}

// Abort implements proxy.Prepared.
func (pr *prepared) Abort() {
	for _, s := range pr.open {
		_ = s.Close()
	}
	if pr.certs != nil {
		pr.certs.Abort()
	}
}

// Commit implements proxy.Prepared.
func (pr *prepared) Commit() {
	f := pr.f
	if pr.certs != nil {
		pr.certs.Commit() // first: a client of a new listener needs them
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	used := map[int]bool{}
	pr.next.Listeners(func(slot int, _ proxy.ListenSpec, _ *proxy.Service) { used[slot] = true })
	for slot, s := range pr.open {
		f.sockets[slot] = s
	}
	f.each(func(e *entrance) {
		for slot := range f.sockets {
			if !used[slot] {
				e.unlisten(uint32(slot))
			}
		}
		for slot, s := range pr.open {
			e.listen(uint32(slot), s.FD())
		}
		for _, w := range e.workers {
			w.Reload()
		}
	})
	for slot, s := range f.sockets {
		if !used[slot] {
			_ = s.Close()
			delete(f.sockets, slot)
		}
	}
	for _, p := range f.planes {
		p.Commit(pr.next)
	}
}

// each runs do on every loop and waits for all.
func (f *Front) each(do func(e *entrance)) {
	loop.All(f.loops, func(i int) { do(f.doors[i]) })
}

// Quiet implements proxy.Plane.
func (f *Front) Quiet(services []string) map[string]proxy.Tally {
	tallies := make([][]proxy.Tally, len(f.doors))
	f.each(func(e *entrance) {
		for _, w := range e.workers {
			w.TakeBack()
		}
		for _, w := range e.workers {
			w.Release()
		}
		snap := f.sw.Current()
		mine := make([]proxy.Tally, len(services))
		for i, name := range services {
			if svc := snap.Service(name); svc != nil {
				mine[i] = e.claims.Tally(svc)
			}
		}
		tallies[e.loop.ID()] = mine
	})
	out := make(map[string]proxy.Tally, len(services))
	for _, mine := range tallies {
		for i, t := range mine {
			out[services[i]] = out[services[i]].Add(t)
		}
	}
	return out
}

// Cut implements proxy.Plane.
func (f *Front) Cut(servers []*proxy.Server, cuts proxy.Cuts) <-chan struct{} {
	carried := make(chan struct{})
	var left atomic.Int32
	left.Store(int32(len(f.doors)))
	done := func() {
		if left.Add(-1) == 0 {
			close(carried)
		}
	}
	for _, e := range f.doors {
		posted := e.loop.Post(func() {
			defer done()
			for _, s := range servers {
				for _, w := range e.workers {
					w.Cut(s, cuts)
				}
			}
		})
		if !posted { // stopped
			done()
		}
	}
	return carried
}

// Addr is the address a listener slot is bound to; "" if it is not open.
func (f *Front) Addr(slot int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sockets[slot]; s != nil {
		return s.Addr()
	}
	return ""
}

// Connections is the number of clients of all planes, waiting and being dialled for included.
func (f *Front) Connections() int {
	var n atomic.Int64
	f.each(func(e *entrance) {
		for _, w := range e.workers {
			n.Add(int64(w.Len()))
		}
	})
	return int(n.Load())
}

// CloseListeners stops accepting. Clients that wait in the kernel's queue are taken before.
func (f *Front) CloseListeners() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.each(func(e *entrance) {
		for slot := range f.sockets {
			e.unlisten(uint32(slot))
		}
		for _, w := range e.workers {
			w.Leave()
		}
	})
	for slot, s := range f.sockets {
		_ = s.Close()
		delete(f.sockets, slot)
	}
}

// Drain waits until there is no client any more, or ctx is done. It returns how many are left.
func (f *Front) Drain(ctx context.Context) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		n := f.Connections()
		if n == 0 || ctx.Err() != nil {
			return n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Stop ends every connection and the loops. CloseListeners and Drain come before it when clients are to be
// spared. A second Stop does nothing.
func (f *Front) Stop() { f.stop.Do(f.stopNow) }

func (f *Front) stopNow() {
	f.run() // else nobody would carry out what follows
	f.CloseListeners()
	f.each(func(e *entrance) {
		for _, w := range e.workers {
			w.End()
		}
	})
	f.cancel()
	for _, e := range f.doors {
		e.loop.Stop()
	}
	f.running.Wait()
	for _, p := range f.planes {
		p.Close()
	}
}

// Starvation tells the operator, at most once a second, that the system ran out of something.
func (f *Front) Starvation(what string, err syscall.Errno) {
	now := loop.Clock()
	if last := f.starved.Load(); now-last > int64(time.Second) && f.starved.CompareAndSwap(last, now) {
		f.log.Warn("out of descriptors, ports or memory: clients wait until connections have ended", zap.String("during", what), zap.Error(err))
	}
}

// unsecuredEvery is how often a service's clients without a handshake are logged: strangers must not fill the log.
const unsecuredEvery = 10 * time.Second

// Unsecured counts, on the loop of claims, a client of a service whose TLS handshake did not come about, and why. The
// operator is told of one of a service's in ten seconds, and of how many there were since.
func (f *Front) Unsecured(claims *proxy.Claimer, svc *proxy.Service, client loop.Addr, why string) {
	claims.Insecure(svc, client.String(), why)
	if why == "" { // as those who only look whether somebody is there
		return
	}
	now := loop.Clock()
	f.toldMu.Lock()
	u := f.unsecured[svc.Spec.Name]
	if u == nil {
		u = &unsecured{}
		f.unsecured[svc.Spec.Name] = u
	}
	u.n++
	n, tell := u.n, u.told == 0 || now-u.told > int64(unsecuredEvery)
	if tell {
		*u = unsecured{told: now}
	}
	f.toldMu.Unlock()
	if tell {
		f.log.Info("a client had no TLS handshake", zap.String("service", svc.Spec.Name), zap.Stringer("client", client), zap.String("error", why), zap.Uint64("since_last_told", n))
	}
}

// unsecured is what was not told yet of a service's clients.
type unsecured struct {
	n    uint64
	told int64 // Clock; 0: never
}

// LoopStats reads the loops' counters.
func (f *Front) LoopStats() []loop.Stats {
	out := make([]loop.Stats, len(f.doors))
	for i, e := range f.doors {
		out[i] = e.loop.Stats()
	}
	return out
}

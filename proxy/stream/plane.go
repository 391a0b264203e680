package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/listen"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Options of a Plane.
type Options struct {
	Switch *proxy.Switch
	Loops  int // how many event loops; the Switch must have been made for as many
	Log    *zap.Logger
	Access *zap.Logger // one line per ended connection of services with access_log; nil: none
}

// Plane is the TCP plane. It implements proxy.Plane, is given to Switch.Start, and belongs to whoever made
// it: Stop ends it.
type Plane struct {
	sw      *proxy.Switch
	log     *zap.Logger
	workers []*worker
	running sync.WaitGroup
	places  places
	cancel  context.CancelFunc
	stop    sync.Once

	mu      sync.Mutex
	sockets map[int]*listen.Socket // listener slot → socket
	closed  bool                   // CloseListeners was called

	linesMu sync.Mutex // taken only when clients wait
	lines   map[*proxy.Live]*line

	ends       chan accessLine
	accessDone chan struct{}
	lost       atomic.Uint64 // access lines dropped because the log did not keep up
	starved    atomic.Int64  // when starvation was last logged, Clock
}

// New starts the loops; nothing is accepted until the Switch starts the plane.
func New(opt Options) (*Plane, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Plane{sw: opt.Switch, log: opt.Log, sockets: map[int]*listen.Socket{}, lines: map[*proxy.Live]*line{}, places: places{known: map[string]*place{}}, cancel: cancel}
	for i := range opt.Loops {
		l, err := loop.New(i)
		if err != nil {
			cancel()
			for _, w := range p.workers {
				w.loop.Stop()
			}
			return nil, err
		}
		p.workers = append(p.workers, newWorker(p, l))
	}
	p.startAccessLog(opt.Access)
	for _, w := range p.workers {
		p.running.Go(w.loop.Run) // ends with Stop
	}
	go p.places.refresh(ctx) // ends with Stop
	return p, nil
}

// prepared is a snapshot's new listeners, open but not accepting.
type prepared struct {
	p    *Plane
	next *proxy.Snapshot
	open map[int]*listen.Socket
}

// Prepare implements proxy.Plane.
func (p *Plane) Prepare(next *proxy.Snapshot) (proxy.Prepared, error) {
	for _, err := range p.places.prepare(context.Background(), next) {
		p.log.Warn("server does not resolve; dials to it fail until it does", zap.Error(err))
	}
	pr := &prepared{p: p, next: next, open: map[int]*listen.Socket{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the door accepts no clients any more: it is stopping")
	}
	var errs []string
	next.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		if p.sockets[slot] != nil {
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
}

// Commit implements proxy.Prepared.
func (pr *prepared) Commit() {
	p := pr.p
	p.mu.Lock()
	defer p.mu.Unlock()
	used := map[int]bool{}
	pr.next.Listeners(func(slot int, _ proxy.ListenSpec, _ *proxy.Service) { used[slot] = true })
	for slot, s := range pr.open {
		p.sockets[slot] = s
	}
	p.each(func(w *worker) {
		for slot := range p.sockets {
			if !used[slot] {
				w.unlisten(uint32(slot))
			}
		}
		for slot, s := range pr.open {
			w.listen(uint32(slot), s.FD())
		}
		w.sweep()
		w.rearm()
	})
	for slot, s := range p.sockets {
		if !used[slot] {
			_ = s.Close()
			delete(p.sockets, slot)
		}
	}
	p.forgetLines(pr.next)
}

// rearm brings idle timers in line with a reload: a deadline that became shorter, or was switched on.
func (w *worker) rearm() {
	w.conns.All(func(slot uint32, c *conn) bool {
		if c.state == relaying {
			w.rest(slot, c, w.sw.Current().At(int(c.listener)))
		}
		return true
	})
}

// each runs f on every loop and waits for all.
func (p *Plane) each(f func(w *worker)) {
	var wg sync.WaitGroup
	for _, w := range p.workers {
		wg.Add(1)
		if !w.loop.Post(func() { defer wg.Done(); f(w) }) {
			wg.Done() // stopped
		}
	}
	wg.Wait()
}

// Quiet implements proxy.Plane.
func (p *Plane) Quiet(services []string) map[string]proxy.Tally {
	tallies := make([][]proxy.Tally, len(p.workers))
	p.each(func(w *worker) {
		w.takeBack()
		w.release()
		snap := w.sw.Current()
		mine := make([]proxy.Tally, len(services))
		for i, name := range services {
			if svc := snap.Service(name); svc != nil {
				mine[i] = w.claims.Tally(svc)
			}
		}
		tallies[w.loop.ID()] = mine
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
func (p *Plane) Cut(servers []*proxy.Server, how proxy.Cut) {
	for _, w := range p.workers {
		w.loop.Post(func() {
			for _, s := range servers {
				if ti, ok := w.targetOf[s]; ok {
					w.cut(ti, how)
				}
			}
		})
	}
}

// Addr is the address a listener slot is bound to; "" if it is not open.
func (p *Plane) Addr(slot int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sockets[slot]; s != nil {
		return s.Addr()
	}
	return ""
}

// Connections is the number of clients the plane has, waiting and being dialled for included.
func (p *Plane) Connections() int {
	var n atomic.Int64
	p.each(func(w *worker) { n.Add(int64(w.conns.Len())) })
	return int(n.Load())
}

// CloseListeners stops accepting. Clients that wait in the kernel's queue are taken before.
func (p *Plane) CloseListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.each(func(w *worker) {
		for slot := range p.sockets {
			w.unlisten(uint32(slot))
		}
	})
	for slot, s := range p.sockets {
		_ = s.Close()
		delete(p.sockets, slot)
	}
}

// Drain waits until there is no client any more, or ctx is done. It returns how many are left.
func (p *Plane) Drain(ctx context.Context) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		n := p.Connections()
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
func (p *Plane) Stop() { p.stop.Do(p.stopNow) }

func (p *Plane) stopNow() {
	p.CloseListeners()
	p.each(func(w *worker) {
		w.conns.All(func(slot uint32, c *conn) bool {
			w.end(slot, c, endStopped)
			return true
		})
	})
	p.cancel()
	for _, w := range p.workers {
		w.loop.Stop()
	}
	p.running.Wait()
	p.stopAccessLog()
}

// starvation tells the operator, at most once a second, that the system ran out of something.
func (p *Plane) starvation(what string, err syscall.Errno) {
	now := loop.Clock()
	if last := p.starved.Load(); now-last > int64(time.Second) && p.starved.CompareAndSwap(last, now) {
		p.log.Warn("out of descriptors, ports or memory: clients wait until connections have ended", zap.String("during", what), zap.Error(err))
	}
}

// LoopStats reads the loops' counters.
func (p *Plane) LoopStats() []loop.Stats {
	out := make([]loop.Stats, len(p.workers))
	for i, w := range p.workers {
		out[i] = w.loop.Stats()
	}
	return out
}

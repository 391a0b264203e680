package stream

import (
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/hold"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Options of a Plane.
type Options struct {
	Switch *proxy.Switch
	Front  *front.Front
	Access *zap.Logger // one line per ended connection of services with access_log; nil: none
}

// Plane is the TCP plane: it carries the clients of tcp services that a front welcomes.
type Plane struct {
	sw      *proxy.Switch
	front   *front.Front
	workers []*worker // by loop

	lines *hold.Lines

	ends       chan accessLine
	accessDone chan struct{}
	lost       atomic.Uint64 // access lines dropped because the log did not keep up
}

// New makes the plane of the front's tcp services.
func New(opt Options) *Plane {
	p := &Plane{sw: opt.Switch, front: opt.Front, lines: hold.NewLines(opt.Front.Loops())}
	p.startAccessLog(opt.Access)
	opt.Front.Carry(proxy.TCP, p)
	return p
}

// Worker implements front.Plane.
func (p *Plane) Worker(l *loop.Loop) front.Worker {
	w := newWorker(p, l)
	p.workers = append(p.workers, w)
	return w
}

// Commit implements front.Plane.
func (p *Plane) Commit(next *proxy.Snapshot) { p.lines.Forget(next) }

// Close implements front.Plane.
func (p *Plane) Close() { p.stopAccessLog() }

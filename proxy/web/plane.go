package web

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
	Access *zap.Logger // one line per ended request of services with access_log
}

// Plane is the HTTP plane: it carries the clients of http services that a front welcomes.
type Plane struct {
	sw      *proxy.Switch
	front   *front.Front
	workers []*worker // by loop
	http2   HTTP2     // nil: nobody speaks it
	token   Token

	lines *hold.Lines

	ends       chan accessLine
	spare      chan []byte // texts of lines that were written
	accessDone chan struct{}
	lost       atomic.Uint64 // access lines dropped because the log did not keep up
}

// New makes the plane of the front's http services.
func New(opt Options) *Plane {
	p := &Plane{sw: opt.Switch, front: opt.Front, lines: hold.NewLines(opt.Front.Loops()), token: newToken()}
	p.startAccessLog(opt.Access)
	opt.Front.Carry(proxy.HTTP, p)
	return p
}

// Token entitles whoever has it to previews: the door's own, for probes.
func (p *Plane) Token() Token { return p.token }

// Worker implements front.Plane.
func (p *Plane) Worker(l *loop.Loop) front.Worker {
	w := newWorker(p, l)
	p.workers = append(p.workers, w)
	return w
}

// Commit implements front.Plane.
func (p *Plane) Commit(next *proxy.Snapshot) {
	p.lines.Forget(next)
}

// Close implements front.Plane.
func (p *Plane) Close() {
	if p.http2 != nil {
		p.http2.Close()
	}
	close(p.ends)
	<-p.accessDone
}

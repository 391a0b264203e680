package stream

import (
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// accessLine is an ended connection on its way to the log.
type accessLine struct {
	service            string
	server             *proxy.Server // nil: none
	peer               loop.Addr
	began              int64
	took               time.Duration
	toServer, toClient uint64
	end                ending
}

// startAccessLog writes lines on a goroutine of its own: a loop never waits for a log.
func (p *Plane) startAccessLog(log *zap.Logger) {
	if log == nil {
		return
	}
	p.ends, p.accessDone = make(chan accessLine, 4096), make(chan struct{})
	go func() { // ends with stopAccessLog
		defer close(p.accessDone)
		for a := range p.ends {
			var pool, name string
			if a.server != nil {
				pool, name = a.server.Pool, a.server.Name
			}
			log.Info("connection", zap.String("service", a.service), zap.String("pool", pool), zap.String("server", name),
				zap.Stringer("client", a.peer), zap.Time("began", loop.Wall(a.began)), zap.Duration("took", a.took),
				zap.Uint64("bytes_to_server", a.toServer), zap.Uint64("bytes_to_client", a.toClient), zap.Stringer("end", a.end))
			if n := p.lost.Swap(0); n > 0 {
				log.Warn("access lines lost: the log did not keep up", zap.Uint64("lost", n))
			}
		}
	}()
}

// stopAccessLog must be called when no loop runs any more.
func (p *Plane) stopAccessLog() {
	if p.ends != nil {
		close(p.ends)
		<-p.accessDone
	}
}

// access logs an ended connection, if its service wants that.
func (p *Plane) access(w *worker, c *conn, srv *proxy.Server, why ending) {
	if p.ends == nil {
		return
	}
	svc := w.service(w.sw.Current(), c)
	if svc == nil || !svc.Spec.AccessLog {
		return
	}
	select {
	case p.ends <- accessLine{svc.Spec.Name, srv, c.peer, c.began, time.Duration(w.loop.Now() - c.began), c.half[client].carried, c.half[server].carried, why}:
	default:
		p.lost.Add(1)
	}
}

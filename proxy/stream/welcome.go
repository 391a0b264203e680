package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Welcome gives a client its slot and leads it on.
func (w *worker) Welcome(listener uint32, fd int, peer loop.Addr) {
	slot, c := w.conns.Alloc()
	c.fd = [2]int32{int32(fd), -1}
	c.listener, c.peer = int32(listener), peer
	c.target, c.queue, c.next, c.prev = -1, -1, none, none
	c.began = w.loop.Now()
	svc := w.sw.Current().At(int(listener))
	if svc == nil {
		w.end(slot, c, endRefused)
		return
	}
	if svc.Spec.ProxyProtocol.Accept {
		c.state = heading
		w.timers.Set(slot, c.began+int64(svc.Spec.Timeouts.Connect))
		w.watch(slot, c) // its first event reads the header
		return
	}
	w.enter(slot, c, svc)
}

// enter leads on a client that has said who it is, or need not.
func (w *worker) enter(slot uint32, c *conn, svc *proxy.Service) {
	if svc.Spec.TLS != nil {
		w.greet(slot, c, svc)
		return
	}
	w.steer(slot, c)
}

// watch registers the client's descriptor, once.
func (w *worker) watch(slot uint32, c *conn) bool {
	if c.flags&watched == 0 {
		if err := w.loop.Add(int(c.fd[client]), w.token(slot, client)); err != nil {
			w.plane.front.Starvation("epoll", syscall.ENOMEM)
			w.end(slot, c, endRefused)
			return false
		}
		c.flags |= watched
	}
	return true
}

// Reload implements front.Worker: targets and queues that are not in use are forgotten, and idle timers come in line
// with a deadline that became shorter, or was switched on.
func (w *worker) Reload() {
	w.sweep()
	w.conns.All(func(slot uint32, c *conn) bool {
		if c.state == relaying {
			w.rest(slot, c, w.service(w.sw.Current(), c))
		}
		return true
	})
}

// Leave implements front.Worker: a connection is never at rest for certain, so none is ended.
func (w *worker) Leave() {}

// Len implements front.Worker.
func (w *worker) Len() int { return w.conns.Len() }

// End implements front.Worker.
func (w *worker) End() {
	w.conns.All(func(slot uint32, c *conn) bool {
		w.end(slot, c, endStopped)
		return true
	})
}

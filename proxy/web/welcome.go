package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Welcome implements front.Worker.
func (w *worker) Welcome(listener uint32, fd int, peer loop.Addr) {
	snap := w.sw.Current()
	if svc := snap.At(int(listener)); svc != nil {
		tls := svc.Spec.TLS != nil && !snap.Plain(int(listener))
		if svc.Spec.ProxyProtocol.Accept || tls {
			w.greet(listener, fd, peer, svc)
			return
		}
	}
	w.introduce(listener, fd, peer)
}

// introduce makes a client of who needs no further introduction.
func (w *worker) introduce(listener uint32, fd int, peer loop.Addr) {
	slot, c := w.admitClient(listener, fd, peer)
	if w.mayBegin(c) {
		c.flags |= prior
	}
	if w.watch(slot, c) {
		w.rest(slot, c)
	}
}

// admitClient gives a client its slot.
func (w *worker) admitClient(listener uint32, fd int, peer loop.Addr) (uint32, *client) {
	slot, c := w.clients.Alloc()
	c.fd, c.listener, c.peer = int32(fd), int32(listener), peer
	c.up, c.queue, c.next, c.prev, c.target = none, -1, none, none, -1
	c.arrived = w.loop.Now()
	c.began = c.arrived
	return slot, c
}

// watch registers the client's descriptor.
func (w *worker) watch(slot uint32, c *client) bool {
	if err := w.loop.Add(int(c.fd), w.clientToken(slot)); err != nil {
		w.plane.front.Starvation("epoll", syscall.ENOMEM)
		w.close(slot, c, true)
		return false
	}
	return true
}

// rest is a client between two requests: the idle deadline begins. Before the first it is that of a request's head:
// who connects has something to ask.
func (w *worker) rest(slot uint32, c *client) {
	c.state, c.rev, c.tried, c.headLen, c.status, c.sent = reading, 0, 0, 0, 0, 0
	c.target, c.sentAt, c.headAt = -1, 0, 0
	c.flags &^= retried | unread | portless | answered | counted | past | unknown | parted | asked | openEnded
	at := int64(0)
	if svc := w.sw.Current().At(int(c.listener)); svc != nil {
		limit := svc.Spec.Timeouts.Idle
		if head := svc.Spec.Timeouts.RequestHeader; c.flags&spoken == 0 && (limit == 0 || head < limit) {
			limit = head
		}
		if limit > 0 {
			at = w.loop.Now() + int64(limit)
		}
	}
	w.deadline(slot, c, at)
}

// Reload implements front.Worker: what is not in use is forgotten, clients at rest whose listener is gone may
// leave, and idle deadlines come in line with new ones.
func (w *worker) Reload() {
	snap := w.sw.Current()
	w.takeBack(snap, true) // routes may have changed: what is being dialled for finds its service anew
	w.sweep()
	w.clients.All(func(slot uint32, c *client) bool {
		if c.state == reading && !c.progress.Started() && !c.blocked() {
			if svc := snap.At(int(c.listener)); svc == nil || svc.Spec.Mode != proxy.HTTP {
				w.depart(slot, c)
			} else {
				w.rest(slot, c)
			}
		}
		return true
	})
	if w.http2 != nil {
		w.http2.Reload(func(listener uint32) (Limits, bool) {
			svc := snap.At(int(listener))
			if svc == nil || svc.Spec.Mode != proxy.HTTP {
				return Limits{}, false
			}
			return limitsOf(svc), true
		})
	}
}

// Leave implements front.Worker: clients at rest go, the others with the answer they wait for.
func (w *worker) Leave() {
	w.leaving = true
	if w.http2 != nil {
		w.http2.Leave()
	}
	w.clients.All(func(slot uint32, c *client) bool {
		if c.state == reading && !c.progress.Started() {
			w.depart(slot, c)
		}
		return true
	})
}

// depart ends a client at rest, unless it has just asked for something: then it goes with the answer.
func (w *worker) depart(slot uint32, c *client) {
	if c.blocked() || c.in.pending() {
		c.flags |= closing
		return
	}
	var b [1]byte
	if c.flags&inSession == 0 {
		if n, err := loop.Peek(int(c.fd), b[:]); err == 0 && n > 0 {
			return // read has it answered, with Connection: close
		}
	}
	w.say(slot, c)
}

// Len implements front.Worker.
func (w *worker) Len() int {
	n := w.clients.Len() + w.guests.Len()
	if w.http2 != nil {
		n += w.http2.Len()
	}
	return n
}

// End implements front.Worker.
func (w *worker) End() {
	w.guests.All(func(slot uint32, g *guest) bool {
		w.dismiss(slot, g)
		return true
	})
	w.clients.All(func(slot uint32, c *client) bool {
		if c.state == tunneling {
			w.cutTunnel(slot, c, w.upstreams.Get(c.up), true)
			if !w.clients.Check(slot, w.clients.Gen(slot)) {
				return true
			}
		}
		w.logEnd(slot, c, endStopped)
		w.close(slot, c, c.state != reading && c.state != lingering && c.flags&shut == 0)
		return true
	})
	if w.http2 != nil {
		w.http2.End()
	}
	for i := range w.targets {
		w.closeIdle(int32(i))
	}
}

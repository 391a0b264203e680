package stream

import (
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	acceptBatch = 64                    // clients taken in one event, so that others get their turn
	acceptPause = 20 * time.Millisecond // how long a listener rests when descriptors have run out
)

// listen begins to accept on a listener slot.
func (w *worker) listen(slot uint32, fd int) {
	w.listeners[slot] = fd
	if err := w.loop.AddListener(fd, loop.MakeToken(kindListener, 0, slot, 0)); err != nil {
		w.plane.log.Error("listener not registered, will be tried again", zap.Error(err))
		w.pauses.Set(slot, w.loop.Now()+int64(acceptPause))
	}
}

// unlisten stops accepting on a listener slot, once it has taken those who are waiting there already.
func (w *worker) unlisten(slot uint32) {
	fd, ok := w.listeners[slot]
	if !ok {
		return
	}
	for w.acceptOne(slot, fd) {
	}
	_ = w.loop.Del(fd) // it may be resting, and so not be registered
	w.pauses.Cancel(slot)
	delete(w.listeners, slot)
}

// accept takes clients. The listener is level-triggered: those left over bring the event again.
func (w *worker) accept(t loop.Token, _ loop.Events) {
	fd, ok := w.listeners[t.Slot()]
	for n := 0; ok && n < acceptBatch; n++ {
		ok = w.acceptOne(t.Slot(), fd)
	}
}

// acceptOne takes one client; false: there is none, or it must wait.
func (w *worker) acceptOne(slot uint32, fd int) bool {
	var from loop.Sockaddr
	nfd, err := loop.AcceptAddr(fd, &from)
	switch err {
	case 0:
		w.welcome(slot, nfd, from.Addr())
		return true
	case syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM: // this one went away again
		return true
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		// Clients stay in the kernel's queue, unharmed, until connections have ended.
		w.plane.starvation("accept", err)
		_ = w.loop.Del(fd)
		w.pauses.Set(slot, w.loop.Now()+int64(acceptPause))
	}
	return false
}

// resume lets a listener accept again.
func (w *worker) resume(slot uint32) {
	if fd, ok := w.listeners[slot]; ok {
		w.listen(slot, fd)
	}
}

// welcome gives a client its slot and leads it on.
func (w *worker) welcome(listener uint32, fd int, peer loop.Addr) {
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
	w.claims.Accepted(svc)
	if svc.Spec.ProxyProtocol.Accept {
		c.state = announcing
		w.timers.Set(slot, c.began+int64(svc.Spec.Timeouts.Connect))
		w.watch(slot, c) // its first event reads the header
		return
	}
	w.steer(slot, c)
}

// watch registers the client's descriptor, once.
func (w *worker) watch(slot uint32, c *conn) bool {
	if c.flags&watched == 0 {
		if err := w.loop.Add(int(c.fd[client]), w.token(slot, client)); err != nil {
			w.plane.starvation("epoll", syscall.ENOMEM)
			w.end(slot, c, endRefused)
			return false
		}
		c.flags |= watched
	}
	return true
}

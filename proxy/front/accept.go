package front

import (
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// KindListener is the kind of a listener's tokens; planes use those from FirstKind on.
const (
	KindListener = 1
	FirstKind    = 2
)

const (
	acceptBatch = 64                    // clients taken in one event, so that others get their turn
	acceptPause = 20 * time.Millisecond // how long a listener rests when descriptors have run out
)

// entrance is one loop's part of the front. Everything in it belongs to the loop.
type entrance struct {
	front     *Front
	loop      *loop.Loop
	claims    *proxy.Claimer
	workers   []Worker
	byMode    map[proxy.Mode]Worker
	pauses    *loop.Wheel    // of listeners that rest because descriptors ran out
	listeners map[uint32]int // slot → descriptor
}

func newEntrance(f *Front, l *loop.Loop) *entrance {
	e := &entrance{front: f, loop: l, claims: f.sw.Claimer(l.ID()), byMode: map[proxy.Mode]Worker{}, listeners: map[uint32]int{}}
	e.pauses = l.NewWheel(e.resume)
	l.Handle(KindListener, e.accept)
	return e
}

// listen begins to accept on a listener slot.
func (e *entrance) listen(slot uint32, fd int) {
	e.listeners[slot] = fd
	if err := e.loop.AddListener(fd, loop.MakeToken(KindListener, 0, slot, 0)); err != nil {
		e.front.log.Error("listener not registered, will be tried again", zap.Error(err))
		e.pauses.Set(slot, e.loop.Now()+int64(acceptPause))
	}
}

// unlisten stops accepting on a listener slot, once it has taken those who are waiting there already.
func (e *entrance) unlisten(slot uint32) {
	fd, ok := e.listeners[slot]
	if !ok {
		return
	}
	for e.acceptOne(slot, fd) {
	}
	_ = e.loop.Del(fd) // it may be resting, and so not be registered
	e.pauses.Cancel(slot)
	delete(e.listeners, slot)
}

// accept takes clients. The listener is level-triggered: those left over bring the event again.
func (e *entrance) accept(t loop.Token, _ loop.Events) {
	fd, ok := e.listeners[t.Slot()]
	for n := 0; ok && n < acceptBatch; n++ {
		ok = e.acceptOne(t.Slot(), fd)
	}
}

// acceptOne takes one client; false: there is none, or it must wait.
func (e *entrance) acceptOne(slot uint32, fd int) bool {
	var from loop.Sockaddr
	nfd, err := loop.AcceptAddr(fd, &from)
	switch err {
	case 0:
		e.welcome(slot, nfd, from.Addr())
		if e.loop.Crowded(nfd) { // this one is served, and no further one taken
			e.pause(slot, fd, syscall.EMFILE)
			return false
		}
		return true
	case syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM: // this one went away again
		return true
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		e.pause(slot, fd, err)
	}
	return false
}

// pause lets a listener rest: clients stay in the kernel's queue, unharmed, until connections have ended.
func (e *entrance) pause(slot uint32, fd int, err syscall.Errno) {
	e.front.Starvation("accept", err)
	_ = e.loop.Del(fd)
	e.pauses.Set(slot, e.loop.Now()+int64(acceptPause))
}

// resume lets a listener accept again.
func (e *entrance) resume(slot uint32) {
	fd, ok := e.listeners[slot]
	switch {
	case !ok:
	case e.loop.Full(fd):
		e.pauses.Set(slot, e.loop.Now()+int64(acceptPause))
	default:
		e.listen(slot, fd)
	}
}

// welcome leads a client to the plane of the service that the listener belongs to now.
func (e *entrance) welcome(slot uint32, fd int, peer loop.Addr) {
	snap := e.front.sw.Current()
	svc := snap.At(int(slot))
	if svc == nil { // the listener is on its way out, and its service is gone already
		loop.Close(fd)
		return
	}
	if svc.Spec.Mode != proxy.TCP || !snap.Shared(int(slot)) { // else the plane counts it, when it knows whose client it is
		e.claims.Accepted(svc)
	}
	e.byMode[svc.Spec.Mode].Welcome(slot, fd, peer)
}

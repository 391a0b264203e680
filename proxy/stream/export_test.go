package stream

import (
	"reflect"
	"sync"
	"syscall"
	"unsafe"

	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/listen"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Lent is what the plane's connections hold at the moment.
type Lent struct {
	Conns, Bufs, Pipes, Timers, Headers int
	Dials, Counted                      int // linked in dial lists and lists of targets
	Queued, Pouring                     int
	Sessions, Handshakes                int
}

// Lent counts on every loop. When there is no client, all of it is zero.
func (p *Plane) Lent() Lent {
	each := make([]Lent, len(p.workers))
	p.each(func(w *worker) {
		n := &each[w.loop.ID()]
		n.Conns, n.Timers, n.Headers = w.conns.Len(), w.timers.Len(), len(w.headers)
		l := reflect.ValueOf(w.loop).Elem()
		n.Bufs = l.FieldByName("bufs").FieldByName("blocks").Len() - l.FieldByName("bufs").FieldByName("free").Len()
		n.Pipes = int(l.FieldByName("pipes").FieldByName("open").Int()%noPipes) - l.FieldByName("pipes").FieldByName("idle").Len()
		n.Sessions, n.Handshakes = len(w.sessions)-1-len(w.vacant), len(w.handshakes)
		for slot := w.dials; slot != none; slot = w.conns.Get(slot).next {
			n.Dials++
		}
		for i := range w.targets {
			n.Counted += int(w.targets[i].count + w.targets[i].dials)
		}
		n.Queued, n.Pouring = w.queues.Count()
	})
	var sum Lent
	s := reflect.ValueOf(&sum).Elem()
	for i := range each {
		for f := range s.NumField() {
			s.Field(f).SetInt(s.Field(f).Int() + reflect.ValueOf(each[i]).Field(f).Int())
		}
	}
	return sum
}

// noPipes is more than a loop may have open.
const noPipes = 1 << 20

// NoPipes has every loop copy, as when descriptors are short, until it is undone.
func (p *Plane) NoPipes() (undo func()) {
	add := func(n int64) {
		p.each(func(w *worker) {
			open := reflect.ValueOf(w.loop).Elem().FieldByName("pipes").FieldByName("open")
			*(*int)(unsafe.Pointer(open.UnsafeAddr())) += int(n)
		})
	}
	add(noPipes)
	return func() {
		p.ThawAll()
		add(-noPipes)
	}
}

// SmallSendBuffers has clients that come from now on be sent to through a buffer much smaller than a block, as a
// network makes it that is slow.
func (p *Plane) SmallSendBuffers() {
	field := reflect.ValueOf(p.front).Elem().FieldByName("sockets")
	for _, s := range *(*map[int]*listen.Socket)(unsafe.Pointer(field.UnsafeAddr())) { // what is accepted inherits it
		_ = syscall.SetsockoptInt(s.FD(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10)
	}
}

// EndAll ends every connection, as Stop does.
func (p *Plane) EndAll() {
	p.each(func(w *worker) { w.End() })
}

// Freeze stops every loop until thaw is called. What happens on sockets meanwhile is seen all at once.
func (p *Plane) Freeze() (thaw func()) { return p.FreezeBut(-1) }

// FreezeBut leaves one loop running: new clients come to that one.
func (p *Plane) FreezeBut(but int) (thaw func()) {
	wait, thaw := p.FreezeSoon(but)
	wait()
	return thaw
}

// FreezeSoon asks the loops to stop after what they are doing; wait returns when they have.
func (p *Plane) FreezeSoon(but int) (wait, thaw func()) {
	frozen, let := make(chan struct{}, len(p.workers)), make(chan struct{})
	n := 0
	for i, w := range p.workers {
		if i == but {
			continue
		}
		n++
		w.loop.Post(func() {
			frozen <- struct{}{}
			<-let
		})
	}
	thaw = sync.OnceFunc(func() { close(let) })
	old, _ := thaws.Load(p)
	list, _ := old.([]func())
	thaws.Store(p, append(list, thaw))
	return func() {
		for range n {
			<-frozen
		}
	}, thaw
}

var thaws sync.Map // *Plane → its thaws, in []func()

// ThawAll lets a plane go on whatever had stopped it, so that a test that failed in between can end.
func (p *Plane) ThawAll() {
	if list, ok := thaws.LoadAndDelete(p); ok {
		for _, thaw := range list.([]func()) {
			thaw()
		}
	}
}

// AfterAccept has f called on the loop each time a listener's event was handled; nil ends that.
func (p *Plane) AfterAccept(f func()) {
	p.each(func(w *worker) {
		field := reflect.ValueOf(w.loop).Elem().FieldByName("handlers")
		handlers := (*[256]func(loop.Token, loop.Events))(unsafe.Pointer(field.UnsafeAddr()))
		accept, _ := accepts.LoadOrStore(w, handlers[front.KindListener])
		w.loop.Handle(front.KindListener, func(t loop.Token, ev loop.Events) {
			accept.(func(loop.Token, loop.Events))(t, ev)
			if f != nil {
				f()
			}
		})
	})
}

var accepts sync.Map // *worker → the front's own handler

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

// SetAddresses makes a server's address lead to others, as a host name with several does.
func (p *Plane) SetAddresses(address string, to ...string) {
	var addrs []loop.Sockaddr
	for _, s := range to {
		a, err := loop.ParseAddr(s)
		if err != nil {
			panic(err)
		}
		addrs = append(addrs, a.Sockaddr())
	}
	p.front.Places.Of(address).Set(addrs)
}

package web

import (
	"reflect"
	"sync"
)

// Lent is what the plane's connections hold at the moment.
type Lent struct {
	Clients, Upstreams, Bufs, Pipes, Timers, Sessions int
	Dials, InUse, Queued, Pouring                     int
}

// Lent counts on every loop. When there is no client, all of it is zero.
func (p *Plane) Lent() Lent {
	each := make([]Lent, len(p.workers))
	p.each(func(w *worker) {
		n := &each[w.loop.ID()]
		n.Clients, n.Upstreams, n.Timers, n.Sessions = w.clients.Len(), w.upstreams.Len(), w.timers.Len()+w.uptimers.Len(), len(w.sessions)+len(w.upSessions)+len(w.upShakes)
		l := reflect.ValueOf(w.loop).Elem()
		n.Bufs = l.FieldByName("bufs").FieldByName("blocks").Len() - l.FieldByName("bufs").FieldByName("free").Len()
		n.Pipes = int(l.FieldByName("pipes").FieldByName("open").Int()) - l.FieldByName("pipes").FieldByName("idle").Len()
		for us := w.dials; us != none; us = w.upstreams.Get(us).next {
			n.Dials++
		}
		for i := range w.targets {
			n.InUse += int(w.targets[i].inUse)
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

// EndAll ends every connection, as Stop does.
func (p *Plane) EndAll() { p.each(func(w *worker) { w.End() }) }

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

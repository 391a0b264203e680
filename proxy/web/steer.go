package web

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/hold"
)

const starvedRetry = 10 * time.Millisecond // how soon a dial is tried again when descriptors or ports have run out

// steer leads a request to where its service's new work goes now: its head is the first n bytes of buf and was just
// parsed. It is called for each request, and again when its dial failed or was taken back, or a wait is over. The
// client has no connection to a server here.
func (w *worker) steer(slot uint32, c *client, buf []byte, n int) {
	for {
		snap := w.sw.Current()
		svc, alive := w.route(slot, c, snap, buf, n)
		if !alive {
			return
		}
		if c.rev == 0 && !c.wish.Only() && hold.Must(svc) {
			c.rev = snap.Revision
			w.hold(slot, c, svc, proxy.Full, buf)
			return
		}
		if c.rev == 0 && !c.wish.Only() && w.queues.MustDown(svc) {
			c.rev = snap.Revision
			w.hold(slot, c, svc, proxy.Down, buf)
			return
		}
		if c.rev != snap.Revision {
			c.rev, c.tried = snap.Revision, 0 // other pools: positions mean other servers
		}
		got, verdict := w.choose(svc, c, buf)
		switch verdict {
		case proxy.Dial:
			if w.lead(slot, c, svc, got, buf, n) {
				return
			}
		case proxy.Wait, proxy.Full, proxy.Down:
			w.hold(slot, c, svc, verdict, buf)
			return
		default:
			w.poured(c)
			c.accepts = w.accepts(buf)
			w.keepRest(c, buf, n)
			w.refused(slot, c, svc, verdict)
			return
		}
	}
}

// route finds the service of a request whose head was just parsed. False: there is none, and the client was told, or
// closed if its listener leads nowhere, or elsewhere than to http.
func (w *worker) route(slot uint32, c *client, snap *proxy.Snapshot, buf []byte, n int) (*proxy.Service, bool) {
	listener := int(c.listener)
	svc := snap.At(listener)
	w.at = svc
	if svc == nil || svc.Spec.Mode != proxy.HTTP {
		w.poured(c)
		w.close(slot, c, false)
		return nil, false
	}
	if snap.Routed(listener) {
		if svc = w.routed(snap, listener, buf); svc == nil {
			if !c.log.pending() && w.at.Spec.AccessLog {
				w.note(c, "", buf)
			}
			w.poured(c)
			w.keepRest(c, buf, n)
			w.answer(slot, c, answerNoRoute)
			return nil, false
		}
		w.at = svc
	}
	return svc, true
}

func (w *worker) routed(snap *proxy.Snapshot, listener int, buf []byte) *proxy.Service {
	host := w.request.AppendHost(w.scratch, buf)
	return snap.Route(listener, host, w.request.AppendRoutePath(host[len(host):], buf))
}

// lead leads a request to the claimed server, on a kept-alive connection or by a dial. False: nothing has come of it,
// its claim has ended, and another server may be claimed.
func (w *worker) lead(slot uint32, c *client, svc *proxy.Service, got proxy.Claimed, buf []byte, n int) bool {
	c.position = int32(got.Position)
	if us := w.idleOf(c, got.Server); us != none {
		if !w.claims.Start(c.way(), got.Server, c.rev) {
			w.putBack(us)
			return false
		}
		w.through(c)
		w.poured(c)
		return w.sendOn(slot, c, us, buf, n)
	}
	w.keep(&c.in, buf)
	if w.dial(slot, c, svc, got.Server) {
		return true
	}
	w.drop(&c.in)
	return false
}

// keepRest keeps what a client sent after the head of a request that the door answers itself.
func (w *worker) keepRest(c *client, buf []byte, n int) { w.keep(&c.in, buf[n:]) }

// refused answers a request that gets no server.
func (w *worker) refused(slot uint32, c *client, svc *proxy.Service, verdict proxy.Verdict) {
	w.claims.Refused(svc)
	switch {
	case verdict == proxy.Refuse:
		w.turnAway(slot, c, svc)
	case c.flags&portless != 0: // not the servers' fault
		w.answer(slot, c, answerStarved)
	case c.tried != 0:
		w.answer(slot, c, answerUnreachable)
	default:
		w.answer(slot, c, answerNoServer)
	}
}

// choose claims a server for a request: this is the place where its pool is chosen.
func (w *worker) choose(svc *proxy.Service, c *client, buf []byte) (proxy.Claimed, proxy.Verdict) {
	c.flags &^= past
	if svc.Maintenance != nil && w.passes(svc, c, buf) {
		c.flags |= past
		svc = svc.Behind()
	}
	if svc.ReadOnly != nil && svc.Maintenance == nil && !c.info.Method.Safe() && !w.operates(&svc.Spec.Maintenance, c, buf) {
		return proxy.Claimed{}, proxy.Refuse
	}
	key := uint64(0)
	if svc.Spec.Balance == proxy.SourceHash { // others do not pay for it
		ip := c.peer.As16()
		key = proxy.HashBytes(ip[:])
	}
	return w.claims.ClaimFor(svc, key, c.tried, c.wish)
}

// resume goes on with a request whose dial was taken back or failed, or whose wait is over.
func (w *worker) resume(slot uint32, c *client) {
	c.state = reading
	buf, n := w.again(slot, c)
	w.steer(slot, c, buf, n)
}

// starve makes a request wait until descriptors or ports are there again, up to its connect timeout.
func (w *worker) starve(slot uint32, c *client, svc *proxy.Service, err syscall.Errno) {
	w.plane.front.Starvation("dial", err)
	now := w.loop.Now()
	if c.state != starved {
		c.state, c.waited = starved, now+int64(svc.Spec.Timeouts.Connect)
	}
	w.deadline(slot, c, now+int64(starvedRetry))
}

func (w *worker) unstarve(slot uint32, c *client) {
	if w.loop.Now() < c.waited {
		c.flags &^= portless
		c.tried = 0
		limit := c.waited
		buf, n := w.again(slot, c)
		w.steer(slot, c, buf, n)
		if w.clients.Gen(slot) != 0 && c.state == starved {
			c.waited = limit
		}
		return
	}
	w.giveUp(slot, c, answerStarved)
}

// giveUp answers a request that waited, and whose bytes were kept.
func (w *worker) giveUp(slot uint32, c *client, a answer) {
	buf, n := w.again(slot, c)
	c.state = reading
	snap := w.sw.Current()
	if w.at = snap.At(int(c.listener)); snap.Routed(int(c.listener)) {
		w.at = w.routed(snap, int(c.listener), buf)
	}
	w.keepRest(c, buf, n)
	w.answer(slot, c, a)
}

// TakeBack implements front.Worker: it claims anew for every request whose dial leads where no new work goes any more,
// and closes kept-alive connections to such servers. Afterwards no dial of this loop is under way to a sealed
// server, and no connection to one waits for a request.
func (w *worker) TakeBack() {
	snap := w.sw.Current()
	for i := range w.targets {
		t := &w.targets[i]
		if t.server == nil {
			continue
		}
		t.looks.Cuts = proxy.Cuts{}
		svc := snap.Service(t.server.Service)
		if old := t.service; old != nil && svc != nil && old != svc && !sameTLS(old.Spec.ServerTLS, svc.Spec.ServerTLS) {
			w.closeIdle(int32(i)) // they speak otherwise than it is wanted now
			w.part(t.server)
		}
		t.service = svc
		if t.look(); !t.open {
			w.closeIdle(int32(i))
			w.part(t.server)
		}
	}
	w.takeBack(snap, false)
}

// part has connections that many requests share end with the last of them.
func (w *worker) part(srv *proxy.Server) {
	if srv.H2 {
		w.plane.http2.Part(srv.Service, srv.Address)
	}
}

// takeBack claims anew for requests whose dial leads where no new work goes any more, or for all that are dialled for.
func (w *worker) takeBack(snap *proxy.Snapshot, all bool) {
	for us := w.dials; us != none; {
		u := w.upstreams.Get(us)
		next := u.next
		if t := &w.targets[u.target]; all || !t.open || !t.gives && !w.clients.Get(u.client).wish.On(t.server) || t.service.ReadOnly != nil && !w.clients.Get(u.client).info.Method.Safe() {
			slot := u.client
			srv := t.server
			w.undial(us, u)
			w.claims.TakeBack(snap.Service(srv.Service), srv)
			w.resume(slot, w.clients.Get(slot))
			// resume links at the head of the list, and only servers that are given work: next stays valid, unless it
			// was itself ended, which resume does to its own client's only.
		}
		us = next
	}
}

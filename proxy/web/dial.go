package web

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

const unixRetry = 2 * time.Millisecond // how soon a dial is tried again when a Unix socket's backlog is full

// dial begins to connect to the claimed server for a request whose bytes are kept. False: that failed at once and was
// counted, and another server may be claimed. True: something will come of it, or has already.
func (w *worker) dial(slot uint32, c *client, svc *proxy.Service, srv *proxy.Server) bool {
	if srv.H2 {
		w.reach(slot, c, svc, srv)
		return true
	}
	ti := w.target(srv)
	return w.dialOn(slot, c, svc, srv, w.targets[ti].where.Begin(), 0, "the name does not resolve")
}

// dialOn dials the claimed server's addresses, from address on, until one neither answers nor fails at once. why
// is what the server's failure is put down to when there are no more.
func (w *worker) dialOn(slot uint32, c *client, svc *proxy.Service, srv *proxy.Server, begin, address uint8, why string) bool {
	ti := w.target(srv)
	where := w.targets[ti].where
	var fd int
	var err syscall.Errno
	for ; ; address++ {
		to := where.Pick(begin, address)
		if to == nil {
			w.claims.Fail(srv, why)
			c.tried.Add(int(c.position))
			return false
		}
		fd, err = w.loop.Socket(to.Family(), loop.SockStream, 0)
		if err == syscall.EMFILE || err == syscall.ENFILE || err == syscall.ENOBUFS || err == syscall.ENOMEM {
			w.claims.GiveUp(srv)
			w.starve(slot, c, svc, err)
			return true
		}
		if err != 0 {
			why = "socket: " + err.Error()
			continue
		}
		if to.Family() != loop.AFUnix {
			_ = loop.SetNodelay(fd) // an old kernel's refusal costs only speed
		}
		err = loop.Connect(fd, to)
		if err == 0 || err == syscall.EINPROGRESS || err == syscall.EAGAIN {
			break
		}
		if err == syscall.EADDRNOTAVAIL { // no local port for this address; or no such address, as ::1 without IPv6
			c.flags |= portless
		}
		loop.Close(fd)
		where.Failed(begin, address)
		why = "connect: " + err.Error()
	}
	us, u := w.upstreams.Alloc()
	u.fd, u.client, u.target, u.dialing = int32(fd), slot, ti, true
	u.begin, u.address = begin, address
	w.link(&w.dials, us, u)
	w.targets[ti].inUse++
	c.up, c.state = us, dialing
	w.deadline(slot, c, 0)
	limit := int64(svc.Spec.Timeouts.Connect)
	u.until = w.loop.Now() + limit
	switch err {
	case 0: // a Unix socket
		w.reached(us, u, false)
		return true
	case syscall.EAGAIN: // its backlog is full
		u.retry = true
		limit = min(limit, int64(unixRetry))
	}
	w.uptimers.Set(us, w.loop.Now()+limit)
	if err == syscall.EINPROGRESS && w.loop.Add(fd, w.upstreamToken(us)) != nil {
		w.undial(us, u)
		w.claims.GiveUp(srv)
		w.starve(slot, c, svc, syscall.ENOMEM)
	}
	return true
}

// undial closes a connection that is being dialled. Its claim must be ended by the caller.
func (w *worker) undial(us uint32, u *upstream) {
	c := w.clients.Get(u.client)
	c.up, c.state = none, reading
	w.closeUpstream(us, u, false)
}

// dialed is the end of a dial.
func (w *worker) dialed(us uint32, u *upstream, ev loop.Events) {
	if ev&(loop.Err|loop.Hup) != 0 {
		// A server that accepted and reset at once (EPIPE: after an end of stream) has been reached, but it has
		// not been sent anything, so that another one may be tried as well.
		if err := loop.GetsockErr(int(u.fd)); err != 0 {
			w.dialFailed(us, u, "connect: "+err.Error())
			return
		}
	}
	if ev&loop.Out == 0 && ev&(loop.Err|loop.Hup) == 0 {
		return
	}
	if ev&(loop.In|loop.RDHUP|loop.Hup) != 0 {
		u.flags |= upReadable | upHup
	}
	gen := w.upstreams.Gen(us)
	w.reached(us, u, true)
	w.lookAgain(us, gen)
}

// lookAgain reads what a server has said before its connection was in use: no event will tell of it again.
func (w *worker) lookAgain(us, gen uint32) {
	if !w.upstreams.Check(us, gen) {
		return
	}
	if u := w.upstreams.Get(us); !u.dialing && !u.idle && u.flags&upReadable != 0 {
		w.goOn(u.client, w.clients.Get(u.client))
	}
}

// dialFailed goes on with the server's next address, or else with the next server.
func (w *worker) dialFailed(us uint32, u *upstream, why string) {
	t := &w.targets[u.target]
	srv, begin, address, slot := t.server, u.begin, u.address, u.client
	t.where.Failed(begin, address)
	c := w.clients.Get(slot)
	w.undial(us, u)
	if svc := w.sw.Current().Service(srv.Service); svc != nil && svc.Gives(srv) && !srv.H2 {
		if w.dialOn(slot, c, svc, srv, begin, address+1, why) {
			return
		}
	} else {
		w.claims.Fail(srv, why)
		c.tried.Add(int(c.position))
	}
	w.resume(slot, c)
}

// dialTimer is a dial's deadline, or the time to try a full Unix socket again.
func (w *worker) dialTimer(us uint32, u *upstream) {
	now := w.loop.Now()
	if !u.retry || now >= u.until || u.fd < 0 {
		why := "connect: timed out"
		if u.flags&upMeeting != 0 {
			why = "tls: the handshake timed out"
		}
		w.dialFailed(us, u, why)
		return
	}
	to := w.targets[u.target].where.Pick(u.begin, u.address)
	if to == nil {
		w.dialFailed(us, u, "connect: the address is gone")
		return
	}
	switch err := loop.Connect(int(u.fd), to); err {
	case 0:
		w.reached(us, u, false)
	case syscall.EAGAIN:
		w.uptimers.Set(us, min(u.until, now+int64(unixRetry)))
	default:
		w.dialFailed(us, u, "connect: "+err.Error())
	}
}

// connected makes the claim final and sends the request; or, when the switch was thrown meanwhile, takes the dial
// back and steers anew. registered: events of the descriptor come already.
func (w *worker) connected(us uint32, u *upstream, registered bool) {
	slot := u.client
	c := w.clients.Get(slot)
	t := &w.targets[u.target]
	if !w.claims.Start(c.way(), t.server, c.rev) {
		w.undial(us, u)
		w.resume(slot, c)
		return
	}
	w.unlink(&w.dials, u)
	w.uptimers.Cancel(us)
	u.dialing, u.retry = false, false
	w.link(&t.busy, us, u)
	c.up, c.state = none, reading
	c.flags &^= portless
	if !registered && w.loop.Add(int(u.fd), w.upstreamToken(us)) != nil {
		srv := t.server
		w.closeUpstream(us, u, false)
		w.claims.End(srv, false)
		w.poured(c)
		w.giveUp(slot, c, answerStarved)
		return
	}
	w.through(c)
	w.poured(c)
	buf, n := w.again(slot, c)
	if !w.sendOn(slot, c, us, buf, n) {
		w.steer(slot, c, buf, n)
	}
}

package stream

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/hold"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	unixRetry    = 2 * time.Millisecond  // how soon a dial is tried again when a Unix socket's backlog is full
	starvedRetry = 10 * time.Millisecond // how soon when descriptors or ports have run out
)

// steer leads a client to where its service's new work goes now. It is called for each new client, and
// again when a dial failed, was taken back, or a wait is over. The client owns no server connection here.
func (w *worker) steer(slot uint32, c *conn) {
	for {
		snap := w.sw.Current()
		svc := w.service(snap, c)
		if svc == nil {
			w.end(slot, c, endRefused)
			return
		}
		if c.rev == 0 && hold.Must(svc) {
			c.rev = snap.Revision
			w.hold(slot, c, svc, proxy.Full)
			return
		}
		if c.rev == 0 && w.queues.MustDown(svc) {
			c.rev = snap.Revision
			w.hold(slot, c, svc, proxy.Down)
			return
		}
		if c.rev != snap.Revision {
			c.rev, c.tried = snap.Revision, 0 // another snapshot, another pool: positions mean other servers
		}
		got, verdict := w.claims.Claim(svc, w.key(svc, c), c.tried)
		switch verdict {
		case proxy.Dial:
			c.position = int32(got.Position)
			if w.dial(slot, c, svc, got.Server) {
				return
			}
		case proxy.Wait, proxy.Full, proxy.Down:
			w.hold(slot, c, svc, verdict)
			return
		case proxy.Refuse:
			w.claims.Refused(svc)
			w.end(slot, c, endMaintenance)
			return
		default:
			if c.flags&portless != 0 { // not the servers' fault: ports come back as connections end
				c.flags &^= portless
				c.tried = 0
				w.starve(slot, c, svc, syscall.EADDRNOTAVAIL)
				return
			}
			w.claims.Refused(svc)
			w.end(slot, c, endNoServer)
			return
		}
	}
}

// key is what source_hash hashes; other balances do not pay for it.
func (w *worker) key(svc *proxy.Service, c *conn) uint64 {
	if svc.Spec.Balance != proxy.SourceHash {
		return 0
	}
	ip := c.peer.As16()
	return proxy.HashBytes(ip[:])
}

// dial begins to connect to the claimed server. False: that failed at once and was counted, and another
// server may be claimed. True: something will come of it, or has already.
func (w *worker) dial(slot uint32, c *conn, svc *proxy.Service, srv *proxy.Server) bool {
	c.begin, c.address = w.targets[w.target(srv)].where.Begin(), 0
	return w.dialOn(slot, c, svc, srv, "the name does not resolve")
}

// dialOn dials the claimed server's addresses, from c.address on, until one neither answers nor fails at once.
// why is what the server's failure is put down to when there are no more.
func (w *worker) dialOn(slot uint32, c *conn, svc *proxy.Service, srv *proxy.Server, why string) bool {
	ti := w.target(srv)
	where := w.targets[ti].where
	var fd int
	var err syscall.Errno
	for ; ; c.address++ {
		to := where.Pick(c.begin, c.address)
		if to == nil {
			w.failed(c, srv, why)
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
		where.Failed(c.begin, c.address)
		why = "connect: " + err.Error()
	}
	c.fd[server], c.target, c.state = int32(fd), ti, dialing
	w.targets[ti].dials++
	w.link(&w.dials, slot, c)
	limit := int64(svc.Spec.Timeouts.Connect)
	c.until = w.loop.Now() + limit
	switch err {
	case 0: // a Unix socket
		w.reached(slot, c, false)
		return true
	case syscall.EAGAIN: // its backlog is full
		c.flags |= retryDial
		limit = min(limit, int64(unixRetry))
	}
	w.timers.Set(slot, w.loop.Now()+limit)
	if err == syscall.EINPROGRESS && w.loop.Add(fd, w.token(slot, server)) != nil {
		w.undial(slot, c)
		w.claims.GiveUp(srv)
		w.starve(slot, c, svc, syscall.ENOMEM)
	}
	return true
}

// undial takes a connection out of the dial list and closes what it dialled. Its claim must be ended by the
// caller.
func (w *worker) undial(slot uint32, c *conn) {
	w.unlink(&w.dials, c)
	w.targets[c.target].dials--
	w.timers.Cancel(slot)
	switch {
	case c.flags&meeting != 0:
		w.giveUp(slot, c, server)
	case c.fd[server] >= 0:
		loop.Close(int(c.fd[server]))
	}
	w.forgetSide(c, server)
	c.half[server].state &^= hup
	c.fd[server], c.target, c.state = -1, -1, steering
	c.dial++ // what the descriptor's events have to say comes too late
	c.flags &^= retryDial | meeting
}

func (w *worker) failed(c *conn, srv *proxy.Server, why string) {
	w.claims.Fail(srv, why)
	c.tried.Add(int(c.position))
}

// dialed is the end of a dial.
func (w *worker) dialed(slot uint32, c *conn, ev loop.Events) {
	if ev&(loop.Err|loop.Hup) != 0 {
		// A server that accepted and reset at once (EPIPE: after an end of stream) has been reached; what
		// it sent can be read, and then the reset. Only an error of the connect itself is a failed dial.
		if err := loop.GetsockErr(int(c.fd[server])); err != 0 && err != syscall.ECONNRESET && err != syscall.EPIPE {
			w.dialFailed(slot, c, "connect: "+err.Error())
			return
		}
	}
	if ev&loop.Out == 0 && ev&(loop.Err|loop.Hup) == 0 {
		return
	}
	w.reached(slot, c, true)
	if w.isRelaying(slot, c) && ev&(loop.In|loop.RDHUP|loop.Hup|loop.Err) != 0 {
		w.relay(slot, c, server, ev)
	}
}

func (w *worker) isRelaying(slot uint32, c *conn) bool {
	return w.conns.Gen(slot) != 0 && w.conns.Get(slot) == c && c.state == relaying
}

// dialFailed goes on with the server's next address, or else with the next server.
func (w *worker) dialFailed(slot uint32, c *conn, why string) {
	t := &w.targets[c.target]
	srv := t.server
	t.where.Failed(c.begin, c.address)
	w.undial(slot, c)
	c.address++
	if svc := w.service(w.sw.Current(), c); svc != nil && svc.Gives(srv) {
		if w.dialOn(slot, c, svc, srv, why) {
			return
		}
	} else {
		w.failed(c, srv, why)
	}
	w.steer(slot, c)
}

// dialTimer is a dial's deadline, or the time to try a full Unix socket again.
func (w *worker) dialTimer(slot uint32, c *conn) {
	now := w.loop.Now()
	if c.flags&retryDial == 0 || now >= c.until {
		why := "connect: timed out"
		if c.flags&meeting != 0 {
			why = "tls: the handshake timed out"
		}
		w.dialFailed(slot, c, why)
		return
	}
	fd := int(c.fd[server])
	to := w.targets[c.target].where.Pick(c.begin, c.address)
	if to == nil {
		w.dialFailed(slot, c, "connect: the address is gone")
		return
	}
	switch err := loop.Connect(fd, to); err {
	case 0:
		w.reached(slot, c, false)
	case syscall.EAGAIN:
		w.timers.Set(slot, min(c.until, now+int64(unixRetry)))
	default:
		w.dialFailed(slot, c, "connect: "+err.Error())
	}
}

// connected makes the claim final and begins to relay; or, when the switch was thrown meanwhile, takes the
// dial back and steers anew. registered: events of the server's descriptor come already.
func (w *worker) connected(slot uint32, c *conn, registered bool) {
	srv := w.targets[c.target].server
	if !w.claims.Start(c.way(), srv, c.rev) {
		w.undial(slot, c)
		w.steer(slot, c)
		return
	}
	w.unlink(&w.dials, c)
	t := &w.targets[c.target]
	t.dials--
	t.count++
	w.link(&t.conns, slot, c)
	c.state = relaying
	c.flags &^= retryDial | portless
	c.last = w.loop.Now()
	c.lastSide = server
	svc := w.service(w.sw.Current(), c)
	w.rest(slot, c, svc)
	if c.flags&pouring != 0 {
		w.queues.Through(c.queue)
	}
	w.poured(c)
	if !registered && w.loop.Add(int(c.fd[server]), w.token(slot, server)) != nil {
		w.end(slot, c, endStarved)
		return
	}
	if b := w.headerFor(slot, c, svc); len(b) > 0 && c.tls[server] == open { // else it was sent before the handshake
		if !w.forward(slot, c, client, b) {
			return
		}
		c.lastSide = server // the header is the door's word, not the client's
	}
	w.canRead(c, client, c.half[client].is(hup))
	if !w.pump(slot, c, client) { // most clients have spoken by now
		return
	}
	w.watch(slot, c)
}

// starve makes a client wait until descriptors or ports are there again, up to its connect timeout.
func (w *worker) starve(slot uint32, c *conn, svc *proxy.Service, err syscall.Errno) {
	w.plane.front.Starvation("dial", err)
	now := w.loop.Now()
	if c.state != starved {
		c.state, c.until = starved, now+int64(svc.Spec.Timeouts.Connect)
	}
	w.timers.Set(slot, now+int64(starvedRetry))
}

func (w *worker) unstarve(slot uint32, c *conn) {
	if w.loop.Now() >= c.until {
		w.end(slot, c, endStarved)
		return
	}
	w.steer(slot, c)
}

// TakeBack claims anew for every client whose dial leads where no new work goes any more. It is the loop's
// quiet point: afterwards no dial of this loop is under way to a sealed server.
func (w *worker) TakeBack() {
	snap := w.sw.Current()
	for i := range w.targets {
		w.targets[i].looks.Cuts = proxy.Cuts{}
	}
	for slot := w.dials; slot != none; {
		c := w.conns.Get(slot)
		next := c.next
		svc := w.service(snap, c)
		if srv := w.targets[c.target].server; svc == nil || !svc.Gives(srv) {
			w.undial(slot, c)
			w.claims.TakeBack(svc, srv)
			w.steer(slot, c)
			// steer links at the head of the list, and only servers that are given work: next stays valid,
			// unless it was itself ended, which steer does to its own client only.
		}
		slot = next
	}
}

package web

import (
	"crypto/tls"
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// reached is a dial that has got through. If the service speaks TLS with its servers, a handshake comes first: it is part of the
// dial, within the same deadline, can be taken back like it, and what fails in it is a failed dial.
func (w *worker) reached(us uint32, u *upstream, registered bool) {
	srv := w.targets[u.target].server
	svc := w.sw.Current().Service(srv.Service)
	if svc == nil || svc.Spec.ServerTLS == nil {
		w.connected(us, u, registered)
		return
	}
	config := w.plane.front.ToServer(svc.Spec.Name, srv.Address)
	if config == nil {
		w.dialFailed(us, u, "tls: the door was not told how to speak it")
		return
	}
	fd := int(u.fd)
	if !registered && w.loop.Add(fd, w.upstreamToken(us)) != nil {
		w.dialFailed(us, u, "epoll: out of memory")
		return
	}
	u.retry = false
	u.flags |= upMeeting
	w.uptimers.Set(us, u.until)
	gen := w.upstreams.Gen(us)
	w.upShakes[us] = w.lane.BeginClient(fd, config, func(s *secure.Session, err error) { w.met(us, gen, fd, s, err) })
}

// reach dials a server that speaks HTTP/2. Each request has a stream of its own, which is an upstream for that long.
func (w *worker) reach(slot uint32, c *client, svc *proxy.Service, srv *proxy.Server) {
	ti := w.target(srv)
	us, u := w.upstreams.Alloc()
	u.fd, u.client, u.target, u.dialing = -1, slot, ti, true
	w.link(&w.dials, us, u)
	w.targets[ti].inUse++
	c.up, c.state = us, dialing
	w.deadline(slot, c, 0)
	u.until = w.loop.Now() + int64(svc.Spec.Timeouts.Connect)
	w.uptimers.Set(us, u.until)
	gen, token := w.upstreams.Gen(us), w.upstreamToken(us)
	wake := func() { w.loop.Post(func() { w.upstreamEvent(token, loop.In|loop.Out) }) }
	var config func() *tls.Config
	if svc.Spec.ServerTLS != nil {
		config = func() *tls.Config { return w.plane.front.ToServer(srv.Service, srv.Address) }
	}
	w.plane.http2.Reach(srv.Service, srv.Address, config, svc.Spec.Timeouts.Connect, wake, func(s Session, err error) {
		if !w.loop.Post(func() { w.foundRoom(us, gen, s, err) }) && s != nil {
			s.Close(true)
		}
	})
}

// foundRoom is the end of a reach.
func (w *worker) foundRoom(us, gen uint32, s Session, err error) {
	switch {
	case w.upstreams.Check(us, gen) && err != nil:
		w.dialFailed(us, w.upstreams.Get(us), err.Error())
	case w.upstreams.Check(us, gen):
		w.upSessions[us] = s
		u := w.upstreams.Get(us)
		u.flags |= inUpSession
		w.connected(us, u, true)
	case s != nil: // given up meanwhile
		s.Close(true)
	}
}

// met is the end of a handshake with a server.
func (w *worker) met(us, gen uint32, fd int, s *secure.Session, err error) {
	if !w.upstreams.Check(us, gen) { // given up meanwhile
		loop.Close(fd)
		return
	}
	u := w.upstreams.Get(us)
	delete(w.upShakes, us)
	u.flags &^= upMeeting
	if err != nil {
		w.dialFailed(us, u, secure.Words(err, "http/1.1"))
		return
	}
	w.upSessions[us] = &tlsSession{lane: w.lane, loop: w.loop, session: s, fd: fd, ended: u.flags&upHup != 0}
	u.flags |= inUpSession | upReadable // what came with the handshake is there already, and no event tells of it
	w.connected(us, u, true)
	w.lookAgain(us, gen)
}

// partServer ends what carries an upstream's bytes. A handshake that goes on has the descriptor, so met closes that.
func (w *worker) partServer(us uint32, u *upstream, reset bool) {
	switch {
	case u.flags&upMeeting != 0:
		w.upShakes[us].Abort()
		delete(w.upShakes, us)
		u.fd = -1
	case u.flags&inUpSession != 0:
		w.upSessions[us].Close(reset)
		delete(w.upSessions, us)
	}
}

func (w *worker) recvUp(us uint32, u *upstream, b []byte) (int, syscall.Errno) {
	if u.flags&inUpSession != 0 {
		return w.upSessions[us].Recv(b)
	}
	return loop.Recv(int(u.fd), b)
}

// sendUp writes a and then b to a server; either may be empty.
func (w *worker) sendUp(us uint32, u *upstream, a, b []byte) (int, syscall.Errno) {
	if u.flags&inUpSession != 0 {
		return w.upSessions[us].Send(a, b)
	}
	return sendv(int(u.fd), a, b)
}

// shutUp ends the door's side.
func (w *worker) shutUp(us uint32, u *upstream) {
	if u.flags&inUpSession != 0 {
		w.upSessions[us].Shutdown()
		return
	}
	_ = loop.Shutdown(int(u.fd), loop.ShutWrite)
}

// cutShort tells, of an end that was read, that TLS did not say it: then it may be anybody's, and is none of an answer.
func (w *worker) cutShort(us uint32, u *upstream) bool {
	if u.flags&inUpSession == 0 {
		return false
	}
	s, secured := w.upSessions[us].(*tlsSession)
	return secured && s.session.Truncated()
}

// silent tells whether a server has neither said anything nor ended, whatever events have told so far.
func (w *worker) silent(us uint32, u *upstream) bool {
	b := w.reply[:1]
	if u.flags&inUpSession == 0 {
		_, err := loop.Peek(int(u.fd), b)
		return err == syscall.EAGAIN
	}
	s := w.upSessions[us]
	if t, secured := s.(*tlsSession); secured {
		t.session.Readable(t.ended)
	}
	_, err := s.Recv(b)
	return err == syscall.EAGAIN
}

// sameTLS tells whether servers are to be spoken to in the same way.
func sameTLS(a, b *proxy.ServerTLSSpec) bool {
	return a == b || a != nil && b != nil && *a == *b
}

package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/proxyproto"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// kindGuest is the kind of a guest's tokens.
const kindGuest = front.FirstKind + 61

// guest is a client that has to say by a PROXY header who it is, or whose TLS handshake is not over. Until its header and
// its greeting (ClientHello) are whole it costs no more than any client that is silent; then a goroutine has its
// descriptor (handshake is not nil) until the handshake has ended.
type guest struct {
	fd       int32
	listener int32
	peer     loop.Addr
	unknown  bool // its PROXY header is awaited
	hup      bool
}

// greet awaits a client's header or greeting.
func (w *worker) greet(listener uint32, fd int, peer loop.Addr, svc *proxy.Service) {
	slot, g := w.guests.Alloc()
	g.fd, g.listener, g.peer = int32(fd), int32(listener), peer
	g.unknown = svc.Spec.ProxyProtocol.Accept
	if w.loop.Add(fd, loop.MakeToken(kindGuest, w.guests.Gen(slot), slot, 0)) != nil {
		w.plane.front.Starvation("epoll", syscall.ENOMEM)
		loop.Close(fd)
		w.guests.Free(slot)
		return
	}
	limit := svc.Spec.Timeouts.Connect
	if !g.unknown {
		limit = svc.Spec.TLS.Handshake
	}
	w.guestTimers.Set(slot, w.loop.Now()+int64(limit)) // the first event reads what it says
}

// guestEvent is where each event of a guest comes in.
func (w *worker) guestEvent(t loop.Token, ev loop.Events) {
	slot := t.Slot()
	if !w.guests.Check(slot, t.Gen()) {
		return
	}
	g := w.guests.Get(slot)
	g.hup = g.hup || ev&(loop.RDHUP|loop.Hup|loop.Err) != 0
	if h := w.handshakes[slot]; h != nil {
		h.Wake()
		return
	}
	if g.unknown {
		w.takeHeader(slot, g)
		return
	}
	w.greeted(slot, g)
}

// takeHeader reads a guest's PROXY header: all of it and not one byte more. What does not begin with a valid header is
// closed.
func (w *worker) takeHeader(slot uint32, g *guest) {
	buf := w.loop.Buffer()[:proxyproto.MaxHeader]
	n, err := loop.Peek(int(g.fd), buf)
	if err == syscall.EAGAIN {
		return
	}
	h, perr := proxyproto.Parse(buf[:n])
	switch {
	case err != 0 || n == 0:
		w.headless(slot, g)
		return
	case perr == proxyproto.ErrShort && n < len(buf) && !g.hup:
		return // the rest comes with another event
	case perr != nil:
		w.headless(slot, g)
		return
	}
	if _, err := loop.Recv(int(g.fd), buf[:h.Length]); err != 0 {
		w.headless(slot, g)
		return
	}
	if h.Src.IsValid() {
		g.peer = h.Src
	}
	g.unknown = false
	snap := w.sw.Current()
	svc := snap.At(int(g.listener))
	if svc != nil && svc.Spec.TLS != nil && !snap.Plain(int(g.listener)) {
		w.guestTimers.Set(slot, w.loop.Now()+int64(svc.Spec.TLS.Handshake))
		w.greeted(slot, g)
		return
	}
	known := *g
	w.guestTimers.Cancel(slot)
	w.guests.Free(slot)
	_ = w.loop.Del(int(known.fd)) // it is registered anew, as a client's
	w.introduce(uint32(known.listener), int(known.fd), known.peer)
}

// headless is a guest without a valid PROXY header.
func (w *worker) headless(slot uint32, g *guest) {
	if svc := w.sw.Current().At(int(g.listener)); svc != nil {
		w.claims.Malformed(svc)
	}
	w.dismiss(slot, g)
}

// greeted looks at what a guest has sent so far, and begins the handshake when the greeting is whole, or cannot become
// one: then crypto/tls finds the right words for it.
func (w *worker) greeted(slot uint32, g *guest) {
	buf := w.loop.Buffer()[:secure.MaxHello]
	n, err := loop.Peek(int(g.fd), buf)
	switch {
	case err == syscall.EAGAIN:
		return
	case err != 0 || n == 0:
		w.insecure(slot, g, "")
		return
	}
	hello, herr := secure.ParseHello(buf[:n])
	if herr == secure.ErrShort && n < len(buf) && !g.hup {
		return // the rest comes with another event
	}
	svc := w.sw.Current().At(int(g.listener))
	if svc == nil || svc.Spec.Mode != proxy.HTTP {
		w.insecure(slot, g, secure.NotWanted)
		return
	}
	config := w.plane.front.TLS(int(g.listener), hello.ServerName)
	if config == nil { // a reload has taken TLS away from the service since
		w.insecure(slot, g, secure.NotWanted)
		return
	}
	gen, fd := w.guests.Gen(slot), int(g.fd)
	w.handshakes[slot] = w.lane.Begin(fd, config, func(s *secure.Session, err error) { w.secured(slot, gen, fd, s, err) })
}

// secured is the end of a handshake: the guest becomes a client.
func (w *worker) secured(slot, gen uint32, fd int, s *secure.Session, err error) {
	if !w.guests.Check(slot, gen) { // given up meanwhile
		loop.Close(fd)
		return
	}
	g := *w.guests.Get(slot)
	delete(w.handshakes, slot)
	if err != nil {
		w.insecure(slot, w.guests.Get(slot), secure.OfClient(err))
		return
	}
	w.guestTimers.Cancel(slot)
	w.guests.Free(slot)
	limits := Limits{}
	if svc := w.sw.Current().At(int(g.listener)); svc != nil {
		w.claims.Secured(svc)
		limits = limitsOf(svc)
	}
	_ = w.loop.Del(fd) // it is registered anew, as a client's
	client := Stranger{Session: &tlsSession{lane: w.lane, loop: w.loop, session: s, fd: fd, ended: g.hup}, Listener: uint32(g.listener), FD: fd, Peer: g.peer, HTTPS: true}
	if w.http2 != nil && s.State().NegotiatedProtocol == "h2" {
		w.http2.Serve(client, nil, limits)
		return
	}
	w.adopt(client)
}

func limitsOf(svc *proxy.Service) Limits {
	return Limits{Idle: svc.Spec.Timeouts.Idle, Head: svc.Spec.Timeouts.RequestHeader}
}

// tooLate ends a guest that took too long.
func (w *worker) tooLate(slot uint32, g *guest) {
	if g.unknown {
		w.headless(slot, g)
		return
	}
	why := secure.NotWanted
	if svc := w.sw.Current().At(int(g.listener)); svc != nil && svc.Spec.TLS != nil {
		why = secure.TooLate(svc.Spec.TLS.Handshake)
	}
	w.insecure(slot, g, why)
}

// insecure ends a guest: it sent something else, no handshake was agreed upon, or it took too long.
func (w *worker) insecure(slot uint32, g *guest, why string) {
	if svc := w.sw.Current().At(int(g.listener)); svc != nil {
		w.plane.front.Unsecured(w.claims, svc, g.peer, why)
	}
	if w.handshakes[slot] == nil { // a socket closed with bytes unread is reset, and the client might never see the alert
		_, _ = loop.Recv(int(g.fd), w.loop.Buffer()[:secure.MaxHello])
	}
	w.dismiss(slot, g)
}

// dismiss ends a guest. A handshake that goes on has its descriptor, so secured closes that.
func (w *worker) dismiss(slot uint32, g *guest) {
	w.guestTimers.Cancel(slot)
	if h := w.handshakes[slot]; h != nil {
		h.Abort()
		delete(w.handshakes, slot)
	} else {
		loop.Close(int(g.fd))
	}
	w.guests.Free(slot)
}

// tlsSession carries a client's bytes over TLS.
type tlsSession struct {
	lane    *secure.Lane
	loop    *loop.Loop
	session *secure.Session
	fd      int
	rest    block // encrypted, and not sent yet
	ended   bool  // the peer's end was told by an event
	shut    bool  // Shutdown was called
	said    bool  // and the end was said
}

// Event implements Session.
func (t *tlsSession) Event(ev loop.Events) {
	if ev&(loop.In|loop.RDHUP|loop.Hup|loop.Err) != 0 {
		t.ended = t.ended || ev&(loop.RDHUP|loop.Hup|loop.Err) != 0
		t.session.Readable(t.ended)
	}
	if ev&loop.Out != 0 {
		_ = t.flush() // who writes next hears of an error
	}
}

// Recv implements Session.
func (t *tlsSession) Recv(b []byte) (int, syscall.Errno) {
	n, reply, err := t.lane.Read(t.session, b)
	if len(reply) > 0 && !t.queue(reply) {
		return 0, syscall.EPROTO
	}
	return n, err
}

// queue sends what TLS itself has to say, after what waits. False: the peer asks for such words and does not read them.
func (t *tlsSession) queue(reply []byte) bool {
	if !t.rest.pending() {
		n, err := loop.Send(t.fd, reply)
		if err != 0 && err != syscall.EAGAIN {
			return true // what is read next tells
		}
		t.keep(reply[n:])
		return true
	}
	block := t.loop.Bytes(t.rest.buf)
	if int(t.rest.end)+len(reply) > len(block) {
		return false
	}
	t.rest.end += int32(copy(block[t.rest.end:], reply))
	return true
}

// Send implements Session.
func (t *tlsSession) Send(a, b []byte) (n int, err syscall.Errno) {
	for len(a)+len(b) > 0 {
		if err := t.flush(); err != 0 {
			return n, err
		}
		if t.rest.pending() {
			if n == 0 {
				return 0, syscall.EAGAIN
			}
			return n, 0
		}
		x := a[:min(len(a), secure.MaxPlain)]
		y := b[:min(len(b), secure.MaxPlain-len(x))]
		rest, err := t.lane.Write(t.session, x, y)
		if err != 0 {
			return n, err
		}
		t.keep(rest)
		n += len(x) + len(y)
		a, b = a[len(x):], b[len(y):]
	}
	return n, 0
}

func (t *tlsSession) keep(rest []byte) {
	if len(rest) > 0 {
		t.rest.buf = t.loop.GetBuf(len(rest))
		t.rest.off, t.rest.end = 0, int32(copy(t.loop.Bytes(t.rest.buf), rest))
	}
}

// flush sends what waits, as far as the socket takes it, and the end after it.
func (t *tlsSession) flush() syscall.Errno {
	if t.rest.pending() {
		n, err := loop.Send(t.fd, t.loop.Bytes(t.rest.buf)[t.rest.off:t.rest.end])
		switch {
		case err == syscall.EAGAIN:
			return 0
		case err != 0:
			return err
		}
		if t.rest.off += int32(n); t.rest.pending() {
			return 0
		}
		t.drop()
	}
	if !t.shut {
		return 0
	}
	if !t.said {
		t.said = true
		rest, _ := t.lane.CloseWrite(t.session)
		t.keep(rest)
	}
	if !t.rest.pending() {
		_ = loop.Shutdown(t.fd, loop.ShutWrite)
	}
	return 0
}

func (t *tlsSession) drop() {
	t.loop.PutBuf(t.rest.buf)
	t.rest = block{}
}

// Shutdown implements Session.
func (t *tlsSession) Shutdown() {
	t.shut = true
	_ = t.flush()
}

// Close implements Session.
func (t *tlsSession) Close(reset bool) {
	if !reset && !t.said && !t.rest.pending() {
		_, _ = t.lane.CloseWrite(t.session)
	}
	t.drop()
}

package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// service is the one whose client this is; nil: it is gone.
func (w *worker) service(snap *proxy.Snapshot, c *conn) *proxy.Service {
	if c.chosen == 0 {
		return snap.At(int(c.listener))
	}
	return snap.Service(w.names[c.chosen])
}

// way is what Claimer.Start is told of how the client came.
func (c *conn) way() int {
	if c.chosen == 0 {
		return int(c.listener)
	}
	return proxy.ByServer
}

// greet awaits a client's greeting. Until all of it is there, the client costs no more than any that is silent.
func (w *worker) greet(slot uint32, c *conn, svc *proxy.Service) {
	c.state = greeting
	w.timers.Set(slot, w.loop.Now()+int64(svc.Spec.TLS.Handshake))
	if c.flags&watched == 0 {
		w.watch(slot, c) // its first event reads the greeting
		return
	}
	w.greeted(slot, c)
}

// greeted looks at what a client has sent so far. When the greeting is whole, the host in it says whose client it is; not
// a byte of it is taken off the socket before that.
func (w *worker) greeted(slot uint32, c *conn) {
	buf := w.loop.Buffer()[:secure.MaxHello]
	n, err := loop.Peek(int(c.fd[client]), buf)
	switch {
	case err == syscall.EAGAIN:
		return
	case err != 0 || n == 0:
		w.insecure(slot, c, "")
		return
	}
	hello, herr := secure.ParseHello(buf[:n])
	if herr == secure.ErrShort && n < len(buf) && !c.half[client].is(hup) {
		return // the rest comes with another event
	}
	snap := w.sw.Current()
	first := snap.At(int(c.listener))
	switch {
	case first == nil:
		w.end(slot, c, endRefused)
	case first.Spec.TLS == nil: // a reload has taken it away since
		w.insecure(slot, c, secure.NotWanted)
	case herr == nil:
		w.introduced(slot, c, snap, first, hello.ServerName, n)
	case snap.Shared(int(c.listener)) || first.Spec.TLS.Mode == proxy.Passthrough: // whose it is will never be known
		w.insecure(slot, c, secure.Unspoken)
	default: // crypto/tls finds the right words for what is no greeting
		w.shakeHands(slot, c, first)
	}
}

// introduced leads on a client whose greeting is whole, n bytes being there. first is the first service of its listener.
func (w *worker) introduced(slot uint32, c *conn, snap *proxy.Snapshot, first *proxy.Service, host []byte, n int) {
	svc := snap.RouteSNI(int(c.listener), host)
	if svc == nil {
		w.unknown(slot, c, first, host, n)
		return
	}
	if snap.Shared(int(c.listener)) {
		c.chosen = w.named(svc.Spec.Name)
		w.claims.Accepted(svc)
	}
	if svc.Spec.TLS.Mode == proxy.Terminate {
		w.shakeHands(slot, c, svc)
		return
	}
	w.timers.Cancel(slot)
	c.state = steering
	c.flags |= through
	w.steer(slot, c)
}

// shakeHands begins the handshake, which has the client's descriptor until it has ended.
func (w *worker) shakeHands(slot uint32, c *conn, svc *proxy.Service) {
	config := w.plane.front.TLSOf(svc.Spec.Name)
	if config == nil {
		w.insecure(slot, c, secure.NotWanted)
		return
	}
	c.state = securing
	gen, fd := w.conns.Gen(slot), int(c.fd[client])
	w.handshakes[slot] = w.lane.Begin(fd, config, func(s *secure.Session, err error) { w.secured(slot, gen, fd, s, err) })
}

// named is where a service's name is in worker.names.
func (w *worker) named(service string) int32 {
	i, ok := w.nameOf[service]
	if !ok {
		i = int32(len(w.names))
		w.names = append(w.names, service)
		w.nameOf[service] = i
	}
	return i
}

// Alerts, fatal ones, in a record of their own (RFC 8446 5.1, 6).
var (
	alertUnrecognized = []byte{21, 3, 1, 0, 2, 2, 112} // unrecognized_name: RFC 6066 3
	alertMissing      = []byte{21, 3, 1, 0, 2, 2, 109} // missing_extension: RFC 8446 9.2
)

// unknown tells a client that the host it named is nobody's here, or that it must name one, and ends it.
func (w *worker) unknown(slot uint32, c *conn, first *proxy.Service, host []byte, n int) {
	alert := alertUnrecognized
	if host == nil {
		alert = alertMissing
	}
	w.take(c, n)
	_, _ = loop.Send(int(c.fd[client]), alert)
	w.claims.Refused(first)
	w.end(slot, c, endNoHost)
}

// take reads what was only looked at, for a client that is to end: a socket closed with bytes unread is reset, and the
// client might never see what was said to it.
func (w *worker) take(c *conn, n int) { _, _ = loop.Recv(int(c.fd[client]), w.loop.Buffer()[:n]) }

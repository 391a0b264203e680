package stream

import (
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// reached is a dial that has got through. If the service speaks TLS with its servers, a handshake comes first: it is part of the
// dial, within the same deadline, can be taken back like it, and what fails in it is a failed dial.
func (w *worker) reached(slot uint32, c *conn, registered bool) {
	srv := w.targets[c.target].server
	svc := w.service(w.sw.Current(), c)
	if svc == nil || svc.Spec.ServerTLS == nil {
		w.connected(slot, c, registered)
		return
	}
	config := w.plane.front.ToServer(svc.Spec.Name, srv.Address)
	if config == nil {
		w.dialFailed(slot, c, "tls: the door was not told how to speak it")
		return
	}
	fd := int(c.fd[server])
	if !registered && w.loop.Add(fd, w.token(slot, server)) != nil {
		w.dialFailed(slot, c, "epoll: out of memory")
		return
	}
	// The header comes before TLS: it is for whoever takes the connection. A new connection takes these few bytes at once.
	if b := w.headerFor(slot, c, svc); len(b) > 0 {
		if n, err := loop.Send(fd, b); err != 0 || n < len(b) {
			w.dialFailed(slot, c, "send: the PROXY header was not taken")
			return
		}
	}
	c.flags = c.flags&^retryDial | meeting
	w.timers.Set(slot, c.until)
	gen, dial := w.conns.Gen(slot), c.dial
	w.handshakes[slot] = w.lane.BeginClient(fd, config, func(s *secure.Session, err error) { w.met(slot, gen, dial, fd, s, err) })
}

// headerFor is the PROXY header for the claimed server, in the loop's buffer; none if it is not to be sent one.
func (w *worker) headerFor(slot uint32, c *conn, svc *proxy.Service) []byte {
	if svc == nil || svc.Spec.ProxyProtocol.Send == proxy.ProxyOff || svc.Spec.ProxyProtocol.Send == "" {
		return nil
	}
	return w.proxyHeader(w.loop.Buffer()[:0], slot, c, svc.Spec.ProxyProtocol.Send == proxy.ProxyV2)
}

// met is the end of a handshake with a server.
func (w *worker) met(slot, gen uint32, dial uint8, fd int, s *secure.Session, err error) {
	if !w.conns.Check(slot, gen) || w.conns.Get(slot).flags&meeting == 0 || w.conns.Get(slot).dial != dial { // given up meanwhile
		loop.Close(fd)
		return
	}
	c := w.conns.Get(slot)
	delete(w.handshakes, slot)
	c.flags &^= meeting
	if err != nil {
		w.dialFailed(slot, c, secure.Words(err, ""))
		return
	}
	c.tls[server] = w.admitted(s)
	w.connected(slot, c, true)
	if w.conns.Check(slot, gen) && c.state == relaying { // what came with the handshake is there already, and no event tells of it
		w.canRead(c, server, c.half[server].is(hup))
		w.pump(slot, c, server)
	}
}

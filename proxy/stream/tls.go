package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// open is the session of a side without TLS.
const open = 0

// errEnded is what receive makes up: the connection has ended.
const errEnded = syscall.ESHUTDOWN

// secured is the end of a handshake.
func (w *worker) secured(slot, gen uint32, fd int, s *secure.Session, err error) {
	if !w.conns.Check(slot, gen) { // given up meanwhile
		loop.Close(fd)
		return
	}
	c := w.conns.Get(slot)
	delete(w.handshakes, slot)
	w.timers.Cancel(slot)
	c.state = steering
	if err != nil {
		w.insecure(slot, c, secure.OfClient(err))
		return
	}
	if svc := w.service(w.sw.Current(), c); svc != nil {
		w.claims.Secured(svc)
	}
	c.tls[client] = w.admitted(s)
	w.steer(slot, c)
}

// shookTooLong ends a client whose handshake is not over in time.
func (w *worker) shookTooLong(slot uint32, c *conn) {
	why := secure.NotWanted
	if svc := w.service(w.sw.Current(), c); svc != nil && svc.Spec.TLS != nil {
		why = secure.TooLate(svc.Spec.TLS.Handshake)
	}
	w.insecure(slot, c, why)
}

// insecure ends a client without a handshake: it sent something else, none was agreed upon, or it took too long.
func (w *worker) insecure(slot uint32, c *conn, why string) {
	if c.state != securing { // else the handshake has the descriptor
		w.take(c, secure.MaxHello)
	}
	if svc := w.service(w.sw.Current(), c); svc != nil {
		w.plane.front.Unsecured(w.claims, svc, c.peer, why)
	}
	w.end(slot, c, endInsecure)
}

// giveUp ends a handshake with a side that goes on. It has the descriptor, so secured, or met, closes that.
func (w *worker) giveUp(slot uint32, c *conn, side int) {
	w.handshakes[slot].Abort()
	delete(w.handshakes, slot)
	c.fd[side] = -1
}

// admitted gives a session its number.
func (w *worker) admitted(s *secure.Session) int32 {
	if last := len(w.vacant) - 1; last >= 0 {
		n := w.vacant[last]
		w.vacant = w.vacant[:last]
		w.sessions[n] = s
		return n
	}
	w.sessions = append(w.sessions, s)
	return int32(len(w.sessions) - 1)
}

// forget drops a connection's sessions.
func (w *worker) forget(c *conn) {
	w.forgetSide(c, client)
	w.forgetSide(c, server)
	if len(w.vacant) == len(w.sessions)-1 && len(w.sessions) > 4096 { // a storm is over
		w.sessions, w.vacant = make([]*secure.Session, 1), nil
	}
}

func (w *worker) forgetSide(c *conn, side int) {
	if n := c.tls[side]; n != open {
		w.sessions[n] = nil
		w.vacant = append(w.vacant, n)
		c.tls[side] = open
	}
}

// canRead has a side be read: an event came, or something may be there without one. ended: nothing more will come.
func (w *worker) canRead(c *conn, s int, ended bool) {
	c.half[s].state |= readable
	if ended {
		c.half[s].state |= hup
	}
	if n := c.tls[s]; n != open {
		w.sessions[n].Readable(ended)
	}
}

// receive reads from a side, in plain text. errEnded: the connection has ended in it.
func (w *worker) receive(slot uint32, c *conn, s int, b []byte) (int, syscall.Errno) {
	if c.tls[s] == open {
		return loop.Recv(int(c.fd[s]), b)
	}
	n, reply, err := w.lane.Read(w.sessions[c.tls[s]], b)
	if len(reply) > 0 && !w.answer(slot, c, s, reply) {
		return 0, errEnded
	}
	return n, err
}

// answer sends what TLS itself has to say to side s, after what waits to be sent there. A peer that asks for such
// words and does not read them is cut off when they fill a block.
func (w *worker) answer(slot uint32, c *conn, s int, reply []byte) bool {
	h := &c.half[1-s]
	if !h.pending() {
		n, err := loop.Send(int(c.fd[s]), reply)
		if err != 0 && err != syscall.EAGAIN {
			return true // what is read next tells
		}
		w.keep(h, reply[n:])
		return true
	}
	block := w.loop.Bytes(h.buf)
	if int(h.end)+len(reply) > len(block) {
		w.end(slot, c, endReset)
		return false
	}
	h.end += int32(copy(block[h.end:], reply))
	return true
}

// send writes to a side, and gives back what is left to be sent, encrypted if that is what the side gets.
func (w *worker) send(c *conn, s int, b []byte) (rest []byte, err syscall.Errno) {
	if c.tls[s] != open {
		return w.lane.Write(w.sessions[c.tls[s]], b, nil)
	}
	n, err := loop.Send(int(c.fd[s]), b)
	if err == syscall.EAGAIN {
		return b, 0
	}
	return b[n:], err
}

// keep puts what could not be sent into a block.
func (w *worker) keep(h *half, rest []byte) {
	if len(rest) > 0 {
		h.buf = w.loop.GetBuf(len(rest))
		h.off, h.end = 0, int32(copy(w.loop.Bytes(h.buf), rest))
	}
}

// tellEnd says to the side opposite of s, in TLS, that s has ended; what cannot be sent at once is pending then.
func (w *worker) tellEnd(c *conn, s int) {
	h := &c.half[s]
	n := c.tls[1-s]
	if n == open || h.is(notified) {
		return
	}
	h.state |= notified
	rest, err := w.lane.CloseWrite(w.sessions[n])
	if err == 0 { // else what is read next tells
		w.keep(h, rest)
	}
}

// bid says to each side that is there and has TLS, as far as that is possible now, that nothing more comes.
func (w *worker) bid(c *conn) {
	for side, n := range c.tls {
		if h := &c.half[1-side]; n != open && c.fd[side] >= 0 && !h.is(notified) && !h.pending() {
			h.state |= notified
			_, _ = w.lane.CloseWrite(w.sessions[n])
		}
	}
}

// parting tells whether all that a client's socket holds is one alert in TLS, which is as good as nothing: it has left.
func parting(b []byte) bool {
	const alert, data = 21, 23
	if len(b) < 5 || len(b) != 5+(int(b[3])<<8|int(b[4])) {
		return false
	}
	// RFC 8446 5.2: in TLS 1.3 an alert looks like data, two bytes and what encryption adds to them, which is 17. A
	// message of two bytes looks the same; its sender has closed, too, and reads no answer.
	return b[0] == alert || b[0] == data && len(b) == 5+2+17
}

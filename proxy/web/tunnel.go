package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// A tunnel is what a request with Upgrade becomes when its server switches protocols (RFC 9110 7.8): both connections
// carry bytes as they come, each direction to its own end. It stays the claim that its request was. Of WebSocket the
// frames are followed (RFC 6455 5.2), so that the door can end one between two of them.

// closeRestart is the body of a WebSocket close frame: 1012, service restart.
var closeRestart = [...]byte{1012 >> 8, 1012 & 0xff}

// frames follows the frames of one direction.
type frames struct {
	left uint64 // of the payload
	head [14]byte
	n    uint8 // bytes of head that are there
}

// need is how long the head is, as far as its bytes so far tell.
func (f *frames) need() uint8 {
	if f.n < 2 {
		return 2
	}
	n := uint8(2)
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// between tells whether the last frame is over and no other has begun.
func (f *frames) between() bool { return f.left == 0 && f.n == 0 }

// feed follows b, and returns how much of it there is up to the first end of a frame; all of it, unless stop is set.
func (f *frames) feed(b []byte, stop bool) int {
	n := 0
	for n < len(b) {
		if f.left > 0 {
			m := min(f.left, uint64(len(b)-n))
			f.left -= m
			n += int(m)
		} else {
			f.head[f.n] = b[n]
			f.n++
			n++
			if f.n < f.need() {
				continue
			}
			f.left = f.payload()
			f.n = 0
		}
		if stop && f.between() {
			return n
		}
	}
	return n
}

func (f *frames) payload() uint64 {
	n, from, to := uint64(f.head[1]&0x7f), 2, 2
	switch n {
	case 126:
		n, to = 0, 4
	case 127:
		n, to = 0, 10
	}
	for _, c := range f.head[from:to] {
		n = n<<8 | uint64(c)
	}
	return n
}

// dig makes a tunnel of a request whose server has switched protocols. b is what the server said after its head.
// False, always: the request is no longer under way.
func (w *worker) dig(slot uint32, c *client, us uint32, u *upstream, out, b []byte) bool {
	c.state = tunneling
	c.flags |= closing
	u.flags |= upLast
	w.moved(slot, c)
	if c.info.Upgrade.WebSocket() {
		c.flags |= webSocket
		c.fromServer.feed(b, false)
	}
	if w.put(slot, c, out, b) {
		w.tunnel(slot, c, us, u)
	}
	return false
}

// tunnel carries both directions until there is nothing to read, or the other side takes no more, or it is others'
// turn.
func (w *worker) tunnel(slot uint32, c *client, us uint32, u *upstream) {
	if u.out.pending() && !w.flushTunnel(slot, c, u) {
		return
	}
	for round := 0; ; round++ {
		up, alive := w.tunnelUp(slot, c, u)
		if !alive {
			return
		}
		down, alive := w.tunnelDown(slot, c, u)
		if !alive {
			return
		}
		if !up && !down {
			return
		}
		if round == pumpRounds {
			w.loop.Again(w.clientToken(slot))
			return
		}
	}
}

// tunnelUp carries a buffer of the client's to the server. moved tells whether there was one.
func (w *worker) tunnelUp(slot uint32, c *client, u *upstream) (moved, alive bool) {
	if u.out.pending() || c.flags&readable == 0 && !c.in.pending() {
		if c.flags&eof != 0 && !c.in.pending() && !u.out.pending() {
			if u.flags&upShut == 0 {
				u.flags |= upShut
				c.flags |= asking // an end of stream is a word too: an answer may come of it
				w.shutUp(c.up, u)
			}
			return false, w.tunnelEnds(slot, c, u)
		}
		return false, true
	}
	buf, alive := w.gather(slot, c)
	if !alive || len(buf) == 0 {
		return alive && c.flags&eof != 0, alive
	}
	if u.flags&upShut != 0 { // the door has said its close frame: what comes now is the answer to it
		return true, true
	}
	if w.asksAnew(slot, c, u) {
		w.leaveTunnel(slot, c)
		return false, false
	}
	c.flags |= asking
	n := len(buf)
	if c.flags&webSocket != 0 {
		n = c.fromClient.feed(buf, c.flags&restarting != 0)
	}
	w.claims.Carried(w.targets[u.target].server, n, 0)
	w.moved(slot, c)
	sent, err := w.sendUp(c.up, u, buf[:n], nil)
	if err != 0 && err != syscall.EAGAIN {
		w.close(slot, c, true)
		return false, false
	}
	w.keep(&u.out, buf[sent:n])
	if c.flags&restarting != 0 && c.fromClient.between() {
		w.closeFrameUp(c, u)
	}
	return true, true
}

// tunnelDown carries a buffer of the server's to the client.
func (w *worker) tunnelDown(slot uint32, c *client, u *upstream) (moved, alive bool) {
	if c.blocked() || u.flags&upReadable == 0 {
		return false, true
	}
	n, err := w.recvUp(c.up, u, w.reply)
	if n == 0 && err == 0 && w.cutShort(c.up, u) {
		err = syscall.ECONNRESET
	}
	switch {
	case err == syscall.EAGAIN:
		u.flags &^= upReadable
		return false, true
	case err != 0:
		w.close(slot, c, true)
		return false, false
	case n == 0:
		u.flags &^= upReadable
		u.flags |= upEOF
		if c.flags&shut == 0 {
			c.flags |= shut
			w.shutdown(slot, c)
		}
		return false, w.tunnelEnds(slot, c, u)
	case n < len(w.reply) && u.flags&(upHup|inUpSession) == 0:
		u.flags &^= upReadable
	}
	if c.flags&shut != 0 { // the close frame was said
		return true, true
	}
	b := w.reply[:n]
	if c.flags&webSocket != 0 {
		b = b[:c.fromServer.feed(b, c.flags&restarting != 0)]
	}
	w.claims.Carried(w.targets[u.target].server, 0, len(b))
	c.flags &^= asking
	w.moved(slot, c)
	if !w.put(slot, c, nil, b) {
		return false, false
	}
	if c.flags&restarting != 0 && c.fromServer.between() {
		return true, w.closeFrameDown(slot, c)
	}
	return true, true
}

// flushTunnel writes what waits for the server.
func (w *worker) flushTunnel(slot uint32, c *client, u *upstream) bool {
	n, err := w.sendUp(c.up, u, w.loop.Bytes(u.out.buf)[u.out.off:u.out.end], nil)
	switch {
	case err == syscall.EAGAIN:
		return true
	case err != 0:
		w.close(slot, c, true)
		return false
	}
	w.moved(slot, c)
	if u.out.off += int32(n); !u.out.pending() {
		w.drop(&u.out)
	}
	return true
}

// tunnelEnds ends a tunnel both sides of which have. False: it has.
func (w *worker) tunnelEnds(slot uint32, c *client, u *upstream) bool {
	if u.flags&upEOF == 0 || c.flags&eof == 0 || c.blocked() || u.out.pending() {
		return true
	}
	w.logEnd(slot, c, endDone)
	w.detachAs(slot, c, false, c.flags&restarting != 0)
	w.close(slot, c, false)
	return false
}

// moved puts off a tunnel's idle deadline.
func (w *worker) moved(slot uint32, c *client) {
	c.waited = w.loop.Now()
	svc := w.targets[w.upstreams.Get(c.up).target].service
	at := int64(0)
	if svc != nil && svc.Spec.Timeouts.IdleTunnel > 0 {
		at = c.waited + int64(svc.Spec.Timeouts.IdleTunnel)
	}
	w.deadline(slot, c, at)
}

// cutTunnel ends a tunnel gently, if that can be done now: a WebSocket by a close frame as soon as both directions are
// between two frames; another if it is idle, as far as the looks at it tell, and nothing is under way.
func (w *worker) cutTunnel(slot uint32, c *client, u *upstream, idle bool) {
	switch {
	case c.flags&restarting != 0: // its answers are awaited
	case c.flags&webSocket != 0:
		c.flags |= restarting
		if c.fromClient.between() && c.flags&eof == 0 {
			w.closeFrameUp(c, u)
		}
		if c.fromServer.between() {
			w.closeFrameDown(slot, c)
		}
	case idle && w.loop.Now()-c.waited >= proxy.IdleCut && w.carriedAll(c, u) && c.flags&readable == 0 && !c.in.pending():
		if n, err := loop.InQueue(int(c.fd)); err == 0 && n == 0 {
			w.leaveTunnel(slot, c)
		}
	}
}

// carriedAll tells whether the last bytes in a tunnel were the server's, and all that it has said is carried.
func (w *worker) carriedAll(c *client, u *upstream) bool {
	if c.flags&asking != 0 || c.blocked() || u.out.pending() || u.flags&upReadable != 0 {
		return false
	}
	n, err := loop.InQueue(int(u.fd))
	return err == 0 && n == 0
}

// asksAnew tells, of a tunnel that is to end after the answer it is in, whether its client, of whom bytes were read, has begun
// to ask again: none of them is carried yet. A pause of the server ends no answer.
func (w *worker) asksAnew(slot uint32, c *client, u *upstream) bool {
	return c.flags&webSocket == 0 && w.targets[u.target].looks.Cuts.Of(w.loop.ID(), slot) >= proxy.CutAfterAnswer && w.carriedAll(c, u)
}

// leaveTunnel ends a tunnel between two answers: the client gets an end of stream, and what it says from now on goes nowhere,
// but is read: met by a closed socket it would be answered by a reset, which can throw away the end of the answer.
func (w *worker) leaveTunnel(slot uint32, c *client) {
	w.logEnd(slot, c, endCut)
	w.detachAs(slot, c, false, true)
	c.flags |= readable
	w.say(slot, c)
}

// closeFrameDown says 1012 to the client and ends the door's side.
func (w *worker) closeFrameDown(slot uint32, c *client) bool {
	if c.flags&shut != 0 {
		return true
	}
	b := append(w.scratch, 0x88, byte(len(closeRestart)))
	b = append(b, closeRestart[:]...)
	if !w.put(slot, c, b, nil) {
		return false
	}
	c.flags |= shut
	if !c.blocked() {
		w.shutdown(slot, c)
	}
	return true
}

// closeFrameUp says 1012 to the server, masked with zeros as a client's frame has to be masked, and ends the door's
// side.
func (w *worker) closeFrameUp(c *client, u *upstream) {
	if u.flags&upShut != 0 {
		return
	}
	u.flags |= upShut
	b := append(w.scratch, 0x88, 0x80|byte(len(closeRestart)), 0, 0, 0, 0)
	b = append(b, closeRestart[:]...)
	if u.out.pending() { // it stands in line; the connection is closed soon, whatever the server takes
		return
	}
	if n, err := w.sendUp(c.up, u, b, nil); err == 0 && n == len(b) {
		w.shutUp(c.up, u)
	}
}

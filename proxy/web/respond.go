package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// maxInterims is how many interim answers (1xx) one request may have: each puts off the deadline of the answer proper.
const maxInterims = 128

// respond carries the answer to the client, until there is no more to read, or the client takes no more, or it is
// others' turn. It returns false if the request is no longer under way.
func (w *worker) respond(slot uint32, c *client, us uint32, u *upstream) bool {
	for round := 0; u.flags&upReadable != 0 && !c.blocked(); round++ {
		if round == pumpRounds {
			w.loop.Again(w.upstreamToken(us))
			return true
		}
		if c.bulky(u) {
			if !w.bulk(slot, c, us, u) {
				return false
			}
			continue
		}
		b := w.reply
		if u.flags&upHead == 0 || u.flags&upChunked != 0 {
			b = b[:composing]
		}
		n := w.takeOut(&u.in, b)
		m, err := w.recvUp(us, u, b[n:])
		switch {
		case err == syscall.EAGAIN:
			u.flags &^= upReadable
			w.keep(&u.in, b[:n])
			return true
		case err != 0 || m == 0:
			return w.serverEnded(slot, c, us, u, err)
		case m < len(b)-n && u.flags&(upHup|inUpSession) == 0:
			u.flags &^= upReadable // short, so the socket is empty; an event tells of more
		}
		if u.flags&upSpoke == 0 {
			u.flags |= upSpoke
			w.forgetHead(c)
		}
		w.claims.Carried(w.targets[u.target].server, 0, m)
		fresh := u.flags&upHead == 0
		if !w.take(slot, c, us, u, b[:n+m]) {
			return false
		}
		if fresh && c.bulky(u) && u.flags&upReadable != 0 { // meanwhile more gathers, so that fewer splices are needed
			w.loop.Again(w.upstreamToken(us))
			return true
		}
	}
	return true
}

// forgetHead drops the head that was kept for sending it again.
func (w *worker) forgetHead(c *client) {
	if c.headLen == 0 {
		return
	}
	c.in.off += int32(c.headLen)
	c.headLen = 0
	if !c.in.pending() {
		w.drop(&c.in)
	}
}

// take carries bytes of the server: heads first, then the body. False: the request is no longer under way.
func (w *worker) take(slot uint32, c *client, us uint32, u *upstream, b []byte) bool {
	out := w.scratch
	for u.flags&upHead == 0 {
		n, e := w.response.Parse(b, &u.progress, &c.info)
		switch {
		case e != h1.ErrNone:
			return w.failed(slot, c, answer{status: e.Status(), reason: e.Reason()})
		case n == 0:
			if len(b) == composing { // cannot be: heads are limited below
				return w.failed(slot, c, answerBadResponse)
			}
			w.keep(&u.in, b)
			return len(out) == 0 || w.put(slot, c, out, nil)
		case w.response.Switched:
			return w.dig(slot, c, us, u, w.switchHead(c, u, out, b), b[n:])
		case w.response.Interim:
			if u.interims++; u.interims > maxInterims {
				return w.failed(slot, c, answerInterims)
			}
			if c.info.Minor > 0 {
				w.back = h1.ResponseOut{Minor: 1, By: by}
				out = w.response.AppendTo(out, b, &w.back)
			}
		default:
			out = w.responseHead(c, u, out, b)
		}
		if b = b[n:]; len(b) == 0 && u.flags&upHead == 0 {
			return len(out) == 0 || w.put(slot, c, out, nil)
		}
	}
	return w.answerBody(slot, c, us, u, out, b)
}

// responseHead writes the head for the client into the scratch, and begins the answer's body.
func (w *worker) responseHead(c *client, u *upstream, out, b []byte) []byte {
	r, o := w.response, &w.back
	framing, mustClose := r.ForClient(c.info.Minor)
	if mustClose || w.leaving {
		c.flags |= closing
	}
	if !r.KeepAlive {
		u.flags |= upLast
	}
	u.body = r.NewBody(true)
	u.flags |= upHead
	if r.Body == h1.BodyChunked {
		if u.flags |= upChunked; framing != h1.BodyChunked {
			u.flags |= upPlain
		}
	}
	c.status, c.headAt = uint16(r.Code), w.loop.Now()
	*o = h1.ResponseOut{Minor: c.info.Minor, Body: framing, Close: c.flags&closing != 0, By: by, Date: w.date.at(w.loop.Now()), Trailers: true, Extra: w.gifts(c, &w.targets[u.target])}
	if framing == h1.BodyUntilClose {
		c.flags |= openEnded
	}
	if svc := w.targets[u.target].service; c.flags&unknown != 0 && svc != nil {
		o.Extra = append(o.Extra, introduction(&svc.Spec.Maintenance)...)
	}
	if w.sw.Current().Announces {
		if o.Extra == nil {
			o.Extra = w.extra[:0]
		}
		o.Extra = w.foretell(o.Extra, w.targets[u.target].service)
		w.extra = o.Extra
	}
	return r.AppendTo(out, b, o)
}

// switchHead writes the head of a 101.
func (w *worker) switchHead(c *client, u *upstream, out, b []byte) []byte {
	u.flags |= upHead
	c.status, c.headAt = 101, w.loop.Now()
	w.back = h1.ResponseOut{Minor: 1, By: by}
	if w.sw.Current().Announces {
		w.back.Extra = w.foretell(w.extra[:0], w.targets[u.target].service)
	}
	return w.response.AppendTo(out, b, &w.back)
}

// answerBody carries the answer's body behind what was written to out. False: the request is no longer under way.
func (w *worker) answerBody(slot uint32, c *client, us uint32, u *upstream, out, b []byte) bool {
	var payload []byte
	used, e := 0, h1.ErrNone
	if u.flags&upChunked != 0 {
		out, used, e = w.rechunk(out, &u.body, b, &u.progress, true, u.flags&upPlain == 0)
	} else {
		payload, used, e = u.body.Next(b)
	}
	if e != h1.ErrNone {
		// What came before it was right, and the client has a use for it: a stream of events, say.
		if len(out) > 0 && !w.put(slot, c, out, nil) {
			return false
		}
		return w.failed(slot, c, answerBadResponse)
	}
	if len(out)+len(payload) > 0 && !w.put(slot, c, out, payload) {
		return false
	}
	if u.body.Done() {
		if used < len(b) { // nobody asked for that, and nobody gets it
			u.flags |= upLast
		}
		w.finish(slot, c, us, u)
		return false
	}
	w.keep(&u.in, b[used:]) // trailers that are not complete
	return true
}

// put writes a and then b to the client; what does not fit is kept. False: the client is gone.
func (w *worker) put(slot uint32, c *client, a, b []byte) bool {
	c.sent += uint64(len(a) + len(b))
	sent, err := w.sendv(slot, c, a, b)
	switch {
	case err == syscall.EAGAIN:
		sent = 0
	case err != 0:
		w.logEnd(slot, c, endClient)
		w.close(slot, c, true)
		return false
	}
	if left := len(a) - sent; left >= 0 {
		w.keep(&c.out, a[sent:], b)
	} else {
		w.keep(&c.out, b[-left:])
	}
	if c.state == carrying {
		w.progressed(slot, c)
	}
	return true
}

// flush writes what waits for the client. False: it is gone.
func (w *worker) flush(slot uint32, c *client) bool {
	if !c.out.pending() {
		return w.flushPipe(slot, c)
	}
	n, err := w.sendv(slot, c, w.loop.Bytes(c.out.buf)[c.out.off:c.out.end], nil)
	switch {
	case err == syscall.EAGAIN:
		return true
	case err != 0:
		w.close(slot, c, true)
		return false
	}
	if c.out.off += int32(n); !c.out.pending() {
		w.drop(&c.out)
		if c.state == tunneling && c.flags&shut != 0 { // a close frame was the last of it
			w.shutdown(slot, c)
		}
	}
	if c.state == carrying {
		w.progressed(slot, c)
	}
	return true
}

// serverEnded is a server that closed, or (err) broke the connection. False, always: the request is no longer under way
// on it.
func (w *worker) serverEnded(slot uint32, c *client, us uint32, u *upstream, err syscall.Errno) bool {
	switch {
	case u.flags&upHead != 0:
		if err == 0 && !w.cutShort(us, u) && u.body.AtEOF() == h1.ErrNone {
			u.flags |= upLast
			w.finish(slot, c, us, u)
			return false
		}
		return w.failed(slot, c, answerBadResponse) // and the client must not take what it has for a whole
	case c.headLen > 0 && c.anew(u, err):
		w.detach(slot, c, false)
		w.resume(slot, c)
		return false
	case u.flags&upSpoke != 0:
		return w.failed(slot, c, answerEarlyEnd)
	case err == Unseen && c.flags&inSession != 0:
		if s, can := w.sessions[slot].(Refuser); can {
			w.detach(slot, c, true)
			s.Refuse()
			w.logEnd(slot, c, endServer)
			w.close(slot, c, true)
			return false
		}
	}
	return w.failed(slot, c, answerNoResponse)
}

// failed ends a request whose server has let it down: with the answer given, or, if the client has the head of the
// server's already, by ending its connection, so that it cannot take what it has for the whole. False, always.
func (w *worker) failed(slot uint32, c *client, a answer) bool {
	incomplete := !c.body.Done()
	w.detach(slot, c, true)
	if c.status != 0 {
		w.logEnd(slot, c, endServer)
		w.breakOff(slot, c)
		return false
	}
	if incomplete {
		c.flags |= closing
	}
	w.answer(slot, c, a)
	return false
}

// breakOff ends a client in the middle of its answer, after what there is of it. An end is enough where a length or
// chunks show that something is missing; what would end with the connection is reset.
func (w *worker) breakOff(slot uint32, c *client) {
	if c.flags&openEnded != 0 {
		w.close(slot, c, true)
		return
	}
	c.body = endless
	w.say(slot, c)
}

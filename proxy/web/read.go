package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// pipelined is how many requests of one client the door answers itself before others get their turn.
const pipelined = 64

// endless is the body of what is no request: nobody knows where it would end.
var endless = h1.StartBody(h1.BodyUntilClose, 0, false, false)

// read takes what a client has sent between two requests, until there is no more, or a request has begun.
func (w *worker) read(slot uint32, c *client) {
	for gen, n := w.clients.Gen(slot), 0; w.clients.Check(slot, gen) && c.state == reading && !c.blocked(); n++ {
		if n == pipelined {
			w.loop.Again(w.clientToken(slot))
			return
		}
		buf, alive := w.gather(slot, c)
		if !alive {
			return
		}
		if len(buf) == 0 {
			if c.flags&eof != 0 {
				w.close(slot, c, false)
			}
			return
		}
		if !c.progress.Started() && c.flags&(prior|spoken) != prior|spoken {
			w.firstByte(slot, c)
		}
		if c.flags&prior != 0 && w.http2Begins(slot, c, buf) {
			if w.clients.Check(slot, gen) && c.flags&readable == 0 {
				return
			}
			continue
		}
		n, e := w.request.Parse(buf, &c.progress)
		switch {
		case e != h1.ErrNone:
			w.malformed(slot, c, e)
			return
		case n > 0:
			w.begin(slot, c, buf, n)
		case c.flags&eof != 0: // half a head
			w.malformed(slot, c, h1.ErrTruncated)
			return
		default:
			w.keep(&c.in, buf)
			if c.flags&readable == 0 {
				return
			}
		}
	}
}

// gather returns the bytes of a client that wait and those that can be read now, in the loop's buffer. It returns
// false if the client has ended.
func (w *worker) gather(slot uint32, c *client) (buf []byte, alive bool) {
	buf = w.loop.Buffer()[:composing]
	n := w.takeOut(&c.in, buf)
	if c.flags&readable == 0 || n == len(buf) {
		return buf[:n], true
	}
	m, err := w.recv(slot, c, buf[n:])
	switch {
	case err == syscall.EAGAIN:
		c.flags &^= readable
	case err != 0:
		w.close(slot, c, true)
		return nil, false
	case m == 0:
		c.flags |= eof
		c.flags &^= readable
	case m < len(buf)-n && c.flags&(hup|inSession) == 0:
		// Short, so the socket is empty; but after a hang-up no further event would tell of the end.
		c.flags &^= readable
	}
	return buf[:n+m], true
}

// firstByte begins the deadline of a request's head.
func (w *worker) firstByte(slot uint32, c *client) {
	c.began = w.loop.Now()
	c.flags |= spoken
	if svc := w.sw.Current().At(int(c.listener)); svc != nil {
		w.deadline(slot, c, c.began+int64(svc.Spec.Timeouts.RequestHeader))
	}
}

// late is a client that has been at rest for too long, or took too long over a head.
func (w *worker) late(slot uint32, c *client) {
	if c.progress.Started() {
		c.info, c.body = h1.Info{}, endless
		w.unread(c)
		w.answer(slot, c, answerHeaderLate)
		return
	}
	w.close(slot, c, false)
}

// unread prepares the answer to what did not become a request: only the listener tells whose it was.
func (w *worker) unread(c *client) {
	w.at = w.sw.Current().At(int(c.listener))
	if w.at != nil && w.at.Spec.AccessLog && !c.log.pending() {
		w.noteUnread(c, w.at.Spec.Name)
	}
}

// malformed answers what is no request, and ends the connection: what follows has no meaning.
func (w *worker) malformed(slot uint32, c *client, e h1.Err) {
	w.unread(c)
	if w.at != nil {
		w.claims.Malformed(w.at)
	}
	c.info, c.body = h1.Info{Method: w.request.Method, Minor: 1}, endless
	w.answer(slot, c, answer{status: e.Status(), reason: e.Reason()})
}

// begin takes a request whose head is complete: the first n bytes of buf, which is all that is there of the client.
func (w *worker) begin(slot uint32, c *client, buf []byte, n int) {
	c.info = w.request.Info
	c.body = w.request.NewBody(true)
	c.progress = h1.Progress{}
	if !c.info.KeepAlive || w.leaving {
		c.flags |= closing
	}
	snap := w.sw.Current()
	w.at = snap.At(int(c.listener))
	if c.flags&overTLS == 0 && w.plainly(slot, c, snap, buf, n) {
		return
	}
	svc, alive := w.route(slot, c, snap, buf, n)
	if !alive {
		return
	}
	if svc.Spec.AccessLog {
		w.note(c, svc.Spec.Name, buf)
	}
	if svc.Spec.StatePath != "" && string(w.request.AppendRoutePath(w.scratch, buf)) == svc.Spec.StatePath {
		w.keepRest(c, buf, n)
		w.tellState(slot, c, svc)
		return
	}
	if !w.wishes(c, snap, svc, buf) {
		w.keepRest(c, buf, n)
		w.answer(slot, c, answerNoPlace)
		return
	}
	if c.info.MaxForwards == 0 { // RFC 9110 7.6.2: this is the last hop
		w.lastHop(slot, c, buf, n)
		return
	}
	w.steer(slot, c, buf, n)
}

// again reads the head of a request anew, whose bytes were kept while it waited.
func (w *worker) again(slot uint32, c *client) (buf []byte, n int) {
	buf = w.loop.Buffer()[:composing]
	buf = buf[:w.takeOut(&c.in, buf)]
	c.headLen = 0
	var p h1.Progress
	n, e := w.request.Parse(buf, &p)
	if n == 0 {
		panic("web: BUG: a request that was complete is not: " + e.Error())
	}
	return buf, n
}

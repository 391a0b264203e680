package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// pumpRounds is how many buffers one direction carries before others get their turn.
const pumpRounds = 8

// by is the door's name in Via.
const by = "turnout"

// sendOn sends a request, whose head was just parsed, on a connection to a server; its claim is started. False:
// not a byte was taken, the claim has ended, the connection is closed, and another server may be claimed.
func (w *worker) sendOn(slot uint32, c *client, us uint32, buf []byte, n int) bool {
	u := w.upstreams.Get(us)
	srv := w.targets[u.target].server
	c.target = u.target
	out := w.requestHead(c, buf)
	rest := buf[n:]
	body := c.body
	var payload []byte
	used, e := 0, h1.ErrNone
	switch c.info.Body {
	case h1.BodyLength:
		payload, used, e = c.body.Next(rest)
	case h1.BodyChunked:
		out, used, e = w.rechunk(out, &c.body, rest, &c.progress, false, true)
	}
	if e != h1.ErrNone {
		w.claims.End(srv, false)
		w.putBack(us)
		w.malformed(slot, c, e)
		return true
	}
	sent, err := w.sendUp(us, u, out, payload)
	if err != 0 && err != syscall.EAGAIN {
		c.body, c.progress = body, h1.Progress{}
		if u.uses == 0 { // it closes what it has just accepted: the others may do better
			c.tried.Add(int(c.position))
		}
		w.claims.End(srv, false)
		w.closeUpstream(us, u, false)
		return false
	}
	u.client, c.up, c.state = slot, us, carrying
	c.target, c.sentAt = u.target, w.loop.Now()
	u.flags &= upReadable | upHup | inUpSession
	u.progress, u.interims = h1.Progress{}, 0
	w.claims.Carried(srv, len(out)+len(payload), 0)
	if a := len(out) - sent; a >= 0 {
		w.keep(&u.out, out[sent:], payload)
	} else {
		w.keep(&u.out, payload[-a:])
	}
	if c.flags&unread == 0 && c.repeatable() {
		c.headLen = uint16(n)
		w.keep(&c.in, buf[:n], rest[used:])
	} else {
		w.keep(&c.in, rest[used:])
	}
	u.uses++
	w.progressed(slot, c)
	if !c.body.Done() {
		w.upload(slot, c, us, u)
		return true
	}
	w.lookForParting(slot, c)
	return true
}

// requestHead writes the head for a server into the scratch.
func (w *worker) requestHead(c *client, buf []byte) []byte {
	o := &w.out
	o.Peer, o.HTTPS, o.By, o.Trailers = c.peer.IP(), c.flags&overTLS != 0, by, true
	o.Trusted = w.trusts(c)
	o.Extra = w.hide(w.targets[c.target].service, buf)
	switch {
	case c.log.pending():
		o.RequestID = w.logged(c, logID)
	case w.request.RequestID(buf) == nil:
		o.RequestID = w.ids.next()
	default:
		o.RequestID = nil
	}
	if svc := w.targets[c.target].service; svc != nil && w.stranger(&svc.Spec.Maintenance, buf) {
		c.flags |= unknown
	}
	return w.request.AppendTo(w.scratch, buf, o)
}

// trusts tells whether the client is a proxy of ours, so that what it says of who is behind it counts.
func (w *worker) trusts(c *client) bool {
	svc := w.targets[c.target].service
	if svc == nil || len(svc.Spec.TrustedProxies) == 0 {
		return false
	}
	ip := c.peer.IP().Unmap().WithZone("")
	for _, p := range svc.Spec.TrustedProxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// rechunk takes a chunked body out of in and appends it to dst, anew in chunks, with the trailers that may be passed
// on; or, if chunks is false, its payload alone. It returns how many bytes of in it used: all, unless the body has
// ended or a trailer section is not complete.
func (w *worker) rechunk(dst []byte, body *h1.Body, in []byte, p *h1.Progress, server, chunks bool) (out []byte, used int, e h1.Err) {
	for used < len(in) && !body.Done() {
		if body.AtTrailer() {
			n, e := w.trailer.Parse(in[used:], p, server)
			if n == 0 || e != h1.ErrNone {
				return dst, used, e
			}
			if chunks {
				dst = w.trailer.AppendTo(dst, in[used:])
			}
			body.EndTrailer()
			return dst, used + n, h1.ErrNone
		}
		payload, n, e := body.Next(in[used:])
		if e != h1.ErrNone {
			return dst, used, e
		}
		used += n
		if chunks {
			dst = h1.AppendChunk(dst, payload)
		} else {
			dst = append(dst, payload...)
		}
	}
	return dst, used, h1.ErrNone
}

// goOn carries what there is in both directions of a request under way.
func (w *worker) goOn(slot uint32, c *client) {
	us := c.up
	u := w.upstreams.Get(us)
	if u.out.pending() && !w.flushUp(slot, c, us, u) {
		return
	}
	if !c.body.Done() && u.flags&upDeaf == 0 {
		if !w.upload(slot, c, us, u) {
			return
		}
	}
	if c.flags&answered != 0 {
		w.afterAnswer(slot, c, us, u)
		return
	}
	w.lookForParting(slot, c)
	w.respond(slot, c, us, u)
}

// upload carries the request's body to the server, until there is no more to read, or the server takes no more, or it
// is others' turn. It returns false if the request is no longer under way.
func (w *worker) upload(slot uint32, c *client, us uint32, u *upstream) bool {
	for round := 0; !c.body.Done() && !u.out.pending() && u.flags&upDeaf == 0; round++ {
		if c.flags&readable == 0 && !c.in.pending() {
			if c.flags&eof != 0 {
				return w.truncated(slot, c, h1.ErrTruncated)
			}
			return true
		}
		if round == pumpRounds {
			w.loop.Again(w.clientToken(slot))
			return true
		}
		buf, alive := w.gather(slot, c)
		if !alive {
			return false
		}
		out, payload, used, e := w.scratch, []byte(nil), 0, h1.ErrNone
		if c.info.Body == h1.BodyChunked {
			out, used, e = w.rechunk(out, &c.body, buf, &c.progress, false, true)
		} else {
			payload, used, e = c.body.Next(buf)
		}
		if e != h1.ErrNone {
			return w.truncated(slot, c, e)
		}
		w.keep(&c.in, buf[used:])
		if len(out)+len(payload) > 0 && !w.putUp(slot, c, us, u, out, payload) {
			return false
		}
		if used == 0 && c.flags&readable == 0 { // trailers that are not complete
			if c.flags&eof != 0 {
				return w.truncated(slot, c, h1.ErrTruncated)
			}
			return true
		}
	}
	return true
}

// putUp writes a and then b to the server; what does not fit is kept. False: the request is no longer under way.
func (w *worker) putUp(slot uint32, c *client, us uint32, u *upstream, a, b []byte) bool {
	w.claims.Carried(w.targets[u.target].server, len(a)+len(b), 0)
	w.progressed(slot, c)
	sent, err := w.sendUp(us, u, a, b)
	switch {
	case err == syscall.EAGAIN:
		sent = 0
	case err != 0:
		return w.deaf(slot, c, us, u)
	}
	if left := len(a) - sent; left >= 0 {
		w.keep(&u.out, a[sent:], b)
	} else {
		w.keep(&u.out, b[-left:])
	}
	return true
}

// flushUp writes what waits for the server. False: the request is no longer under way.
func (w *worker) flushUp(slot uint32, c *client, us uint32, u *upstream) bool {
	n, err := w.sendUp(us, u, w.loop.Bytes(u.out.buf)[u.out.off:u.out.end], nil)
	switch {
	case err == syscall.EAGAIN:
		return true
	case err != 0:
		return w.deaf(slot, c, us, u)
	}
	w.progressed(slot, c)
	if u.out.off += int32(n); !u.out.pending() {
		w.drop(&u.out)
	}
	return true
}

// deaf is a server that takes no more of a request. It may have answered before: then that is the answer.
func (w *worker) deaf(slot uint32, c *client, us uint32, u *upstream) bool {
	w.drop(&u.out)
	u.flags |= upDeaf | upLast | upReadable | upHup
	if c.flags&answered != 0 {
		w.release(slot, c, us, u)
		return false
	}
	return w.respond(slot, c, us, u)
}

// truncated is a client whose request ends early or makes no sense: the server must not take what it has for a
// whole.
func (w *worker) truncated(slot uint32, c *client, e h1.Err) bool {
	w.detach(slot, c, true)
	if c.status != 0 {
		w.logEnd(slot, c, endClient)
		w.close(slot, c, c.flags&answered == 0) // an answer that was whole is let arrive
		return false
	}
	c.flags |= closing
	w.answer(slot, c, answer{status: e.Status(), reason: e.Reason()})
	return false
}

// progressed puts off the deadline of a request under way: the client's while its body is awaited or its answer is
// not taken, else the server's.
func (w *worker) progressed(slot uint32, c *client) {
	if c.flags&(parted|asked) == parted && c.status == 0 {
		return // it is asked first
	}
	svc := w.targets[w.upstreams.Get(c.up).target].service
	if svc == nil { // a reload removed it: what is under way ends by the last deadline
		return
	}
	limit := svc.Spec.Timeouts.Response
	if !c.body.Done() || c.blocked() {
		limit = svc.Spec.Timeouts.RequestBody
	}
	w.deadline(slot, c, w.loop.Now()+int64(limit))
}

// stalled is a request under way on which nothing has moved for too long.
func (w *worker) stalled(slot uint32, c *client) {
	u := w.upstreams.Get(c.up)
	if c.flags&(parted|asked) == parted && c.status == 0 {
		w.ask(slot, c)
		return
	}
	switch {
	case c.flags&answered != 0: // the rest of its body does not come
		c.flags |= closing
		w.release(slot, c, c.up, u)
	case c.blocked(): // the client does not take its answer
		w.logEnd(slot, c, endLate)
		w.close(slot, c, true)
	case c.status != 0: // the server does not go on with it
		w.logEnd(slot, c, endLate)
		w.detach(slot, c, true)
		w.breakOff(slot, c)
	case !c.body.Done() && !u.out.pending():
		w.detach(slot, c, true)
		c.flags |= closing
		w.answer(slot, c, answerBodyLate)
	default:
		w.detach(slot, c, true)
		w.answer(slot, c, answerResponseLate)
	}
}

package web

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

const (
	lingerTime  = 5 * time.Second // how long a client may take to end its side when all is said
	lingerBytes = 64 << 20        // and how much it may send meanwhile
)

// finish is a request whose answer is complete. When the request is not, the server may still want the rest of it; if
// it does not, the rest is read and thrown away, so that it cannot be taken for the next request.
func (w *worker) finish(slot uint32, c *client, us uint32, u *upstream) {
	w.forgetHead(c)
	if (!c.body.Done() || u.out.pending()) && u.flags&(upLast|upHup|upDeaf) == 0 && c.flags&closing == 0 {
		c.flags |= answered
		return
	}
	w.release(slot, c, us, u)
}

// afterAnswer looks at a request of which only a part of its own body is missing.
func (w *worker) afterAnswer(slot uint32, c *client, us uint32, u *upstream) {
	if u.flags&upReadable != 0 {
		if w.silent(us, u) {
			u.flags &^= upReadable
		} else { // it closes, or says what nobody asked for
			u.flags |= upLast
			w.release(slot, c, us, u)
			return
		}
	}
	if c.body.Done() && !u.out.pending() {
		w.release(slot, c, us, u)
	}
}

// release ends a request's use of its connection to the server, which waits for the next one, or closes. The client goes
// on.
func (w *worker) release(slot uint32, c *client, us uint32, u *upstream) {
	t := &w.targets[u.target]
	w.claims.End(t.server, false)
	w.logEnd(slot, c, endDone)
	c.up = none
	c.flags &^= answered
	if !c.body.Done() || u.flags&(upLast|upHup) != 0 || u.out.pending() || !t.open || t.idles >= maxIdle {
		w.closeUpstream(us, u, false)
	} else {
		w.putBack(us)
	}
	w.roomAt(t.service)
	w.settled(slot, c)
}

// settled is a client whose request is answered: the next one may come, or its connection ends.
func (w *worker) settled(slot uint32, c *client) {
	switch {
	case c.flags&closing != 0:
		w.say(slot, c)
		return
	case !c.body.Done():
		c.state, c.drained = draining, 0
		w.drain(slot, c)
		return
	}
	w.rest(slot, c)
	if c.in.pending() || c.flags&(readable|eof) != 0 {
		w.read(slot, c)
	}
}

// detach ends what a request under way has of a server.
func (w *worker) detach(slot uint32, c *client, reset bool) { w.detachAs(slot, c, reset, false) }

// detachAs is detach; cut says that a drain's deadline is why.
func (w *worker) detachAs(slot uint32, c *client, reset, cut bool) {
	us := c.up
	u := w.upstreams.Get(us)
	t := &w.targets[u.target]
	w.claims.End(t.server, cut)
	w.closeUpstream(us, u, reset)
	c.up, c.state = none, reading
	w.roomAt(t.service)
}

// drain reads on to the end of a request that is answered, up to a limit.
func (w *worker) drain(slot uint32, c *client) {
	for !c.body.Done() {
		if c.flags&readable == 0 && !c.in.pending() {
			if c.flags&eof != 0 {
				w.close(slot, c, false)
				return
			}
			w.deadline(slot, c, w.loop.Now()+int64(lingerTime))
			return
		}
		buf, alive := w.gather(slot, c)
		if !alive {
			return
		}
		_, used, e := w.rechunk(w.scratch, &c.body, buf, &c.progress, false, false)
		w.keep(&c.in, buf[used:])
		if c.drained += uint32(used); e != h1.ErrNone || c.drained > lingerBytes {
			c.flags |= closing
			w.say(slot, c)
			return
		}
		if used == 0 && c.flags&readable == 0 { // trailers that are not complete
			return
		}
	}
	c.progress = h1.Progress{}
	w.rest(slot, c)
	w.read(slot, c)
}

// say ends a connection on which all was said, once the client has taken it.
func (w *worker) say(slot uint32, c *client) {
	c.state = lingering
	w.deadline(slot, c, w.loop.Now()+int64(lingerTime))
	w.linger(slot, c)
}

// linger ends the door's side, and reads on until the client has ended its own: a connection that is closed with bytes
// unread is reset, and that makes both kernels throw away what is still under way to the client.
func (w *worker) linger(slot uint32, c *client) {
	if c.blocked() {
		return
	}
	if c.flags&(readable|eof) == 0 && !c.in.pending() && c.body.Done() && c.flags&inSession == 0 {
		w.close(slot, c, false)
		return
	}
	w.drop(&c.in)
	if c.flags&shut == 0 {
		c.flags |= shut
		w.shutdown(slot, c)
		if c.fd < 0 {
			c.flags |= readable // who was told may have ended, too, and no event tells of it
		}
	}
	for c.flags&readable != 0 {
		n, err := w.recv(slot, c, w.loop.Buffer())
		switch {
		case err == syscall.EAGAIN:
			c.flags &^= readable
			return
		case err != 0 || n == 0:
			c.flags |= eof
		}
		if c.drained += uint32(n); c.flags&eof != 0 || c.drained > lingerBytes {
			break
		}
	}
	if c.flags&eof != 0 || c.drained > lingerBytes {
		w.close(slot, c, false)
	}
}

func (w *worker) shutdown(slot uint32, c *client) {
	if c.flags&inSession != 0 {
		w.sessions[slot].Shutdown()
		return
	}
	_ = loop.Shutdown(int(c.fd), loop.ShutWrite)
}

// close ends a client, whatever it is in, and forgets it. reset: so that it cannot take what it has for a whole.
func (w *worker) close(slot uint32, c *client, reset bool) {
	switch c.state {
	case carrying, tunneling:
		w.logEnd(slot, c, endClient)
		w.detach(slot, c, !c.body.Done() || c.state == tunneling && reset)
	case dialing:
		u := w.upstreams.Get(c.up)
		t := &w.targets[u.target]
		w.undial(c.up, u)
		w.claims.GiveUp(t.server)
		w.roomAt(t.service)
	case waiting:
		w.unhold(slot, c, proxy.HoldLeft)
	}
	w.poured(c)
	w.timers.Cancel(slot)
	w.logEnd(slot, c, endClient)
	w.drop(&c.in)
	w.drop(&c.out)
	w.dropPipe(c)
	if c.flags&inSession != 0 {
		w.sessions[slot].Close(reset)
		delete(w.sessions, slot)
	}
	if c.fd >= 0 {
		if reset {
			_ = loop.SetLinger0(int(c.fd))
		}
		loop.Close(int(c.fd))
	}
	w.clients.Free(slot)
}

// Cut implements front.Worker. A request is never at rest, and ends with its answer by itself: so nothing is cut before
// proxy.CutNow. Who has not seen the head of an answer by then is told, the others are reset. Tunnels see cutTunnel.
func (w *worker) Cut(s *proxy.Server, cuts proxy.Cuts) {
	ti, ok := w.targetOf[s]
	if !ok {
		return
	}
	for us := w.targets[ti].busy; us != none; {
		u := w.upstreams.Get(us)
		next := u.next
		slot := u.client
		c := w.clients.Get(slot)
		switch how := cuts.Of(w.loop.ID(), slot); {
		case how == proxy.CutNot:
		case how == proxy.CutNow && c.state == tunneling:
			w.logEnd(slot, c, endCut)
			w.detachAs(slot, c, true, true)
			w.close(slot, c, true)
		case how == proxy.CutNow:
			w.cutRequest(slot, c)
		case c.state == tunneling:
			w.cutTunnel(slot, c, u, w.targets[ti].looks.Idle(c.waited))
		}
		us = next
	}
	w.targets[ti].looks.Done(cuts, w.loop.Now())
}

// cutRequest ends a request under way.
func (w *worker) cutRequest(slot uint32, c *client) {
	w.detachAs(slot, c, true, true)
	if c.status != 0 {
		w.logEnd(slot, c, endCut)
		w.close(slot, c, true)
		return
	}
	w.answer(slot, c, answerCut)
}

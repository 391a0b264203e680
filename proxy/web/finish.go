package web

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	lingerTime  = 5 * time.Second // how long a client may take to end its side when all is said
	lingerBytes = 64 << 20        // and how much it may send meanwhile
)

// finish is a request whose answer is complete: its connection to the server waits for the next one, or closes, and
// so does the client.
func (w *worker) finish(slot uint32, c *client, us uint32, u *upstream) {
	t := &w.targets[u.target]
	complete := c.body.Done()
	w.forgetHead(c)
	w.claims.End(t.server, false)
	c.up = none
	if !complete || u.flags&(upLast|upHup) != 0 || u.out.pending() || !t.open || t.idles >= maxIdle {
		w.closeUpstream(us, u, false)
	} else {
		w.putBack(us)
	}
	w.roomAt(t.service)
	if !complete { // what it goes on to send is nobody's
		c.flags |= closing
	}
	w.settled(slot, c)
}

// settled is a client whose request is answered: the next one may come, or its connection ends.
func (w *worker) settled(slot uint32, c *client) {
	if c.flags&closing != 0 {
		w.say(slot, c)
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

// say ends a connection on which all was said, once the client has taken it.
func (w *worker) say(slot uint32, c *client) {
	c.state = lingering
	w.deadline(slot, c, w.loop.Now()+int64(lingerTime))
	w.linger(slot, c)
}

// linger ends the door's side, and reads on until the client has ended its own: a connection that is closed with bytes
// unread is reset, and that makes both kernels throw away what is still under way to the client.
func (w *worker) linger(slot uint32, c *client) {
	if c.out.pending() {
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
	case carrying:
		w.detach(slot, c, !c.body.Done())
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
	w.drop(&c.in)
	w.drop(&c.out)
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
// proxy.CutNow. Who has not seen the head of an answer by then is told, the others are reset.
func (w *worker) Cut(s *proxy.Server, how proxy.Cut) {
	ti, ok := w.targetOf[s]
	if !ok || how != proxy.CutNow {
		return
	}
	for us := w.targets[ti].busy; us != none; {
		u := w.upstreams.Get(us)
		next := u.next
		slot := u.client
		c := w.clients.Get(slot)
		w.detachAs(slot, c, true, true)
		if c.status != 0 {
			w.close(slot, c, true)
		} else {
			w.answer(slot, c, answerCut)
		}
		us = next
	}
}

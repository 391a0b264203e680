package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	// bulkLeast is how much of an answer's body must be left for it to be carried through a pipe, which moves pages
	// and copies nothing.
	bulkLeast = 128 << 10
	bulkSmall = 4 << 10 // fewer bytes than these at once: it comes too slowly to gain by that
	endless64 = 1 << 62 // what an answer that ends by closing has left is more: nobody knows how it will come
)

// bulky tells whether what comes next of an answer is carried through a pipe: plain bytes to a plain descriptor, and
// enough of them.
func (c *client) bulky(u *upstream) bool {
	left := u.body.Left()
	return left >= bulkLeast && left < endless64 && u.flags&(upHead|upChunked|upSlow|inUpSession) == upHead && c.flags&inSession == 0
}

// bulk carries one pipe full of an answer. False: the request is no longer under way.
func (w *worker) bulk(slot uint32, c *client, us uint32, u *upstream) bool {
	pipe, ok := w.loop.GetPipe()
	if !ok {
		u.flags |= upSlow // copying works without
		return true
	}
	n, err := loop.Splice(int(u.fd), int(pipe.W), int(min(u.body.Left(), loop.PipeSize)), loop.SpliceMove|loop.SpliceNonblock)
	switch {
	case n > 0:
		if n < bulkSmall {
			u.flags |= upSlow
		}
		c.pipe, c.piped = pipe, int32(n)
		c.sent += uint64(n)
		u.body.Skip(uint64(n))
		w.claims.Carried(w.targets[u.target].server, 0, n)
		if !w.flushPipe(slot, c) {
			return false
		}
		w.progressed(slot, c)
		if u.body.Done() {
			w.finish(slot, c, us, u)
			return false
		}
		return true
	case err == syscall.EAGAIN: // the pipe is empty here, so it is the socket that has nothing
		u.flags &^= upReadable
	case err == syscall.EINVAL: // not for these descriptors
		u.flags |= upSlow
	default:
		w.loop.PutPipe(pipe)
		return w.serverEnded(slot, c, us, u, err)
	}
	w.loop.PutPipe(pipe)
	return true
}

// flushPipe empties a pipe into the client. False: it is gone.
func (w *worker) flushPipe(slot uint32, c *client) bool {
	for c.piped > 0 { // until EAGAIN: only then is an event sure to come when there is room again
		n, err := loop.Splice(int(c.pipe.R), int(c.fd), int(c.piped), loop.SpliceMove|loop.SpliceNonblock)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err != 0 || n == 0:
			w.logEnd(slot, c, endClient)
			w.close(slot, c, true)
			return false
		}
		c.piped -= int32(n)
		if c.state == carrying {
			w.progressed(slot, c)
		}
	}
	w.loop.PutPipe(c.pipe)
	c.pipe = loop.Pipe{}
	return true
}

// dropPipe forgets a pipe with whatever is in it.
func (w *worker) dropPipe(c *client) {
	if c.piped > 0 {
		w.loop.DropPipe(c.pipe)
		c.pipe, c.piped = loop.Pipe{}, 0
	}
}

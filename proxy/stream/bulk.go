package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

const (
	bulkAfter = 2       // full buffers in a row after which a direction is carried through a pipe
	bulkSmall = 4 << 10 // fewer bytes than these at once: the flow has turned chatty again
)

// bulk carries one pipe full from side s by splice(2), which moves pages and copies nothing. The pipe is
// held only while there are bytes in it, so an idle direction costs none. It returns false if the connection
// has ended.
func (w *worker) bulk(slot uint32, c *conn, s int) bool {
	h := &c.half[s]
	if !h.is(piping) {
		p, ok := w.loop.GetPipe()
		if !ok {
			h.streak = 0 // copying works without
			return true
		}
		h.pipe = p
		h.state |= piping
	}
	n, err := loop.Splice(int(c.fd[s]), int(h.pipe.W), loop.PipeSize, loop.SpliceMove|loop.SpliceNonblock)
	switch {
	case err == syscall.EAGAIN: // the pipe is empty here, so it is the socket that has nothing
		h.state &^= readable
	case err == syscall.EINVAL: // not for these descriptors
		h.streak = 0
	case err != 0:
		h.state |= broken
	case n == 0:
		h.state |= eof
	default:
		if n < bulkSmall {
			h.streak = 0
		}
		h.piped = int32(n)
		w.carried(c, s, n)
		return true
	}
	w.returnPipe(h)
	return true
}

func (w *worker) returnPipe(h *half) {
	w.loop.PutPipe(h.pipe)
	h.state &^= piping
}

// flushPipe empties the pipe into the other side; see flush.
func (w *worker) flushPipe(slot uint32, c *conn, s int) (done, alive bool) {
	h := &c.half[s]
	for h.piped > 0 { // until EAGAIN: only then is an event sure to come when there is room again
		n, err := loop.Splice(int(h.pipe.R), int(c.fd[1-s]), int(h.piped), loop.SpliceMove|loop.SpliceNonblock)
		switch {
		case err == syscall.EAGAIN:
			return false, true
		case err != 0 || n == 0:
			return false, w.unwritable(slot, c, s)
		}
		c.last = w.loop.Now()
		h.piped -= int32(n)
	}
	w.returnPipe(h)
	return true, true
}

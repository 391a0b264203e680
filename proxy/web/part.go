package web

import (
	"time"
)

// partAfter is how long a client that has ended its side waits for its answer before it is asked whether it is there.
const partAfter = time.Second

// lookForParting notes a client that ended its side while it waits for the server's answer. It may be done with
// sending, or it may have closed: nothing on the wire tells these apart until it is sent something.
func (w *worker) lookForParting(slot uint32, c *client) {
	if c.flags&(hup|parted) != hup || !c.body.Done() || c.status != 0 || c.info.Minor == 0 || c.fd < 0 {
		return
	}
	c.flags |= parted
	c.waited = c.until
	w.deadline(slot, c, min(c.until, w.loop.Now()+int64(partAfter)))
}

// ask sends an interim response, which a client must be able to read though it did not ask for one (RFC 9110 15.2); one
// that has closed answers with a reset, and so its request is not carried on for nobody.
func (w *worker) ask(slot uint32, c *client) {
	c.flags |= asked
	limit := c.waited
	if w.put(slot, c, []byte("HTTP/1.1 100 Continue\r\n\r\n"), nil) {
		w.deadline(slot, c, max(limit, w.loop.Now()+int64(loopTick)))
	}
}

// loopTick is a deadline that is due at once.
const loopTick = time.Millisecond

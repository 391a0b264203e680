//go:build linux

package load

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// connectWork is connect, one message there and back, close; conns of them at any time.
type connectWork struct {
	calls   []call
	message [MessageSize]byte
	next    int   // number of the next connection, for its source address
	swept   int64 // when lost ones were last looked for
}

// call is one connection from connect to close.
type call struct {
	link
	begin int64
	sent  bool
}

func (w *connectWork) open(t *thread) error {
	w.calls = make([]call, t.conns)
	for i := range w.calls {
		w.calls[i].fd = -1
	}
	fd, err := t.establish(0, true) // is anybody there?
	if err != nil {
		return err
	}
	closeFD(fd)
	return nil
}

func (w *connectWork) begin(t *thread, now int64) {
	for i := range w.calls {
		w.start(t, i, now)
	}
}

func (w *connectWork) start(t *thread, i int, now int64) {
	c := &w.calls[i]
	c.link, c.begin, c.sent = link{fd: -1}, now, false
	w.next += len(t.threads)
	fd, e := t.dial(w.next + t.number)
	if e != 0 {
		t.fail(errorName(e))
		return // the sweep tries again
	}
	c.fd = int32(fd)
	if t.Reset {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if why := c.poke(t, i, &w.message); why != "" {
		t.fail(why)
		c.close()
	}
}

// poke has a new connection reported, and sends at once where the handshake is over already, as it mostly is
// on one machine; otherwise the poller says when.
func (c *call) poke(t *thread, i int, m *[MessageSize]byte) (why string) {
	e := c.send(m)
	c.sent = e == 0
	if e != 0 && e != syscall.EAGAIN {
		return errorName(e)
	}
	events := uint32(edgeIn)
	if !c.sent {
		events |= unix.EPOLLOUT
	}
	if e := t.poller.add(int(c.fd), events, i); e != 0 {
		return errorName(e)
	}
	return ""
}

// progress carries a call on after an event. It is true when the answer is there.
func (c *call) progress(events uint32, m *[MessageSize]byte) (done bool, why string) {
	if !c.sent {
		if e := socketError(int(c.fd)); e != 0 {
			return false, errorName(e)
		}
		if events&unix.EPOLLOUT == 0 {
			return false, ""
		}
		if e := c.send(m); e != 0 {
			return false, errorName(e)
		}
		c.sent = true
		return false, ""
	}
	return c.receive()
}

func (w *connectWork) ready(t *thread, index int, events uint32) {
	c := &w.calls[index]
	if c.fd < 0 {
		return
	}
	done, why := c.progress(events, &w.message)
	switch {
	case why != "":
		t.fail(why)
	case done:
		t.done()
	default:
		return
	}
	c.close()
	if !t.ending.Load() {
		w.start(t, index, Mono())
	}
}

// tick looks every 50 ms for calls that nobody answers, and starts anew what could not be started.
func (w *connectWork) tick(t *thread, now int64) int64 {
	if now-w.swept < 50e6 {
		return idleTick
	}
	w.swept = now
	for i := range w.calls {
		c := &w.calls[i]
		if c.fd >= 0 && now-c.begin > patience {
			t.fail("no answer")
			c.close()
		}
		if c.fd < 0 && !t.ending.Load() {
			w.start(t, i, now)
		}
	}
	return idleTick
}

func (w *connectWork) busy(*thread) bool {
	for i := range w.calls {
		if w.calls[i].fd >= 0 {
			return true
		}
	}
	return false
}

//go:build linux

package load

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// link is one connection of a client that has at most one message under way.
type link struct {
	fd  int32 // -1: none
	got int32 // bytes of in that are there
	seq uint64
	in  [MessageSize]byte // the answer
}

// send writes the next message; its head is checked when it comes back.
func (l *link) send(m *[MessageSize]byte) syscall.Errno {
	l.seq++
	l.got = 0
	binary.LittleEndian.PutUint64(m[stampSize:], l.seq)
	n, e := write(int(l.fd), m[:])
	if e == 0 && n < MessageSize {
		return syscall.EMSGSIZE // 64 bytes into an empty socket buffer do not go in parts
	}
	return e
}

// receive reads what is there. It is true when the answer is whole; why says what is wrong, if anything is.
func (l *link) receive() (whole bool, why string) {
	n, e := read(int(l.fd), l.in[l.got:])
	switch {
	case e == syscall.EAGAIN:
		return false, ""
	case e != 0:
		return false, errorName(e)
	case n == 0:
		return false, "closed before the answer"
	}
	if l.got += int32(n); l.got < MessageSize {
		return false, ""
	}
	if binary.LittleEndian.Uint64(l.in[stampSize:]) != l.seq {
		return true, "another message's bytes"
	}
	return true, ""
}

// receiveLast is receive for a connection that is to go on: an end that came together with the answer is no
// event of its own any more.
func (l *link) receiveLast(events uint32) (whole bool, why string) {
	whole, why = l.receive()
	if why == "" && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		return whole, "closed after an answer"
	}
	return whole, why
}

func (l *link) close() {
	closeFD(int(l.fd))
	l.fd = -1
}

// echoWork is the closed loop.
type echoWork struct {
	links   []link
	message [MessageSize]byte
}

func (w *echoWork) open(t *thread) error {
	var err error
	w.links, err = openLinks(t, t.conns)
	return err
}

// openLinks opens n connections, greets on each, and has their answers reported.
func openLinks(t *thread, n int) ([]link, error) {
	links := make([]link, n)
	for i := range links {
		fd, err := t.establish(i, true)
		if err != nil {
			return nil, err
		}
		links[i].fd = int32(fd)
		if e := t.poller.add(fd, edgeIn, i); e != 0 {
			return nil, e
		}
	}
	return links, nil
}

func (w *echoWork) begin(t *thread, _ int64) {
	for i := range w.links {
		w.send(t, &w.links[i])
	}
}

func (w *echoWork) send(t *thread, l *link) {
	if e := l.send(&w.message); e != 0 {
		t.fail(errorName(e))
		l.close()
	}
}

func (w *echoWork) tick(*thread, int64) int64 { return idleTick }

func (w *echoWork) ready(t *thread, index int, events uint32) {
	l := &w.links[index]
	if l.fd < 0 {
		return
	}
	whole, why := l.receiveLast(events)
	if why != "" {
		t.fail(why)
		l.close()
	} else if whole {
		t.done()
		w.send(t, l)
	}
}

func (w *echoWork) busy(*thread) bool { return false }

// idleWork opens connections and leaves them.
type idleWork struct{ links []link }

func (w *idleWork) open(t *thread) error {
	var err error
	w.links, err = openLinks(t, t.conns)
	return err
}

func (w *idleWork) begin(*thread, int64)      {}
func (w *idleWork) tick(*thread, int64) int64 { return 1e9 }
func (w *idleWork) busy(*thread) bool         { return false }

func (w *idleWork) ready(t *thread, index int, _ uint32) {
	l := &w.links[index]
	if l.fd >= 0 {
		t.fail("closed while idle")
		l.close()
	}
}

//go:build linux

package load

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bulkWork moves bytes one way as fast as they go, a buffer per event, so that flows share a thread evenly.
type bulkWork struct {
	flood bool
	links []link
	buf   []byte
}

const bulkBuffer = 256 << 10

func (w *bulkWork) open(t *thread) error {
	w.buf = make([]byte, bulkBuffer)
	w.links = make([]link, t.conns)
	for i := range w.links {
		fd, err := t.establish(i, false) // these servers answer nothing
		if err != nil {
			return err
		}
		w.links[i].fd = int32(fd)
	}
	return nil
}

func (w *bulkWork) begin(t *thread, _ int64) {
	events := uint32(unix.EPOLLIN)
	if w.flood {
		events = unix.EPOLLOUT
	}
	for i := range w.links {
		t.poller.add(int(w.links[i].fd), events, i)
	}
}

func (w *bulkWork) tick(*thread, int64) int64 { return idleTick }
func (w *bulkWork) busy(*thread) bool         { return false }

func (w *bulkWork) ready(t *thread, index int, _ uint32) {
	l := &w.links[index]
	if l.fd < 0 {
		return
	}
	var n int
	var e syscall.Errno
	if w.flood {
		n, e = write(int(l.fd), w.buf)
	} else {
		n, e = discard(int(l.fd), 4*bulkBuffer)
	}
	switch {
	case e == syscall.EAGAIN:
	case e != 0:
		t.fail(errorName(e))
		l.close()
	case n == 0:
		t.fail("ended early")
		l.close()
	default:
		t.bytes.Store(t.bytes.Load() + uint64(n))
	}
}

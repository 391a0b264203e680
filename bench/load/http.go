//go:build linux

package load

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The HTTP modes send one small request at a time on a connection and read its answer to the end, which
// Content-Length tells: what a proxy adds to the head is not looked at, what it does to the length and status is.

const (
	httpRequest     = "GET /bench HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: turnout-bench\r\nAccept: */*\r\n\r\n"
	httpRequestOnce = "GET /bench HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: turnout-bench\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	maxAnswerHead   = 4 << 10
)

// answerReader follows one answer after another on a connection.
type answerReader struct {
	head []byte // of the answer, while it is not whole
	left int64  // of its body, when the head is behind
	body bool
}

// take consumes what was read. It is true when an answer has ended; why says what is wrong with it.
func (a *answerReader) take(p []byte) (whole bool, why string) {
	if !a.body {
		if len(a.head) > 0 {
			a.head = append(a.head, p...)
			p = a.head
		}
		end := bytes.Index(p, []byte("\r\n\r\n"))
		if end < 0 {
			if len(p) > maxAnswerHead {
				return false, "an answer's head without end"
			}
			if len(a.head) == 0 {
				a.head = append(a.head, p...)
			}
			return false, ""
		}
		if a.left, why = bodyLength(p[:end+2]); why != "" {
			return false, why
		}
		a.body, p, a.head = true, p[end+4:], a.head[:0]
	}
	return a.skip(int64(len(p)))
}

// skip is take for bytes of the body that nobody copied.
func (a *answerReader) skip(n int64) (whole bool, why string) {
	if a.left -= n; a.left < 0 {
		return false, "bytes behind an answer"
	}
	if a.left > 0 {
		return false, ""
	}
	a.body = false
	return true, ""
}

var contentLength = []byte("content-length:")

// bodyLength reads the head of an answer, lines with CRLF.
func bodyLength(head []byte) (n int64, why string) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		return 0, string(head[:min(len(head), len("HTTP/1.1 200"))])
	}
	for i := bytes.IndexByte(head, '\n') + 1; i < len(head); {
		line := head[i : i+bytes.IndexByte(head[i:], '\n')]
		if i += len(line) + 1; len(line) > len(contentLength) && line[7]|0x20 == '-'|0x20 && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(line[len(contentLength):])), 10, 64)
			if err != nil {
				return 0, "Content-Length of no number"
			}
			return n, ""
		}
	}
	return 0, "an answer without Content-Length"
}

// httpLink is one connection that waits for an answer.
type httpLink struct {
	fd     int32 // -1: none
	answer answerReader
}

// httpWork is the closed loop on kept-alive connections.
type httpWork struct {
	links []httpLink
	buf   []byte
	idle  bool // one request on each, then nothing
}

func (w *httpWork) open(t *thread) error {
	w.buf = make([]byte, bulkBuffer)
	w.links = make([]httpLink, t.conns)
	for i := range w.links {
		fd, err := t.establish(i, false)
		if err == nil {
			err = w.greet(t, i, fd)
		}
		if err != nil {
			return err
		}
		if e := t.poller.add(fd, edgeIn, i); e != 0 {
			return e
		}
	}
	return nil
}

// greet has the first request answered before the load.
func (w *httpWork) greet(t *thread, i, fd int) error {
	w.links[i].fd = int32(fd)
	if _, e := write(fd, []byte(httpRequest)); e != 0 {
		return t.openError(i, "first request", e)
	}
	for {
		if err := await(fd, unix.POLLIN); err != nil {
			return t.openError(i, "first answer", err)
		}
		n, e := read(fd, w.buf)
		if e != 0 {
			return t.openError(i, "first answer", e)
		}
		if n == 0 {
			return t.openError(i, "first answer", errClosed)
		}
		whole, why := w.links[i].answer.take(w.buf[:n])
		if why != "" {
			return t.openError(i, "first answer", fmt.Errorf("%q", why))
		}
		if whole {
			return nil
		}
	}
}

func (w *httpWork) begin(t *thread, _ int64) {
	for i := range w.links {
		if !w.idle {
			w.ask(t, &w.links[i])
		}
	}
}

func (w *httpWork) ask(t *thread, l *httpLink) {
	if _, e := writeString(int(l.fd), httpRequest); e != 0 {
		t.fail(errorName(e))
		l.close()
	}
}

func (l *httpLink) close() {
	closeFD(int(l.fd))
	l.fd = -1
}

func (w *httpWork) tick(*thread, int64) int64 { return idleTick }
func (w *httpWork) busy(*thread) bool         { return false }

func (w *httpWork) ready(t *thread, index int, events uint32) {
	l := &w.links[index]
	for l.fd >= 0 {
		whole, again, why := l.receive(t, w.buf)
		switch {
		case w.idle && (why != "" || whole):
			why = "not left alone while idle: " + why
			fallthrough
		case why != "":
			t.fail(why)
			l.close()
			return
		case whole && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
			t.fail("closed after an answer")
			l.close()
			return
		case whole:
			t.done()
			w.ask(t, l)
		}
		if !again {
			return
		}
	}
}

// receive reads once. again: there may be more.
func (l *httpLink) receive(t *thread, buf []byte) (whole, again bool, why string) {
	var n int
	var e syscall.Errno
	discarded := l.answer.body && l.answer.left >= int64(len(buf))
	if discarded {
		n, e = discard(int(l.fd), int(min(l.answer.left, 4*bulkBuffer)))
	} else {
		n, e = read(int(l.fd), buf)
	}
	switch {
	case e == syscall.EAGAIN:
		return false, false, ""
	case e != 0:
		return false, false, errorName(e)
	case n == 0:
		return false, false, "closed before the answer"
	}
	t.bytes.Store(t.bytes.Load() + uint64(n))
	if discarded {
		whole, why = l.answer.skip(int64(n))
		return whole, true, why
	}
	whole, why = l.answer.take(buf[:n])
	return whole, n == len(buf), why
}

// httpOnceWork is connect, one request that says close, its answer, close; conns of them at any time.
type httpOnceWork struct {
	calls []httpCall
	buf   []byte
	next  int   // number of the next connection, for its source address
	swept int64 // when lost ones were last looked for
}

type httpCall struct {
	httpLink
	begin int64
	sent  bool
}

func (w *httpOnceWork) open(t *thread) error {
	w.buf = make([]byte, bulkBuffer)
	w.calls = make([]httpCall, t.conns)
	for i := range w.calls {
		w.calls[i].fd = -1
	}
	first := httpWork{links: make([]httpLink, 1), buf: w.buf}
	fd, err := t.establish(0, false) // is anybody there?
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return first.greet(t, 0, fd)
}

func (w *httpOnceWork) begin(t *thread, now int64) {
	for i := range w.calls {
		w.start(t, i, now)
	}
}

func (w *httpOnceWork) start(t *thread, i int, now int64) {
	c := &w.calls[i]
	*c = httpCall{httpLink: httpLink{fd: -1, answer: answerReader{head: c.answer.head[:0]}}, begin: now}
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
	if e = c.ask(); e != 0 && e != syscall.EAGAIN {
		w.lost(t, c, errorName(e))
		return
	}
	events := uint32(edgeIn)
	if !c.sent {
		events |= unix.EPOLLOUT
	}
	if e := t.poller.add(fd, events, i); e != 0 {
		w.lost(t, c, errorName(e))
	}
}

func (c *httpCall) ask() syscall.Errno {
	_, e := writeString(int(c.fd), httpRequestOnce)
	c.sent = e == 0
	return e
}

func (w *httpOnceWork) lost(t *thread, c *httpCall, why string) {
	t.fail(why)
	c.close()
}

func (w *httpOnceWork) ready(t *thread, index int, events uint32) {
	c := &w.calls[index]
	if c.fd < 0 {
		return
	}
	if !c.sent {
		if e := socketError(int(c.fd)); e != 0 {
			w.lost(t, c, errorName(e))
		} else if events&unix.EPOLLOUT != 0 {
			if e := c.ask(); e != 0 {
				w.lost(t, c, errorName(e))
			}
		}
		return
	}
	for {
		whole, again, why := c.receive(t, w.buf)
		switch {
		case why != "":
			w.lost(t, c, why)
		case whole:
			t.done()
			c.close()
		case again:
			continue
		default:
			return
		}
		break
	}
	if !t.ending.Load() {
		w.start(t, index, Mono())
	}
}

// tick looks every 50 ms for calls that nobody answers, and starts anew what could not be started.
func (w *httpOnceWork) tick(t *thread, now int64) int64 {
	if now-w.swept < 50e6 {
		return idleTick
	}
	w.swept = now
	for i := range w.calls {
		c := &w.calls[i]
		if c.fd >= 0 && now-c.begin > patience {
			w.lost(t, c, "no answer")
		}
		if c.fd < 0 && !t.ending.Load() {
			w.start(t, i, now)
		}
	}
	return idleTick
}

func (w *httpOnceWork) busy(*thread) bool {
	for i := range w.calls {
		if w.calls[i].fd >= 0 {
			return true
		}
	}
	return false
}

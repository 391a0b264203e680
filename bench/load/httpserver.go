//go:build linux

package load

import (
	"bytes"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// httpAnswer is what a listener of HTTP answers every request with, made once.
func (l *Listener) httpAnswer() []byte {
	body := bytes.Repeat([]byte("turnout bench.\r\n"), int(l.Bytes/16+1))[:l.Bytes]
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", l.Bytes)
	return append([]byte(head), body...)
}

// http answers each head that has ended; the requests of this bench have no bodies.
func (s *serverLoop) http(c *serverConn, events uint32) {
	if events&unix.EPOLLOUT != 0 && !s.flushAnswer(c) {
		return
	}
	hup := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for {
		n, e := read(c.fd, s.buf[:64<<10])
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 || n == 0 {
			s.close(c)
			return
		}
		for range c.heads(s.buf[:n]) {
			if !s.sendAnswer(c) {
				return
			}
		}
		if n < 64<<10 && !hup {
			return
		}
	}
}

// heads counts the empty lines that p completes; got remembers how much of one its end may be.
func (c *serverConn) heads(p []byte) (n int) {
	if c.got == 0 {
		if bytes.HasSuffix(p, []byte("\r\n\r\n")) && bytes.Count(p, []byte("\r\n\r\n")) == 1 {
			return 1
		}
	}
	for _, b := range p {
		switch {
		case b == "\r\n\r\n"[c.got]:
			if c.got++; c.got == 4 {
				n, c.got = n+1, 0
			}
		case b == '\r':
			c.got = 1
		default:
			c.got = 0
		}
	}
	return n
}

// sendAnswer never copies: what is unsent is a part of the one answer there is.
func (s *serverLoop) sendAnswer(c *serverConn) bool {
	c.l.messages.Add(1)
	if len(c.unsent) > 0 {
		s.close(c) // a second request before the first was answered: nobody here does that
		return false
	}
	n, e := write(c.fd, c.l.answer)
	if e != 0 && e != syscall.EAGAIN {
		s.close(c)
		return false
	}
	if n = max(n, 0); n < len(c.l.answer) {
		c.unsent = c.l.answer[n:]
		s.poller.change(c.fd, edgeIn|unix.EPOLLOUT, c.fd)
	}
	return true
}

func (s *serverLoop) flushAnswer(c *serverConn) bool {
	if len(c.unsent) == 0 {
		return true
	}
	return s.flush(c)
}

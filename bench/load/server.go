//go:build linux

package load

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// servers is a server process: every loop accepts from every listener.
type servers struct {
	listeners []*listener
}

// listener is shared by the loops.
type listener struct {
	Listener
	fd                 int
	accepted, messages atomic.Uint64
	first, last        atomic.Int64
	answer             []byte // of HTTP
}

// serverLoop is one thread. Events carry the descriptor, so listen and conns are indexed by it.
type serverLoop struct {
	poller *poller
	listen []*listener // shared by the loops, not changed once they run
	conns  []*serverConn
	buf    []byte // what is read, and zeroes for Source
}

type serverConn struct {
	fd       int
	l        *listener
	accepted int64
	left     int64 // of Source with a limit
	unsent   []byte
	got      int // of message, or of an empty line
	message  [MessageSize]byte
	ended    bool // nothing more to read
}

func newServers(text []byte) (child, error) {
	var spec Servers
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	s := &servers{}
	var byFD []*listener
	for _, l := range spec.Listeners {
		fd, err := listen(l.Addr)
		if err != nil {
			return nil, err
		}
		byFD = append(byFD, make([]*listener, max(0, fd+1-len(byFD)))...)
		byFD[fd] = &listener{Listener: l, fd: fd}
		if l.Mode == HTTP {
			byFD[fd].answer = byFD[fd].httpAnswer()
		}
		s.listeners = append(s.listeners, byFD[fd])
	}
	for range max(spec.Threads, 1) {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		loop := &serverLoop{poller: p, listen: byFD, buf: make([]byte, 256<<10)}
		for _, l := range s.listeners {
			if e := p.add(l.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, l.fd); e != 0 {
				return nil, fmt.Errorf("epoll: %w", e)
			}
			loop.grow(l.fd)
		}
		go loop.run() // ends with the process
	}
	return s, nil
}

func (s *servers) obey(command string) (any, error) {
	if command != "served" {
		return nil, errors.New("BUG: servers: unknown command " + command)
	}
	var all []Served
	for _, l := range s.listeners {
		all = append(all, Served{l.ID, l.accepted.Load(), l.messages.Load(), l.first.Load(), l.last.Load()})
	}
	return all, nil
}

func (s *serverLoop) grow(fd int) {
	for len(s.conns) <= fd {
		s.conns = append(s.conns, make([]*serverConn, 1024)...)
	}
}

func (s *serverLoop) run() {
	for {
		for _, ev := range s.poller.wait(1e9) {
			fd := int(ev.Fd)
			if c := s.conns[fd]; c != nil {
				s.serve(c, ev.Events)
			} else if fd < len(s.listen) && s.listen[fd] != nil {
				s.accept(s.listen[fd])
			}
		}
	}
}

func (s *serverLoop) accept(l *listener) {
	for {
		fd, e := accept(l.fd)
		if e != 0 {
			return // no more, or taken by another loop
		}
		now := Mono()
		if l.accepted.Add(1) == 1 {
			l.first.Store(now)
		}
		l.last.Store(now)
		s.grow(fd)
		c := &serverConn{fd: fd, l: l, accepted: now, left: l.Bytes}
		s.conns[fd] = c
		// Bulk is level-triggered, one buffer per event, so that one flow cannot starve the others.
		events := uint32(edgeIn)
		switch l.Mode {
		case Source:
			events = unix.EPOLLOUT | unix.EPOLLRDHUP
		case Sink:
			events = unix.EPOLLIN
		}
		if s.poller.add(fd, events, fd) != 0 {
			s.close(c)
		}
	}
}

func (s *serverLoop) serve(c *serverConn, events uint32) {
	switch c.l.Mode {
	case Source:
		s.source(c, events)
	case Sink:
		if n, e := discard(c.fd, 1<<20); n == 0 || e != 0 && e != syscall.EAGAIN {
			s.close(c)
		}
	case HTTP:
		s.http(c, events)
	default:
		s.echo(c, events)
	}
}

func (s *serverLoop) source(c *serverConn, events uint32) {
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		s.close(c)
		return
	}
	p := s.buf
	if c.l.Bytes > 0 {
		p = p[:min(int64(len(p)), c.left)]
	}
	n, e := write(c.fd, p)
	if e != 0 {
		if e != syscall.EAGAIN {
			s.close(c)
		}
		return
	}
	if c.left -= int64(n); c.l.Bytes > 0 && c.left == 0 {
		s.close(c)
	}
}

func (s *serverLoop) echo(c *serverConn, events uint32) {
	if events&unix.EPOLLOUT != 0 && !s.flush(c) {
		return
	}
	hup := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for len(c.unsent) == 0 && !c.ended {
		n, e := read(c.fd, s.buf)
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 {
			s.close(c)
			return
		}
		c.ended = n == 0
		if n > 0 && !s.answer(c, s.buf[:n]) {
			return
		}
		if n < len(s.buf) && !hup {
			return // all there was; an end that comes later is a new event
		}
	}
	if c.ended && len(c.unsent) == 0 {
		s.close(c)
	}
}

// answer sends p back, in Stamp with its head changed. It is false when the connection is gone.
func (s *serverLoop) answer(c *serverConn, p []byte) bool {
	if c.l.Mode != Stamp {
		return s.send(c, p)
	}
	for len(p) > 0 {
		n := copy(c.message[c.got:], p)
		p, c.got = p[n:], c.got+n
		if c.got < MessageSize {
			return true
		}
		c.got = 0
		c.l.messages.Add(1)
		c.message[0] = c.l.ID
		binary.LittleEndian.PutUint64(c.message[8:], uint64(c.accepted))
		if !s.send(c, c.message[:]) {
			return false
		}
	}
	return true
}

func (s *serverLoop) send(c *serverConn, p []byte) bool {
	n := 0
	if len(c.unsent) == 0 {
		var e syscall.Errno
		if n, e = write(c.fd, p); e != 0 && e != syscall.EAGAIN {
			s.close(c)
			return false
		}
		if n = max(n, 0); n == len(p) {
			return true
		}
		s.poller.change(c.fd, edgeIn|unix.EPOLLOUT, c.fd)
	}
	c.unsent = append(c.unsent, p[n:]...)
	return true
}

// flush sends what could not be sent at once. It is false when there is still some, or the connection is gone.
func (s *serverLoop) flush(c *serverConn) bool {
	for len(c.unsent) > 0 {
		n, e := write(c.fd, c.unsent)
		if e == syscall.EAGAIN {
			return false
		}
		if e != 0 {
			s.close(c)
			return false
		}
		c.unsent = c.unsent[n:]
	}
	c.unsent = nil
	s.poller.change(c.fd, edgeIn, c.fd)
	return true
}

func (s *serverLoop) close(c *serverConn) {
	s.conns[c.fd] = nil
	closeFD(c.fd)
}

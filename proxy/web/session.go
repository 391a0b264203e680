package web

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Session carries a client's bytes when they are not those of its descriptor. Its methods are called on the
// client's loop and must not block; they answer as the calls of package loop do: EAGAIN when there is nothing to
// read or no room to write, 0 bytes without an error for the peer's end of stream, any other error for a
// connection that is broken.
type Session interface {
	Recv(b []byte) (n int, err syscall.Errno)
	Send(b []byte) (n int, err syscall.Errno)
	// Shutdown ends what is sent to the client, after all that was sent before (close_notify).
	Shutdown()
	// Close ends the session. reset: in a way that the client cannot take for a regular end. A descriptor is
	// closed by the plane, afterwards.
	Close(reset bool)
}

// Stranger is a client that comes by a Session.
type Stranger struct {
	Session  Session
	Listener uint32    // slot by which it came
	FD       int       // registered with the loop for events; -1: Wake alone tells of them
	Peer     loop.Addr // who it is
	HTTPS    bool
}

// Ref names a client to those who do not run on its loop.
type Ref struct {
	w     *worker
	token loop.Token
}

// Adopt takes a client into the plane. It must be called on the loop of that number (loop.Post); the client is read from
// at once. Another goroutine tells of news by Wake.
func (p *Plane) Adopt(loopID int, s Stranger) Ref {
	w := p.workers[loopID]
	slot, c := w.admitClient(s.Listener, s.FD, s.Peer)
	w.sessions[slot] = s.Session
	c.flags |= inSession
	if s.HTTPS {
		c.flags |= overTLS
	}
	ref := Ref{w, w.clientToken(slot)}
	c.flags |= readable
	if s.FD >= 0 && !w.watch(slot, c) {
		return ref
	}
	w.read(slot, c)
	return ref
}

// Wake has the client's loop look at its session again: there may be something to read, an end, or room to write.
func (r Ref) Wake() {
	r.w.loop.Post(func() { r.w.clientEvent(r.token, loop.In|loop.RDHUP|loop.Out) })
}

// recv reads from a client.
func (w *worker) recv(slot uint32, c *client, b []byte) (int, syscall.Errno) {
	if c.flags&inSession != 0 {
		return w.sessions[slot].Recv(b)
	}
	return loop.Recv(int(c.fd), b)
}

// sendv writes a and then b to a client; either may be empty.
func (w *worker) sendv(slot uint32, c *client, a, b []byte) (int, syscall.Errno) {
	if c.flags&inSession == 0 {
		return sendv(int(c.fd), a, b)
	}
	s := w.sessions[slot]
	n := 0
	if len(a) > 0 {
		var err syscall.Errno
		if n, err = s.Send(a); err != 0 || n < len(a) || len(b) == 0 {
			return n, err
		}
	}
	m, err := s.Send(b)
	if err != 0 && n > 0 { // the next call will say so again
		return n, 0
	}
	return n + m, err
}

func sendv(fd int, a, b []byte) (int, syscall.Errno) {
	switch {
	case len(b) == 0:
		return loop.Send(fd, a)
	case len(a) == 0:
		return loop.Send(fd, b)
	}
	return loop.Sendv(fd, a, b)
}

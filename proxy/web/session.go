package web

import (
	"crypto/tls"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// Session carries a client's bytes when they are not those of its descriptor. Its methods are called on the
// client's loop and must not block; they answer as the calls of package loop do: EAGAIN when there is nothing to
// read or no room to write, 0 bytes without an error for the peer's end of stream, any other error for a
// connection that is broken.
type Session interface {
	Recv(b []byte) (n int, err syscall.Errno)
	// Send takes of a and then b what it can; either may be empty.
	Send(a, b []byte) (n int, err syscall.Errno)
	// Event tells of an event at the descriptor, or of a Wake, before anything else is made of it.
	Event(ev loop.Events)
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

// HTTP2 serves clients that agreed upon h2 in their handshake; package h2 does.
type HTTP2 interface {
	// Serve takes a session, with its descriptor, off the loop it is called on. idle is how long it may be at rest; 0: ever.
	Serve(loopID int, listener uint32, peer loop.Addr, s *secure.Session, idle time.Duration)
	// ServePlain takes a client that has said the preface without TLS.
	ServePlain(Plain)
	// Reach finds room for one request at a server of a service, within limit. secure says how it is spoken to in TLS, should a
	// connection have to be made; nil: without. done, called from any goroutine, gets what carries that request and its
	// answer, which the plane closes, or why there is none, in an operator's words. wake is called when it should be looked at again.
	Reach(service, address string, secure func() *tls.Config, limit time.Duration, wake func(), done func(Session, error))
	// Part closes connections to a server, each when its last request has ended.
	Part(service, address string)
	// Retire has clients go elsewhere that came by listeners which keep says false to.
	Retire(keep func(listener uint32) bool)
	Close()
}

// Plain is a client of HTTP/2 without TLS. Its descriptor is registered with no loop.
type Plain struct {
	LoopID   int
	Listener uint32
	Peer     loop.Addr
	FD       int
	Said     []byte        // after the preface
	Idle     time.Duration // as for Serve
}

// SetHTTP2 must be called before the front starts.
func (p *Plane) SetHTTP2(h HTTP2) { p.http2 = h }

// Stranger has a client adopted by a loop, from anywhere. adopted is called there. It returns false if the loop has
// stopped.
func (p *Plane) Stranger(loopID int, s Stranger, adopted func(Ref)) bool {
	w := p.workers[loopID]
	return w.loop.Post(func() { adopted(w.adopt(s)) })
}

// Ref names a client to those who do not run on its loop.
type Ref struct {
	w     *worker
	token loop.Token
}

// Adopt takes a client into the plane. It must be called on the loop of that number (loop.Post); the client is read from
// at once. Another goroutine tells of news by Wake.
func (p *Plane) Adopt(loopID int, s Stranger) Ref { return p.workers[loopID].adopt(s) }

func (w *worker) adopt(s Stranger) Ref {
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

// Gone tells the client's loop that nobody is there any more: what was asked for is taken back.
func (r Ref) Gone() { r.w.loop.Post(func() { r.w.clientEvent(r.token, loop.Err) }) }

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
	return w.sessions[slot].Send(a, b)
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

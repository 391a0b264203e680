package web

import (
	"crypto/tls"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Session carries a client's bytes when they are not those of its descriptor. Its methods are called on the
// client's loop and must not block; they answer as the calls of package loop do: EAGAIN when there is nothing to
// read or no room to write, 0 bytes without an error for the peer's end of stream, any other error for a
// connection that is broken.
type Session interface {
	Recv(b []byte) (n int, err syscall.Errno)
	// Send takes of a and then b what it can; either may be empty.
	Send(a, b []byte) (n int, err syscall.Errno)
	// Event tells of an event at the descriptor, or by a Ref, before anything else is made of it.
	Event(ev loop.Events)
	// Shutdown ends what is sent to the client, after all that was sent before (close_notify).
	Shutdown()
	// Close ends the session. reset: in a way that the client cannot take for a regular end. A descriptor is
	// closed by the plane, afterwards.
	Close(reset bool)
}

// Unseen is what a server's Session says at the end of a request that the server has not looked at, and that cannot be sent
// to it again.
const Unseen = syscall.ESTALE

// Refuser is a client's Session that can say so.
type Refuser interface {
	// Refuse has Close tell the client that its request was not looked at, and can be asked anew.
	Refuse()
}

// Stranger is a client that comes by a Session.
type Stranger struct {
	Session  Session
	Listener uint32    // slot by which it came
	FD       int       // whose events the loop tells of; -1: a Ref tells of them
	Peer     loop.Addr // who it is
	HTTPS    bool
}

// HTTP2 serves clients that agreed upon h2 in their handshake or begin with its preface, and meets servers that speak it; package h2 does.
type HTTP2 interface {
	// Worker makes one loop's part, before that loop runs. adopt takes a stream into the plane, as a client of its own.
	Worker(l *loop.Loop, adopt func(Stranger) Ref) HTTP2Worker
	// Reach finds room for one request at a server of a service, within limit. secure says how it is spoken to in TLS, should a
	// connection have to be made; nil: without. done, called from any goroutine, gets what carries that request and its
	// answer, which the plane closes, or why there is none, in an operator's words. wake is called when it should be looked at again.
	Reach(service, address string, secure func() *tls.Config, limit time.Duration, wake func(), done func(Session, error))
	// Part closes connections to a server, each when its last request has ended.
	Part(service, address string)
	// Close ends the connections to servers.
	Close()
}

// HTTP2Worker is one loop's part of HTTP2. All its methods belong to the loop.
type HTTP2Worker interface {
	// Serve takes a client, with its session and its descriptor, which the loop no longer has registered. said is what it has
	// said so far, if something was read of it.
	Serve(s Stranger, said []byte, limits Limits)
	// Reload asks of each listener by which clients came for its limits; they go elsewhere when it is no more.
	Reload(limits func(listener uint32) (l Limits, ok bool))
	// Leave has all clients go elsewhere.
	Leave()
	// Len is the number of clients.
	Len() int
	// End ends all clients, whatever they wait for.
	End()
}

// Limits are how long a client may be at rest, and how long it may take over a request's head. 0: ever.
type Limits struct{ Idle, Head time.Duration }

// KindHTTP2 is the kind of the tokens of HTTP2Workers.
const KindHTTP2 = front.FirstKind + 60

// SetHTTP2 must be called before the front starts.
func (p *Plane) SetHTTP2(h HTTP2) {
	p.http2 = h
	for _, w := range p.workers {
		w.http2 = h.Worker(w.loop, w.adopt)
	}
}

// Ref names a client that was adopted to whoever carries its bytes, on its loop.
type Ref struct {
	w     *worker
	token loop.Token
}

// Event tells the plane of news: In, there is something to read, or an end; Out, there is room again; Err, nobody is there any
// more, and what was asked for is taken back at once. A client that has ended meanwhile hears of nothing.
func (r Ref) Event(ev loop.Events) { r.w.clientEvent(r.token, ev) }

// adopt takes a client into the plane, and reads from it at once: when it returns, the client may have ended.
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

// Package h2 is HTTP/2 in front: it runs connections that agreed upon h2 in their TLS handshake, or begin with its preface
// without TLS, on goroutines
// (golang.org/x/net/http2), and hands each stream to package web as a client of its own, whose bytes are HTTP/1.1.
//
//	a connection:  web -> Side.Serve -> http2.Server
//	a stream:      its request written as HTTP/1.1 -> web.Plane.Adopt -> the answer read as HTTP/1.1 -> the stream
//
// So routing, claims, hold, retries, limits and the access log are those of package web, and the next stream after a swap
// goes to the new side.
//
// Promises: between a stream and the plane wait at most 64 KiB in each direction. An answer cut short resets the stream.
// A listener that goes, and the end of the door, say GOAWAY; so does a connection that was at rest for as long as
// timeouts.idle. Of one connection at most 128 streams are open at once. One whose streams are mostly reset before their
// answer is ended; headers without an end are http2.Server's to bound.
//
// Servers that speak HTTP/2 are met here, too (servers.go): a request to one is an upstream of the plane for as long as it takes,
// and its bytes are HTTP/1.1 up to here. A connection to a sealed server closes with its last stream.
//
// Not promised: server push; CONNECT.
package h2

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
	"github.com/turnout-proxy/turnout/proxy/web"
)

const (
	maxStreams = 128
	// maxResets is how many streams of one connection its client may reset before their answer was whole; beyond it, and
	// if it resets most of them, it wants to keep servers busy with what it throws away.
	maxResets = 500
)

// Side serves the connections that speak HTTP/2. It implements web.HTTP2.
type Side struct {
	plane   *web.Plane
	servers servers
	running sync.WaitGroup

	mu     sync.Mutex
	slots  map[kind]*slot
	conns  map[net.Conn]struct{}
	closed bool
}

// kind is what connections of one slot have in common.
type kind struct {
	listener uint32
	idle     time.Duration
}

// slot serves what came by one listener; its Shutdown says GOAWAY to all of that.
type slot struct {
	base   *http.Server
	server *http2.Server
}

// client is one connection.
type client struct {
	net.Conn
	https    bool // else it has said its preface
	loopID   int
	listener uint32
	peer     loop.Addr

	streams, resets atomic.Int64
}

// reset counts a stream that the client broke off, and ends a connection that does little else.
func (c *client) reset() {
	if n := c.resets.Add(1); n > maxResets && 2*n > c.streams.Load() {
		_ = c.Close()
	}
}

// New makes the side of a plane.
func New(plane *web.Plane) *Side {
	s := &Side{plane: plane, slots: map[kind]*slot{}, conns: map[net.Conn]struct{}{}}
	s.servers.conns = map[place][]*serverConn{}
	s.servers.transport = http2.Transport{AllowHTTP: true, IdleConnTimeout: serverIdle, DisableCompression: true, MaxHeaderListSize: 64 << 10}
	plane.SetHTTP2(s)
	return s
}

func newSlot(idle time.Duration) *slot {
	l := &slot{
		base:   &http.Server{MaxHeaderBytes: 64 << 10, IdleTimeout: idle, ErrorLog: log.New(io.Discard, "", 0)},
		server: &http2.Server{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, IdleTimeout: idle, MaxUploadBufferPerStream: 256 << 10, MaxUploadBufferPerConnection: 1 << 20},
	}
	_ = http2.ConfigureServer(l.base, l.server) // fails for a TLS configuration only, and there is none
	return l
}

// Serve implements web.HTTP2: it takes the session off its loop.
func (s *Side) Serve(loopID int, listener uint32, peer loop.Addr, session *secure.Session, idle time.Duration) {
	if conn, err := session.Unbind(); err == nil {
		s.serve(conn, &client{Conn: conn, https: true, loopID: loopID, listener: listener, peer: peer}, idle)
	}
}

// ServePlain implements web.HTTP2.
func (s *Side) ServePlain(p web.Plain) {
	f := os.NewFile(uintptr(p.FD), "client")
	conn, err := net.FileConn(f) // with a descriptor of its own
	if _ = f.Close(); err == nil {
		said := &begun{conn, p.Said}
		s.serve(said, &client{Conn: said, loopID: p.LoopID, listener: p.Listener, peer: p.Peer}, p.Idle)
	}
}

// begun is a connection of which some was read before.
type begun struct {
	net.Conn
	said []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.said) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.said)
	b.said = b.said[n:]
	return n, nil
}

func (s *Side) serve(conn net.Conn, c *client, idle time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return
	}
	l := s.slots[kind{c.listener, idle}]
	if l == nil {
		l = newSlot(idle)
		s.slots[kind{c.listener, idle}] = l
	}
	s.conns[conn] = struct{}{}
	s.running.Go(func() { // ends with the connection
		l.server.ServeConn(conn, &http2.ServeConnOpts{BaseConfig: l.base, SawClientPreface: !c.https, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.stream(w, r, c)
		})})
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	})
}

// Retire implements web.HTTP2: clients that came by listeners which keep says false to are told to go elsewhere.
func (s *Side) Retire(keep func(listener uint32) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.slots {
		if !keep(k.listener) {
			delete(s.slots, k)
			done, cancel := context.WithCancel(context.Background())
			cancel() // nothing is waited for
			_ = l.base.Shutdown(done)
		}
	}
}

// Close implements web.HTTP2: every connection is ended.
func (s *Side) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.servers.close()
	s.running.Wait()
}

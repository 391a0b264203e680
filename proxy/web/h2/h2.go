// Package h2 is HTTP/2: in front, on the loops, and to servers that speak it, on goroutines.
//
//	a connection:  web (ALPN, or the preface without TLS) -> worker.Serve -> conn: frames in, frames out                conn.go, receive.go, frame.go
//	a stream:      its head written as HTTP/1.1 -> web's plane adopts it as a client      head.go, stream.go
//	               -> what the plane says in HTTP/1.1 becomes HEADERS and DATA            answer.go
//
// So routing, claims, hold, retries, limits and the access log are those of package web, and the next stream after a swap
// goes to the new side. A connection and its streams belong to the loop that accepted it: no lock, no goroutine. What
// streams say in one round of the loop leaves in one piece.
//
// The framing is our own (RFC 9113), and so is writing heads, without a dynamic table; reading them is hpack's
// (golang.org/x/net/http2/hpack).
//
// Promises: of a stream wait at most 256 KiB of its request, of a connection 1 MiB; of answers 64 KiB a connection, and a block
// for each stream that is waited for. An answer cut short resets its stream. A listener that goes, and the end of the door, say GOAWAY, and so does
// the end of a connection that was at rest for as long as timeouts.idle. Of one connection at most 128 streams are open
// at once. One is ended whose client breaks a rule of the connection, takes longer over a head than
// timeouts.request_header, resets most of what it asks for, or has the door say more than it reads.
//
// Servers that speak HTTP/2 are met here, too (servers.go): a request to one is an upstream of the plane for as long as it takes,
// and its bytes are HTTP/1.1 up to here. A connection to a sealed server closes with its last stream.
//
// Not promised: server push; priorities; CONNECT, and so WebSocket over HTTP/2 (RFC 8441).
package h2

//lint:file-ignore SA1019 what replaces http2.Transport, http.Transport.NewClientConn, is new in Go 1.26

import (
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// Side implements web.HTTP2.
type Side struct {
	servers servers
	running sync.WaitGroup // requests to servers
}

// New makes the side of a plane.
func New(plane *web.Plane) *Side {
	s := &Side{}
	s.servers.conns = map[place][]*serverConn{}
	s.servers.transport = http2.Transport{AllowHTTP: true, ConnPool: again{}, IdleConnTimeout: serverIdle, DisableCompression: true, MaxHeaderListSize: 64 << 10}
	plane.SetHTTP2(s)
	return s
}

// Close implements web.HTTP2.
func (s *Side) Close() {
	s.servers.close()
	s.running.Wait()
}

// Worker implements web.HTTP2.
func (s *Side) Worker(l *loop.Loop, adopt func(web.Stranger) web.Ref) web.HTTP2Worker {
	w := &worker{loop: l, adopt: adopt, answer: h1.NewResponse(h1.Limits{Head: 64 << 10, Fields: 512}), trailer: h1.NewTrailer(h1.Limits{})}
	w.timers = l.NewWheel(w.timer)
	l.Handle(web.KindHTTP2, w.event)
	return w
}

// worker is one loop's part. Everything in it belongs to the loop.
type worker struct {
	loop   *loop.Loop
	adopt  func(web.Stranger) web.Ref
	conns  loop.Slab[*conn]
	timers *loop.Wheel

	buf     []byte // what clients say is read into; made with the first of them
	head    head   // of the request that is read at the moment
	answer  *h1.Response
	trailer *h1.Trailer
	block   []byte    // a head is written in; len 0
	outs    [][]byte  // buffers for what waits to be sent; len 0
	streams []*stream // used again
}

// Serve implements web.HTTP2Worker.
func (w *worker) Serve(s web.Stranger, said []byte, limits web.Limits) {
	if w.buf == nil {
		w.buf, w.block = make([]byte, readSize), make([]byte, 0, 4<<10)
	}
	slot, p := w.conns.Alloc()
	c := newConn(w, slot, s, limits)
	*p = c
	if err := w.loop.Add(s.FD, c.token()); err != nil {
		c.close()
		return
	}
	c.greet()
	c.turning, c.readable = true, true
	c.keep(c.take(said))
	w.turn(c)
}

// Reload implements web.HTTP2Worker.
func (w *worker) Reload(limits func(listener uint32) (web.Limits, bool)) {
	w.conns.All(func(_ uint32, p **conn) bool {
		c := *p
		if l, ok := limits(c.from.Listener); ok {
			c.limits = l
		} else {
			c.goAway()
		}
		w.turn(c)
		return true
	})
}

// Leave implements web.HTTP2Worker.
func (w *worker) Leave() {
	w.conns.All(func(_ uint32, p **conn) bool {
		(*p).goAway()
		w.turn(*p)
		return true
	})
}

// Len implements web.HTTP2Worker.
func (w *worker) Len() int { return w.conns.Len() }

// End implements web.HTTP2Worker.
func (w *worker) End() {
	w.conns.All(func(_ uint32, p **conn) bool {
		(*p).close()
		return true
	})
}

// event is where each event of a connection comes in; none at all means: go on.
func (w *worker) event(t loop.Token, ev loop.Events) {
	if !w.conns.Check(t.Slot(), t.Gen()) {
		return // ended earlier in this batch
	}
	c := *w.conns.Get(t.Slot())
	if ev == 0 {
		c.due = false
	} else {
		c.from.Session.Event(ev)
	}
	if ev&loop.Err != 0 {
		c.close()
		return
	}
	if ev&(loop.In|loop.RDHUP|loop.Hup) != 0 {
		c.readable = true
	}
	w.turn(c)
}

// turn is everything that there is to do for a connection now.
func (w *worker) turn(c *conn) {
	if c.read() && c.flush() {
		c.settle()
	}
}

// timer is where each timer of a connection comes in.
func (w *worker) timer(slot uint32) {
	c := *w.conns.Get(slot)
	c.armed = 0
	if c.until != 0 && w.loop.Now() >= c.until {
		if c.late() {
			w.turn(c)
		}
		return
	}
	c.deadline(c.until)
}

// lendOut lends a buffer for what is to be sent.
func (w *worker) lendOut() []byte {
	if n := len(w.outs); n > 0 {
		b := w.outs[n-1]
		w.outs = w.outs[:n-1]
		return b
	}
	return make([]byte, 0, 16<<10)
}

// keptOuts is how many buffers are kept, of those that did not grow for once.
const keptOuts = 64

func (w *worker) giveOut(b []byte) {
	if len(w.outs) < keptOuts && cap(b) > 0 && cap(b) <= 2*outSize {
		w.outs = append(w.outs, b[:0])
	}
}

func newDecoder(emit func(hpack.HeaderField)) *hpack.Decoder {
	d := hpack.NewDecoder(tableSize, emit)
	d.SetMaxStringLength(maxBlock)
	return d
}

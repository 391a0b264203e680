package h2

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// stream is one request and its answer. It implements web.Session for the plane, which has it from adopt to Close: that is
// how long it lives.
type stream struct {
	c      *conn
	id     uint32
	plane  web.Ref
	gone   bool // the client has reset it, or it was reset here, or the connection is over
	closed bool // the plane has forgotten it

	// The request.
	in       []byte // in HTTP/1.1, from off on
	off      int
	unread   int   // bytes of its body in there
	length   int64 // of its body, what is missing of it; -1: it goes in chunks
	received window
	ended    bool // the client has said all
	over     bool // the plane has
	refused  bool // nobody has looked at it

	// The answer.
	info     h1.Info // of the request
	said     said
	body     h1.Body
	progress h1.Progress
	part     []byte // of a head, or of trailers, not whole
	window   int    // what may be sent
	stuck    bool   // there is more to send than there was room for
	queued   bool   // in conn.waiting
}

// said is how much of the answer was sent.
type said uint8

const (
	nothing said = iota // interim answers at most
	begun               // its head
	ended               // all
)

// newStream makes a stream of the head that was read.
func (w *worker) newStream(c *conn, id uint32, last bool) *stream {
	var s *stream
	if n := len(w.streams); n > 0 {
		s = w.streams[n-1]
		w.streams = w.streams[:n-1]
	} else {
		s = &stream{}
	}
	h := &w.head
	*s = stream{c: c, id: id, in: append(s.in[:0], h.out...), part: s.part[:0], ended: last, length: -1, window: c.first,
		info: h1.Info{Minor: 1}, received: window{left: streamWindow, size: streamWindow}}
	if h.sized {
		s.length = h.length
	}
	if h.method == "HEAD" {
		s.info.Method = h1.MethodHead
	}
	return s
}

// Refuse implements web.Refuser.
func (s *stream) Refuse() { s.refused = true }

// keptStreams is how many streams are kept to be used again.
const keptStreams = 256

// Close implements web.Session.
func (s *stream) Close(bool) {
	c := s.c
	s.over, s.closed = true, true
	switch {
	case s.gone:
	case s.said != ended:
		why := codeInternal
		if s.refused { // RFC 9113 8.7
			why = codeRefused
		}
		c.ignore(s.id)
		c.say(appendReset(c.begin(), s.id, why))
	case !s.ended: // what is missing of the request is not wanted: RFC 9113 8.1
		c.ignore(s.id)
		c.say(appendReset(c.begin(), s.id, codeNone))
	}
	delete(c.streams, s.id)
	if s.queued {
		for i, q := range c.waiting {
			if q == s {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				break
			}
		}
	}
	if !c.over {
		c.credit(s.unread)
	}
	if len(c.streams) == 0 {
		c.rest = c.w.loop.Now()
		c.schedule() // its deadline begins
	}
	if len(c.w.streams) < keptStreams && cap(s.in) <= 16<<10 && cap(s.part) <= 16<<10 {
		c.w.streams = append(c.w.streams, s)
	}
}

// leave ends the stream: the plane forgets it at once.
func (s *stream) leave() {
	s.gone = true
	s.plane.Event(loop.Err)
}

// more has the plane go on with an answer for which there was no room.
func (s *stream) more() {
	if s.stuck && s.open() {
		s.plane.Event(loop.Out)
	}
}

// open tells whether the stream's own window lets it say what is next: a head needs none.
func (s *stream) open() bool { return s.window > 0 || s.said == nothing }

// Event implements web.Session.
func (s *stream) Event(loop.Events) {}

// Recv implements web.Session.
func (s *stream) Recv(b []byte) (int, syscall.Errno) {
	left := len(s.in) - s.off
	switch {
	case s.gone:
		return 0, syscall.ECONNRESET
	case left == 0 && s.over:
		return 0, 0 // nothing else is wanted
	case left == 0:
		return 0, syscall.EAGAIN
	}
	n := copy(b, s.in[s.off:])
	if s.off += n; s.off == len(s.in) {
		s.in, s.off = s.in[:0], 0
	}
	if s.unread > 0 {
		k := s.unread // with what is around it (chunks), what was read is more than that
		if s.off > 0 {
			k = min(k, n)
		}
		s.unread -= k
		s.c.credit(k)
		s.creditOwn(k)
	}
	return n, 0
}

// creditOwn gives back what was taken off the stream's window.
func (s *stream) creditOwn(n int) {
	if s.ended {
		return
	}
	if grown := s.received.give(n); grown > 0 {
		s.c.say(appendWindow(s.c.begin(), s.id, grown))
	}
}

// request takes more of the request's body, and its end, with trailers if there are any.
func (s *stream) request(body, trailers []byte, last bool) {
	if s.length >= 0 {
		if s.length -= int64(len(body)); s.length < 0 || last && s.length > 0 { // RFC 9113 8.1.1
			s.unread += len(body)
			s.c.reset(s, codeProtocol)
			return
		}
		s.in = append(s.in, body...)
	} else {
		if len(body) > 0 {
			s.in = append(append(h1.AppendChunkSize(s.in, uint64(len(body))), body...), "\r\n"...)
		}
		if last {
			s.in = append(append(append(s.in, "0\r\n"...), trailers...), "\r\n"...)
		}
	}
	s.unread += len(body)
	s.ended = last
	s.plane.Event(loop.In)
}

// Send implements web.Session.
func (s *stream) Send(a, b []byte) (int, syscall.Errno) {
	if s.gone {
		return 0, syscall.EPIPE
	}
	s.stuck = false
	n, err := s.answer(a)
	if n == len(a) && err == 0 {
		var m int
		m, err = s.answer(b)
		n += m
	}
	switch {
	case err != 0:
		return 0, err
	case n == len(a)+len(b):
		return n, 0
	}
	if s.stuck = true; s.open() && !s.queued {
		s.queued = true
		s.c.waiting = append(s.c.waiting, s)
	}
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	return n, 0
}

// Shutdown implements web.Session.
func (s *stream) Shutdown() {
	s.over = true
	if s.said == begun && !s.gone && s.body.AtEOF() == h1.ErrNone { // the end of the connection is that of the answer
		s.c.data(s, nil, true)
	}
}

package h2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web"
)

// most is how many bytes wait in each direction.
const most = 64 << 10

// pipe is what lies between a stream's goroutines and the plane. It implements web.Session for the plane.
type pipe struct {
	mu      sync.Mutex
	changed sync.Cond
	in, out []byte // the request, the answer
	full    bool   // the plane was told that out has no room
	over    bool   // the plane has said all, or is done with it
	broken  bool   // and not in order
	gone    bool   // the stream is over
	adopted bool   // the plane has it
	closed  bool   // the plane has forgotten it
	plane   web.Ref
}

var errGone = errors.New("the stream is over")

func newPipe() *pipe {
	p := &pipe{}
	p.changed.L = &p.mu
	return p
}

// Recv implements web.Session.
func (p *pipe) Recv(b []byte) (int, syscall.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return 0, syscall.ECONNRESET
	case len(p.in) == 0 && p.over:
		return 0, 0 // nothing else is wanted
	case len(p.in) == 0:
		return 0, syscall.EAGAIN
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	p.changed.Broadcast()
	return n, 0
}

// Send implements web.Session.
func (p *pipe) Send(a, b []byte) (int, syscall.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0, syscall.EPIPE
	}
	var n int
	p.out, n, p.full = take(p.out, a, b)
	if n == 0 && p.full {
		return 0, syscall.EAGAIN
	}
	p.changed.Broadcast()
	return n, 0
}

// take appends as much of a and b to out as it has room for, and tells how much that was, and whether there was too little room.
func take(out, a, b []byte) (grown []byte, n int, full bool) {
	room := max(0, most-len(out))
	wanted := len(a) + len(b)
	a = a[:min(len(a), room)]
	b = b[:min(len(b), room-len(a))]
	n = len(a) + len(b)
	return append(append(out, a...), b...), n, n < wanted || room == 0
}

// Event implements web.Session.
func (p *pipe) Event(loop.Events) {}

// Shutdown implements web.Session.
func (p *pipe) Shutdown() { p.end(false) }

// Close implements web.Session.
func (p *pipe) Close(reset bool) {
	p.end(reset)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}

func (p *pipe) end(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = p.broken || broken && !p.over
	p.over = true
	p.changed.Broadcast()
}

// leave is the end of the stream.
func (p *pipe) leave() {
	p.mu.Lock()
	tell := p.adopted && !p.gone && !p.closed
	p.gone = true
	p.changed.Broadcast()
	p.mu.Unlock()
	if tell {
		p.plane.Gone()
	}
}

// adopt is called when the plane has it.
func (p *pipe) adopt(r web.Ref) {
	p.mu.Lock()
	p.plane, p.adopted = r, true
	gone, more := p.gone && !p.closed, len(p.in) > 0
	p.mu.Unlock()
	switch {
	case gone:
		r.Gone()
	case more:
		r.Wake() // it was written since it was first read
	}
}

// ready tells whether there is something to Read, be it the end.
func (p *pipe) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.out) > 0 || p.gone || p.over
}

// Write gives the plane bytes of the request.
func (p *pipe) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		p.mu.Lock()
		for len(p.in) >= most && !p.gone && !p.over {
			p.changed.Wait()
		}
		if p.gone || p.over {
			p.mu.Unlock()
			return n, errGone
		}
		k := min(len(b)-n, most-len(p.in))
		p.in = append(p.in, b[n:n+k]...)
		n += k
		tell := p.adopted
		p.mu.Unlock()
		if tell {
			p.plane.Wake()
		}
	}
	return len(b), nil
}

// Read takes bytes of the answer.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	for len(p.out) == 0 && !p.gone && !p.over {
		p.changed.Wait()
	}
	var err error
	n := copy(b, p.out)
	switch {
	case n > 0:
	case p.gone:
		err = errGone
	case p.broken:
		err = io.ErrUnexpectedEOF
	default:
		err = io.EOF
	}
	if p.out = p.out[n:]; len(p.out) == 0 {
		p.out = nil
	}
	tell := p.adopted && p.full && n > 0
	p.full = false
	p.mu.Unlock()
	if tell {
		p.plane.Wake()
	}
	return n, err
}

// stream carries one request and its answer.
func (s *Side) stream(w http.ResponseWriter, r *http.Request, c *client) {
	c.streams.Add(1)
	if r.Method == http.MethodConnect {
		http.Error(w, "CONNECT is not carried", http.StatusNotImplemented)
		return
	}
	p := newPipe()
	defer p.leave()
	stop := afterDone(r, p)
	defer stop()
	p.in = requestHead(r)
	if !s.plane.Stranger(c.loopID, web.Stranger{Session: p, Listener: c.listener, FD: -1, Peer: c.peer, HTTPS: c.https}, p.adopt) {
		panic(http.ErrAbortHandler)
	}
	var sent sync.WaitGroup
	if r.ContentLength != 0 {
		sent.Go(func() { upload(p, r) }) // ends with the body, or with the stream
	}
	ok := answer(w, r, p)
	p.leave()
	_ = r.Body.Close()
	sent.Wait()
	if !ok {
		if r.Context().Err() != nil {
			c.reset()
		}
		panic(http.ErrAbortHandler) // RST_STREAM
	}
}

// requestHead is the request in HTTP/1.1. http2 has checked its fields; the plane checks them again.
func requestHead(r *http.Request) []byte {
	b := make([]byte, 0, 512)
	b = append(append(append(b, r.Method...), ' '), r.RequestURI...)
	b = appendField(append(b, " HTTP/1.1\r\n"...), "Host", r.Host)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Te", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection":
			continue // RFC 9113 8.2.2, and framing of our own
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	switch {
	case r.ContentLength > 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10), "\r\n"...)
	case r.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "Connection: close\r\n\r\n"...)
}

func appendField(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

// What streams read into, used again.
var (
	buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
)

// upload carries the request's body. A client that breaks it off ends the stream, and so the request.
func upload(p *pipe, r *http.Request) {
	block := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(block)
	buf := block[:16<<10]
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			var werr error
			if r.ContentLength > 0 {
				_, werr = p.Write(buf[:n])
			} else {
				_, werr = fmt.Fprintf(p, "%x\r\n%s\r\n", n, buf[:n])
			}
			if werr != nil {
				return // answered early
			}
		}
		switch {
		case err == io.EOF && r.ContentLength < 0:
			var b strings.Builder
			b.WriteString("0\r\n")
			for name, values := range r.Trailer {
				for _, v := range values {
					fmt.Fprintf(&b, "%s: %s\r\n", name, v)
				}
			}
			_, _ = io.WriteString(p, b.String()+"\r\n")
			return
		case err == io.EOF:
			return
		case err != nil:
			p.leave()
			return
		}
	}
}

// answer carries the answer. False: it was cut short.
func answer(w http.ResponseWriter, r *http.Request, p *pipe) bool {
	br := readers.Get().(*bufio.Reader)
	br.Reset(p)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	for {
		res, err := http.ReadResponse(br, r)
		if err != nil {
			return false
		}
		h := w.Header()
		for name := range h {
			delete(h, name)
		}
		for name, values := range res.Header {
			switch name {
			case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer":
				continue // RFC 9113 8.2.2
			}
			h[name] = values
		}
		if res.StatusCode < 200 {
			w.WriteHeader(res.StatusCode)
			continue
		}
		w.WriteHeader(res.StatusCode)
		return body(w, res, func() bool { return br.Buffered() > 0 || p.ready() })
	}
}

// body carries the answer's body. What is there is sent before more is waited for; more tells whether it need not be.
func body(w http.ResponseWriter, res *http.Response, more func() bool) bool {
	flush := http.NewResponseController(w).Flush
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		if res.ContentLength != 0 && !more() && flush() != nil {
			return false
		}
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return false
			}
		}
		switch {
		case err == io.EOF:
			for name, values := range res.Trailer {
				w.Header()[http.TrailerPrefix+name] = values
			}
			return true
		case err != nil:
			_ = flush() // what there was of it is right, and of use
			return false
		}
	}
}

// afterDone ends the pipe when the client has reset the stream or the connection is gone.
func afterDone(r *http.Request, p *pipe) (stop func() bool) {
	return context.AfterFunc(r.Context(), p.leave)
}

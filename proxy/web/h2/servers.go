package h2

//lint:file-ignore SA1019 what replaces http2.Transport, http.Transport.NewClientConn, is new in Go 1.26

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
	"github.com/turnout-proxy/turnout/proxy/web"
)

// serverIdle is how long a connection to a server is kept without a stream.
const serverIdle = 30 * time.Second

// servers are the connections to servers that speak HTTP/2.
type servers struct {
	transport http2.Transport
	mu        sync.Mutex
	conns     map[place][]*serverConn
	parts     uint64 // how often one was parted
}

// place is a server of a service. Of another service the same address is another place: it may have to prove something else.
type place struct{ service, address string }

// serverConn is one of them. But for scheme its fields belong to servers.mu.
type serverConn struct {
	*http2.ClientConn
	scheme string
	uses   int  // streams that are open on it, or will be
	parted bool // nobody takes it any more: it is closed with its last use
}

// take finds a connection that has room for one more stream, and reserves that, or makes one.
func (s *servers) take(ctx context.Context, at place, config func() *tls.Config) (*serverConn, error) {
	c, parts := s.reserve(at)
	if c != nil {
		return c, nil
	}
	cc, err := s.open(ctx, at.address, config)
	for again := 1; again < opens && errors.Is(err, errLeaves) && ctx.Err() == nil; again++ {
		cc, err = s.open(ctx, at.address, config)
	}
	if err != nil {
		return nil, err
	}
	c = &serverConn{ClientConn: cc, scheme: "http", uses: 1}
	if config != nil {
		c.scheme = "https"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conns == nil: // the door ends
		_ = cc.Close()
		return nil, net.ErrClosed
	case s.parts != parts: // it may have been this one that was parted while it was dialled
		c.parted = true
	default:
		s.conns[at] = append(s.conns[at], c)
	}
	return c, nil
}

// opens is how many connections in a row may be ended by their server before they were used: one that renews them (GOAWAY)
// may do so to a new one, if that comes late.
const opens = 3

var errLeaves = errors.New("connect: the server ends each connection at once (GOAWAY)")

// open connects to a server, with room for one stream reserved. It waits until the server has said how many it has room for,
// and so that it speaks HTTP/2 at all: its settings come before its answer to a ping.
func (s *servers) open(ctx context.Context, address string, config func() *tls.Config) (*http2.ClientConn, error) {
	conn, err := dial(ctx, address, config)
	if err != nil {
		return nil, err
	}
	cc, err := s.transport.NewClientConn(conn)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	err = cc.Ping(ctx)
	switch {
	case err == nil && cc.ReserveNewRequest():
		return cc, nil
	case cc.State().Closing || err == nil:
		err = errLeaves
	case ctx.Err() != nil:
		err = errors.New("connect: the server does not speak HTTP/2: it says nothing")
	default:
		err = fmt.Errorf("connect: the server does not speak HTTP/2: %w", err)
	}
	_ = cc.Close()
	return nil, err
}

// dial connects, and agrees upon h2 if it is to be in TLS. Its errors are in an operator's words.
func dial(ctx context.Context, address string, config func() *tls.Config) (net.Conn, error) {
	network, to := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, to = "unix", path
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, to)
	var sys *os.SyscallError
	switch {
	case errors.As(err, &sys):
		return nil, sys
	case err != nil:
		return nil, fmt.Errorf("connect: %w", err)
	case config == nil:
		return conn, nil
	}
	c := config()
	if c == nil {
		_ = conn.Close()
		return nil, errors.New("tls: the door was not told how to speak it")
	}
	c.NextProtos = []string{http2.NextProtoTLS}
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, errors.New(secure.Words(err, http2.NextProtoTLS))
	}
	if secured.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS { // RFC 9113 3.2
		_ = conn.Close()
		return nil, errors.New(secure.NoProtocol(http2.NextProtoTLS))
	}
	return secured, nil
}

func (s *servers) reserve(at place) (found *serverConn, parts uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.conns[at]
	live := all[:0]
	for _, c := range all {
		if st := c.State(); st.Closed || st.Closing {
			continue
		}
		live = append(live, c)
		if found == nil && c.ReserveNewRequest() {
			found = c
			c.uses++
		}
	}
	clear(all[len(live):])
	switch {
	case len(live) > 0:
		s.conns[at] = live
	case len(all) > 0:
		delete(s.conns, at)
	}
	return found, s.parts
}

// done gives a use back.
func (s *servers) done(c *serverConn) {
	s.mu.Lock()
	c.uses--
	last := c.parted && c.uses == 0
	s.mu.Unlock()
	if last {
		_ = c.Close()
	}
}

func (s *servers) isParted(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.parted
}

// part closes connections to a server, each with its last use.
func (s *servers) part(at place) {
	s.mu.Lock()
	s.parts++
	all := s.conns[at]
	delete(s.conns, at)
	var unused []*serverConn
	for _, c := range all {
		if c.parted = true; c.uses == 0 {
			unused = append(unused, c)
		}
	}
	s.mu.Unlock()
	for _, c := range unused {
		go func() { _ = c.Close() }() // ends at once; not on the loop that asks
	}
}

func (s *servers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range s.conns {
		for _, cc := range all {
			_ = cc.Close()
		}
	}
	s.conns = nil
}

// Reach implements web.HTTP2.
func (s *Side) Reach(service, address string, config func() *tls.Config, limit time.Duration, wake func(), done func(web.Session, error)) {
	s.running.Go(func() { // ends with the stream
		ctx, cancel := context.WithTimeout(context.Background(), limit-limit/16) // what it finds comes before the plane gives up
		a := &attempts{servers: &s.servers, at: place{service, address}, config: config, limit: limit}
		var err error
		a.conn, err = s.servers.take(ctx, a.at, config)
		cancel()
		if err != nil {
			done(nil, err)
			return
		}
		defer func() { s.servers.done(a.conn) }()
		x := newExchange(wake)
		defer x.cancel()
		done(x, nil)
		x.run(a)
	})
}

// Part implements web.HTTP2.
func (s *Side) Part(service, address string) { s.servers.part(place{service, address}) }

// exchange is one request to a server and its answer. The plane writes and reads HTTP/1.1 by it, as with any server.
type exchange struct {
	ctx    context.Context // done when the plane is done with it
	cancel context.CancelFunc
	wake   func() // has the plane look again

	mu               sync.Mutex
	changed          sync.Cond
	request, answer  []byte
	full             bool // the plane was told that request has no room
	closed           bool // the plane is done with it
	finished, failed bool // the answer is complete, or will never be
	unseen           bool // failed: the server has not looked at the request
}

func newExchange(wake func()) *exchange {
	x := &exchange{wake: wake}
	x.changed.L = &x.mu
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// Recv implements web.Session.
func (x *exchange) Recv(b []byte) (int, syscall.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case len(x.answer) > 0:
		n := copy(b, x.answer)
		x.answer = x.answer[n:]
		x.changed.Broadcast()
		return n, 0
	case x.unseen:
		return 0, web.Unseen
	case x.failed:
		return 0, syscall.ECONNRESET
	case x.finished:
		return 0, 0
	}
	return 0, syscall.EAGAIN
}

// Send implements web.Session.
func (x *exchange) Send(a, b []byte) (int, syscall.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.finished || x.failed {
		return 0, syscall.EPIPE
	}
	var n int
	x.request, n, x.full = take(x.request, a, b)
	if n == 0 && x.full {
		return 0, syscall.EAGAIN
	}
	x.changed.Broadcast()
	return n, 0
}

// Event implements web.Session.
func (x *exchange) Event(loop.Events) {}

// Shutdown implements web.Session. A request says by itself where it ends.
func (x *exchange) Shutdown() {}

// Close implements web.Session.
func (x *exchange) Close(bool) {
	x.cancel()
	x.mu.Lock()
	x.closed = true
	x.changed.Broadcast()
	x.mu.Unlock()
}

// Read takes bytes of the request.
func (x *exchange) Read(b []byte) (int, error) {
	x.mu.Lock()
	for len(x.request) == 0 && !x.closed {
		x.changed.Wait()
	}
	n := copy(b, x.request)
	if x.request = x.request[n:]; len(x.request) == 0 {
		x.request = nil
	}
	tell := x.full && n > 0
	x.full = x.full && !tell
	x.mu.Unlock()
	if tell {
		x.wake()
	}
	if n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// Write gives the plane bytes of the answer.
func (x *exchange) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		x.mu.Lock()
		for len(x.answer) >= most && !x.closed {
			x.changed.Wait()
		}
		if x.closed {
			x.mu.Unlock()
			return n, errGone
		}
		k := min(len(b)-n, most-len(x.answer))
		x.answer = append(x.answer, b[n:n+k]...)
		n += k
		x.mu.Unlock()
		x.wake()
	}
	return len(b), nil
}

// end is the end of the answer.
func (x *exchange) end(ok bool) {
	x.mu.Lock()
	x.finished, x.failed = ok, !ok
	x.mu.Unlock()
	x.wake()
}

// run carries the request and the answer. What goes wrong shows as a connection that breaks.
func (x *exchange) run(a *attempts) {
	r, err := http.ReadRequest(bufio.NewReader(x))
	if err != nil { // the plane did not send it after all
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		if r, rerr := http.NewRequestWithContext(gone, http.MethodGet, "http://"+placeholder, nil); rerr == nil {
			_, _ = a.conn.RoundTrip(r) //nolint:bodyclose // there is none: this only gives back what was reserved
		}
		x.end(false)
		return
	}
	r = r.WithContext(context.WithValue(x.ctx, attemptsKey{}, a))
	r.URL.Scheme, r.URL.Host, r.RequestURI = a.conn.scheme, placeholder, ""
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Expect"} { // RFC 9113 8.2.2
		r.Header.Del(name)
	}
	r.Header.Set("Te", "trailers") // the door carries them; gRPC asks for this
	body := newUpload(r.Body)
	if r.ContentLength == 0 {
		r.Body = http.NoBody
	} else {
		r.GetBody = body.reader
		r.Body, _ = body.reader()
	}
	res, err := a.servers.transport.RoundTrip(r)
	if err != nil {
		x.mu.Lock()
		x.unseen = errors.Is(err, errSealed) || errors.Is(err, errTooMuch)
		x.mu.Unlock()
		x.end(false)
		return
	}
	body.settled()
	defer res.Body.Close() //nolint:errcheck // it was read to its end, or is given up
	x.end(x.carry(res, r.Method == http.MethodHead) == nil)
}

// placeholder is the host of requests whose Host is set: it goes nowhere.
const placeholder = "server.invalid"

// carry writes the answer in HTTP/1.1.
func (x *exchange) carry(res *http.Response, head bool) error {
	b := make([]byte, 0, 512)
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(res.StatusCode), 10)
	b = append(append(append(b, ' '), http.StatusText(res.StatusCode)...), "\r\n"...)
	for name, values := range res.Header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Trailer":
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	chunked := false
	switch bodiless := head || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified; {
	case res.ContentLength >= 0 && res.StatusCode != http.StatusNoContent && (!bodiless || res.Header.Get("Content-Length") != ""):
		b = appendField(b, "Content-Length", strconv.FormatInt(res.ContentLength, 10))
	case !bodiless:
		chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if _, err := x.Write(append(b, "Connection: close\r\n\r\n"...)); err != nil {
		return err
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	const room = 16 // for a chunk's size before it, and its end after it
	for {
		n, err := res.Body.Read(buf[room : len(buf)-room])
		if n > 0 {
			piece := buf[room : room+n]
			if chunked {
				size := append(strconv.AppendInt(buf[:0:room], int64(n), 16), "\r\n"...)
				copy(buf[room-len(size):room], size)
				piece = append(buf[room-len(size):room+n:len(buf)], "\r\n"...)
			}
			if _, werr := x.Write(piece); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF && chunked:
			last := append(b[:0], "0\r\n"...)
			for name, values := range res.Trailer {
				for _, v := range values {
					last = appendField(last, name, v)
				}
			}
			_, err = x.Write(append(last, "\r\n"...))
			return err
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

package h2

//lint:file-ignore SA1019 see servers.go

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// again gives a request's attempts their connections. It is the transport's pool: that one knows which errors mean
// that the server has not looked at a stream (RFC 9113 8.7), and then asks for another connection.
type again struct{}

// attempts is what a request's context has for it.
type attempts struct {
	servers *servers
	at      place
	config  func() *tls.Config
	limit   time.Duration // of a dial
	conn    *serverConn   // of the attempt under way
	tried   bool          // conn was given to one
}

type attemptsKey struct{}

// Why a request that the server has not looked at is not sent again.
var (
	errSealed  = errors.New("the server gets no new work")
	errTooMuch = errors.New("too much of the body is on its way")
)

// GetClientConn implements http2.ClientConnPool.
func (again) GetClientConn(r *http.Request, _ string) (*http2.ClientConn, error) {
	a := r.Context().Value(attemptsKey{}).(*attempts)
	if !a.tried {
		a.tried = true
		return a.conn.ClientConn, nil
	}
	if a.servers.isParted(a.conn) { // it must not look as if the request had begun after the swap
		return nil, errSealed
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.limit)
	defer cancel()
	c, err := a.servers.take(ctx, a.at, a.config)
	if err != nil {
		return nil, err
	}
	a.servers.done(a.conn)
	a.conn = c
	return c.ClientConn, nil
}

// MarkDead implements http2.ClientConnPool. Those that are broken are left out by servers.reserve.
func (again) MarkDead(*http2.ClientConn) {}

// upload is the body of a request, which may have to be sent from its beginning again. What is read of it is kept for
// that, up to most bytes. Whoever gives up waiting for bytes leaves nothing broken for the next.
type upload struct {
	src io.Reader

	mu       sync.Mutex
	changed  sync.Cond
	kept     []byte // from from on
	from     int    // not 0: the beginning is gone
	answered bool   // there is an answer: nobody will want the beginning
	reading  bool   // a goroutine waits for bytes of src
	err      error  // of src, after kept
}

func newUpload(src io.Reader) *upload {
	u := &upload{src: src}
	u.changed.L = &u.mu
	return u
}

// reader reads the body from its beginning.
func (u *upload) reader() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.from > 0 {
		return nil, errTooMuch
	}
	return &uploadReader{upload: u}, nil
}

// settled says that there is an answer.
func (u *upload) settled() {
	u.mu.Lock()
	u.answered = true
	u.mu.Unlock()
}

type uploadReader struct {
	*upload
	off    int
	closed bool
}

func (r *uploadReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closed {
		if at := r.off - r.from; at < len(r.kept) {
			n := copy(b, r.kept[at:])
			r.off += n
			if r.answered || r.off > most {
				r.kept, r.from = r.kept[at+n:], r.off
			}
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		if !r.reading {
			r.reading = true
			go r.fill() // ends with bytes of the client, or its request
		}
		r.changed.Wait()
	}
	return 0, errGone
}

// Close ends a Read that waits.
func (r *uploadReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.changed.Broadcast()
	return nil
}

func (u *upload) fill() {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	n, err := u.src.Read(buf[:])
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.kept) == 0 {
		u.kept = nil // its room is behind it
	}
	u.kept = append(u.kept, buf[:n]...)
	u.reading, u.err = false, err
	u.changed.Broadcast()
}

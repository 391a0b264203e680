package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// MaxPlain is the most that should be given to Write at once: what becomes of it fits in a block of
// loop.LargeBuf, should the socket take nothing.
const MaxPlain = 3 << 14

const (
	recordSize = 16 << 10
	rawSize    = 40 << 10 // what is received at once: with a record's rest, at most loop.BufferSize come of it
)

// Session is one TLS connection whose handshake is over. It belongs to its Lane's loop.
type Session struct {
	conn *tls.Conn
	wire transport
}

// State says what was negotiated.
func (s *Session) State() tls.ConnectionState { return s.conn.ConnectionState() }

// Truncated tells, of an end that Read has shown, that the peer did not say it (close_notify): what came before may be
// not all (RFC 8446 6.1).
func (s *Session) Truncated() bool { return s.wire.fin }

// transport is what crypto/tls reads from and writes to: the socket, as far as it can do so without waiting.
type transport struct {
	fd      int
	lane    *Lane
	hs      *Handshake // until the handshake is over
	in      []byte     // received and not yet taken by crypto/tls; outside of Read it is the session's own copy
	once    bool       // something was received in this Read
	drained bool       // the socket had less than was asked for: nothing is there before the next event
	hup     bool       // the peer has ended: read on until the end shows
	err     syscall.Errno
	fin     bool // the connection's end was read
}

// errAgain is temporary, and so crypto/tls does not remember it.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "secure: nothing to read now" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }

func (t *transport) Read(b []byte) (int, error) {
	if t.hs != nil {
		return t.hs.read(b)
	}
	if len(t.in) == 0 {
		if t.drained || t.once {
			return 0, errAgain
		}
		n, err := loop.Recv(t.fd, t.lane.raw)
		switch {
		case err == syscall.EAGAIN:
			t.drained = true
			return 0, errAgain
		case err != 0:
			t.err = err
			return 0, os.NewSyscallError("recv", err)
		case n == 0:
			t.fin = true
			return 0, io.EOF
		}
		t.once = true
		t.drained = n < len(t.lane.raw) && !t.hup
		t.in = t.lane.raw[:n]
	}
	n := copy(b, t.in)
	t.in = t.in[n:]
	return n, nil
}

func (t *transport) Write(b []byte) (int, error) {
	if t.hs != nil {
		return t.hs.write(b)
	}
	t.lane.out = append(t.lane.out, b...)
	return len(b), nil
}

// Close does nothing on a loop: the descriptor belongs to the connection's owner.
func (t *transport) Close() error { return nil }

func (t *transport) LocalAddr() net.Addr  { return address{} }
func (t *transport) RemoteAddr() net.Addr { return address{} }

// Deadlines are the loop's own affair, too.
func (t *transport) SetDeadline(time.Time) error { return nil }

func (t *transport) SetReadDeadline(time.Time) error { return nil }

func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// address stands for both ends, which certmagic wants to name in its log.
type address struct{}

func (address) Network() string { return "tcp" }
func (address) String() string  { return "" }

// Lane is one loop's part. All its methods, and those of its Sessions and Handshakes, belong to the loop.
type Lane struct {
	loop *loop.Loop
	opt  Options
	cpu  chan struct{} // shared by all lanes: who computes

	raw []byte // made when the first session needs it
	out []byte // what crypto/tls has written in the call that runs

	clients, servers room
	looking          bool // makeRoom will look again
}

// Readable has the next Read look at the socket. The owner calls it at each In, RDHUP or Hup event; ended says that the
// event was one of the latter.
func (s *Session) Readable(ended bool) {
	s.wire.drained = false
	s.wire.hup = s.wire.hup || ended
}

// Read fills b with what the peer has sent, as far as it is here. 0 bytes without an error: the end. EAGAIN: nothing
// now. EPROTO: the peer broke the protocol; it has been told, as far as reply goes. After other results there may be
// more at once, without another event. What the protocol itself has to say in answer (reply) is encrypted, must be
// sent before anything that is written later, and is valid until the next call of the Lane.
func (l *Lane) Read(s *Session, b []byte) (n int, reply []byte, err syscall.Errno) {
	l.begin(s)
	for n < len(b) {
		m, rerr := s.conn.Read(b[n:])
		n += m
		if rerr != nil {
			err = s.reason(rerr)
			break
		}
	}
	l.end(s)
	switch {
	case n > 0: // an end or an error shows again
		err = 0
	case err == endOfStream:
		err = 0
	}
	return n, l.out, err
}

// endOfStream is no errno of any system.
const endOfStream = syscall.Errno(1 << 20)

func (s *Session) reason(err error) syscall.Errno {
	switch {
	case errors.Is(err, errAgain):
		return syscall.EAGAIN
	case errors.Is(err, io.EOF):
		return endOfStream
	case s.wire.err != 0:
		return s.wire.err
	}
	return syscall.EPROTO // also io.ErrUnexpectedEOF: an end in the middle of a record
}

func (l *Lane) begin(s *Session) {
	if l.raw == nil {
		l.raw, l.out = make([]byte, rawSize), make([]byte, 0, loop.LargeBuf)
	}
	l.out = l.out[:0]
	s.wire.once = false
}

// end makes the session's own what is left of the lane's buffer, which the next one will use.
func (l *Lane) end(s *Session) {
	if len(s.wire.in) > 0 {
		s.wire.in = append([]byte(nil), s.wire.in...)
	} else {
		s.wire.in = nil
	}
}

// Write encrypts a and then b and sends them. rest is what the socket did not take: it is encrypted, must be sent before
// anything that is written later, and is valid until the next call of the Lane. Nothing of earlier rests may be
// left to send. An error is final, and the rest is lost.
func (l *Lane) Write(s *Session, a, b []byte) (rest []byte, err syscall.Errno) {
	l.begin(s)
	if len(a) > 0 && len(b) > 0 && len(a)+len(b) <= recordSize { // one record instead of two
		copied := append(append(l.raw[:0], a...), b...)
		a, b = copied, nil
	}
	for _, part := range [2][]byte{a, b} {
		if len(part) == 0 {
			continue
		}
		if _, err := s.conn.Write(part); err != nil {
			return nil, syscall.EPIPE // the session was ended before, by either side
		}
	}
	return l.send(s)
}

// CloseWrite tells the peer that nothing more will come (close_notify). rest is as in Write.
func (l *Lane) CloseWrite(s *Session) (rest []byte, err syscall.Errno) {
	l.begin(s)
	_ = s.conn.CloseWrite() // a session that is broken has nothing to say
	return l.send(s)
}

func (l *Lane) send(s *Session) ([]byte, syscall.Errno) {
	if len(l.out) == 0 {
		return nil, 0
	}
	n, err := loop.Send(s.wire.fd, l.out)
	if err == syscall.EAGAIN {
		return l.out, 0
	}
	return l.out[n:], err
}

package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Options of lanes.
type Options struct {
	Loops      int // how many there are; as many handshakes compute at once, of all lanes together
	Handshakes int // how many of one lane have a goroutine at once; 0: 1024
}

const defaultHandshakes = 1024

// NewLanes makes a lane for each loop.
func NewLanes(loops []*loop.Loop, opt Options) []*Lane {
	if opt.Handshakes == 0 {
		opt.Handshakes = defaultHandshakes
	}
	cpu := make(chan struct{}, max(opt.Loops, 1))
	lanes := make([]*Lane, len(loops))
	for i, l := range loops {
		lanes[i] = &Lane{loop: l, opt: opt, cpu: cpu}
	}
	return lanes
}

// Handshake is one that has not ended. Its descriptor is lent to it: from Begin until done is called, nobody else may
// read from it, write to it or close it.
type Handshake struct {
	lane    *Lane
	session *Session
	client  bool
	config  *tls.Config
	done    func(s *Session, err error)

	ready   chan struct{} // something has happened at the descriptor; one that nobody has seen yet is kept
	ctx     context.Context
	cancel  context.CancelFunc
	aborted atomic.Bool
	started bool
}

// errAborted is what done hears after Abort.
var errAborted = errors.New("the handshake was given up")

// Begin starts a handshake as a server with the client at fd, which the loop must have registered. done is called on
// the loop, once, also after Abort, but not when the loop stops; then fd is the caller's again.
func (l *Lane) Begin(fd int, config *tls.Config, done func(s *Session, err error)) *Handshake {
	return l.queue(fd, config, false, done)
}

// BeginClient is Begin as a client of the server at fd.
func (l *Lane) BeginClient(fd int, config *tls.Config, done func(s *Session, err error)) *Handshake {
	return l.queue(fd, config, true, done)
}

func (l *Lane) queue(fd int, config *tls.Config, client bool, done func(s *Session, err error)) *Handshake {
	h := &Handshake{lane: l, client: client, config: config, done: done, ready: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.session = &Session{wire: transport{fd: fd, lane: l, hs: h}}
	if l.running < l.opt.Handshakes {
		h.start()
	} else {
		l.line = append(l.line, h)
	}
	return h
}

func (h *Handshake) start() {
	h.started = true
	h.lane.running++
	go h.run() // ends when the handshake has, at the latest after Abort
}

// Wake tells the handshake of an event at its descriptor.
func (h *Handshake) Wake() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// Abort has the handshake end soon, in vain.
func (h *Handshake) Abort() {
	if h.aborted.Swap(true) {
		return
	}
	h.cancel()
	h.Wake()
	if !h.started { // it has no goroutine that could end
		h.lane.loop.Post(func() { h.ended(errAborted) })
	}
}

// run is the handshake's goroutine.
func (h *Handshake) run() {
	h.lane.cpu <- struct{}{}
	s := h.session
	if h.client {
		s.conn = tls.Client(&s.wire, h.config)
	} else {
		s.conn = tls.Server(&s.wire, h.config)
	}
	err := s.conn.HandshakeContext(h.ctx)
	<-h.lane.cpu
	if !h.lane.loop.Post(func() { h.ended(err) }) { // the loop has stopped, and with it whoever would close this
		loop.Close(s.wire.fd)
	}
}

// ended is the handshake's end, on the loop.
func (h *Handshake) ended(err error) {
	h.cancel()
	l := h.lane
	if h.started {
		l.running--
	}
	if h.aborted.Load() {
		err = errAborted
	}
	for l.running < l.opt.Handshakes && len(l.line) > 0 {
		next := l.line[0]
		l.line[0] = nil
		if l.line = l.line[1:]; len(l.line) == 0 {
			l.line = nil
		}
		if next != h && !next.aborted.Load() {
			next.start()
		}
	}
	if err != nil {
		h.done(nil, err)
		return
	}
	h.session.wire.hs = nil
	h.done(h.session, nil)
}

// read waits for bytes, and lets others compute meanwhile.
func (h *Handshake) read(b []byte) (int, error) {
	for {
		n, err := loop.Recv(h.session.wire.fd, b)
		switch {
		case err == 0 && n == 0:
			return 0, errEnd
		case err == 0:
			return n, nil
		case err != syscall.EAGAIN:
			return 0, os.NewSyscallError("recv", err)
		}
		if err := h.wait(); err != nil {
			return 0, err
		}
	}
}

// errEnd is an end of stream before the handshake's. It is not io.EOF, so that its text says what happened.
var errEnd = errors.New("the peer ended the connection in the handshake")

// write sends all of b. Only a peer that does not read makes it wait.
func (h *Handshake) write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n, err := loop.Send(h.session.wire.fd, b[sent:])
		switch err {
		case 0:
			sent += n
			continue
		case syscall.EAGAIN:
		default:
			return sent, os.NewSyscallError("send", err)
		}
		if err := h.wait(); err != nil {
			return sent, err
		}
	}
	return len(b), nil
}

func (h *Handshake) wait() error {
	if h.aborted.Load() {
		return errAborted
	}
	<-h.lane.cpu
	select {
	case <-h.ready:
	case <-h.ctx.Done():
	}
	h.lane.cpu <- struct{}{}
	if h.aborted.Load() {
		return errAborted
	}
	return nil
}

// Pause lets others compute until what it returns is called. Whoever waits in the middle of a handshake for something
// else than the peer finds it at ClientHelloInfo.Conn.
func (t *transport) Pause() (resume func()) {
	cpu := t.lane.cpu
	<-cpu
	return func() { cpu <- struct{}{} }
}

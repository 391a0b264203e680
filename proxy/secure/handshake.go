package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Options of lanes.
type Options struct {
	Loops      int // how many there are; as many handshakes compute at once, of all lanes together
	Handshakes int // how many of one lane with clients have a goroutine at once, and how many with servers; 0: 1024
	// Patience is how long a client may say nothing, at most, while others wait for a goroutine; then it gives way. 0: 1 s.
	Patience time.Duration
}

const (
	defaultHandshakes = 1024
	defaultPatience   = time.Second
)

// NewLanes makes a lane for each loop.
func NewLanes(loops []*loop.Loop, opt Options) []*Lane {
	if opt.Handshakes == 0 {
		opt.Handshakes = defaultHandshakes
	}
	if opt.Patience == 0 {
		opt.Patience = defaultPatience
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

	parked  atomic.Int64  // since when the peer's bytes are awaited, loop.Clock; 0: they are not
	ready   chan struct{} // something has happened at the descriptor; one that nobody has seen yet is kept
	ctx     context.Context
	cancel  context.CancelFunc
	aborted atomic.Bool

	// The loop's alone; the goroutine, once it runs, reads none of them.
	started bool // it has a goroutine, and a place in room.all
	place   int
	gaveWay bool // it was aborted to make room
}

// What done hears after Abort, and when the handshake gave way to others.
var (
	errAborted = errors.New("the handshake was given up")
	errGaveWay = errors.New("the client said nothing more, and gave way to others in the handshake")
)

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
	if r := h.room(); len(r.all) < l.opt.Handshakes {
		h.start()
	} else {
		r.line = append(r.line, h)
		l.makeRoom()
	}
	return h
}

// room has the handshakes of a lane with clients, or with servers: those who stall on one side are nothing to the other.
type room struct {
	all  []*Handshake // those that have a goroutine
	line []*Handshake // those that wait for their turn, in order
}

func (h *Handshake) room() *room {
	if h.client {
		return &h.lane.servers
	}
	return &h.lane.clients
}

func (h *Handshake) start() {
	h.started = true
	r := h.room()
	h.place = len(r.all)
	r.all = append(r.all, h)
	go h.run() // ends when the handshake has, at the latest after Abort
}

// leave gives a handshake's goroutine back, and starts those that wait for one.
func (h *Handshake) leave() {
	r := h.room()
	if h.started {
		last := len(r.all) - 1
		r.all[h.place] = r.all[last]
		r.all[h.place].place = h.place
		r.all[last] = nil
		r.all = r.all[:last]
	}
	for len(r.all) < h.lane.opt.Handshakes && len(r.line) > 0 {
		next := r.line[0]
		r.line[0] = nil
		if r.line = r.line[1:]; len(r.line) == 0 {
			r.line = nil
		}
		if next != h && !next.aborted.Load() {
			next.start()
		}
	}
}

// makeRoom has those clients give way who have been silent for too long, as many as wait for a goroutine; and looks again
// while any do.
func (l *Lane) makeRoom() {
	if l.looking || len(l.clients.line) == 0 {
		return
	}
	l.looking = true
	until := loop.Clock() - int64(l.opt.Patience)
	n := len(l.clients.line)
	for _, h := range l.clients.all {
		if n == 0 {
			break
		}
		if since := h.parked.Load(); since != 0 && since < until && !h.aborted.Load() {
			h.gaveWay = true
			h.Abort()
			n--
		}
	}
	time.AfterFunc(l.opt.Patience/8, func() {
		l.loop.Post(func() {
			l.looking = false
			l.makeRoom()
		})
	})
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
	switch {
	case h.gaveWay:
		err = errGaveWay
	case h.aborted.Load():
		err = errAborted
	}
	h.leave()
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
	h.parked.Store(loop.Clock())
	select {
	case <-h.ready:
	case <-h.ctx.Done():
	}
	h.parked.Store(0)
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

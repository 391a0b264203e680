package web

import (
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/hold"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// Kinds of tokens, beyond those of proxy/stream.
const (
	kindClient   = front.FirstKind + 62 // slot: in worker.clients
	kindUpstream = front.FirstKind + 63 // slot: in worker.upstreams
)

// none ends a list of slots.
const none = ^uint32(0)

const (
	replySize = 64 << 10
	// composing is how much is read at once of what is written anew with framing of ours: written, it still fits
	// in a block, together with what a head may grow by.
	composing   = 48 << 10
	scratchSize = 128 << 10
)

// state says which step a client is in.
type state uint8

const (
	reading   state = iota // between requests, or a head is not complete
	waiting                // at the door, in a queue
	starved                // no descriptor or port was to be had for a dial
	dialing                // up is being dialled for it
	carrying               // its request is started on up
	tunneling              // it and up have switched protocols
	draining               // its request is answered, and the rest of its body is read and thrown away
	lingering              // all is said; its end is waited for, so that it can read what was said
)

// client is one client's connection, with the request that it has under way. It has no pointers, so that the
// collector passes the slabs by.
type client struct {
	fd       int32
	listener int32 // slot
	peer     loop.Addr
	arrived  int64 // the connection
	began    int64 // the request: its first byte
	until    int64 // the deadline of the step it is in; 0: none
	armed    int64 // when its timer goes off, at or before until; 0: it does not
	waited   int64 // waiting, starved: when that ends; tunneling: when bytes were carried last

	rev      uint64 // of the snapshot its claim was made from; 0: none was made yet for this request
	tried    proxy.Tried
	wish     proxy.Wish
	position int32 // of the claimed server, for tried
	up       uint32
	queue    int32 // in worker.queues; -1: none
	next     uint32
	prev     uint32 // links of the queue

	info     h1.Info // of the request under way
	progress h1.Progress
	body     h1.Body // of the request, as it is read
	in       block   // read and not dealt with
	out      block   // to be written to it
	headLen  uint16  // the first bytes of in are the request's head, which may have to be sent again
	status   uint16  // of the answer whose head was written; 0: none yet
	sent     uint64  // bytes of the answer
	drained  uint32  // lingering: bytes that were read and thrown away
	pipe     loop.Pipe
	piped    int32 // bytes in the pipe, to be written to the client after out
	state    state
	accepts  form // what a page of the door's is to look like
	flags    flags

	fromClient, fromServer frames // of a WebSocket

	target  int32    // in worker.targets: whose answer it is; -1: the door's
	sentAt  int64    // when the request was sent to a server; 0: it was not
	headAt  int64    // when the head of the answer was written; 0: it was not
	log     block    // for the access log: what logLens says, then the path; nothing when no line is wanted
	logLens [4]uint8 // of the service's name, the method, the host and the request id
}

type flags uint32

const (
	readable   flags = 1 << iota // there may be something to read
	hup                          // the client has ended or broken: read until the end shows
	eof                          // the end was read
	closing                      // the connection ends with this answer
	pouring                      // let in from a queue, which counts it until its dial has ended
	portless                     // a dial found no local port
	inSession                    // worker.sessions has what carries its bytes
	overTLS                      // and it is TLS
	webSocket                    // tunneling: the frames are followed
	asking                       // tunneling: the last bytes were the client's
	restarting                   // tunneling: a close frame was said, or will be between two frames
	counted                      // logEnd has counted it
	parted                       // carrying: the client has ended its side, and will be asked whether it is still there
	asked                        // it was
	openEnded                    // the answer ends with the connection
	past                         // the request passes its service's maintenance
	unknown                      // its client is to be made known
	answered                     // carrying: the answer is complete, the request is not
	shut                         // the door's side was ended
	spoken                       // a request has begun on this connection
	prior                        // its first bytes may be HTTP/2's preface
	retried                      // the request was sent once already, in vain: only a new connection will do
	unread                       // and nobody had read it, on a connection that was new
)

// block is bytes that wait: those from off to end of a loop's block.
type block struct {
	buf      int32 // loop.NoBuf: none
	off, end int32
}

func (b *block) pending() bool { return b.end > b.off }

// blocked tells whether bytes wait because the client does not take them.
func (c *client) blocked() bool { return c.out.pending() || c.piped > 0 }

// worker is one loop's part of the plane. Everything in it belongs to the loop.
type worker struct {
	plane     *Plane
	loop      *loop.Loop
	sw        *proxy.Switch
	claims    *proxy.Claimer
	clients   loop.Slab[client]
	upstreams loop.Slab[upstream]
	timers    *loop.Wheel // of clients
	uptimers  *loop.Wheel // of upstreams
	targets   []target
	targetOf  map[*proxy.Server]int32
	queues    *hold.Queues
	dials     uint32 // list of upstreams that are being dialled
	sessions  map[uint32]Session
	lane      *secure.Lane

	guests      loop.Slab[guest]
	guestTimers *loop.Wheel
	handshakes  map[uint32]*secure.Handshake // of guests

	at *proxy.Service // of the request that was read last: who its answer counts for, unless it was sent to a server

	upSessions map[uint32]Session           // of upstreams that speak TLS or HTTP/2
	upShakes   map[uint32]*secure.Handshake // of those that are to

	http2 HTTP2Worker // nil: nobody speaks it

	leaving bool // the door takes no more clients

	reply    []byte // what servers say is read into
	scratch  []byte // heads and chunks are written in; len 0
	request  *h1.Request
	response *h1.Response
	trailer  *h1.Trailer
	extra    []byte // lines that a head gets
	out      h1.RequestOut
	back     h1.ResponseOut
	date     date
	ids      ids
}

func newWorker(p *Plane, l *loop.Loop) *worker {
	w := &worker{plane: p, loop: l, sw: p.sw, claims: p.sw.Claimer(l.ID()), dials: none,
		targetOf: map[*proxy.Server]int32{}, sessions: map[uint32]Session{},
		lane: p.front.Lane(l), handshakes: map[uint32]*secure.Handshake{}, upSessions: map[uint32]Session{}, upShakes: map[uint32]*secure.Handshake{},
		reply: make([]byte, replySize), scratch: make([]byte, 0, scratchSize),
		request: h1.NewRequest(h1.Limits{}), response: h1.NewResponse(h1.Limits{}), trailer: h1.NewTrailer(h1.Limits{}),
		ids: newIDs()}
	w.queues = hold.New(p.lines, l.ID(), w.place)
	w.timers = l.NewWheel(w.timer)
	w.uptimers = l.NewWheel(w.upstreamTimer)
	w.guestTimers = l.NewWheel(func(slot uint32) { w.tooLate(slot, w.guests.Get(slot)) })
	l.Handle(kindGuest, w.guestEvent)
	l.Handle(kindClient, w.clientEvent)
	l.Handle(kindUpstream, w.upstreamEvent)
	return w
}

func (w *worker) clientToken(slot uint32) loop.Token {
	return loop.MakeToken(kindClient, w.clients.Gen(slot), slot, 0)
}

func (w *worker) upstreamToken(slot uint32) loop.Token {
	return loop.MakeToken(kindUpstream, w.upstreams.Gen(slot), slot, 0)
}

// clientEvent is where each event of a client comes in; none at all means: go on.
func (w *worker) clientEvent(t loop.Token, ev loop.Events) {
	slot := t.Slot()
	if !w.clients.Check(slot, t.Gen()) {
		return // ended earlier in this batch
	}
	c := w.clients.Get(slot)
	if c.flags&inSession != 0 {
		w.sessions[slot].Event(ev)
	}
	if ev&(loop.In|loop.RDHUP|loop.Hup|loop.Err) != 0 {
		c.flags |= readable
		if ev&(loop.RDHUP|loop.Hup|loop.Err) != 0 {
			c.flags |= hup // edge-triggered: said but once
		}
	}
	if ev&loop.Err != 0 {
		w.close(slot, c, true) // it was reset: nothing can be said to it any more
		return
	}
	if ev&loop.Out != 0 && c.blocked() {
		if !w.flush(slot, c) {
			return
		}
	}
	switch c.state {
	case reading:
		w.read(slot, c)
	case carrying:
		w.goOn(slot, c)
	case tunneling:
		w.tunnel(slot, c, c.up, w.upstreams.Get(c.up))
	case draining:
		w.drain(slot, c)
	case lingering:
		w.linger(slot, c)
	}
}

// timer is where each timer of a client comes in. It may come before the deadline, which has been put off
// meanwhile: so a byte costs no timer.
func (w *worker) timer(slot uint32) {
	c := w.clients.Get(slot)
	c.armed = 0
	if now := w.loop.Now(); c.until == 0 || now < c.until {
		w.deadline(slot, c, c.until)
		return
	}
	switch c.state {
	case reading:
		w.late(slot, c)
	case waiting:
		w.waitedEnough(slot, c)
	case starved:
		w.unstarve(slot, c)
	case carrying:
		w.stalled(slot, c)
	case tunneling:
		w.logEnd(slot, c, endIdle)
		w.close(slot, c, true)
	case draining, lingering:
		w.close(slot, c, false)
	}
}

// deadline sets when the step ends that a client is in; 0: never.
func (w *worker) deadline(slot uint32, c *client, at int64) {
	c.until = at
	if at != 0 && (c.armed == 0 || c.armed > at) {
		c.armed = at
		w.timers.Set(slot, at)
	}
}

// keep stores bytes in a block, in front of nothing: there must be none.
func (w *worker) keep(b *block, bytes ...[]byte) {
	n := 0
	for _, p := range bytes {
		n += len(p)
	}
	if n == 0 {
		return
	}
	b.buf = w.loop.GetBuf(n)
	dst := w.loop.Bytes(b.buf)
	b.off, b.end = 0, int32(n)
	for _, p := range bytes {
		dst = dst[copy(dst, p):]
	}
}

// drop forgets bytes that wait.
func (w *worker) drop(b *block) {
	w.loop.PutBuf(b.buf)
	*b = block{}
}

// takeOut moves bytes that wait to the front of dst.
func (w *worker) takeOut(b *block, dst []byte) int {
	if b.buf == loop.NoBuf {
		return 0
	}
	n := copy(dst, w.loop.Bytes(b.buf)[b.off:b.end])
	w.drop(b)
	return n
}

package stream

import (
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/hold"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/secure"
)

// Kinds of tokens.
const (
	kindConn = front.FirstKind // slot: connection; side: client

	// kindDial and those after it are a connection's server side. A client may be dialled for several
	// times, by descriptors of the same number even, so the kind says which dial it is: an event of a
	// dial that was taken back earlier in the batch must not pass for one of the dial that followed.
	kindDial  = 16
	dialKinds = 16
)

// Sides of a connection.
const (
	client = 0
	server = 1
)

// state says which step a connection is in, and so what its timer means and who owns its list links.
type state uint8

const (
	steering  state = iota // between two steps, within one call; in no list, no timer
	heading                // the client's PROXY header is awaited; timer: connect timeout
	greeting               // the TLS greeting (ClientHello) of the client is awaited; timer: handshake timeout
	securing               // a TLS handshake goes on elsewhere, which has the client's descriptor; timer: as before
	waiting                // at the door, in a queue; timer: the end of its waiting, or the next try
	starved                // no descriptor or port was to be had for a dial; timer: the next try
	dialing                // in the dial list; timer: connect timeout
	relaying               // started, in its target's list; timer: idle
	resetting              // one side is closed: the other's reset, or end, waits until its last bytes are acknowledged; timer: next look
)

// none ends a list of slots.
const none = ^uint32(0)

// conn is one client's connection and what belongs to it. It has no pointers, so that the collector passes
// the slabs by.
type conn struct {
	fd         [2]int32 // client's and server's; -1: none
	half       [2]half  // half[s]: the bytes that come from side s
	rev        uint64   // of the snapshot its claim was made from
	tried      proxy.Tried
	began      int64 // accepted
	last       int64 // when a byte last moved
	until      int64 // waiting, starved: when that ends
	next, prev uint32
	peer       loop.Addr // the client's, as its PROXY header says or as accepted
	listener   int32     // slot
	chosen     int32     // in worker.names: the service whose client it is; 0: the listener's own
	target     int32     // in worker.targets; -1: none
	queue      int32     // in worker.queues; -1: none
	position   int32     // of the claimed server in its pool
	tls        [2]int32  // each side's in worker.sessions; open: none, bytes are what they are
	state      state
	flags      flags
	lastSide   uint8 // where the last byte came from
	dial       uint8 // counts dials; see kindDial
	address    uint8 // which address of the claimed server is dialled, counted from begin
	begin      uint8 // the one that was tried first
}

type flags uint8

const (
	watched   flags = 1 << iota // the client's descriptor is registered
	pouring                     // let in from a queue, which counts it until its dial has ended
	retryDial                   // a Unix socket's backlog was full: the timer dials again
	headed                      // worker.headers has what its PROXY header said
	portless                    // a dial found no local port
	through                     // it speaks TLS, which the door does not
	meeting                     // dialing: a handshake with the server goes on, which has its descriptor
	orderly                     // resetting: an end of stream was sent, and is what the client gets
)

// half is one direction of a connection: from side s to the other one.
type half struct {
	carried  uint64
	buf      int32 // block with bytes that could not be written yet; loop.NoBuf: none
	off, end int32 // of these bytes in the block
	pipe     loop.Pipe
	piped    int32 // bytes in the pipe
	streak   uint8 // full buffers in a row, up to bulkAfter
	state    halfState
}

type halfState uint16

const (
	readable halfState = 1 << iota // there may be something to read
	hup                            // the peer has ended or broken: read until the end shows, whatever is short
	eof                            // the end was read
	finSent                        // and carried to the other side
	broken                         // side s was reset: the other side is to be reset when all is carried
	dead                           // the other side takes no more bytes: nothing is read any more
	piping                         // pipe is held
	notified                       // the end was told in TLS, though perhaps not yet sent
)

func (h *half) is(s halfState) bool { return h.state&s != 0 }

// pending tells whether bytes read are not written yet.
func (h *half) pending() bool { return h.end > h.off || h.piped > 0 }

// worker is one loop's part of the plane. Everything in it belongs to the loop.
type worker struct {
	plane      *Plane
	loop       *loop.Loop
	sw         *proxy.Switch
	claims     *proxy.Claimer
	conns      loop.Slab[conn]
	timers     *loop.Wheel // of conns
	targets    []target
	targetOf   map[*proxy.Server]int32
	queues     *hold.Queues
	dials      uint32 // list of dialing conns
	headers    map[uint32]header
	lane       *secure.Lane
	sessions   []*secure.Session // 0 stays empty, so that a zeroed conn has none
	vacant     []int32           // free places in sessions
	handshakes map[uint32]*secure.Handshake
	names      []string         // of services that clients were led to by the host they named; 0 stays empty
	nameOf     map[string]int32 // and where they are in it
}

func newWorker(p *Plane, l *loop.Loop) *worker {
	w := &worker{plane: p, loop: l, sw: p.sw, claims: p.sw.Claimer(l.ID()), dials: none,
		targetOf: map[*proxy.Server]int32{}, headers: map[uint32]header{},
		lane: p.front.Lane(l), sessions: make([]*secure.Session, 1), handshakes: map[uint32]*secure.Handshake{},
		names: make([]string, 1), nameOf: map[string]int32{}}
	w.queues = hold.New(p.lines, l.ID(), w.place)
	w.timers = l.NewWheel(w.timer)
	l.Handle(kindConn, w.event)
	for i := range uint8(dialKinds) {
		l.Handle(kindDial+i, w.event)
	}
	return w
}

func (w *worker) token(slot uint32, side uint8) loop.Token {
	kind := uint8(kindConn)
	if side == server {
		kind = kindDial + w.conns.Get(slot).dial%dialKinds
	}
	return loop.MakeToken(kind, w.conns.Gen(slot), slot, side)
}

// event is where each event of a connection comes in.
func (w *worker) event(t loop.Token, ev loop.Events) {
	slot := t.Slot()
	if !w.conns.Check(slot, t.Gen()) {
		return // ended earlier in this batch
	}
	c := w.conns.Get(slot)
	if t.Side() == server && t.Kind() != kindDial+c.dial%dialKinds {
		return // of a dial that is over
	}
	if c.state < relaying && t.Side() == client && ev&(loop.RDHUP|loop.Hup|loop.Err) != 0 {
		c.half[client].state |= hup // told but once: relaying must know that there is an end to find
	}
	switch c.state {
	case relaying:
		w.relay(slot, c, int(t.Side()), ev)
	case dialing, starved:
		switch {
		case t.Side() == server && c.flags&meeting != 0:
			if ev&(loop.RDHUP|loop.Hup|loop.Err) != 0 {
				c.half[server].state |= hup
			}
			w.handshakes[slot].Wake()
		case t.Side() == server && c.state == dialing:
			w.dialed(slot, c, ev)
		case t.Side() == client && ev&(loop.Err|loop.Hup) != 0: // the client has broken off, and no event will say so again
			w.end(slot, c, endLeft)
		}
	case waiting:
		w.lookForLeaving(slot, c, ev)
	case heading:
		w.takeHeader(slot, c, ev)
	case greeting:
		w.greeted(slot, c)
	case securing:
		w.handshakes[slot].Wake()
	case resetting:
		if ev&loop.Err != 0 && c.fd[t.Side()] >= 0 { // it was quicker
			w.end(slot, c, endReset)
		}
	}
}

// timer is where each timer of a connection comes in.
func (w *worker) timer(slot uint32) {
	c := w.conns.Get(slot)
	switch c.state {
	case relaying:
		w.idle(slot, c)
	case dialing:
		w.dialTimer(slot, c)
	case waiting:
		w.waited(slot, c)
	case starved:
		w.unstarve(slot, c)
	case heading:
		w.malformed(slot, c)
	case greeting, securing:
		w.shookTooLong(slot, c)
	case resetting:
		w.resetSoon(slot, c)
	}
}

// link puts a connection at the head of a list; unlink takes it out of the one it is in. The links are in
// use for one list at a time: the dial list, a target's, or (as a queue, with a tail) one of waiting.
func (w *worker) link(head *uint32, slot uint32, c *conn) {
	c.next, c.prev = *head, none
	if *head != none {
		w.conns.Get(*head).prev = slot
	}
	*head = slot
}

func (w *worker) unlink(head *uint32, c *conn) {
	if c.prev != none {
		w.conns.Get(c.prev).next = c.next
	} else {
		*head = c.next
	}
	if c.next != none {
		w.conns.Get(c.next).prev = c.prev
	}
	c.next, c.prev = none, none
}

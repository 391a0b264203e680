package h2

import (
	"encoding/binary"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web"
)

const (
	maxStreams   = 128
	streamWindow = 256 << 10 // of a stream's request
	connWindow   = 1 << 20   // of all requests of a connection
	maxList      = 64 << 10  // of a head, as RFC 9113 6.5.2 counts
	maxBlock     = 64 << 10  // of a head, as it comes
	maxPieces    = 128       // frames of a head

	readSize = 64 << 10
	outSize  = 64 << 10  // what waits to be sent before streams have to wait
	outMost  = 256 << 10 // and what may wait at most, with what the door itself has to say
	rounds   = 8         // reads, or writes, before others have their turn

	// maxResets is how many streams of one connection may end by a reset before their answer was whole; beyond it, and
	// if most of them do, the client wants to keep servers busy with what it throws away.
	maxResets = 500
	// maxNoise is how many frames that carry nothing a client may send in a second.
	maxNoise = 5000

	graceTime  = time.Second // between a first GOAWAY and the last one: for what is under way
	lingerTime = time.Second // for a client to read the last GOAWAY and end its side
)

// conn is one connection. It belongs to its worker's loop.
type conn struct {
	w      *worker
	slot   uint32
	from   web.Stranger // Session and FD carry its bytes; its streams have the rest in common
	limits web.Limits

	readable bool
	in       int32 // block with the first inLen bytes of a frame that is not whole
	inLen    int
	began    int64 // since when the preface, a head or a frame other than DATA is awaited to its end; 0: none is
	greeted  bool  // the preface was read
	agreed   bool  // and the first SETTINGS
	opening  opening
	decoder  *hpack.Decoder
	last     uint32 // highest stream that the client has opened
	told     uint32 // highest that it may, once goingAway is final
	received window // what it may send on all streams

	streams map[uint32]*stream
	ignored [64]uint32 // streams that were reset here the latest: what was under way of them is no fault (RFC 9113 5.1)
	nextIgn uint8
	asked   uint64 // streams there were
	resets  uint64 // of them, those that were reset before their answer was whole
	noise   int    // frames that carry nothing, since noiseAt
	noiseAt int64

	out     []byte // frames that wait to be sent, from off on
	off     int
	due     bool // an Again is under way
	turning bool // turn runs: it sends what is written meanwhile
	data0   int  // where in out the latest frame is, if it is DATA of dataOf
	dataOf  uint32
	window  int       // what may be sent on all streams
	first   int       // on a new stream
	shrunk  bool      // the client wants a smaller dynamic table than there is by default: the next head says it is empty
	waiting []*stream // those that have more to send, and window of their own, in order

	goingAway goingAway
	graceEnd  int64
	over      bool  // nothing is read any more; what waits is sent, and then the end
	shut      bool  // the end was sent
	overEnd   int64 // when the client must have ended its side
	rest      int64 // since when there is no stream
	until     int64 // the next deadline; 0: none
	armed     int64 // when the timer goes off, at or before until; 0: it does not
}

// goingAway says how far a connection is in telling its client to open no more streams.
type goingAway uint8

const (
	staying goingAway = iota
	warned            // it was told so, and streams that it opens meanwhile are carried
	final             // those up to told are carried to their end
)

// opening is a head that is not whole.
type opening struct {
	stream uint32 // 0: there is none
	last   bool   // END_STREAM
	self   bool   // its priority depends on itself
	pieces int
	block  []byte
}

// window is what a client may send.
type window struct {
	left int // before it has to wait
	size int
	debt int // dealt with, and not told yet
}

// take takes n bytes off the window; false: it has sent too much.
func (f *window) take(n int) bool {
	f.left -= n
	return f.left >= 0
}

// give gives n bytes back, and returns by how much the client is to be told that its window has grown; it is told of halves.
func (f *window) give(n int) (grown int) {
	if f.debt += n; f.debt < f.size/2 {
		return 0
	}
	grown = f.debt
	f.left, f.debt = f.left+grown, 0
	return grown
}

func newConn(w *worker, slot uint32, s web.Stranger, limits web.Limits) *conn {
	now := w.loop.Now()
	return &conn{w: w, slot: slot, from: s, limits: limits, began: now, rest: now, streams: map[uint32]*stream{},
		received: window{left: connWindow, size: connWindow}, window: startWindow, first: startWindow, decoder: newDecoder(w.head.add)}
}

func (c *conn) token() loop.Token {
	return loop.MakeToken(web.KindHTTP2, c.w.conns.Gen(c.slot), c.slot, 0)
}

// greet says the door's settings.
func (c *conn) greet() {
	const settings = 3
	b := appendFrameHead(c.begin(), 6*settings, frameSettings, 0, 0)
	b = appendSetting(b, settingMaxStreams, maxStreams)
	b = appendSetting(b, settingWindow, streamWindow)
	b = appendSetting(b, settingListSize, maxList)
	c.out = appendWindow(b, 0, connWindow-startWindow)
}

// begin returns out for something to be appended that is not DATA.
func (c *conn) begin() []byte {
	if c.out == nil {
		c.out = c.w.lendOut()
	}
	c.dataOf = 0
	return c.out
}

// say writes a frame of the door's own.
func (c *conn) say(b []byte) {
	c.out = b
	c.schedule()
}

// schedule has what waits be sent when the other events of this round were dealt with.
func (c *conn) schedule() {
	if !c.turning && !c.due {
		c.due = true
		c.w.loop.Again(c.token())
	}
}

// read takes what the client has sent. False: the connection was closed.
func (c *conn) read() bool {
	c.turning = true
	for round := 0; c.readable; round++ {
		if round == rounds {
			c.turning = false
			c.schedule()
			c.turning = true
			return true
		}
		buf := c.w.buf
		n := 0
		if c.inLen > 0 {
			n = copy(buf, c.w.loop.Bytes(c.in)[:c.inLen])
		}
		m, err := c.from.Session.Recv(buf[n:])
		switch {
		case err == syscall.EAGAIN:
			c.readable = false
			return true
		case err != 0 || m == 0:
			c.close()
			return false
		case c.over:
			continue
		}
		c.dropIn()
		c.keep(c.take(buf[:n+m]))
	}
	return true
}

// keep keeps the beginning of a frame.
func (c *conn) keep(rest []byte) {
	if !c.over && len(rest) > 0 {
		c.in, c.inLen = c.w.loop.GetBuf(len(rest)), len(rest)
		copy(c.w.loop.Bytes(c.in), rest)
	}
}

func (c *conn) dropIn() {
	c.w.loop.PutBuf(c.in)
	c.in, c.inLen = loop.NoBuf, 0
}

// take deals with all frames in b that are whole, and returns what is left.
func (c *conn) take(b []byte) []byte {
	whole := false
	if !c.greeted {
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			c.fail(codeProtocol)
			return nil
		}
		if n < len(preface) {
			return b
		}
		c.greeted = true
		b = b[n:]
	}
	for !c.over && len(b) >= frameHead {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if length > maxFrame {
			c.fail(codeFrameSize)
			return nil
		}
		if len(b) < frameHead+length {
			break
		}
		whole = true
		c.frame(b[3], b[4], binary.BigEndian.Uint32(b[5:])&lastStream, b[frameHead:frameHead+length])
		b = b[frameHead+length:]
	}
	switch {
	case !c.agreed || c.opening.stream != 0: // began when it did
		if c.began == 0 {
			c.began = c.w.loop.Now()
		}
	case len(b) == 0 || len(b) > 3 && b[3] == frameData: // the plane has a deadline for bodies
		c.began = 0
	case whole || c.began == 0:
		c.began = c.w.loop.Now()
	}
	return b
}

// wake lets streams go on that wait for room, in their order.
func (c *conn) wake() {
	for n := len(c.waiting); n > 0 && c.window > 0 && c.room() > 0 && len(c.waiting) > 0; n-- {
		s := c.waiting[0]
		c.waiting = append(c.waiting[:0], c.waiting[1:]...)
		s.queued = false
		s.more()
	}
}

// room is how much may be written before streams have to wait.
func (c *conn) room() int { return outSize - (len(c.out) - c.off) }

// flush sends what waits, as far as the client takes it. False: the connection was closed.
func (c *conn) flush() bool {
	for round := 0; len(c.out) > c.off; round++ {
		for len(c.out) > c.off {
			n, err := c.from.Session.Send(c.out[c.off:], nil)
			if n > 0 {
				c.off, c.dataOf = c.off+n, 0
			}
			switch {
			case err == syscall.EAGAIN && len(c.out)-c.off <= outMost:
				c.out, c.off = c.out[:copy(c.out, c.out[c.off:])], 0
				c.turning = false
				return true
			case err != 0:
				c.close()
				return false
			}
		}
		c.w.giveOut(c.out)
		c.out, c.off = nil, 0
		if round == rounds {
			c.turning = false
			c.schedule()
			return true
		}
		c.wake()
	}
	c.turning = false
	return true
}

// settle ends a connection that has come to its end, and sets the deadline of one that has not.
func (c *conn) settle() {
	if c.goingAway == final && len(c.streams) == 0 && !c.over {
		c.stop()
	}
	at := int64(0)
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	switch {
	case c.over:
		if !c.shut && len(c.out) == c.off {
			c.shut = true
			c.from.Session.Shutdown()
			c.readable = true // it may have ended, too, and no event tells of it
			c.schedule()
		}
		sooner(c.overEnd)
	default:
		if c.goingAway == warned {
			sooner(c.graceEnd)
		}
		if c.began != 0 && c.limits.Head > 0 {
			sooner(c.began + int64(c.limits.Head))
		}
		if len(c.streams) == 0 && c.limits.Idle > 0 {
			sooner(c.rest + int64(c.limits.Idle))
		}
	}
	c.deadline(at)
}

// deadline sets the next deadline; 0: there is none. One that is put off costs no timer.
func (c *conn) deadline(at int64) {
	c.until = at
	if at != 0 && (c.armed == 0 || c.armed > at) {
		c.armed = at
		c.w.timers.Set(c.slot, at)
	}
}

// late is a deadline that has passed. False: the connection was closed.
func (c *conn) late() bool {
	now := c.w.loop.Now()
	switch {
	case c.over:
		c.close()
		return false
	case c.began != 0 && c.limits.Head > 0 && now >= c.began+int64(c.limits.Head):
		c.fail(codeCalm)
	case c.goingAway == warned && now >= c.graceEnd, len(c.streams) == 0 && c.limits.Idle > 0 && now >= c.rest+int64(c.limits.Idle):
		c.goingAway, c.told = final, c.last
		c.say(appendGoAway(c.begin(), c.told, codeNone))
	}
	return true
}

// goAway has the client open no more streams: first without saying which is the last, for what is under way.
func (c *conn) goAway() {
	if c.goingAway != staying || c.over {
		return
	}
	c.goingAway, c.graceEnd = warned, c.w.loop.Now()+int64(graceTime)
	c.say(appendGoAway(c.begin(), lastStream, codeNone))
}

// fail ends the connection because of an error, RFC 9113 5.4.1.
func (c *conn) fail(why code) {
	if c.over {
		return
	}
	c.say(appendGoAway(c.begin(), c.last, why))
	c.stop()
}

// stop ends all streams. What waits is sent, and then the end.
func (c *conn) stop() {
	c.over, c.overEnd = true, c.w.loop.Now()+int64(lingerTime)
	c.dropIn()
	c.opening = opening{}
	c.leaveAll()
}

func (c *conn) leaveAll() {
	for _, s := range c.streams {
		s.leave()
	}
}

// close ends the connection at once, and forgets it.
func (c *conn) close() {
	c.over = true
	c.leaveAll()
	c.dropIn()
	c.w.giveOut(c.out)
	c.out, c.off = nil, 0
	c.w.timers.Cancel(c.slot)
	c.from.Session.Close(false)
	loop.Close(c.from.FD)
	c.w.conns.Free(c.slot)
}

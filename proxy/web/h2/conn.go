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

// frame deals with one frame, RFC 9113 6.
func (c *conn) frame(kind, flags byte, id uint32, p []byte) {
	switch {
	case !c.agreed && (kind != frameSettings || flags&flagAck != 0), // 3.4
		c.opening.stream != 0 && (kind != frameContinuation || id != c.opening.stream): // 6.10
		c.fail(codeProtocol)
		return
	}
	switch kind {
	case frameData:
		c.dataFrame(flags, id, p)
	case frameHeaders:
		c.headersFrame(flags, id, p)
	case frameContinuation:
		if c.opening.stream == 0 {
			c.fail(codeProtocol)
			return
		}
		c.piece(flags, p)
	case framePriority:
		c.noisy()
		switch {
		case id == 0:
			c.fail(codeProtocol)
		case len(p) != 5:
			c.fault(id, codeFrameSize)
		case binary.BigEndian.Uint32(p)&lastStream == id: // RFC 7540 5.3.1
			c.fault(id, codeProtocol)
		}
	case frameReset:
		c.resetFrame(id, p)
	case frameSettings:
		c.settingsFrame(flags, id, p)
	case framePing:
		c.noisy()
		switch {
		case id != 0:
			c.fail(codeProtocol)
		case len(p) != 8:
			c.fail(codeFrameSize)
		case flags&flagAck == 0:
			c.say(append(appendFrameHead(c.begin(), 8, framePing, flagAck, 0), p...))
		}
	case frameGoAway:
		switch {
		case id != 0:
			c.fail(codeProtocol)
		case len(p) < 8:
			c.fail(codeFrameSize)
		default: // it opens no more streams, and ends the connection when it has its answers
		}
	case frameWindow:
		c.windowFrame(id, p)
	case framePush:
		c.fail(codeProtocol) // 8.4
	default: // 5.5: not known, not minded
		c.noisy()
	}
}

// noisy counts a frame that carries nothing.
func (c *conn) noisy() {
	if now := c.w.loop.Now(); now-c.noiseAt > int64(time.Second) {
		c.noise, c.noiseAt = 0, now
	}
	if c.noise++; c.noise > maxNoise {
		c.fail(codeCalm)
	}
}

// dataFrame: RFC 9113 6.1.
func (c *conn) dataFrame(flags byte, id uint32, p []byte) {
	if id == 0 || id > c.last {
		c.fail(codeProtocol)
		return
	}
	if !c.received.take(len(p)) {
		c.fail(codeFlowControl)
		return
	}
	body, ok := unpad(p, flags)
	if !ok {
		c.fail(codeProtocol)
		return
	}
	if len(body) == 0 && flags&flagEndStream == 0 {
		c.noisy()
	}
	s := c.streams[id]
	switch {
	case s == nil:
		c.credit(len(p))
		if !c.ignores(id) {
			c.reject(id, codeClosed)
		}
	case s.ended:
		c.credit(len(p))
		c.reset(s, codeClosed)
	case !s.received.take(len(p)):
		c.credit(len(p))
		c.reset(s, codeFlowControl)
	default:
		c.credit(len(p) - len(body))
		s.creditOwn(len(p) - len(body))
		s.request(body, nil, flags&flagEndStream != 0)
	}
}

// credit gives back what was taken off the connection's window.
func (c *conn) credit(n int) {
	if grown := c.received.give(n); grown > 0 {
		c.say(appendWindow(c.begin(), 0, grown))
	}
}

// headersFrame: RFC 9113 6.2.
func (c *conn) headersFrame(flags byte, id uint32, p []byte) {
	if id%2 == 0 { // also 0
		c.fail(codeProtocol)
		return
	}
	p, ok := unpad(p, flags)
	if !ok {
		c.fail(codeProtocol)
		return
	}
	self := false
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			c.fail(codeFrameSize)
			return
		}
		self = binary.BigEndian.Uint32(p)&lastStream == id
		p = p[5:]
	}
	c.opening = opening{stream: id, last: flags&flagEndStream != 0, self: self, block: c.opening.block[:0]}
	c.piece(flags, p)
}

// piece takes one of a head's frames.
func (c *conn) piece(flags byte, p []byte) {
	o := &c.opening
	o.pieces++
	if len(o.block)+len(p) > maxBlock || o.pieces > maxPieces {
		c.fail(codeCalm)
		return
	}
	if flags&flagEndHeaders == 0 {
		o.block = append(o.block, p...)
		return
	}
	if o.pieces > 1 {
		p = append(o.block, p...)
	}
	id, last, self := o.stream, o.last, o.self
	c.opening = opening{}
	s := c.streams[id]
	c.w.head.start(s != nil || id <= c.last)
	_, err := c.decoder.Write(p)
	if cerr := c.decoder.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		c.fail(codeCompression)
	case s != nil:
		c.trailers(s, last, self)
	case id > c.last:
		c.open(id, last, self)
	case !c.ignores(id):
		c.fail(codeClosed) // 5.1
	}
}

// open begins a stream.
func (c *conn) open(id uint32, last, self bool) {
	c.last = id
	h := &c.w.head
	switch {
	case c.goingAway == final: // 6.8
		c.ignore(id)
	case self:
		c.reject(id, codeProtocol)
	case len(c.streams) >= maxStreams:
		c.reject(id, codeRefused)
	case !h.finish(last):
		c.reject(id, codeProtocol) // 8.1.1
	default:
		c.asked++
		s := c.w.newStream(c, id, last)
		c.streams[id] = s
		ref := c.w.adopt(web.Stranger{Session: s, Listener: c.from.Listener, FD: -1, Peer: c.from.Peer, HTTPS: c.from.HTTPS})
		if !s.closed {
			s.plane = ref
		}
	}
}

// trailers are the end of a request's body.
func (c *conn) trailers(s *stream, last, self bool) {
	switch {
	case s.ended:
		c.reset(s, codeClosed)
	case !last || self || c.w.head.bad:
		c.reset(s, codeProtocol)
	default:
		s.request(nil, c.w.head.fields, true)
	}
}

// resetFrame: RFC 9113 6.4.
func (c *conn) resetFrame(id uint32, p []byte) {
	switch {
	case len(p) != 4:
		c.fail(codeFrameSize)
	case id == 0 || id > c.last:
		c.fail(codeProtocol)
	default:
		if s := c.streams[id]; s != nil {
			c.wasted(s)
			s.leave()
		} else {
			c.noisy()
		}
	}
}

// wasted counts a stream that ends before its answer is whole, by what its client did.
func (c *conn) wasted(s *stream) {
	if s.said == ended {
		return
	}
	if c.resets++; c.resets > maxResets && 2*c.resets > c.asked {
		c.fail(codeCalm)
	}
}

// settingsFrame: RFC 9113 6.5.
func (c *conn) settingsFrame(flags byte, id uint32, p []byte) {
	ack := flags&flagAck != 0
	switch {
	case id != 0:
		c.fail(codeProtocol)
		return
	case ack && len(p) > 0, len(p)%6 != 0:
		c.fail(codeFrameSize)
		return
	case ack:
		return
	}
	if c.agreed {
		c.noisy()
	}
	grown := false
	for ; len(p) > 0 && !c.over; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			c.shrunk = c.shrunk || v < tableSize
		case settingPush:
			if v > 1 {
				c.fail(codeProtocol)
			}
		case settingWindow:
			if v > maxWindow {
				c.fail(codeFlowControl)
				break
			}
			by := int(v) - c.first
			c.first = int(v)
			for _, s := range c.streams {
				if s.window += by; s.window > maxWindow {
					c.fail(codeFlowControl)
					break
				}
			}
			grown = grown || by > 0
		case settingFrameSize: // frames are never larger than the smallest that it can be
			if v < maxFrame || v > 1<<24-1 {
				c.fail(codeProtocol)
			}
		}
	}
	if c.over {
		return
	}
	c.agreed = true
	c.say(appendFrameHead(c.begin(), 0, frameSettings, flagAck, 0))
	if grown {
		for _, s := range c.streams {
			s.more()
		}
	}
}

// windowFrame: RFC 9113 6.9.
func (c *conn) windowFrame(id uint32, p []byte) {
	if len(p) != 4 {
		c.fail(codeFrameSize)
		return
	}
	if id > c.last {
		c.fail(codeProtocol)
		return
	}
	n := int(binary.BigEndian.Uint32(p) & lastStream)
	if id == 0 {
		switch c.window += n; {
		case n == 0:
			c.fail(codeProtocol)
		case c.window > maxWindow:
			c.fail(codeFlowControl)
		default:
			c.wake()
		}
		return
	}
	s := c.streams[id]
	switch {
	case s == nil:
		c.noisy()
	case n == 0:
		c.reset(s, codeProtocol)
	case s.window+n > maxWindow:
		c.reset(s, codeFlowControl)
	default:
		s.window += n
		s.more()
	}
}

// reset ends a stream that breaks a rule.
func (c *conn) reset(s *stream, why code) {
	c.reject(s.id, why)
	c.wasted(s)
	s.leave()
}

// fault ends a stream that breaks a rule, if it is one.
func (c *conn) fault(id uint32, why code) {
	if s := c.streams[id]; s != nil {
		c.reset(s, why)
		return
	}
	c.reject(id, why)
}

// reject resets a stream, whatever it is in.
func (c *conn) reject(id uint32, why code) {
	c.ignore(id)
	c.noisy()
	c.say(appendReset(c.begin(), id, why))
}

func (c *conn) ignore(id uint32) {
	c.ignored[c.nextIgn%uint8(len(c.ignored))] = id
	c.nextIgn++
}

func (c *conn) ignores(id uint32) bool {
	for _, i := range &c.ignored {
		if i == id {
			return true
		}
	}
	return false
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

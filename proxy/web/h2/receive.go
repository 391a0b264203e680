package h2

import (
	"encoding/binary"
	"time"

	"github.com/turnout-proxy/turnout/proxy/web"
)

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

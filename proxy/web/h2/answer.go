package h2

import (
	"strconv"
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// answer takes of b, which continues what the plane has said in HTTP/1.1, what there is room for.
func (s *stream) answer(b []byte) (n int, err syscall.Errno) {
	for n < len(b) {
		rest := b[n:]
		var used int
		var e h1.Err
		switch {
		case s.said == nothing:
			if s.c.room() <= 0 {
				return n, 0
			}
			used, e = s.whole(rest, func(b []byte) (int, h1.Err) { return s.head(b) })
		case s.said == ended: // nothing follows
			return len(b), 0
		case s.body.AtTrailer():
			used, e = s.whole(rest, func(b []byte) (int, h1.Err) { return s.trailers(b) })
		default:
			room := min(s.window, s.c.window, s.c.room())
			if room <= 0 {
				if s.body.Left() > 0 {
					return n, 0
				}
				room = 1 // of what is around chunks, and needs no window
			}
			var payload []byte
			payload, used, e = s.body.Next(rest[:min(len(rest), room)])
			if len(payload) > 0 || s.body.Done() {
				s.c.data(s, payload, s.body.Done())
			}
		}
		if e != h1.ErrNone { // not that the plane would: it writes HTTP/1.1 as strictly as it reads it
			return n, syscall.EPROTO
		}
		n += used
	}
	return n, 0
}

// whole has parse take a head, or trailers, which may come in pieces: 0 means that more is needed. It returns how much of b was
// taken.
func (s *stream) whole(b []byte, parse func(b []byte) (int, h1.Err)) (used int, e h1.Err) {
	had := len(s.part)
	if had > 0 {
		s.part = append(s.part, b...)
		used, e = parse(s.part)
	} else {
		used, e = parse(b)
	}
	switch {
	case e != h1.ErrNone:
		return 0, e
	case used > 0:
		s.part = s.part[:0]
		return used - had, h1.ErrNone
	case had == 0:
		s.part = append(s.part, b...)
	}
	return len(b), h1.ErrNone
}

// head takes a head: the answer's, or one of an interim answer.
func (s *stream) head(b []byte) (int, h1.Err) {
	c, r := s.c, s.c.w.answer
	n, e := r.Parse(b, &s.progress, &s.info)
	if n == 0 || e != h1.ErrNone {
		return 0, e
	}
	block := c.w.block[:0]
	if c.shrunk {
		c.shrunk = false
		block = append(block, 0x20) // RFC 7541 4.2, 6.3: the table is empty, and stays so
	}
	block = appendStatus(block, r.Code)
	for _, f := range r.Fields() {
		block = appendHeader(block, f.Name.In(b), f.Value.In(b))
	}
	c.w.block = block[:0]
	if !r.Interim {
		s.said, s.body = begun, r.NewBody(true)
		if s.body.Done() {
			s.said = ended
		}
	}
	c.say(appendBlock(c.begin(), block, s.id, s.said == ended))
	return n, h1.ErrNone
}

// trailers takes the end of a body in chunks.
func (s *stream) trailers(b []byte) (int, h1.Err) {
	c, t := s.c, s.c.w.trailer
	n, e := t.Parse(b, &s.progress, true)
	if n == 0 || e != h1.ErrNone {
		return 0, e
	}
	s.body.EndTrailer()
	block := c.w.block[:0]
	for _, f := range t.Fields() {
		block = appendHeader(block, f.Name.In(b), f.Value.In(b))
	}
	c.w.block = block[:0]
	if len(block) == 0 {
		c.data(s, nil, true)
		return n, h1.ErrNone
	}
	s.said = ended
	c.say(appendBlock(c.begin(), block, s.id, true))
	return n, h1.ErrNone
}

// data writes a piece of an answer's body, for which there is room. last ends the stream.
func (c *conn) data(s *stream, p []byte, last bool) {
	if last {
		s.said = ended
		if len(p) == 0 && c.dataOf == s.id { // the latest frame can say so
			c.out[c.data0+4] |= flagEndStream
			return
		}
	}
	s.window -= len(p)
	c.window -= len(p)
	b := c.begin()
	for {
		piece := p[:min(len(p), maxFrame)]
		p = p[len(piece):]
		flags := byte(0)
		if last && len(p) == 0 {
			flags = flagEndStream
		}
		c.data0 = len(b)
		b = append(appendFrameHead(b, len(piece), frameData, flags, s.id), piece...)
		if len(p) == 0 {
			break
		}
	}
	c.dataOf = s.id
	c.say(b)
}

// appendStatus writes :status, RFC 9113 8.3.2.
func appendStatus(b []byte, status int) []byte {
	switch status { // RFC 7541 A
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	return strconv.AppendInt(append(b, 8, 3), int64(status), 10)
}

// appendHeader writes a field, without having the other side remember it (RFC 7541 6.2.2; a cookie: 6.2.3). What is of one
// connection of HTTP/1.1 is left out (RFC 9113 8.2.2).
func appendHeader(b, name, value []byte) []byte {
	var lower [64]byte
	l := lower[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		l = append(l, c)
	}
	index, known := indexOf[string(l)]
	switch {
	case known && index == hop:
		return b
	case known && index == setCookie:
		b = appendNumber(b, 0x10, 4, int(index))
	case known:
		b = appendNumber(b, 0, 4, int(index))
	default:
		b = append(appendNumber(append(b, 0), 0, 7, len(l)), l...)
	}
	return append(appendNumber(b, 0, 7, len(value)), value...)
}

// appendNumber: RFC 7541 5.1.
func appendNumber(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, 0x80|byte(n))
	}
	return append(b, byte(n))
}

const (
	hop       = 0
	setCookie = 55
)

// indexOf has the place of names in the static table (RFC 7541 A), and hop for those that are not sent.
var indexOf = map[string]uint8{
	"connection": hop, "keep-alive": hop, "proxy-connection": hop, "transfer-encoding": hop, "upgrade": hop,

	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25,
	"content-encoding": 26, "content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30,
	"content-type": 31, "date": 33, "etag": 34, "expires": 36, "last-modified": 44, "link": 45, "location": 46,
	"proxy-authenticate": 48, "retry-after": 53, "server": 54, "set-cookie": setCookie, "strict-transport-security": 56, "vary": 59, "via": 60,
	"www-authenticate": 61,
}

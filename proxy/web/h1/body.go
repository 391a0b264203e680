package h1

// Body reads one message body. It has no pointers; a connection keeps one for each direction. Make it with
// Request.NewBody, Response.NewBody or StartBody.
//
//	for len(in) > 0 && !b.Done() {
//		payload, n, e := b.Next(in)
//		… write payload …
//		in = in[n:]
//	}
//	// what is left in in is the next message, or surplus
type Body struct {
	left   uint64 // of the body (BodyLength) or of the chunk
	state  bodyState
	digits uint8  // of the chunk size so far
	line   uint16 // bytes of the chunk's line, or of the trailer section
	server bool
	keep   bool // stop before the trailer section instead of skipping it
	colon  bool // in a trailer line: the name is behind
}

const (
	maxChunkLine = 512     // size and extension: nobody needs more, RFC 9112 7.1.1 says to have a limit
	maxTrailer   = 8 << 10 // bytes of a skipped trailer section
	maxDigits    = 16      // of a chunk size, zeros included
)

type bodyState uint8

const (
	bodyDone bodyState = iota
	bodyLeft
	bodyUntilClose
	chunkSize    // digits
	chunkSpace   // BWS behind the size or an extension: only ';' may follow
	chunkExt     // behind ';': BWS, then a name
	chunkName    // in the name
	chunkNameEnd // BWS behind the name: '=' or ';'
	chunkEqual   // behind '=': BWS, then a value
	chunkValue   // token
	chunkQuote   // quoted-string
	chunkEscape  // behind its backslash
	chunkQuoted  // behind its end
	chunkLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerLine // at the begin of a line
	trailerText // within a line
	trailerLF
	trailerEndLF
	trailerStop // at the trailer section, for Trailer.Parse
)

// StartBody begins a body. server says who sends it (its errors are 502 then), keepTrailers that the caller
// reads the trailer section itself.
func StartBody(f Framing, length int64, server, keepTrailers bool) (b Body) {
	b.server, b.keep = server, keepTrailers
	switch f {
	case BodyLength:
		if length > 0 {
			b.left, b.state = uint64(length), bodyLeft
		}
	case BodyChunked:
		b.state = chunkSize
	case BodyUntilClose:
		b.state = bodyUntilClose
	}
	return b
}

// NewBody begins the request's body.
func (i *Info) NewBody(keepTrailers bool) Body {
	return StartBody(i.Body, i.Length, false, keepTrailers)
}

// NewBody begins the response's body.
func (r *Response) NewBody(keepTrailers bool) Body {
	return StartBody(r.Body, r.Length, true, keepTrailers)
}

// Done tells that the body has ended and the next byte is not part of it.
func (b *Body) Done() bool { return b.state == bodyDone }

// AtTrailer tells that Next stopped before the trailer section, because the caller wanted to read it. What
// follows is for Trailer.Parse (a lone CRLF when there are none); then EndTrailer.
func (b *Body) AtTrailer() bool { return b.state == trailerStop }

// EndTrailer ends the body after Trailer.Parse.
func (b *Body) EndTrailer() { b.state = bodyDone }

// Left is how many payload bytes surely come next: the rest of the length or of the chunk. An engine may splice
// that many and then say so to Skip. Until close it is the most there can be.
func (b *Body) Left() uint64 {
	switch b.state {
	case bodyLeft, chunkData:
		return b.left
	case bodyUntilClose:
		return 1<<63 - 1
	}
	return 0
}

// Skip tells that n payload bytes, no more than Left, went another way than through Next.
func (b *Body) Skip(n uint64) {
	switch b.state {
	case bodyLeft, chunkData:
		if n > b.left {
			panic("h1: BUG: more skipped than was left")
		}
		if b.left -= n; b.left == 0 {
			b.endPart()
		}
	}
}

func (b *Body) endPart() {
	if b.state == chunkData {
		b.state = chunkDataCR
	} else {
		b.state = bodyDone
	}
}

// AtEOF tells whether the sender may close here. If not, the message is cut short and must not be made to look
// whole (RFC 9112 8).
func (b *Body) AtEOF() Err {
	if b.state == bodyDone || b.state == bodyUntilClose {
		return ErrNone
	}
	return b.err(ErrTruncated)
}

func (b *Body) err(e Err) Err {
	if b.server {
		return e | errServer
	}
	return e
}

// Next takes up to the end of the next piece of payload out of in: n bytes are consumed, payload is the last
// of them. Framing before the payload is consumed with it; payload is empty when in has only framing. It
// consumes nothing once Done or AtTrailer.
func (b *Body) Next(in []byte) (payload []byte, n int, e Err) {
	for n < len(in) {
		switch b.state {
		case bodyDone, trailerStop:
			return nil, n, ErrNone
		case bodyUntilClose:
			return in[n:], len(in), ErrNone
		case bodyLeft, chunkData:
			piece := in[n:]
			if uint64(len(piece)) > b.left {
				piece = piece[:b.left]
			}
			b.Skip(uint64(len(piece)))
			n += len(piece)
			if b.state == chunkDataCR && len(in)-n >= 2 && in[n] == '\r' && in[n+1] == '\n' {
				b.state, n = chunkSize, n+2
				return in[n-2-len(piece) : n-2], n, ErrNone
			}
			return piece, n, ErrNone
		case trailerText:
			m, e := b.trailerBytes(in[n:])
			if n += m; e != ErrNone {
				return nil, n, b.err(e)
			}
		default:
			if e := b.step(in[n]); e != ErrNone {
				return nil, n, b.err(e)
			}
			n++
		}
	}
	return nil, n, ErrNone
}

// step takes one byte of framing: RFC 9112 7.1. A chunk's line is
//
//	1*HEXDIG *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ) CRLF
func (b *Body) step(c byte) Err {
	switch b.state {
	case chunkDataCR:
		return b.want(c, '\r', chunkDataLF, ErrChunkEnd)
	case chunkDataLF:
		return b.want(c, '\n', chunkSize, ErrChunkEnd)
	case trailerLine, trailerLF, trailerEndLF:
		return b.stepTrailer(c)
	case chunkLF:
		if c != '\n' {
			return ErrBareLF
		}
		b.endSize()
		return ErrNone
	case chunkSize:
		if class[c]&isHex != 0 {
			return b.digit(c)
		}
		if b.digits == 0 {
			return ErrChunkSize
		}
	}
	if b.line++; b.line > maxChunkLine {
		return ErrChunkLong
	}
	return b.extension(c)
}

func (b *Body) want(c, wanted byte, next bodyState, e Err) Err {
	if c != wanted {
		return e
	}
	b.state = next
	return ErrNone
}

func (b *Body) digit(c byte) Err {
	if b.digits++; b.digits == 1 {
		b.left, b.line = 0, 0
	}
	// Below 2^62 after any digit, so that no sum of ours or of the server's overflows an int64.
	if b.digits > maxDigits || b.left > 1<<58-1 {
		return ErrChunkSize
	}
	d := lower(c) - '0'
	if d > 9 {
		d = lower(c) - 'a' + 10
	}
	b.left = b.left<<4 | uint64(d)
	return ErrNone
}

// extension walks over a chunk extension without reading it (RFC 9112 7.1.1 lets us ignore what we do not
// know), so that what looks like its end is its end to every strict parser.
func (b *Body) extension(c byte) Err {
	token, space := class[c]&isToken != 0, isSpace(c)
	switch b.state {
	case chunkQuote:
		switch {
		case c == '"':
			b.state = chunkQuoted
		case c == '\\':
			b.state = chunkEscape
		case class[c]&isQuoted == 0:
			return ErrChunkExtension
		}
		return ErrNone
	case chunkEscape:
		if class[c]&isText == 0 {
			return ErrChunkExtension
		}
		b.state = chunkQuote
		return ErrNone
	case chunkExt, chunkEqual:
		switch {
		case token && b.state == chunkExt:
			b.state = chunkName
		case token:
			b.state = chunkValue
		case c == '"' && b.state == chunkEqual:
			b.state = chunkQuote
		case !space:
			return ErrChunkExtension
		}
		return ErrNone
	case chunkName, chunkValue:
		if token {
			return ErrNone
		}
	}
	return b.extensionEnd(c, space)
}

// extensionEnd: behind the size, a name or a value.
func (b *Body) extensionEnd(c byte, space bool) Err {
	name := b.state == chunkName || b.state == chunkNameEnd
	switch {
	case c == '=' && name:
		b.state = chunkEqual
	case c == ';':
		b.state = chunkExt
	case c == '\r' && (b.server && b.state == chunkSpace || b.state != chunkSpace && b.state != chunkNameEnd):
		// Old servers pad the size with spaces, and every client takes it. From a client it is refused: RFC 9112 7.1
		// has no space there, and parsers that read it otherwise are how requests are smuggled.
		b.state = chunkLF
	case space && name:
		b.state = chunkNameEnd
	case space:
		b.state = chunkSpace
	case c == '\n':
		return ErrBareLF
	case b.state == chunkSize:
		return ErrChunkSize
	default:
		return ErrChunkExtension
	}
	return ErrNone
}

func (b *Body) endSize() {
	b.digits, b.line = 0, 0
	switch {
	case b.left > 0:
		b.state = chunkData
	case b.keep:
		b.state = trailerStop
	default:
		b.state = trailerLine
	}
}

// stepTrailer skips the trailer section but checks it as the head's lines are checked: what is dropped may
// not be a request to somebody else.
func (b *Body) stepTrailer(c byte) Err {
	switch b.state {
	case trailerEndLF:
		return b.want(c, '\n', bodyDone, ErrBareLF)
	case trailerLF:
		return b.want(c, '\n', trailerLine, ErrBareLF)
	}
	switch {
	case c == '\r':
		b.state = trailerEndLF
		return ErrNone
	case c == '\n':
		return ErrBareLF
	case class[c]&isToken == 0:
		return ErrTrailer
	}
	b.state, b.colon = trailerText, false
	return b.trailerLength(1)
}

func (b *Body) trailerLength(n int) Err {
	if int(b.line)+n > maxTrailer {
		return ErrTrailerLong
	}
	b.line += uint16(n)
	return ErrNone
}

// trailerBytes takes bytes of a trailer line up to its CR.
func (b *Body) trailerBytes(in []byte) (n int, e Err) {
	if !b.colon {
		for n < len(in) && class[in[n]]&isToken != 0 {
			n++
		}
		if e = b.trailerLength(n); e != ErrNone || n == len(in) {
			return n, e
		}
		if in[n] != ':' {
			return n, ErrTrailer
		}
		b.colon = true
		return n + 1, b.trailerLength(1)
	}
	for n < len(in) && class[in[n]]&isText != 0 {
		n++
	}
	if e = b.trailerLength(n); e != ErrNone || n == len(in) {
		return n, e
	}
	switch in[n] {
	case '\r':
		b.state = trailerLF
		return n + 1, b.trailerLength(len("\r\n"))
	case '\n':
		return n, ErrBareLF
	}
	return n, ErrTrailer
}

package h1

// Limits bounds a head. Zero values mean the defaults; what does not fit the offsets' type is cut down.
type Limits struct {
	Target int // bytes of a request target, above: 414. Default 8 KiB
	Head   int // bytes of a head with its empty line, above: 431. Default 32 KiB, at most 64 KiB - 1
	Fields int // field lines, above: 431. Default 128, at most 1024
}

const (
	defaultTarget = 8 << 10
	defaultHead   = 32 << 10
	defaultFields = 128
	maxHead       = 1<<16 - 1 // offsets are uint16
	maxFields     = 1024
	maxMethod     = 32 // RFC 9112 3: longer than any method implemented is 501. The registry's longest has 17
)

func (l Limits) orDefault() Limits {
	set := func(v *int, otherwise, most int) {
		if *v <= 0 {
			*v = otherwise
		}
		*v = min(*v, most)
	}
	set(&l.Head, defaultHead, maxHead)
	set(&l.Target, defaultTarget, maxHead)
	set(&l.Fields, defaultFields, maxFields)
	return l
}

// requestLine is the longest request line that can be right, without its CRLF.
func (l *Limits) requestLine() int { return maxMethod + 1 + l.Target + len(" HTTP/1.1") }

// Progress is how far an unfinished head was checked. A connection keeps it beside the bytes it has of the
// head, and passes both again when there are more. The zero Progress is the beginning; Parse sets it
// back to zero when it has finished a head.
type Progress struct {
	line   uint16 // where the first line begins that is not complete
	scan   uint16 // no LF in [line, scan)
	fields uint16 // field lines complete before line
	phase  phase
}

type phase uint8

const (
	phaseBegin  phase = iota // nothing seen
	phaseStart               // one empty line was skipped
	phaseFields              // the start line is behind
)

// Started tells a head of which something was seen from a connection at rest, such as an idle one.
func (p *Progress) Started() bool { return *p != Progress{} }

// next finds the end of the line that begins at p.line. It returns the line without CRLF and moves on to the
// next one; ok is false when the line is not complete. Every byte is searched for LF once.
func (p *Progress) next(buf []byte, limit int) (line Span, ok bool, e Err) {
	window := buf[:min(len(buf), limit)]
	i := indexLF(window, int(p.scan))
	if i < 0 {
		p.scan = uint16(len(window))
		if len(buf) >= limit {
			return Span{}, false, ErrHeadLong
		}
		return Span{}, false, ErrNone
	}
	// RFC 9112 2.2 lets a recipient take a lone LF for a line end; peers that disagree about it are how
	// requests are smuggled, so we do not.
	if i == int(p.line) || buf[i-1] != '\r' {
		return Span{}, false, ErrBareLF
	}
	line = Span{p.line, uint16(i - 1)}
	p.line, p.scan = uint16(i+1), uint16(i+1)
	return line, true, ErrNone
}

// Span is a piece of the buffer that was parsed.
type Span struct{ Off, End uint16 }

// In is the span's bytes in the buffer it was found in.
func (s Span) In(buf []byte) []byte { return buf[s.Off:s.End] }

// Len is the number of bytes.
func (s Span) Len() int { return int(s.End) - int(s.Off) }

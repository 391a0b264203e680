package h1

// Trailer is a parsed trailer section. It is only needed where trailers are passed on; Body skips them.
type Trailer struct{ table }

// NewTrailer makes the table; Limits.Head bounds the section.
func NewTrailer(l Limits) *Trailer {
	t := &Trailer{}
	t.init(l)
	return t
}

// Parse reads the section behind the last chunk, up to its empty line (RFC 9112 7.1.2), when Body stopped
// before it. n and p as in Request.Parse; server says from whom it comes.
func (t *Trailer) Parse(buf []byte, p *Progress, server bool) (n int, e Err) {
	again := p.line > 0
	if n, e = t.section(buf, p, !again, server); n > 0 && again {
		*p = Progress{}
		n, e = t.section(buf[:n], p, true, server)
	}
	if n > 0 || e != ErrNone {
		*p = Progress{}
	}
	if server {
		e = ofServer(e)
	}
	return n, e
}

func (t *Trailer) section(buf []byte, p *Progress, keep, server bool) (n int, e Err) {
	if keep {
		t.fields = t.fields[:0]
	}
	n, e = t.lines(buf, p, t.limits.Head, keep, server)
	if e == ErrHeadLong || e == ErrTooManyFields {
		e = ErrTrailerLong
	}
	return n, e
}

// AppendTo writes the last chunk with those fields that may be trailers: RFC 9110 6.5.1 forbids what frames,
// routes, authenticates or describes the content, which a recipient might merge into the head.
func (t *Trailer) AppendTo(dst, buf []byte) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range t.fields {
		f := &t.fields[i]
		if f.id == idOther && !notInTrailer(f.Name.In(buf)) {
			dst = appendField(dst, buf, f)
		}
	}
	return append(dst, "\r\n"...)
}

// notInTrailer: what identify knows is refused before this is asked.
func notInTrailer(name []byte) bool {
	for _, s := range &forbiddenTrailers {
		if fold(name, s) {
			return true
		}
	}
	return hasPrefixFold(name, "content-") || hasPrefixFold(name, "if-") || hasPrefixFold(name, "access-control-")
}

var forbiddenTrailers = [...]string{
	"age", "authorization", "cache-control", "cookie", "expires", "location", "pragma", "range", "retry-after",
	"set-cookie", "vary", "via", "warning", "www-authenticate",
}

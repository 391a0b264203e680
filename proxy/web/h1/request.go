package h1

import "bytes"

// Request is a parsed request head. It refers to the buffer by offsets; make it with NewRequest and use it
// for one head after another. Its values hold from a Parse that returned n > 0 until the next Parse.
type Request struct {
	Info
	MethodName Span // as it came
	Target     Span // as it came
	Path       Span // of the target, without the query; empty means "/" (absolute form) or, with Asterisk, none
	Host       Span // without port, as it came; AppendHost has it in lower case
	Port       int32
	Asterisk   bool // OPTIONS *, also from an absolute target without path (RFC 9112 3.2.4)
	HTTPS      bool // the target's scheme; origin form has none
	authority  Span // host and port, as it came; of the target rather than of Host
	rest       Span // Path and query
	absolute   bool
	table
}

// Info is what is needed of a request after its head is gone. No pointers.
type Info struct {
	Length      int64 // of the body when Body is BodyLength; of a Content-Length: 0 also when there is none
	MaxForwards int32 // TRACE and OPTIONS only; -1 without. At 0 the door answers itself: RFC 9110 7.6.2
	Method      Method
	Minor       uint8 // 0 or 1: HTTP/1.2 and later are read as 1.1 (RFC 9110 2.5)
	Body        Framing
	KeepAlive   bool // the client wants, and can have, another request on this connection
	Expect      bool // 100-continue: the client may wait with the body
	Upgrade     Upgrade
}

// Framing is how a body ends, RFC 9112 6.3.
type Framing uint8

// A request's body is never BodyUntilClose.
const (
	BodyNone Framing = iota
	BodyLength
	BodyChunked
	BodyUntilClose
)

// Method tells apart what a door must treat differently. Names are in MethodName.
type Method uint8

// MethodOther is any other upper case token.
const (
	MethodOther Method = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodDelete
	MethodPatch
	MethodOptions
	MethodTrace
)

// Idempotent methods may be sent a second time, RFC 9110 9.2.2.
func (m Method) Idempotent() bool {
	switch m {
	case MethodGet, MethodHead, MethodPut, MethodDelete, MethodOptions, MethodTrace:
		return true
	}
	return false
}

// Safe methods only read, RFC 9110 9.2.1. Of others nobody knows.
func (m Method) Safe() bool {
	switch m {
	case MethodGet, MethodHead, MethodOptions, MethodTrace:
		return true
	}
	return false
}

func methodOf(b []byte) Method {
	switch string(b) {
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "DELETE":
		return MethodDelete
	case "PATCH":
		return MethodPatch
	case "OPTIONS":
		return MethodOptions
	case "TRACE":
		return MethodTrace
	}
	return MethodOther
}

// NewRequest makes the table for heads within these limits.
func NewRequest(l Limits) *Request {
	r := &Request{}
	r.init(l)
	return r
}

// Parse reads a request head that begins at buf[0]. It returns its length with the empty line; 0 when more
// bytes are needed, then it is called again with p as it was left and with the same bytes and more; or an Err.
// Between calls buf may move, and r may be used for other heads. After an Err the request's Method is known
// when Err came behind the request line and in the same call, which is all that an answer needs.
func (r *Request) Parse(buf []byte, p *Progress) (n int, e Err) {
	r.Info = Info{}
	again := p.phase == phaseFields
	if n, e = r.walk(buf, p, !again); n == 0 || e != ErrNone {
		return 0, e
	}
	if again {
		*p = Progress{}
		if n, e = r.walk(buf[:n], p, true); e != ErrNone {
			return 0, e
		}
	}
	*p = Progress{}
	if e = r.conclude(buf); e != ErrNone {
		return 0, e
	}
	return n, ErrNone
}

func (r *Request) walk(buf []byte, p *Progress, keep bool) (n int, e Err) {
	limit := r.limits.Head
	if p.phase == phaseBegin {
		if ok, e := skipEmptyLine(buf, p); !ok {
			return 0, e
		}
	}
	if p.phase == phaseStart {
		if ok, e := r.startLine(buf, p, limit); !ok {
			return 0, e
		}
	}
	if keep {
		r.fields = r.fields[:0]
	}
	return r.lines(buf, p, limit, keep, false)
}

// skipEmptyLine: RFC 9112 2.2, "at least one empty line" ought to be ignored before a request. One is.
func skipEmptyLine(buf []byte, p *Progress) (ok bool, e Err) {
	switch {
	case len(buf) == 0:
		return false, ErrNone
	case buf[0] == '\n':
		return false, ErrBareLF
	case buf[0] == '\r' && len(buf) == 1:
		return false, ErrNone
	case buf[0] == '\r' && buf[1] != '\n':
		return false, ErrControlByte
	case buf[0] == '\r':
		p.line, p.scan = 2, 2
	}
	p.phase = phaseStart
	return true, ErrNone
}

func (r *Request) startLine(buf []byte, p *Progress, limit int) (ok bool, e Err) {
	at := int(p.line)
	if at == len(buf) {
		return false, ErrNone
	}
	// A peer that speaks something else (TLS, say) may never send a line end: told by its first byte.
	if class[buf[at]]&isMethod == 0 {
		if buf[at] == '\r' || buf[at] == '\n' {
			return false, ErrEmptyLines
		}
		return false, ErrMethod
	}
	// Longer than any right line: an error, and the same whether its end is here yet or not.
	most := r.limits.requestLine()
	if end := at + most + len("\r\n"); min(len(buf), limit) >= end && indexLF(buf[:end], int(p.scan)) < 0 {
		return false, r.requestLine(buf, Span{uint16(at), uint16(at + most + 1)})
	}
	line, ok, e := p.next(buf, limit)
	if !ok {
		return false, e
	}
	if e = r.requestLine(buf, line); e != ErrNone {
		return false, e
	}
	p.phase = phaseFields
	return true, ErrNone
}

// requestLine: method SP request-target SP HTTP-version, RFC 9112 3. Single spaces; nothing is guessed.
func (r *Request) requestLine(buf []byte, line Span) Err {
	b := line.In(buf)
	m := 0
	for m < len(b) && m <= maxMethod && class[b[m]]&isMethod != 0 {
		m++
	}
	switch {
	case m > maxMethod:
		return ErrMethodLong
	case m == len(b):
		return ErrRequestLine
	case b[m] != ' ':
		return ErrMethod
	}
	rest := b[m+1:]
	t := bytes.IndexByte(rest[:min(len(rest), r.limits.Target+1)], ' ')
	switch {
	case t < 0 && len(rest) > r.limits.Target:
		return ErrTargetLong
	case t <= 0:
		return ErrRequestLine
	}
	target := rest[:t]
	for _, c := range target {
		if class[c]&isTarget == 0 {
			return ErrTarget
		}
	}
	minor, e := version(rest[t+1:])
	if e != ErrNone {
		return e
	}
	r.Minor = minor
	r.MethodName = Span{line.Off, line.Off + uint16(m)}
	r.Method = methodOf(b[:m])
	r.Target = Span{r.MethodName.End + 1, r.MethodName.End + 1 + uint16(t)}
	return r.setTarget(buf)
}

// version: RFC 9112 2.3. A higher minor of a known major is read as the highest we know (RFC 9110 2.5).
func version(b []byte) (minor uint8, e Err) {
	if len(b) != len("HTTP/1.1") || string(b[:5]) != "HTTP/" || b[6] != '.' ||
		class[b[5]]&isDigit == 0 || class[b[7]]&isDigit == 0 {
		return 0, ErrVersion
	}
	if b[5] != '1' {
		return 0, ErrVersionMajor
	}
	return min(b[7]-'0', 1), ErrNone
}

// setTarget tells the four forms of RFC 9112 3.2 apart.
func (r *Request) setTarget(buf []byte) Err {
	b := r.Target.In(buf)
	r.absolute, r.Asterisk, r.HTTPS = false, false, false
	r.rest, r.Path = Span{}, Span{}
	if string(r.MethodName.In(buf)) == "CONNECT" {
		// A door is no forward proxy. authority-form needs its port (RFC 9110 9.3.6).
		if _, port, ok := authority(b); !ok || port < 0 {
			return ErrTarget
		}
		return ErrConnect
	}
	switch {
	case b[0] == '/':
		r.rest = r.Target
	case b[0] == '*' && len(b) == 1:
		if r.Method != MethodOptions { // RFC 9112 3.2.4
			return ErrTarget
		}
		r.Asterisk = true
		return ErrNone
	case hasPrefixFold(b, "http://"):
		return r.setAbsolute(buf, uint16(len("http://")))
	case hasPrefixFold(b, "https://"):
		r.HTTPS = true
		return r.setAbsolute(buf, uint16(len("https://")))
	default:
		return ErrTarget
	}
	r.setPath(buf)
	return ErrNone
}

// setAbsolute: RFC 9112 3.2.2, the target's authority counts and Host is ignored.
func (r *Request) setAbsolute(buf []byte, scheme uint16) Err {
	start := r.Target.Off + scheme
	end := start
	for end < r.Target.End && buf[end] != '/' && buf[end] != '?' {
		end++
	}
	n, port, ok := authority(buf[start:end])
	if !ok {
		return ErrAuthority
	}
	r.absolute = true
	r.authority = Span{start, end}
	r.Host, r.Port = Span{start, start + uint16(n)}, port
	r.rest = Span{end, r.Target.End}
	r.setPath(buf)
	r.Asterisk = r.Method == MethodOptions && r.rest.Len() == 0
	return ErrNone
}

func (r *Request) setPath(buf []byte) {
	r.Path = r.rest
	if i := bytes.IndexByte(r.rest.In(buf), '?'); i >= 0 {
		r.Path.End = r.rest.Off + uint16(i)
	}
}

// conclude decides what only the whole head can tell.
func (r *Request) conclude(buf []byte) Err {
	if e := r.read(buf, r.Minor); e != ErrNone {
		return e
	}
	if e := r.concludeHost(buf); e != ErrNone {
		return e
	}
	switch {
	case r.chunked:
		r.Body = BodyChunked
	case r.length > 0:
		r.Body, r.Length = BodyLength, r.length
	}
	if r.Method == MethodTrace && r.Body != BodyNone {
		return ErrTraceBody // RFC 9110 9.3.8
	}
	// RFC 9112 9.3: 1.1 persists unless told otherwise, 1.0 only when asked to.
	r.KeepAlive = !r.close && (r.Minor > 0 || r.keepAlive)
	if e := r.concludeHops(buf); e != ErrNone {
		return e
	}
	// RFC 9110 7.8: only when Connection says so, never from 1.0. We add: one protocol, no body to be mixed
	// up with what follows, and WebSocket with GET (RFC 6455 4.1). Else the field is ignored and dropped.
	r.Upgrade = Upgrade{}
	if r.upgradeOpt && r.upgrades == 1 && r.Minor > 0 && r.Body == BodyNone &&
		(!r.upgrade.WebSocket() || r.Method == MethodGet) {
		r.Upgrade = r.upgrade
	}
	return ErrNone
}

// concludeHost: RFC 9112 3.2. Host is checked also when the target's authority wins.
func (r *Request) concludeHost(buf []byte) Err {
	switch {
	case r.hosts > 1:
		return ErrHostTwice
	case r.hosts == 0 && r.Minor > 0:
		return ErrHostMissing
	case r.absolute:
		if r.host.Len() > 0 {
			if _, _, ok := authority(r.host.In(buf)); !ok {
				return ErrHost
			}
		}
		return ErrNone
	case r.hosts == 0:
		r.authority, r.Host, r.Port = Span{}, Span{}, -1
		return ErrNone
	}
	return r.setHost(buf, r.host)
}

// concludeHops reads Expect (RFC 9110 10.1.1) and Max-Forwards (7.6.2).
func (r *Request) concludeHops(buf []byte) Err {
	r.MaxForwards = -1
	for i := range r.fields {
		f := &r.fields[i]
		switch {
		case f.id == idExpect && r.Minor > 0:
			if !fold(f.Value.In(buf), "100-continue") {
				return ErrExpect
			}
			r.Expect = r.Body != BodyNone // nothing to wait for without a body
		case f.id == idMaxForwards && (r.Method == MethodTrace || r.Method == MethodOptions):
			n, ok := number(f.Value.In(buf))
			if !ok || r.MaxForwards >= 0 {
				return ErrMaxForwards
			}
			r.MaxForwards = int32(min(n, 1<<31-1))
		}
	}
	return ErrNone
}

package h1

// Response is a parsed response head of a server. Make it with NewResponse and use it for one after another.
type Response struct {
	Code      int
	Minor     uint8
	Body      Framing
	Length    int64 // of the body when Body is BodyLength; else what Content-Length said (HEAD, 304), -1 without
	KeepAlive bool  // the server's connection may be used again after the body
	Interim   bool  // 1xx but 101: the answer proper follows on the same connection. Drop it for a 1.0 client
	Switched  bool  // 101, and asked for: what follows on both connections is a tunnel
	Reason    Span
	request   Method
	table
}

// NewResponse makes the table for heads within these limits (Target is not used).
func NewResponse(l Limits) *Response {
	r := &Response{}
	r.init(l)
	return r
}

// Parse reads the head of the answer to the request that q is of; see Request.Parse for n and p. Every Err has
// status 502, and the server's connection is not to be used again.
func (r *Response) Parse(buf []byte, p *Progress, q *Info) (n int, e Err) {
	again := p.phase == phaseFields
	if n, e = r.walk(buf, p, !again); n == 0 || e != ErrNone {
		return 0, ofServer(e)
	}
	if again {
		*p = Progress{}
		if n, e = r.walk(buf[:n], p, true); e != ErrNone {
			return 0, ofServer(e)
		}
	}
	*p = Progress{}
	if e = r.conclude(buf, q); e != ErrNone {
		return 0, ofServer(e)
	}
	return n, ErrNone
}

func (r *Response) walk(buf []byte, p *Progress, keep bool) (n int, e Err) {
	limit := r.limits.Head
	if p.phase != phaseFields {
		if len(buf) == 0 {
			return 0, ErrNone
		}
		if buf[0] != 'H' {
			return 0, ErrStatusLine
		}
		line, ok, e := p.next(buf, limit)
		if !ok {
			return 0, e
		}
		if e = r.statusLine(buf, line); e != ErrNone {
			return 0, e
		}
		p.phase = phaseFields
	}
	if keep {
		r.fields = r.fields[:0]
	}
	return r.lines(buf, p, limit, keep, true)
}

// statusLine: HTTP-version SP 3DIGIT SP [ reason ], RFC 9112 4. The second space may be missing with the
// reason, as many servers have it and clients take it.
func (r *Response) statusLine(buf []byte, line Span) (e Err) {
	b := line.In(buf)
	if len(b) < len("HTTP/1.1 200") || b[8] != ' ' || !all(b[9:12], isDigit) {
		return ErrStatusLine
	}
	if r.Minor, e = version(b[:8]); e != ErrNone {
		return e
	}
	r.Reason = Span{line.End, line.End}
	if len(b) > 12 {
		if b[12] != ' ' || !text(b[13:]) {
			return ErrStatusLine
		}
		r.Reason.Off = line.Off + 13
	}
	r.Code = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if r.Code < 100 || r.Code > 599 { // RFC 9110 15
		return ErrStatusCode
	}
	return ErrNone
}

func (r *Response) conclude(buf []byte, q *Info) Err {
	if e := r.read(buf, r.Minor); e != ErrNone {
		return e
	}
	r.request = q.Method
	r.Interim = r.Code < 200 && r.Code != 101
	r.Switched = false
	if r.Code == 101 {
		if !r.upgradeOpt || r.upgrades != 1 || !q.Upgrade.Wanted() || r.upgrade != q.Upgrade {
			return ErrSwitch // RFC 9110 15.2.2: only to what was asked for
		}
		r.Switched = true
	}
	r.frame()
	// Surplus bytes are for the engine to see: a connection with unread bytes is never used again.
	r.KeepAlive = !r.close && (r.Minor > 0 || r.keepAlive) && r.Body != BodyUntilClose && !r.Switched
	return ErrNone
}

// frame: RFC 9112 6.3, in its order.
func (r *Response) frame() {
	r.Length = r.length
	switch {
	case r.request == MethodHead || r.Code < 200 || r.Code == 204 || r.Code == 304:
		r.Body = BodyNone
	case r.chunked:
		r.Body = BodyChunked
	case r.length == 0:
		r.Body = BodyNone
	case r.length > 0:
		r.Body = BodyLength
	default:
		r.Body = BodyUntilClose
	}
}

// ForClient is how the body goes to a client of HTTP/1.minor, and whether the client's connection must end
// with it: chunked is undone for 1.0, and what ends by closing ends so for the client too (a cut there
// looks like an end on both sides, and is not made to look better than that).
func (r *Response) ForClient(minor uint8) (body Framing, mustClose bool) {
	if r.Body == BodyChunked && minor == 0 {
		return BodyUntilClose, true
	}
	return r.Body, r.Body == BodyUntilClose
}

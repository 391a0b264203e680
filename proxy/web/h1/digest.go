package h1

// digest is what the fields that requests and responses share add up to.
type digest struct {
	length     int64 // of Content-Length, -1 without
	chunked    bool
	coded      bool // Transfer-Encoding was there
	unknown    bool // with a coding that is well formed but not chunked
	close      bool
	keepAlive  bool
	upgradeOpt bool // Connection: upgrade
	te         bool // TE: trailers
	upgrade    Upgrade
	upgrades   uint8
	cookies    bool
	door       bool
	hosts      uint8
	host       Span
	names      [maxNames]Span // what Connection names beyond the options above
	numNames   uint8
}

// maxNames bounds what Connection may name: every field is compared with each.
const maxNames = 16

// read goes over the fields once. What depends on the method is for the caller.
func (t *table) read(buf []byte, minor uint8) (e Err) {
	d := &t.digest
	*d = digest{length: -1}
	for i := range t.fields {
		f := &t.fields[i]
		switch f.id {
		case idOther:
			continue
		case idHost:
			d.hosts = min(d.hosts+1, 2)
			d.host = f.Value
		case idContentLength:
			e = d.contentLength(buf, f.Value)
		case idTransferEncoding:
			e = d.transferEncoding(buf, f.Value)
		case idConnection:
			e = d.connection(buf, f.Value)
		case idTE:
			d.readTE(buf, f.Value)
		case idCookie:
			d.cookies = true
		case idDoor:
			d.door = true
		case idUpgrade:
			d.upgrades = min(d.upgrades+1, 2)
			d.upgrade = makeUpgrade(f.Value.In(buf))
		}
		if e != ErrNone {
			return e
		}
	}
	// RFC 9112 6.3: such a message ought to be handled as an error; it is how requests are smuggled.
	// It counts before what the coding is and in which version.
	switch {
	case d.coded && d.length >= 0:
		return ErrLengthAndCoding
	case d.coded && minor == 0:
		return ErrCoding10 // RFC 9112 6.1: faulty framing
	case d.unknown:
		return ErrCodingUnknown
	}
	if d.numNames > 0 {
		t.mark(buf)
	}
	return ErrNone
}

// contentLength: RFC 9112 6.3 lets "5, 5" and repeated lines pass as 5. We refuse them, and with them every
// other way to say two things.
func (d *digest) contentLength(buf []byte, v Span) Err {
	if d.length >= 0 {
		return ErrLengthTwice
	}
	n, ok := number(v.In(buf))
	if !ok {
		return ErrLength
	}
	d.length = n
	return ErrNone
}

// transferEncoding: RFC 9112 6.1. Only "chunked" once and alone is understood. What is well formed but
// another coding is ErrCodingUnknown; chunked twice, not last, or with parameters (7) is wrong.
func (d *digest) transferEncoding(buf []byte, list Span) Err {
	if d.coded {
		return ErrCoding
	}
	d.coded = true
	for more := true; more; {
		var coding Span
		more = hasComma(buf, list)
		coding, list = element(buf, list)
		if coding.Len() == 0 || d.chunked || !all(coding.In(buf), isToken) {
			return ErrCoding
		}
		if fold(coding.In(buf), "chunked") {
			d.chunked = true
		} else {
			d.unknown = true
		}
	}
	return ErrNone
}

func hasComma(buf []byte, list Span) bool {
	for _, c := range list.In(buf) {
		if c == ',' {
			return true
		}
	}
	return false
}

// connection reads the options of RFC 9110 7.6.1. Naming a field that frames or routes the message would have
// it removed at some hops and not at others: refused.
func (d *digest) connection(buf []byte, list Span) Err {
	for list.Len() > 0 {
		var option Span
		option, list = element(buf, list)
		b := option.In(buf)
		if len(b) == 0 {
			continue
		}
		if !all(b, isToken) {
			return ErrConnection
		}
		switch {
		case fold(b, "close"):
			d.close = true
		case fold(b, "keep-alive"):
			d.keepAlive = true
		case fold(b, "upgrade"):
			d.upgradeOpt = true
		case fold(b, "te"):
		case fold(b, "host"), fold(b, "content-length"), fold(b, "transfer-encoding"):
			return ErrConnectionNames
		case d.numNames == maxNames:
			return ErrConnection
		default:
			d.names[d.numNames] = option
			d.numNames++
		}
	}
	return ErrNone
}

func (t *table) mark(buf []byte) {
	for i := range t.fields {
		f := &t.fields[i]
		for _, n := range t.names[:t.numNames] {
			if foldBytes(f.Name.In(buf), n.In(buf)) {
				f.flags |= named
			}
		}
	}
}

// readTE looks for "trailers", RFC 9110 10.1.4; the codings in TE speak to us, not to the server.
func (d *digest) readTE(buf []byte, list Span) {
	for list.Len() > 0 {
		var coding Span
		coding, list = element(buf, list)
		if fold(coding.In(buf), "trailers") {
			d.te = true
		}
	}
}

// Upgrade is a protocol that a connection may become a tunnel for: one token, lower case. The zero Upgrade is
// none. It is kept by value, so that an answer can be compared when the request's bytes are gone.
type Upgrade struct {
	n     uint8
	token [15]byte
}

// makeUpgrade takes a value of the Upgrade field (RFC 9110 7.8): a single protocol that fits. Those that
// would carry further HTTP requests past the door (h2c, HTTP/2.0, TLS/1.0) are none.
func makeUpgrade(v []byte) (u Upgrade) {
	if len(v) == 0 || len(v) > len(u.token) {
		return u
	}
	slash := false
	for i, c := range v {
		if c == '/' && !slash && i > 0 && i < len(v)-1 { // protocol-name "/" protocol-version
			slash = true
		} else if class[c]&isToken == 0 {
			return Upgrade{}
		}
		u.token[i] = lower(c)
	}
	b := u.token[:len(v)]
	if hasPrefixFold(b, "h2") || hasPrefixFold(b, "h3") || hasPrefixFold(b, "http") || hasPrefixFold(b, "tls") {
		return Upgrade{}
	}
	u.n = uint8(len(v))
	return u
}

// Wanted tells that there is a protocol.
func (u Upgrade) Wanted() bool { return u.n > 0 }

// WebSocket tells RFC 6455's.
func (u Upgrade) WebSocket() bool { return u.n == 9 && string(u.token[:9]) == "websocket" }

// AppendTo writes the token.
func (u Upgrade) AppendTo(dst []byte) []byte { return append(dst, u.token[:u.n]...) }

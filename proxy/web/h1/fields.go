package h1

// Field is one field line: where its name and its value are, without the space around the value.
type Field struct {
	Name, Value Span
	id          fieldID
	flags       fieldFlags
}

type fieldFlags uint8

const (
	plain fieldFlags = 1 << iota // the line reads "name: value", so it can be copied with its neighbours
	named                        // Connection names it: RFC 9110 7.6.1, not forwarded
)

// table is the field lines of one head and what was read out of them.
type table struct {
	limits Limits
	fields []Field
	digest
}

func (t *table) init(l Limits) {
	t.limits = l.orDefault()
	t.fields = make([]Field, 0, t.limits.Fields)
}

// Fields are the field lines in their order. They hold until the next Parse.
func (t *table) Fields() []Field { return t.fields }

// Get finds the first field of this lower case name.
func (t *table) Get(buf []byte, name string) (value []byte, ok bool) {
	for i := range t.fields {
		if f := &t.fields[i]; fold(f.Name.In(buf), name) {
			return f.Value.In(buf), true
		}
	}
	return nil, false
}

// lines checks complete field lines up to the empty line, and returns the head's length when that was found,
// else 0. They are kept in the table only when the start line was seen in the same call: a head that came in
// pieces is walked once more when it is complete.
func (t *table) lines(buf []byte, p *Progress, limit int, keep, server bool) (n int, e Err) {
	for {
		line, ok, e := p.next(buf, limit)
		if !ok {
			return 0, e
		}
		if line.Len() == 0 {
			return int(p.line), ErrNone
		}
		if int(p.fields) == t.limits.Fields {
			return 0, ErrTooManyFields
		}
		p.fields++
		f, e := fieldLine(buf, line, server)
		if e != ErrNone {
			return 0, e
		}
		if keep {
			t.fields = append(t.fields, f)
		}
	}
}

// fieldLine reads "name:value", RFC 9112 5.
func fieldLine(buf []byte, line Span, server bool) (f Field, e Err) {
	b := line.In(buf)
	if isSpace(b[0]) {
		// RFC 9112 2.2 before the first field, 5.2 (obs-fold) after it: refused in both places.
		return f, ErrFold
	}
	i := 0
	for i < len(b) && class[b[i]]&isToken != 0 {
		i++
	}
	end := i
	if server {
		// RFC 9112 5.1: in a request it is refused, from a response it is removed.
		for i < len(b) && isSpace(b[i]) {
			i++
		}
	}
	if i == len(b) {
		return f, ErrFieldColon
	}
	if b[i] != ':' || end == 0 {
		return f, ErrFieldName
	}
	f.Name = Span{line.Off, line.Off + uint16(end)}
	f.Value = trim(buf, Span{line.Off + uint16(i) + 1, line.End})
	if !text(f.Value.In(buf)) {
		return f, ErrFieldValue
	}
	f.id = identify(b[:end])
	if f.Value.Off == f.Name.End+2 && b[end] == ':' && b[end+1] == ' ' && f.Value.End == line.End {
		f.flags = plain
	}
	return f, ErrNone
}

// fieldID names the fields that a door must know; the others are carried as they are.
type fieldID uint8

const (
	idOther fieldID = iota
	idHost
	idContentLength
	idTransferEncoding
	idConnection
	idHop // hop-by-hop, never forwarded: RFC 9110 7.6.1
	idTE
	idTrailer
	idUpgrade
	idExpect
	idMaxForwards
	idDate
	idRequestID
	idForwardedFor
	idForwardedProto
	idForwardedHost
	idForwarded
	idCookie
	idDoor  // X-Turnout-…: what a client says to the door, or would have a server believe that the door said
	idSpoof // means where the client is to some server: dropped unless the peer is trusted
)

// door begins the names of fields that are between a client and the door.
const door = "x-turnout-"

// identify is called for every field; most are told apart by their length and first letter.
func identify(name []byte) fieldID {
	is := func(s string, id fieldID) fieldID {
		if fold(name, s) {
			return id
		}
		return idOther
	}
	switch c := lower(name[0]); len(name) {
	case 2:
		return is("te", idTE)
	case 4:
		switch c {
		case 'h':
			return is("host", idHost)
		case 'd':
			return is("date", idDate)
		}
	case 6:
		switch c {
		case 'c':
			return is("cookie", idCookie)
		case 'e':
			return is("expect", idExpect)
		}
	case 7:
		switch c {
		case 't':
			return is("trailer", idTrailer)
		case 'u':
			return is("upgrade", idUpgrade)
		}
	case 9:
		switch c {
		case 'f':
			return is("forwarded", idForwarded)
		case 'x':
			return spoof(name, "x-real-ip")
		}
	case 10:
		switch c {
		case 'c':
			return is("connection", idConnection)
		case 'k':
			return is("keep-alive", idHop)
		}
	case 12:
		switch c {
		case 'm':
			return is("max-forwards", idMaxForwards)
		case 'x':
			return is("x-request-id", idRequestID)
		}
	case 14:
		switch c {
		case 'c':
			return framing(name, "content-length", idContentLength)
		case 'h':
			return is("http2-settings", idHop) // RFC 7540 3.2.1: belongs to h2c, which we never do
		}
	case 15:
		if c == 'x' {
			if id := is("x-forwarded-for", idForwardedFor); id != idOther {
				return id
			}
		}
	case 16:
		switch c {
		case 'p':
			return is("proxy-connection", idHop)
		case 'x':
			if id := is("x-forwarded-host", idForwardedHost); id != idOther {
				return id
			}
		}
	case 17:
		switch c {
		case 't':
			return framing(name, "transfer-encoding", idTransferEncoding)
		case 'x':
			if id := is("x-forwarded-proto", idForwardedProto); id != idOther {
				return id
			}
		}
	case 18:
		if c == 'p' {
			return is("proxy-authenticate", idHop)
		}
	case 19:
		if c == 'p' {
			return is("proxy-authorization", idHop)
		}
	}
	if len(name) > len(door) && lower(name[0]) == 'x' && fold(name[:len(door)], door) {
		return idDoor
	}
	if len(name) > len("x-forwarded-") && lower(name[0]) == 'x' {
		return spoof(name[:len("x-forwarded-")], "x-forwarded-")
	}
	return idOther
}

// framing tells a field of a body's framing from one that only looks so to CGI and its heirs, and is not forwarded.
func framing(name []byte, s string, id fieldID) fieldID {
	switch {
	case fold(name, s):
		return id
	case spoof(name, s) == idSpoof:
		return idHop
	}
	return idOther
}

// spoof also takes '_' for '-': CGI and its heirs make the same variable of both.
func spoof(name []byte, s string) fieldID {
	for i, c := range name {
		if c = lower(c); c != s[i] && (c != '_' || s[i] != '-') {
			return idOther
		}
	}
	return idSpoof
}

package h1

import (
	"net/netip"
	"strconv"
)

// RequestOut says how a request goes on to a server.
type RequestOut struct {
	Peer      netip.Addr // who sent it, for X-Forwarded-For and Forwarded; the zero Addr (a Unix socket) is unknown
	HTTPS     bool       // the client's connection is TLS
	Trusted   bool       // the peer is a proxy of ours: what it says of the client before it is kept and added to
	Host      string     // instead of the request's own; must be valid
	By        string     // our name in Via, a token; empty: no Via
	RequestID []byte     // X-Request-Id to set; empty: a valid one is kept, another one dropped
	Close     bool       // the server's connection ends with the answer
	Trailers  bool       // trailers of the body will be passed on, so Trailer and TE: trailers may stay
	Extra     []byte     // whole lines with CRLF, added as they are
}

// maxAdded is what a head may grow by, beyond its own length, a space in every field line, what is in RequestOut
// or ResponseOut, and what X-Forwarded-Host and Forwarded repeat of the host.
const maxAdded = 512

// MaxOut bounds what AppendTo will write, so that a caller can see to room first.
func (r *Request) MaxOut(head int, o *RequestOut) int {
	return head + len(r.fields) + maxAdded + 3*max(r.authority.Len(), len(o.Host)) + len(o.By) + len(o.RequestID) + len(o.Extra)
}

// AppendTo writes the head for a server: origin form, HTTP/1.1 (RFC 9110 2.5: a proxy sends its own version),
// one Host, one framing, the client's fields without those that end here, and ours.
func (r *Request) AppendTo(dst, buf []byte, o *RequestOut) []byte {
	dst = r.appendStart(dst, buf, o)
	var c run
	for i := range r.fields {
		f := &r.fields[i]
		if f.flags&named != 0 {
			continue
		}
		if f.id == idOther || r.keeps(buf, f, o) {
			dst = c.field(dst, buf, f)
		}
	}
	dst = c.flush(dst, buf)
	dst = appendFraming(dst, r.Body == BodyChunked, r.length)
	if r.Expect {
		// RFC 9110 10.1.1: a proxy forwards it to a server that may know it.
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	if r.MaxForwards > 0 {
		dst = append(dst, "Max-Forwards: "...)
		dst = strconv.AppendInt(dst, int64(r.MaxForwards)-1, 10)
		dst = append(dst, "\r\n"...)
	}
	dst = r.appendConnection(dst, o)
	dst = r.appendForwarded(dst, buf, o)
	if len(o.RequestID) > 0 {
		dst = appendLine(dst, "X-Request-Id", o.RequestID)
	}
	dst = appendVia(dst, r.Minor, o.By)
	dst = append(dst, o.Extra...)
	return append(dst, "\r\n"...)
}

func (r *Request) appendStart(dst, buf []byte, o *RequestOut) []byte {
	dst = append(dst, r.MethodName.In(buf)...)
	dst = append(dst, ' ')
	switch {
	case r.Asterisk:
		dst = append(dst, '*')
	case r.Path.Len() == 0: // http://host and http://host?query
		dst = append(dst, '/')
		fallthrough
	default:
		dst = append(dst, r.rest.In(buf)...)
	}
	// RFC 9112 3.2: Host first; 3.2.2: a new one from the target's authority. A 1.0 request without any gets an
	// empty one, for 1.1 wants one.
	dst = append(dst, " HTTP/1.1\r\n"...)
	if o.Host != "" {
		return appendLine(dst, "Host", o.Host)
	}
	return appendLine(dst, "Host", r.authority.In(buf))
}

// keeps decides about the fields that identify knows. Those written anew by AppendTo are not kept.
func (r *Request) keeps(buf []byte, f *Field, o *RequestOut) bool {
	switch f.id {
	case idDate, idCookie:
		return true
	case idTrailer:
		return o.Trailers && r.Body == BodyChunked
	case idMaxForwards:
		return r.MaxForwards < 0 // other methods: RFC 9110 7.6.2 lets us ignore it
	case idRequestID:
		return len(o.RequestID) == 0 && validID(f.Value.In(buf))
	case idSpoof:
		return o.Trusted
	}
	return false
}

func (r *Request) appendConnection(dst []byte, o *RequestOut) []byte {
	var c options
	if o.Close {
		dst = c.add(dst, "close")
	}
	if r.Upgrade.Wanted() {
		dst = c.add(dst, "Upgrade")
	}
	te := r.te && o.Trailers
	if te {
		dst = c.add(dst, "TE") // RFC 9110 10.1.4
	}
	dst = c.end(dst)
	if te {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	if r.Upgrade.Wanted() {
		dst = append(dst, "Upgrade: "...)
		dst = r.Upgrade.AppendTo(dst)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// appendForwarded writes what the server is to know of the client. From a peer that is not trusted nothing
// of the kind was kept.
func (r *Request) appendForwarded(dst, buf []byte, o *RequestOut) []byte {
	peer := o.Peer.Unmap().WithZone("")
	proto := "http"
	if o.HTTPS {
		proto = "https"
	}
	said := r.said(buf, o)

	mark := len(dst)
	dst = append(dst, "X-Forwarded-For: "...)
	begin := len(dst)
	if said.lists {
		dst = r.appendList(dst, buf, idForwardedFor)
	}
	if peer.IsValid() {
		dst = comma(dst, begin)
		dst = peer.AppendTo(dst)
	}
	dst = endOrDrop(dst, mark, begin)

	if said.proto.Len() > 0 {
		dst = appendLine(dst, "X-Forwarded-Proto", said.proto.In(buf))
	} else {
		dst = appendLine(dst, "X-Forwarded-Proto", proto)
	}
	if said.host.Len() > 0 {
		dst = appendLine(dst, "X-Forwarded-Host", said.host.In(buf))
	}

	// RFC 7239 4.
	dst = append(dst, "Forwarded: "...)
	begin = len(dst)
	if said.lists {
		dst = r.appendList(dst, buf, idForwarded)
	}
	dst = comma(dst, begin)
	dst = append(dst, "for="...)
	switch {
	case !peer.IsValid():
		dst = append(dst, "unknown"...)
	case peer.Is6():
		dst = append(dst, `"[`...)
		dst = peer.AppendTo(dst)
		dst = append(dst, `]"`...)
	default:
		dst = peer.AppendTo(dst)
	}
	if r.authority.Len() > 0 {
		dst = append(dst, `;host="`...) // quoted: a port's ':' is no token; authority() leaves nothing to escape
		dst = append(dst, r.authority.In(buf)...)
		dst = append(dst, '"')
	}
	dst = append(dst, ";proto="...)
	dst = append(dst, proto...)
	return append(dst, "\r\n"...)
}

// hearsay is what a trusted peer said of the client's own request.
type hearsay struct {
	lists       bool
	proto, host Span
}

func (r *Request) said(buf []byte, o *RequestOut) (h hearsay) {
	h.host = r.authority
	if !o.Trusted {
		return h
	}
	h.lists = true
	for i := range r.fields {
		f := &r.fields[i]
		if f.flags&named != 0 || f.Value.Len() == 0 {
			continue
		}
		switch f.id {
		case idForwardedProto:
			h.proto = f.Value
		case idForwardedHost:
			h.host = f.Value
		}
	}
	return h
}

// appendList joins all lines of a list field in their order, RFC 9110 5.3.
func (r *Request) appendList(dst, buf []byte, id fieldID) []byte {
	begin := len(dst)
	for i := range r.fields {
		f := &r.fields[i]
		if f.id == id && f.flags&named == 0 && f.Value.Len() > 0 {
			dst = comma(dst, begin)
			dst = append(dst, f.Value.In(buf)...)
		}
	}
	return dst
}

func comma(dst []byte, begin int) []byte {
	if len(dst) > begin {
		return append(dst, ", "...)
	}
	return dst
}

func endOrDrop(dst []byte, mark, begin int) []byte {
	if len(dst) == begin {
		return dst[:mark]
	}
	return append(dst, "\r\n"...)
}

// AppendTrace writes what TRACE reflects: the head as it came, without fields that must not be shown to scripts (RFC 9110
// 9.3.8).
func (r *Request) AppendTrace(dst, buf []byte) []byte {
	dst = append(dst, buf[r.MethodName.Off:r.Target.End]...)
	dst = append(dst, " HTTP/1."...)
	dst = append(dst, '0'+r.Minor, '\r', '\n')
	for i := range r.fields {
		f := &r.fields[i]
		name := f.Name.In(buf)
		if fold(name, "cookie") || fold(name, "authorization") || fold(name, "proxy-authorization") || f.id == idDoor {
			continue
		}
		dst = appendField(dst, buf, f)
	}
	return append(dst, "\r\n"...)
}

// RequestID is the X-Request-Id that the client sent, when it is the only one, not named by Connection, and
// nothing but letters, digits and "-._~:+/=@", at most 128; else nil. It refers to buf.
func (r *Request) RequestID(buf []byte) (id []byte) {
	for i := range r.fields {
		if f := &r.fields[i]; f.id == idRequestID && f.flags&named == 0 {
			if id != nil || !validID(f.Value.In(buf)) {
				return nil
			}
			id = f.Value.In(buf)
		}
	}
	return id
}

func validID(b []byte) bool {
	if len(b) == 0 || len(b) > 128 {
		return false
	}
	for _, c := range b {
		if class[c]&isHost == 0 && c != ':' && c != '+' && c != '/' && c != '=' && c != '@' {
			return false
		}
	}
	return true
}

// AppendRequestID writes 32 hex digits; the random words are the caller's.
func AppendRequestID(dst []byte, hi, lo uint64) []byte {
	const hex = "0123456789abcdef"
	for _, w := range [...]uint64{hi, lo} {
		for shift := 60; shift >= 0; shift -= 4 {
			dst = append(dst, hex[w>>shift&15])
		}
	}
	return dst
}

package h2

import (
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// head is a request's head, or its trailers, as hpack reads it, on its way to HTTP/1.1. A worker has one.
//
// What would be read as something else in HTTP/1.1 is refused here; all else is for the plane to judge.
type head struct {
	method, scheme, path, authority, host string

	seen     uint8 // pseudo-header fields there were
	regular  bool  // another field was seen
	trailing bool
	bad      bool // malformed: RFC 9113 8.1.1
	size     int
	sized    bool // there was a Content-Length
	length   int64
	fields   []byte
	cookies  []byte
	out      []byte // the head in HTTP/1.1
}

// Pseudo-header fields, RFC 9113 8.3.1.
const (
	seenMethod = 1 << iota
	seenScheme
	seenPath
	seenAuthority
)

// start begins a head.
func (h *head) start(trailing bool) {
	*h = head{trailing: trailing, fields: h.fields[:0], cookies: h.cookies[:0], out: h.out[:0]}
}

// enough is more than the plane takes (431): what is beyond it is not kept.
const enough = 40 << 10

// add takes a field.
func (h *head) add(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + 32 // RFC 9113 6.5.2
	switch {
	case f.Name == "" || !valid(f.Value, 0):
		h.bad = true
		return
	case f.Name[0] == ':':
		h.pseudo(f.Name, f.Value)
		return
	}
	h.regular = true
	for i := range len(f.Name) {
		if !nameChar[f.Name[i]] {
			h.bad = true
			return
		}
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade": // 8.2.2
		h.bad = true
		return
	case "te":
		h.bad = h.bad || f.Value != "trailers"
		return
	case "host":
		h.bad = h.bad || h.host != "" && h.host != f.Value
		h.host = f.Value
		return
	case "content-length":
		n, err := strconv.ParseUint(f.Value, 10, 63)
		h.bad = h.bad || err != nil || h.sized && int64(n) != h.length
		h.sized, h.length = true, int64(n)
		return
	case "cookie": // 8.2.3
		if len(h.cookies)+len(f.Value) < enough {
			if len(h.cookies) > 0 {
				h.cookies = append(h.cookies, "; "...)
			}
			h.cookies = append(h.cookies, f.Value...)
		}
		return
	}
	if len(h.fields) < enough && h.size <= maxList {
		h.fields = appendField(h.fields, f.Name, f.Value[:min(len(f.Value), enough)])
	}
}

func (h *head) pseudo(name, value string) {
	to, bit := &h.method, uint8(seenMethod)
	switch name {
	case ":method":
	case ":scheme":
		to, bit = &h.scheme, seenScheme
	case ":path":
		to, bit = &h.path, seenPath
	case ":authority":
		to, bit = &h.authority, seenAuthority
	default:
		h.bad = true
		return
	}
	if h.trailing || h.regular || h.seen&bit != 0 || !valid(value, ' ') {
		h.bad = true
	}
	h.seen |= bit
	*to = value
}

// valid tells that a value has nothing that would end a line of HTTP/1.1 (RFC 9113 8.2.1), nor but.
func valid(v string, but byte) bool {
	for i := range len(v) {
		switch c := v[i]; c {
		case 0, '\r', '\n':
			return false
		case but:
			if but != 0 {
				return false
			}
		}
	}
	return true
}

// nameChar has the characters of a field's name, in lower case: RFC 9110 5.6.2, RFC 9113 8.2.1.
var nameChar = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// finish writes the request's head in HTTP/1.1 to out. last says that there is no body. False: it is malformed.
func (h *head) finish(last bool) bool {
	target := h.path
	switch {
	case h.bad, h.method == "", last && h.length > 0: // the latter: 8.1.1
		return false
	case h.authority != "" && h.host != "" && h.authority != h.host: // 8.3.1
		return false
	case h.method == "CONNECT": // 8.5
		if h.seen != seenMethod|seenAuthority || h.authority == "" {
			return false
		}
		target = h.authority
	case h.seen&^seenAuthority != seenMethod|seenScheme|seenPath, h.path == "", h.scheme != "https" && h.scheme != "http":
		return false
	case h.path[0] != '/' && (h.path != "*" || h.method != "OPTIONS"):
		return false
	}
	b := append(append(h.out[:0], h.method...), ' ')
	b = append(append(b, target...), " HTTP/1.1\r\n"...)
	switch {
	case h.authority != "":
		b = appendField(b, "host", h.authority)
	case h.host != "":
		b = appendField(b, "host", h.host)
	}
	b = append(b, h.fields...)
	if len(h.cookies) > 0 {
		b = append(append(append(b, "cookie: "...), h.cookies...), "\r\n"...)
	}
	switch {
	case h.sized:
		b = append(strconv.AppendInt(append(b, "content-length: "...), h.length, 10), "\r\n"...)
	case !last:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	case h.method == "POST" || h.method == "PUT" || h.method == "PATCH": // RFC 9110 8.6
		b = append(b, "content-length: 0\r\n"...)
	}
	h.out = append(b, "connection: close\r\n\r\n"...)
	return true
}

package h1

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// authority checks uri-host [ ":" port ] (RFC 9110 7.2, RFC 3986 3.2) and splits it. Host names have letters,
// digits, "-._~"; the rest of reg-name (percent-encoding, ",", ";", …) is valid on paper and known from attacks
// only. An empty port is no port. Userinfo is refused (RFC 9110 4.2.4).
func authority(b []byte) (hostLen int, port int32, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || !ip6(b[1:end]) {
			return 0, -1, false
		}
		hostLen = end + 1
	} else {
		for hostLen < len(b) && class[b[hostLen]]&isHost != 0 {
			hostLen++
		}
		if hostLen == 0 || hostLen > 255 {
			return 0, -1, false
		}
	}
	port, ok = portOf(b[hostLen:])
	return hostLen, port, ok
}

func portOf(b []byte) (port int32, ok bool) {
	if len(b) == 0 {
		return -1, true
	}
	if b[0] != ':' || len(b) > len(":65535") {
		return -1, false
	}
	if len(b) == 1 {
		return -1, true
	}
	n, ok := number(b[1:])
	return int32(n), ok && n <= 65535
}

func ip6(b []byte) bool {
	// Only hex, ':' and '.': a zone ('%') has no meaning to another host. Longest: ffff:…:255.255.255.255.
	if len(b) < 2 || len(b) > 45 {
		return false
	}
	for _, c := range b {
		if class[c]&isHex == 0 && c != ':' && c != '.' {
			return false
		}
	}
	// ParseAddr keeps no part of the string once it has returned without error, and we drop the error.
	a, err := netip.ParseAddr(unsafe.String(&b[0], len(b)))
	return err == nil && a.Is6()
}

// setHost checks the one Host field. Empty is what a client must send when its URI has no authority (RFC 9110
// 7.2), so it is taken, and stands for no host.
func (r *Request) setHost(buf []byte, v Span) Err {
	if v.Len() == 0 {
		r.authority, r.Host, r.Port = v, v, -1
		return ErrNone
	}
	n, port, ok := authority(v.In(buf))
	if !ok {
		return ErrHost
	}
	r.authority, r.Host, r.Port = v, Span{v.Off, v.Off + uint16(n)}, port
	return ErrNone
}

// AppendHost writes the host to route by: lower case, without port and without a final dot. Nothing when the
// request names none.
func (r *Request) AppendHost(dst, buf []byte) []byte {
	h := r.Host.In(buf)
	if n := len(h); n > 1 && h[n-1] == '.' {
		h = h[:n-1]
	}
	for _, c := range h {
		dst = append(dst, lower(c))
	}
	return dst
}

// PathQuery is the target's path and query, as they came; empty for "/" in absolute form.
func (r *Request) PathQuery(buf []byte) []byte { return r.rest.In(buf) }

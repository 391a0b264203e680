package h1

import "bytes"

// AppendRoutePath writes the path to route by: as it came, but without dot segments, and with escapes of letters, digits
// and "-._~" undone, which mean the same (RFC 3986 6.2.2): who is led by prefixes must not be led past them. Two slashes
// are not one. What goes to the server stays as it came. Empty stands for "/".
func (r *Request) AppendRoutePath(dst, buf []byte) []byte {
	path := r.Path.In(buf)
	if bytes.IndexByte(path, '%') < 0 && !bytes.Contains(path, []byte("/.")) {
		return append(dst, path...)
	}
	base, segment := len(dst), len(dst)
	for i := 0; ; i++ {
		last := i >= len(path)
		if !last && path[i] != '/' {
			c, n := unescape(path[i:])
			dst = append(dst, c)
			if n > 1 && class[c]&isHost == 0 {
				dst = append(dst[:len(dst)-1], path[i:i+n]...)
			}
			i += n - 1
			continue
		}
		switch string(dst[segment:]) {
		case ".":
			dst = dst[:segment]
		case "..":
			dst = dst[:segment]
			if segment-1 > base {
				dst = dst[:base+bytes.LastIndexByte(dst[base:segment-1], '/')+1]
			}
		default:
			if !last {
				dst = append(dst, '/')
			}
		}
		if segment = len(dst); last {
			return dst
		}
	}
}

// unescape reads one byte or escape, and says how long it is.
func unescape(b []byte) (c byte, n int) {
	if b[0] != '%' || len(b) < 3 || class[b[1]]&class[b[2]]&isHex == 0 {
		return b[0], 1
	}
	return hexOf(b[1])<<4 | hexOf(b[2]), 3
}

func hexOf(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lower(c) - 'a' + 10
}

package h1

import "strconv"

// run copies neighbouring field lines that are plain in one piece: most heads are two or three pieces.
type run struct{ from, to uint16 }

func (c *run) field(dst, buf []byte, f *Field) []byte {
	if f.flags&plain == 0 {
		return appendField(c.flush(dst, buf), buf, f)
	}
	if c.to != f.Name.Off {
		dst = c.flush(dst, buf)
		c.from = f.Name.Off
	}
	c.to = f.Value.End + 2
	return dst
}

func (c *run) flush(dst, buf []byte) []byte {
	dst = append(dst, buf[c.from:c.to]...)
	c.from = c.to
	return dst
}

func appendField(dst, buf []byte, f *Field) []byte {
	return appendLine(dst, f.Name.In(buf), f.Value.In(buf))
}

func appendLine[N, V []byte | string](dst []byte, name N, value V) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// appendVia: RFC 9110 7.6.3. A line of its own behind the others says the same as a longer list.
func appendVia(dst []byte, minor uint8, by string) []byte {
	if by == "" {
		return dst
	}
	dst = append(dst, "Via: 1."...)
	dst = append(dst, '0'+minor, ' ')
	dst = append(dst, by...)
	return append(dst, "\r\n"...)
}

func appendFraming(dst []byte, chunked bool, length int64) []byte {
	if chunked {
		return append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if length < 0 {
		return dst
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, length, 10)
	return append(dst, "\r\n"...)
}

// options writes one Connection line out of several reasons for it.
type options struct{ any bool }

func (o *options) add(dst []byte, option string) []byte {
	if o.any {
		dst = append(dst, ", "...)
	} else {
		dst = append(dst, "Connection: "...)
	}
	o.any = true
	return append(dst, option...)
}

func (o *options) end(dst []byte) []byte {
	if o.any {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

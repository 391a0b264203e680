package h1

import "strconv"

// ResponseOut says how a response goes on to a client.
type ResponseOut struct {
	Minor    uint8   // of the client's request
	Body     Framing // from Response.ForClient; BodyChunked also to frame what ends by closing
	Close    bool    // the client's connection ends with this answer
	By       string  // our name in Via, a token; empty: no Via
	Date     []byte  // the value to set when the server sent none (RFC 9110 6.6.1); empty: none
	Trailers bool    // trailers will be passed on, so Trailer may stay
	Extra    []byte  // whole lines with CRLF, added as they are (a cookie, a request id)
}

// MaxOut bounds what AppendTo will write.
func (r *Response) MaxOut(head int, o *ResponseOut) int {
	return head + len(r.fields) + maxAdded + len(o.By) + len(o.Date) + len(o.Extra)
}

// AppendTo writes the head for a client. Interim heads get no framing and no Connection.
func (r *Response) AppendTo(dst, buf []byte, o *ResponseOut) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Code), 10)
	dst = append(dst, ' ')
	dst = append(dst, r.Reason.In(buf)...)
	dst = append(dst, "\r\n"...)
	var c run
	dated := r.Code < 200
	for i := range r.fields {
		f := &r.fields[i]
		if f.flags&named != 0 {
			continue
		}
		switch f.id {
		case idHop, idConnection, idContentLength, idTransferEncoding, idTE, idUpgrade, idExpect, idHost:
			continue
		case idTrailer:
			if !o.Trailers || o.Body != BodyChunked {
				continue
			}
		case idDate:
			dated = true
		}
		dst = c.field(dst, buf, f)
	}
	dst = c.flush(dst, buf)
	if !dated && len(o.Date) > 0 {
		dst = appendLine(dst, "Date", o.Date)
	}
	dst = r.appendFraming(dst, o)
	dst = r.appendConnection(dst, o)
	dst = appendVia(dst, r.Minor, o.By)
	dst = append(dst, o.Extra...)
	return append(dst, "\r\n"...)
}

// appendFraming: RFC 9112 6.1 and 6.2. 1xx and 204 have neither field; HEAD and 304 say what a GET would have
// had; a 1.0 client never sees Transfer-Encoding.
func (r *Response) appendFraming(dst []byte, o *ResponseOut) []byte {
	switch {
	case r.Code < 200 || r.Code == 204:
		return dst
	case r.request == MethodHead || r.Code == 304:
		return appendFraming(dst, r.chunked && o.Minor > 0, r.length)
	case o.Body == BodyUntilClose:
		return dst
	case o.Body == BodyChunked:
		return appendFraming(dst, true, -1)
	case o.Body == BodyNone:
		return appendFraming(dst, false, 0)
	}
	return appendFraming(dst, false, r.Length)
}

// appendConnection: RFC 9112 9.3 and 9.6: "close" when it is so, "keep-alive" only to 1.0, which asked for it.
func (r *Response) appendConnection(dst []byte, o *ResponseOut) []byte {
	var c options
	// RFC 9110 15.5.22: 426 must carry Upgrade, which is per hop like any other.
	upgrade := r.Switched || r.Code == 426 && r.upgrades == 1 && r.upgrade.Wanted()
	switch {
	case r.Interim:
		return dst
	case r.Switched:
	case o.Close:
		dst = c.add(dst, "close")
	case o.Minor == 0:
		dst = c.add(dst, "keep-alive")
	}
	if upgrade {
		dst = c.add(dst, "Upgrade")
	}
	dst = c.end(dst)
	if upgrade {
		dst = append(dst, "Upgrade: "...)
		dst = r.upgrade.AppendTo(dst)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

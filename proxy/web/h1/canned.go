package h1

import "strconv"

// StatusText names the statuses that a door answers by itself.
func StatusText(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 200:
		return "OK"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 421:
		return "Misdirected Request"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}

var canned = func() (t [600][2][]byte) {
	for status := range t {
		if StatusText(status) != "" {
			t[status][0] = appendAnswer(nil, status, "", nil, false)
			t[status][1] = appendAnswer(nil, status, "", nil, true)
		}
	}
	return t
}()

// Canned is a ready answer that ends the connection: 400, 403, 404, 405, 408, 413, 414, 417, 421, 429, 431,
// 500-505; others are answered as 500. Not to be written to. To HEAD it has no body.
func Canned(status int, head bool) []byte {
	if status < 0 || status >= len(canned) || canned[status][0] == nil {
		status = 500
	}
	if head {
		return canned[status][1]
	}
	return canned[status][0]
}

// AppendError writes the answer to e: its status, its reason as text, Date when given, Connection: close.
func AppendError(dst []byte, e Err, date []byte, head bool) []byte {
	return appendAnswer(dst, e.Status(), e.Reason(), date, head)
}

func appendAnswer(dst []byte, status int, reason string, date []byte, head bool) []byte {
	name := StatusText(status)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, "\r\n"...)
	if len(date) > 0 {
		dst = appendLine(dst, "Date", date)
	}
	if status == 405 {
		// RFC 9110 15.5.6: a 405 must say what is allowed; CONNECT is what a door never does.
		dst = append(dst, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"...)
	}
	dst = append(dst, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nConnection: close\r\n"...)
	length := len("400 ") + len(name) + len("\n")
	if reason != "" {
		length += len(": ") + len(reason)
	}
	dst = appendFraming(dst, false, int64(length))
	dst = append(dst, "\r\n"...)
	if head {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	if reason != "" {
		dst = append(dst, ": "...)
		dst = append(dst, reason...)
	}
	return append(dst, '\n')
}

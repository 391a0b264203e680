package web

import (
	"strconv"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// lastHop answers TRACE and OPTIONS with Max-Forwards: 0, as their recipient: RFC 9110 7.6.2, 9.3.7 and 9.3.8.
func (w *worker) lastHop(slot uint32, c *client, buf []byte, n int) {
	w.keepRest(c, buf, n)
	out := append(w.scratch, "HTTP/1.1 200 OK\r\nDate: "...)
	out = append(out, w.date.at(w.loop.Now())...)
	var body []byte
	if c.info.Method == h1.MethodTrace {
		body = w.request.AppendTrace(w.reply[:0], buf)
		out = append(out, "\r\nContent-Type: message/http"...)
	} else {
		out = append(out, "\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"...)
	}
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	w.finishAnswer(slot, c, 200, w.endHead(out, c), body)
}

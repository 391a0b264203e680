package web

import (
	"strconv"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// answer is what the door says itself. Its reason is a constant text, for people and for X-Turnout-Reason.
type answer struct {
	status int
	reason string
	retry  int // seconds, for Retry-After; 0: no such field
}

var (
	answerHeaderLate   = answer{status: 408, reason: "the request's head took too long"}
	answerBodyLate     = answer{status: 408, reason: "the request's body took too long"}
	answerResponseLate = answer{status: 504, reason: "the server took too long to answer"}
	answerNoResponse   = answer{status: 502, reason: "the server closed without an answer"}
	answerInterims     = answer{status: 502, reason: "the server sends interim answers without end"}
	answerEarlyEnd     = answer{status: 502, reason: "the server's answer ends within its head"}
	answerBadResponse  = answer{status: 502, reason: "the server's answer is not valid HTTP"}
	answerUnreachable  = answer{status: 502, reason: "no server could be reached"}
	answerNoRoute      = answer{status: 404, reason: "no service has this host and path"}
	answerNoPlace      = answer{status: 404, reason: "the preview names no pool or server of this service"}
	answerNoServer     = answer{status: 503, reason: "no server takes new work", retry: 1}
	answerStarved      = answer{status: 503, reason: "the door is out of descriptors or ports", retry: 1}
	answerOverflow     = answer{status: 503, reason: "too many requests wait at the door", retry: 1}
	answerWaited       = answer{status: 503, reason: "waited too long at the door", retry: 1}
	answerCut          = answer{status: 503, reason: "the server did not answer before it was taken out", retry: 1}
)

// answer has the door answer a request itself. What is left of the request's body is not wanted, so the
// connection ends with the answer if there is any.
func (w *worker) answer(slot uint32, c *client, a answer) {
	if !c.body.Done() {
		c.flags |= closing
	}
	w.finishAnswer(slot, c, a.status, w.appendAnswer(w.scratch, &a, c), nil)
}

// beginPage begins the head of an answer of the door's own that has a page; finishPage ends it, and writes both.
func (w *worker) beginPage(status int) []byte {
	out := append(w.scratch, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ')
	out = append(out, h1.StatusText(status)...)
	out = append(out, "\r\nDate: "...)
	return append(out, w.date.at(w.loop.Now())...)
}

func (w *worker) finishPage(slot uint32, c *client, status int, out []byte, kind string, page []byte) {
	out = append(out, "\r\nContent-Type: "...)
	out = append(out, kind...)
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(page)), 10)
	out = w.endHead(out, c)
	if c.info.Method == h1.MethodHead {
		page = nil
	}
	w.finishAnswer(slot, c, status, out, page)
}

// finishAnswer writes an answer of the door's own, and leads the client on.
func (w *worker) finishAnswer(slot uint32, c *client, status int, out, body []byte) {
	c.state = reading
	c.status, c.headAt = uint16(status), w.loop.Now()
	c.flags &^= answered
	w.forgetHead(c)                        // else it would be taken for the next request
	if svc := w.answering(c); svc != nil { // before anybody can see the answer
		w.claims.Own(svc, status)
	}
	if !w.put(slot, c, out, body) {
		return
	}
	w.logEnd(slot, c, endDoor)
	if c.flags&closing != 0 {
		w.say(slot, c)
		return
	}
	w.rest(slot, c)
	if c.in.pending() || c.flags&(readable|eof) != 0 {
		w.loop.Again(w.clientToken(slot))
	}
}

// answering is the service whose answer the client gets; nil: no service's.
func (w *worker) answering(c *client) *proxy.Service {
	if c.target >= 0 {
		return w.targets[c.target].service
	}
	return w.at
}

// endHead ends a head of the door's own.
func (w *worker) endHead(dst []byte, c *client) []byte {
	dst = append(dst, "\r\n"...)
	if w.sw.Current().Announces {
		dst = w.foretell(dst, w.answering(c))
	}
	switch {
	case c.flags&closing != 0:
		dst = append(dst, "Connection: close\r\n"...)
	case c.info.Minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}

func (w *worker) appendAnswer(dst []byte, a *answer, c *client) []byte {
	name := h1.StatusText(a.status)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(a.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, "\r\nDate: "...)
	dst = append(dst, w.date.at(w.loop.Now())...)
	dst = append(dst, "\r\nX-Turnout-Reason: "...)
	dst = append(dst, a.reason...)
	if a.retry > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64(a.retry), 10)
	}
	dst = append(dst, "\r\nCache-Control: no-store\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len("400 ")+len(name)+len(": ")+len(a.reason)+len("\n")), 10)
	dst = w.endHead(dst, c)
	if c.info.Method == h1.MethodHead {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(a.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, a.reason...)
	return append(dst, '\n')
}

package web

import (
	"strconv"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// tellState answers a request for the service's state URL. It is the door's own resource: it is there in maintenance, in a
// hold, and when no server is.
func (w *worker) tellState(slot uint32, c *client, svc *proxy.Service) {
	if !c.body.Done() {
		c.flags |= closing
	}
	public := svc.Public()
	status, retry := public.Status(&svc.Spec.Maintenance, time.Now())
	body, kind := public.Body(), "application/json"
	if c.info.Method != h1.MethodGet && c.info.Method != h1.MethodHead {
		status, retry, body, kind = 405, 0, []byte("405 Method Not Allowed: this is the service's state; want GET or HEAD\n"), "text/plain; charset=utf-8"
	}
	out := append(w.scratch, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ')
	out = append(out, h1.StatusText(status)...)
	out = append(out, "\r\nDate: "...)
	out = append(out, w.date.at(w.loop.Now())...)
	switch {
	case status == 405:
		out = append(out, "\r\nAllow: GET, HEAD"...) // RFC 9110 15.5.6
	case retry > 0:
		out = append(out, "\r\nRetry-After: "...)
		out = strconv.AppendInt(out, seconds(retry), 10)
	}
	out = append(out, "\r\nCache-Control: no-store\r\nContent-Type: "...)
	out = append(out, kind...)
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = w.endHead(out, c)
	if c.info.Method == h1.MethodHead {
		body = nil
	}
	w.finishAnswer(slot, c, status, out, body)
}

// seconds is a time for Retry-After: whole seconds, not fewer than it is.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

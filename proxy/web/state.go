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
	out := w.beginPage(status)
	switch {
	case status == 405:
		out = append(out, "\r\nAllow: GET, HEAD"...) // RFC 9110 15.5.6
	case retry > 0:
		out = append(out, "\r\nRetry-After: "...)
		out = strconv.AppendInt(out, seconds(retry), 10)
	}
	out = append(out, "\r\nCache-Control: no-store"...)
	w.finishPage(slot, c, status, out, kind, body)
}

// seconds is a time for Retry-After: whole seconds, not fewer than it is.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

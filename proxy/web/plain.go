package web

import (
	"bytes"
	"net"
	"strconv"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// plainly answers requests that came without TLS and are the door's own to answer: an authority's question whether a host
// is ours (RFC 8555 8.3), and whatever comes to a listener that leads to https. It returns false for all others.
func (w *worker) plainly(slot uint32, c *client, snap *proxy.Snapshot, buf []byte, n int) bool {
	if path := w.request.Path.In(buf); bytes.HasPrefix(path, []byte(front.ChallengePrefix)) {
		if body, ok := w.plane.front.Challenge(string(w.request.Host.In(buf)), string(path)); ok {
			w.sayPlainly(slot, c, buf[n:], 200, "OK", "", body)
			return true
		}
	}
	if !snap.Plain(int(c.listener)) {
		return false
	}
	// RFC 9110 15.4: those that may change the method to GET are for requests which are GET, or as good.
	status, name := 308, "Permanent Redirect"
	if c.info.Method == h1.MethodGet || c.info.Method == h1.MethodHead {
		status, name = 301, "Moved Permanently"
	}
	host := w.request.AppendHost(nil, buf)
	if len(host) == 0 {
		w.keepRest(c, buf, n)
		w.answer(slot, c, answer{status: 400, reason: "no host to lead to"})
		return true
	}
	location := "https://" + string(host) + securePort(snap.At(int(c.listener)).Spec)
	rest := w.request.PathQuery(buf)
	if len(rest) == 0 || rest[0] != '/' {
		location += "/"
	}
	if !w.request.Asterisk {
		location += string(rest)
	}
	w.sayPlainly(slot, c, buf[n:], status, name, location, location+"\n")
	return true
}

// securePort is how the URLs of a service's first TLS listener name its port.
func securePort(spec *proxy.ServiceSpec) string {
	if spec.Listen[0].Network != proxy.NetTCP {
		return ""
	}
	if _, port, err := net.SplitHostPort(spec.Listen[0].Address); err == nil && port != "443" {
		return ":" + port
	}
	return ""
}

// sayPlainly answers with a text. rest is what the client has sent after the head.
func (w *worker) sayPlainly(slot uint32, c *client, rest []byte, status int, name, location, text string) {
	if !c.body.Done() {
		c.flags |= closing
	}
	out := append(w.scratch, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(append(out, ' '), name...)
	out = append(append(out, "\r\nDate: "...), w.date.at(w.loop.Now())...)
	if location != "" {
		out = append(append(out, "\r\nLocation: "...), location...)
	}
	out = append(out, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(text)), 10)
	out = w.endHead(out, c)
	if c.info.Method != h1.MethodHead {
		out = append(out, text...)
	}
	w.keep(&c.in, rest)
	w.finishAnswer(slot, c, status, out, nil)
}

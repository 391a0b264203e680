package stream

import (
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/proxyproto"
)

// header is what a client's PROXY header said, kept for sending it on to the server.
type header struct {
	src, dst loop.Addr
}

// takeHeader reads a client's PROXY header: all of it and not one byte more. What does not begin with a valid
// header is closed.
func (w *worker) takeHeader(slot uint32, c *conn, _ loop.Events) {
	buf := w.loop.Buffer()[:proxyproto.MaxHeader]
	n, err := loop.Peek(int(c.fd[client]), buf)
	if err == syscall.EAGAIN {
		return
	}
	h, perr := proxyproto.Parse(buf[:n])
	switch {
	case err != 0 || n == 0:
		w.malformed(slot, c)
	case perr == proxyproto.ErrShort && n < proxyproto.MaxHeader && !c.half[client].is(hup):
		// The rest comes with another event. (After the client's end of stream, nothing does.)
	case perr != nil:
		w.malformed(slot, c)
	default:
		if _, err := loop.Recv(int(c.fd[client]), buf[:h.Length]); err != 0 {
			w.malformed(slot, c)
			return
		}
		if h.Src.IsValid() {
			c.peer = h.Src
			w.headers[slot] = header{h.Src, h.Dst}
			c.flags |= headed
		}
		w.timers.Cancel(slot)
		c.state = steering
		if svc := w.service(w.sw.Current(), c); svc != nil {
			w.enter(slot, c, svc)
			return
		}
		w.end(slot, c, endRefused)
	}
}

func (w *worker) malformed(slot uint32, c *conn) {
	if svc := w.service(w.sw.Current(), c); svc != nil {
		w.claims.Malformed(svc)
	}
	w.end(slot, c, endMalformed)
}

// proxyHeader appends the header that tells the server who the client is.
func (w *worker) proxyHeader(b []byte, slot uint32, c *conn, v2 bool) []byte {
	a, ok := w.headers[slot]
	if !ok {
		var own loop.Sockaddr
		_ = loop.Getsockname(int(c.fd[client]), &own) // without it the header says "unknown"
		a = header{c.peer, own.Addr()}
	}
	if v2 {
		return proxyproto.AppendV2(b, a.src, a.dst)
	}
	return proxyproto.AppendV1(b, a.src, a.dst)
}

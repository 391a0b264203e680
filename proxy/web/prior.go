package web

import (
	"bytes"
	"syscall"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// preface begins HTTP/2 (RFC 9113 3.4), also on a connection whose client knew that it may, without TLS (3.3).
var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// mayBegin tells of a client that has just come without TLS whether it may begin with the preface.
func (w *worker) mayBegin(c *client) bool {
	svc := w.sw.Current().At(int(c.listener))
	return svc != nil && svc.Spec.H2C && w.http2 != nil
}

// http2Begins looks for the preface in what a client has said first. False: the client is HTTP/1.1's.
func (w *worker) http2Begins(slot uint32, c *client, buf []byte) bool {
	n := min(len(buf), len(preface))
	if !bytes.Equal(buf[:n], preface[:n]) || n < len(preface) && c.flags&eof != 0 {
		c.flags &^= prior
		return false
	}
	if n < len(preface) {
		w.keep(&c.in, buf)
		return true
	}
	w.hand(slot, c, bytes.Clone(buf))
	return true
}

// hand gives a client to who serves HTTP/2. It has said the preface, and perhaps more.
func (w *worker) hand(slot uint32, c *client, said []byte) {
	if w.leaving {
		w.close(slot, c, false)
		return
	}
	s := Stranger{Session: &plainSession{int(c.fd)}, Listener: uint32(c.listener), FD: int(c.fd), Peer: c.peer}
	limits := Limits{}
	if svc := w.sw.Current().At(int(c.listener)); svc != nil {
		limits = limitsOf(svc)
	}
	w.timers.Cancel(slot)
	_ = w.loop.Del(s.FD) // it is registered anew
	w.clients.Free(slot)
	w.http2.Serve(s, said, limits)
}

// plainSession carries a client's bytes as they are.
type plainSession struct{ fd int }

// Recv implements Session.
func (p *plainSession) Recv(b []byte) (int, syscall.Errno) { return loop.Recv(p.fd, b) }

// Send implements Session.
func (p *plainSession) Send(a, b []byte) (int, syscall.Errno) { return sendv(p.fd, a, b) }

// Event implements Session.
func (p *plainSession) Event(loop.Events) {}

// Shutdown implements Session.
func (p *plainSession) Shutdown() { _ = loop.Shutdown(p.fd, loop.ShutWrite) }

// Close implements Session.
func (p *plainSession) Close(reset bool) {
	if reset {
		_ = loop.SetLinger0(p.fd)
	}
}

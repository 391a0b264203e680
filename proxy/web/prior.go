package web

import "bytes"

// preface begins HTTP/2 (RFC 9113 3.4), also on a connection whose client knew that it may, without TLS (3.3).
var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// mayBegin tells of a client that has just come without TLS whether it may begin with the preface.
func (w *worker) mayBegin(c *client) bool {
	svc := w.sw.Current().At(int(c.listener))
	return svc != nil && svc.Spec.H2C && w.plane.http2 != nil
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
	w.hand(slot, c, bytes.Clone(buf[n:]))
	return true
}

// hand gives a client to who serves HTTP/2. It has said rest after the preface.
func (w *worker) hand(slot uint32, c *client, rest []byte) {
	if w.leaving {
		w.close(slot, c, false)
		return
	}
	s := Plain{LoopID: w.loop.ID(), Listener: uint32(c.listener), Peer: c.peer, FD: int(c.fd), Said: rest}
	if svc := w.sw.Current().At(int(c.listener)); svc != nil {
		s.Idle = svc.Spec.Timeouts.Idle
	}
	w.timers.Cancel(slot)
	_ = w.loop.Del(s.FD) // it is not the loop's any more
	w.clients.Free(slot)
	w.plane.http2.ServePlain(s)
}

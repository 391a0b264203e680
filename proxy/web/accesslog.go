package web

import (
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// ending says how a request ended; the access log shows it.
type ending uint8

const (
	endDone    ending = iota // with the server's answer, whole
	endDoor                  // with the door's own answer
	endClient                // the client left, or its request was cut short
	endServer                // the server's answer was cut short
	endLate                  // a deadline came within the answer
	endIdle                  // a tunnel, without a byte for too long
	endCut                   // at a drain's deadline
	endStopped               // the door stops
)

var endWords = [...]string{"done", "answered by the door", "client", "server", "late", "idle", "cut", "stopped"}

func (e ending) String() string { return endWords[e] }

// Parts of what a client's log block has, in their order; the path is the rest.
const (
	logService = iota
	logMethod
	logHost
	logID
	logPath
)

// maxLogged bounds a line's text.
const maxLogged = loop.TinyBuf

// noteUnread keeps what it will say of what did not become a request.
func (w *worker) noteUnread(c *client, service string) {
	w.drop(&c.log)
	c.log.buf = w.loop.GetBuf(maxLogged)
	b := append(w.loop.Bytes(c.log.buf)[:0], service...)
	c.logLens = [4]uint8{logService: uint8(len(b))}
	from := len(b)
	b = append(b, w.ids.next()...)
	c.logLens[logID] = uint8(len(b) - from)
	c.log.off, c.log.end = 0, int32(len(b))
}

// note keeps what the access log will say of a request that has just been parsed. service is "" when none takes it.
func (w *worker) note(c *client, service string, buf []byte) {
	w.drop(&c.log)
	c.log.buf = w.loop.GetBuf(maxLogged)
	b := w.loop.Bytes(c.log.buf)[:0]
	part := func(which int, from int) { c.logLens[which] = uint8(len(b) - from) }
	b = append(b, service...)
	part(logService, 0)
	from := len(b)
	b = append(b, w.request.MethodName.In(buf)...)
	part(logMethod, from)
	from = len(b)
	b = w.request.AppendHost(b, buf)
	part(logHost, from)
	from = len(b)
	if id := w.request.RequestID(buf); id != nil {
		b = append(b, id...)
	} else {
		b = append(b, w.ids.next()...)
	}
	part(logID, from)
	path := w.request.Target.In(buf)
	b = append(b, path[:min(len(path), maxLogged-len(b))]...)
	c.log.off, c.log.end = 0, int32(len(b))
}

// logged is a part of what note kept.
func (w *worker) logged(c *client, which int) []byte {
	b := w.loop.Bytes(c.log.buf)[:c.log.end]
	for i, n := range c.logLens {
		if i == which {
			return b[:n]
		}
		b = b[n:]
	}
	return b
}

// accessLine is an ended request on its way to the log.
type accessLine struct {
	text     []byte
	lens     [4]uint8
	server   *proxy.Server // nil: none
	peer     loop.Addr
	began    int64
	took     int64 // until its end
	waited   int64 // until it was sent to the server; -1: it was not
	answered int64 // until the head of the answer; -1: there was none
	status   uint16
	bytes    uint64
	end      ending
}

// logEnd counts a request that has ended, and logs it if its service wants that. Only the first call for a request
// counts.
func (w *worker) logEnd(_ uint32, c *client, why ending) {
	if c.target >= 0 && c.sentAt != 0 && c.flags&counted == 0 {
		c.flags |= counted
		w.claims.Answered(w.targets[c.target].server, int(c.status), w.loop.Now()-c.began)
	}
	if !c.log.pending() {
		return
	}
	a := accessLine{lens: c.logLens, peer: c.peer, began: c.began, took: w.loop.Now() - c.began, waited: -1, answered: -1, status: c.status, bytes: c.sent, end: why}
	if c.target >= 0 {
		a.server = w.targets[c.target].server
	}
	if c.sentAt != 0 {
		a.waited = c.sentAt - c.began
	}
	if c.headAt != 0 {
		a.answered = c.headAt - c.began
	}
	select {
	case a.text = <-w.plane.spare:
	default:
		a.text = make([]byte, 0, maxLogged)
	}
	a.text = append(a.text[:0], w.loop.Bytes(c.log.buf)[:c.log.end]...)
	w.drop(&c.log)
	select {
	case w.plane.ends <- a:
	default:
		w.plane.lost.Add(1)
	}
}

// startAccessLog writes lines on a goroutine of its own: a loop never waits for a log.
func (p *Plane) startAccessLog(log *zap.Logger) {
	p.ends, p.spare, p.accessDone = make(chan accessLine, 4096), make(chan []byte, 4096), make(chan struct{})
	go func() { // ends with Close
		defer close(p.accessDone)
		for a := range p.ends {
			a.write(log)
			select {
			case p.spare <- a.text:
			default:
			}
			if n := p.lost.Swap(0); n > 0 {
				log.Warn("access lines lost: the log did not keep up", zap.Uint64("lost", n))
			}
		}
	}()
}

func (a *accessLine) write(log *zap.Logger) {
	var parts [logPath + 1]string
	b := a.text
	for i, n := range a.lens {
		parts[i], b = string(b[:n]), b[n:]
	}
	parts[logPath] = string(b)
	fields := []zap.Field{
		zap.String("service", parts[logService]), zap.String("pool", ""), zap.String("server", ""),
		zap.Stringer("client", a.peer), zap.String("method", parts[logMethod]), zap.String("host", parts[logHost]), zap.String("path", parts[logPath]),
		zap.Uint16("status", a.status), zap.Uint64("bytes", a.bytes), zap.String("request_id", parts[logID]),
		zap.Time("began", loop.Wall(a.began)), zap.Duration("took", time.Duration(a.took)),
	}
	if a.server != nil {
		fields[1].String, fields[2].String = a.server.Pool, a.server.Name
	}
	if a.waited >= 0 {
		fields = append(fields, zap.Duration("waited", time.Duration(a.waited)))
	}
	if a.answered >= 0 {
		fields = append(fields, zap.Duration("answered", time.Duration(a.answered)))
	}
	log.Info("request", append(fields, zap.Stringer("end", a.end))...)
}

package web

import (
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

const (
	maxIdle  = 1024             // kept-alive connections to one server that wait for a request, for each loop
	idleTime = 30 * time.Second // how long one waits
)

// upstream is a connection to a server. It has no pointers.
type upstream struct {
	fd       int32
	client   uint32 // whose request it carries, or is dialled for; none: it waits for one
	target   int32
	next     uint32 // links of the list it is in: the dials, its target's idle or its target's busy ones
	prev     uint32
	uses     uint32 // requests before this one
	until    int64  // dial: the deadline; idle: when it has waited long enough
	progress h1.Progress
	body     h1.Body // of the answer
	in       block   // of a head that is not complete
	out      block   // to be written to it
	dialing  bool
	idle     bool
	retry    bool  // dial: a Unix socket's backlog was full, the timer dials again
	address  uint8 // dial: which address of the server, counted from begin
	begin    uint8 // the one that was tried first
	flags    upFlags
	interims uint8 // 1xx that came before the answer
}

type upFlags uint16

const (
	upReadable  upFlags = 1 << iota // there may be something to read
	upHup                           // it has ended or broken: read until the end shows
	upHead                          // the head of the answer is behind
	upSpoke                         // a byte of an answer came
	upLast                          // it carries no further request
	upShut                          // tunnel: the door's side was ended
	upEOF                           // tunnel: its end was read
	upSlow                          // its answer is not spliced
	upDeaf                          // it takes no more of the request
	upChunked                       // the answer comes in chunks
	upPlain                         // and goes on without, to a client of HTTP/1.0
	inUpSession                     // worker.upSessions has what carries its bytes
	upMeeting                       // dialing: a handshake goes on, which has its descriptor
)

// target is a server as one loop sees it.
type target struct {
	server     *proxy.Server // nil: not in use
	where      *front.Place
	service    *proxy.Service // the server's, as of the last quiet point; nil: a reload removed it
	idle, busy uint32         // lists of upstreams
	idles      int32          // how many are in the list
	inUse      int32          // dialled or busy
	looks      proxy.Looks    // at its tunnels
	gives      bool           // it is given new work; as of the last quiet point
	open       bool           // it is, or requests of sessions are led to it
}

// look brings in line with its service where new work goes.
func (t *target) look() {
	svc := t.service
	t.gives = svc != nil && svc.Spec.Mode == proxy.HTTP && svc.Gives(t.server)
	t.open = t.gives || svc != nil && svc.KeepsSessions(t.server)
}

// target finds or makes the loop's target of a server.
func (w *worker) target(s *proxy.Server) int32 {
	if i, ok := w.targetOf[s]; ok {
		return i
	}
	t := target{server: s, where: w.plane.front.Places.Of(s.Address), idle: none, busy: none}
	t.service = w.sw.Current().Service(s.Service)
	t.look()
	at := -1
	for i := range w.targets {
		if w.targets[i].server == nil {
			at = i
			break
		}
	}
	if at < 0 {
		at = len(w.targets)
		w.targets = append(w.targets, target{})
	}
	w.targets[at] = t
	w.targetOf[s] = int32(at)
	return int32(at)
}

// sweep forgets targets and queues that are not in use; they are made anew when they are needed.
func (w *worker) sweep() {
	for i := range w.targets {
		if t := &w.targets[i]; t.server != nil && t.idles == 0 && t.inUse == 0 {
			delete(w.targetOf, t.server)
			*t = target{idle: none, busy: none}
		}
	}
	w.queues.Sweep()
}

// link puts a connection at the head of a list; unlink takes it out of the one it is in.
func (w *worker) link(head *uint32, us uint32, u *upstream) {
	u.next, u.prev = *head, none
	if *head != none {
		w.upstreams.Get(*head).prev = us
	}
	*head = us
}

func (w *worker) unlink(head *uint32, u *upstream) {
	if u.prev != none {
		w.upstreams.Get(u.prev).next = u.next
	} else {
		*head = u.next
	}
	if u.next != none {
		w.upstreams.Get(u.next).prev = u.prev
	}
	u.next, u.prev = none, none
}

// idleOf takes the connection to a server that was used last out of those that wait for a request; none: there is
// none. It is looked at first. Bytes that nobody asked for may wait there, of which no event was seen yet, and would be
// taken for this client's answer; and a server that closes is found out unless it does so at the very same instant.
func (w *worker) idleOf(c *client, s *proxy.Server) uint32 {
	ti := w.target(s)
	t := &w.targets[ti]
	for t.idle != none && c.flags&retried == 0 {
		us := t.idle
		u := w.upstreams.Get(us)
		if !w.silent(us, u) {
			w.closeUpstream(us, u, false)
			continue
		}
		w.unlink(&t.idle, u)
		t.idles--
		t.inUse++
		u.idle = false
		w.link(&t.busy, us, u)
		return us
	}
	return none
}

// repeatable tells whether the request under way may be sent once more when the server was seen to close without a
// word: RFC 9112 9.3.1, RFC 9110 9.2.2.
func (c *client) repeatable() bool { return c.info.Method.Idempotent() && c.info.Body == h1.BodyNone }

// anew tells whether the request under way, which is repeatable, is sent once more, on a new connection. Each reason
// counts once: a request that its server dies of must not go round.
func (c *client) anew(u *upstream, err syscall.Errno) bool {
	switch {
	case u.uses > 1 && c.flags&retried == 0: // the server was closing the connection when the request came
		c.flags |= retried
	case (err == syscall.ECONNRESET || err == Unseen) && c.flags&unread == 0:
		// So a kernel ends connections with bytes that nobody has read: of a server that died, or that stopped before
		// it had accepted them. While a process dies its port may still be open when its connections have ended.
		c.flags |= retried | unread
	default:
		return false
	}
	return true
}

// putBack has a connection wait for the next request.
func (w *worker) putBack(us uint32) {
	u := w.upstreams.Get(us)
	t := &w.targets[u.target]
	w.unlink(&t.busy, u)
	t.inUse--
	u.client, u.idle = none, true
	w.link(&t.idle, us, u)
	t.idles++
	u.until = w.loop.Now() + int64(idleTime)
	if w.uptimers.At(us) == 0 {
		w.uptimers.Set(us, u.until)
	}
}

// closeIdle closes the connections of a target that wait for a request.
func (w *worker) closeIdle(ti int32) {
	for w.targets[ti].idle != none {
		us := w.targets[ti].idle
		w.closeUpstream(us, w.upstreams.Get(us), false)
	}
}

// closeUpstream closes a connection and forgets it. Its client, if any, must know already.
func (w *worker) closeUpstream(us uint32, u *upstream, reset bool) {
	t := &w.targets[u.target]
	switch {
	case u.dialing:
		w.unlink(&w.dials, u)
		t.inUse--
	case u.idle:
		w.unlink(&t.idle, u)
		t.idles--
	default:
		w.unlink(&t.busy, u)
		t.inUse--
	}
	w.uptimers.Cancel(us)
	w.drop(&u.in)
	w.drop(&u.out)
	w.partServer(us, u, reset)
	if u.fd >= 0 {
		if reset {
			_ = loop.SetLinger0(int(u.fd))
		}
		loop.Close(int(u.fd))
	}
	w.upstreams.Free(us)
}

// upstreamEvent is where each event of a connection to a server comes in; none at all means: go on.
func (w *worker) upstreamEvent(t loop.Token, ev loop.Events) {
	us := t.Slot()
	if !w.upstreams.Check(us, t.Gen()) {
		return
	}
	u := w.upstreams.Get(us)
	if u.flags&inUpSession != 0 {
		w.upSessions[us].Event(ev)
	}
	switch {
	case u.flags&upMeeting != 0:
		if ev&(loop.RDHUP|loop.Hup|loop.Err) != 0 {
			u.flags |= upHup
		}
		w.upShakes[us].Wake()
		return
	case u.dialing && u.fd < 0:
		return
	case u.dialing:
		w.dialed(us, u, ev)
		return
	case u.idle:
		if ev&(loop.In|loop.RDHUP|loop.Hup|loop.Err) != 0 && (u.flags&inUpSession == 0 || !w.silent(us, u)) { // it closes, or says what nobody asked for
			w.closeUpstream(us, u, false)
		}
		return
	}
	if ev&(loop.In|loop.RDHUP|loop.Hup|loop.Err) != 0 {
		u.flags |= upReadable
		if ev&(loop.RDHUP|loop.Hup|loop.Err) != 0 {
			u.flags |= upHup
		}
	}
	c := w.clients.Get(u.client)
	if c.state == tunneling {
		w.tunnel(u.client, c, us, u)
		return
	}
	w.goOn(u.client, c)
}

// upstreamTimer ends a dial, or a connection that has waited long enough for a request.
func (w *worker) upstreamTimer(us uint32) {
	u := w.upstreams.Get(us)
	switch now := w.loop.Now(); {
	case u.dialing:
		w.dialTimer(us, u)
	case !u.idle: // in use; putBack sets it again
	case now >= u.until:
		w.closeUpstream(us, u, false)
	default:
		w.uptimers.Set(us, u.until)
	}
}

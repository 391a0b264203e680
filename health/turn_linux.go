package health

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

type stage int

const (
	idle       stage = iota // waits for its time, perhaps with a kept connection
	connecting              //
	awaiting                // said or saying its question
	elsewhere               // goroutines await answers; it may be in the schedule, to be asked again meanwhile
	over                    // stopped
)

// turn is one plain check of one target.
type turn struct {
	asker  *asker
	ctx    context.Context // ends when the check is stopped
	w      *watch
	p      simple
	target Target
	to     loop.Sockaddr
	self   bool // to is a TCP address: a connect to this machine may meet itself

	// All below belongs to the thread.
	stage   stage
	plan    Plan
	at      time.Time     // when it was asked last
	limit   time.Duration // of that run
	poked   bool          // is to be asked again soon
	away    int           // runs that goroutines see to the end
	newest  time.Time     // when the question was asked whose answer was noted last
	fd      int           // -1: none
	listed  bool          // fd is with epoll
	answers int           // on fd
	unsaid  []byte
	// What is said on a connection that ends with the answer, and on one that is kept; nil before the first time.
	question, questionKept []byte

	got []byte // of an answer that is not whole

	early, late time.Time // it may begin from early on, and has to at late. While asking, both are its deadline
	place       int       // in the schedule; -1: not in it
}

func (a *asker) connect(t *turn) {
	fd, errno := loop.Socket(t.to.Family(), unix.SOCK_STREAM, 0)
	if errno != 0 {
		a.failed(t, "socket", errno)
		return
	}
	t.stage, t.fd, t.listed, t.answers = connecting, fd, false, 0
	a.byFD[int32(fd)] = t
	if errno = loop.Connect(fd, &t.to); errno != 0 && errno != unix.EINPROGRESS {
		a.failed(t, "connect", errno)
		return
	}
	a.begun = append(a.begun, t)
}

// look tells which of the connects that have just begun are done, all in one call.
func (a *asker) look() {
	if len(a.begun) == 0 {
		return
	}
	a.polled = a.polled[:0]
	for _, t := range a.begun {
		a.polled = append(a.polled, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLOUT})
	}
	_, _ = unix.Poll(a.polled, 0) // on an error none is done, and epoll tells
	for i, t := range a.begun {
		if events := a.polled[i].Revents; events != 0 {
			a.connected(t, events&(unix.POLLERR|unix.POLLHUP) != 0)
		} else {
			a.listen(t, heard|unix.EPOLLOUT)
		}
	}
}

// heard is what epoll tells of every connection that it has.
const heard = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// listen gives a connection to epoll; if that has no room for it, the run has failed.
func (a *asker) listen(t *turn, events uint32) {
	op := unix.EPOLL_CTL_ADD
	if t.listed {
		op = unix.EPOLL_CTL_MOD
	}
	if err := a.list(t.fd, op, events); err != nil {
		a.finish(t, result{}, os.NewSyscallError("epoll_ctl", err), inTime)
		return
	}
	t.listed = true
}

func (a *asker) event(t *turn, events uint32) {
	switch t.stage {
	case idle:
		a.hangUp(t) // the server has closed it, or says what nobody asked
	case connecting:
		a.connected(t, true)
	case awaiting:
		if len(t.unsaid) > 0 && events&unix.EPOLLOUT != 0 {
			if a.sayRest(t); t.stage != awaiting {
				return
			}
		}
		if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			a.read(t, events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
		}
	}
}

// connected goes on when a connect is over; doubtful: it may have failed.
func (a *asker) connected(t *turn, doubtful bool) {
	if doubtful {
		if errno := loop.GetsockErr(t.fd); errno != 0 {
			a.failed(t, "connect", errno)
			return
		}
	}
	if t.self {
		var own loop.Sockaddr
		if loop.Getsockname(t.fd, &own) == 0 && own.Addr() == t.to.Addr() {
			a.failed(t, "connect", syscall.ECONNREFUSED) // nobody listens: the port it was given is the one it asks
			return
		}
	}
	if !t.p.listens() {
		r, err := t.p.read(nil, t.target)
		a.finish(t, r, err, inTime)
		return
	}
	a.say(t)
}

// keeps tells whether the next answer may come on the same connection.
func (t *turn) keeps() bool {
	return t.p.repeats() && t.answers+1 < maxKept && t.plan.Interval <= keepUpTo
}

func (a *asker) say(t *turn) {
	t.stage, t.got = awaiting, nil
	q := &t.question
	if t.keeps() {
		q = &t.questionKept
	}
	if *q == nil {
		*q = t.p.question(t.target, t.keeps())
	}
	t.unsaid = *q
	a.sayRest(t)
}

func (a *asker) sayRest(t *turn) {
	for len(t.unsaid) > 0 {
		n, errno := loop.Send(t.fd, t.unsaid)
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 {
			if a.again(t) {
				return
			}
			a.failed(t, "write", errno)
			return
		}
		t.unsaid = t.unsaid[n:]
	}
	if len(t.unsaid) > 0 {
		a.listen(t, heard|unix.EPOLLOUT)
	} else if !t.listed {
		a.listen(t, heard)
	}
}

// again has a question asked once more, on a new connection, that met a kept one which the server has closed.
func (a *asker) again(t *turn) bool {
	if t.answers == 0 || t.got != nil {
		return false
	}
	a.hangUp(t)
	a.asking--
	t.stage, t.late = idle, t.at
	t.early = t.at
	a.due.put(t)
	return true
}

// read takes what has come of an answer; ending: and its end, for that is there too.
func (a *asker) read(t *turn, ending bool) {
	var end error
	b := append(a.buf[:0], t.got...)
	for end == nil && len(b) < cap(b) {
		room := b[len(b):cap(b)]
		n, errno := loop.Recv(t.fd, room)
		b = b[:len(b)+n]
		switch {
		case errno != 0 && errno != unix.EAGAIN:
			end = os.NewSyscallError("read", errno)
		case errno == 0 && n == 0:
			end = io.EOF
		}
		if errno != 0 || n < len(room) && !ending {
			break // what comes from now on is another event
		}
	}
	if end != nil && len(b) == 0 && a.again(t) {
		return
	}
	in := &sofar{rest: b, end: end}
	r, err := t.p.read(in, t.target)
	switch {
	case !in.short:
		r.kept = r.kept && end == nil && len(in.rest) == 0
		a.finish(t, r, err, inTime)
	case len(b) == cap(b):
		t.got = bytes.Clone(b)
		a.goElsewhere(t)
	default:
		t.got = bytes.Clone(b)
	}
}

func (a *asker) failed(t *turn, call string, errno syscall.Errno) {
	err := os.NewSyscallError(call, errno)
	if t.stage == awaiting {
		a.finish(t, result{}, readWords(err), inTime)
		return
	}
	a.finish(t, result{}, inWords(t.ctx, err), inTime)
}

// tooLate ends a run at its deadline, with what has come until then.
func (a *asker) tooLate(t *turn) {
	var r result
	if t.stage == awaiting {
		r, _ = t.p.read(&sofar{rest: t.got, end: context.DeadlineExceeded}, t.target)
	}
	a.finish(t, r, context.DeadlineExceeded, late)
}

// finish ends a run.
func (a *asker) finish(t *turn, r result, err error, end end) {
	a.asking--
	t.got, t.unsaid = nil, nil
	a.note(t, t.w.check.answer(t.at, t.limit, end, r, err), r.kept && t.keeps())
}

// note tells the monitor an answer and plans the next run. A connection is kept only while all is well: what
// contradicts the state is asked on new ones.
func (a *asker) note(t *turn, answer Answer, kept bool) {
	t.newest = t.at
	plan, pause := a.m.note(t.ctx, t.w, t.w.progress.Judge(answer))
	t.answers++
	if !kept || !answer.OK || pause != plan.Interval {
		a.hangUp(t)
	}
	a.next(t, plan, pause)
}

// next plans the next run; pause 0: there is none.
func (a *asker) next(t *turn, plan Plan, pause time.Duration) {
	if pause == 0 { // stopped
		t.stage = over
		a.due.remove(t)
		a.hangUp(t)
		return
	}
	t.stage, t.plan = idle, plan
	if t.poked {
		a.soon(t)
		return
	}
	breath := time.Now().Add(pause / 10) // for a check that takes longer than its interval
	t.late = t.at.Add(pause - time.Duration(rand.Int64N(int64(pause)/40+1)))
	t.early = t.late.Add(-pause * 3 / 40) // up to a tenth early altogether, as Monitor.run does
	if t.early.Before(breath) {
		t.early = breath
		t.late = later(t.late, breath)
	}
	a.due.put(t)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (a *asker) hangUp(t *turn) {
	if t.fd < 0 {
		return
	}
	delete(a.byFD, int32(t.fd))
	loop.Close(t.fd)
	t.fd = -1
}

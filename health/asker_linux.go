package health

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// asker asks the plain checks of a monitor: one thread, an epoll instance and raw sockets, for what 1,000 goroutines,
// net.Dial and their timers cost is mostly that each wakes a thread (docs/performance.md).
//
// It wakes when somebody's time has come, and then asks all whose time is near (turn.early), many in one go. A
// connection on the same machine is there when connect returns; poll(2) tells that of all at once, and only others
// are given to epoll. Where many answers are awaited it gathers them for gather before it looks again.
//
// What is out of the ordinary, an answer of more than maxQuick bytes, goes on with a goroutine, as all other checks do.
type asker struct {
	m    *Monitor
	ep   int
	bell int // eventfd

	mu     sync.Mutex
	orders []order // guarded by mu, and so are the next two
	rings  bool    // the thread waits: an order has to ring the bell
	closed bool

	// All below belongs to the thread.
	due    schedule
	byFD   map[int32]*turn // that have a connection
	asking int             // connecting or awaiting an answer
	begun  []*turn         // whose connect is under way and not with epoll
	polled []unix.PollFd
	buf    [maxQuick]byte
}

const (
	maxQuick   = 16 << 10             // bytes of an answer that the thread reads itself
	gather     = 2 * time.Millisecond // for which answers are gathered
	manyAsking = 8                    // from how many on
	maxKept    = 10                   // answers on one connection
	keepUpTo   = 5 * time.Second      // the longest interval for which a connection is kept
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

type order struct {
	t      *turn
	what   what
	answer Answer
}

type what int

const (
	add what = iota
	poke
	drop
	answered
)

// askPlainly gives a check to the asker, if that can ask it. It must be called with m.mu held.
func (m *Monitor) askPlainly(ctx context.Context, w *watch) bool {
	p, isSimple := w.check.probe.(simple)
	target := w.check.whom(w.of.plan.Target)
	if !isSimple || target.TLS != nil || target.H2 || w.check.spec.Reference != nil {
		return false
	}
	t := &turn{ctx: ctx, w: w, p: p, plan: w.of.plan, target: target, fd: -1, place: -1}
	network, address := split(t.target.Address)
	if network == "unix" {
		var err error
		if t.to, err = loop.UnixSockaddr(address); err != nil {
			return false // the words for it are elsewhere
		}
	} else {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || ap.Addr().Zone() != "" {
			return false // a name, or a mistake
		}
		to, err := loop.AddrFrom(ap)
		if err != nil {
			return false
		}
		t.to, t.self = to.Sockaddr(), true
	}
	if m.asker == nil {
		a, err := newAsker(m)
		if err != nil {
			return false // no descriptors left: goroutines do without one, and the next check tries again
		}
		m.asker = a
		m.work.Go(a.run) // ends with close
	}
	t.asker = m.asker
	cancel := w.stop
	w.stop = func() { cancel(); t.asker.order(order{t: t, what: drop}) }
	w.turn = t
	t.asker.order(order{t: t, what: add})
	return true
}

// now has the check asked as soon as may be.
func (t *turn) now() { t.asker.order(order{t: t, what: poke}) }

func newAsker(m *Monitor) (*asker, error) {
	a := &asker{m: m, byFD: map[int32]*turn{}}
	var err error
	if a.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if a.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = a.list(a.bell, unix.EPOLL_CTL_ADD, unix.EPOLLIN|unix.EPOLLET) // edge-triggered, it need never be read
		if err == nil {
			return a, nil
		}
		_ = unix.Close(a.bell)
	}
	_ = unix.Close(a.ep)
	return nil, fmt.Errorf("eventfd: %w", err)
}

func (a *asker) list(fd, op int, events uint32) error {
	return unix.EpollCtl(a.ep, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (a *asker) order(o order) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.orders = append(a.orders, o)
	a.ring()
}

// close ends the thread and all connections; the monitor waits for it.
func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.ring()
}

// ring must be called with a.mu held.
func (a *asker) ring() {
	if a.rings {
		a.rings = false
		_, _ = unix.Write(a.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it fails only when it rings already
	}
}

func (a *asker) run() {
	runtime.LockOSThread() // else it wanders from thread to thread, which costs
	defer runtime.UnlockOSThread()
	defer a.end()
	events := make([]unix.EpollEvent, 256)
	for {
		orders, goesOn := a.take()
		if !goesOn {
			return
		}
		for i := range orders {
			a.obey(&orders[i])
		}
		now := time.Now()
		a.begin(now)
		n := a.wait(events, now)
		for i := range events[:n] {
			if t := a.byFD[events[i].Fd]; t != nil {
				a.event(t, events[i].Events)
			}
		}
		if n > 0 && a.asking >= manyAsking {
			pause := unix.NsecToTimespec(int64(gather))
			_ = unix.Nanosleep(&pause, nil)
		}
	}
}

func (a *asker) end() {
	for _, t := range a.byFD {
		a.hangUp(t)
	}
	a.mu.Lock() // nobody rings
	defer a.mu.Unlock()
	_ = unix.Close(a.bell)
	_ = unix.Close(a.ep)
}

func (a *asker) take() (orders []order, goesOn bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	orders, a.orders = a.orders, nil
	return orders, !a.closed
}

func (a *asker) obey(o *order) {
	t := o.t
	switch o.what {
	case add:
		t.late = time.Now().Add(time.Duration(rand.Int64N(int64(t.plan.Fast) + 1)))
		t.early = t.late.Add(-t.plan.Fast / 20)
		a.due.put(t)
	case drop:
		if t.stage == connecting || t.stage == awaiting {
			a.asking--
		}
		t.stage = over
		a.due.remove(t)
		a.hangUp(t)
	case answered:
		a.cameBack(t, o.answer)
	case poke:
		t.poked = true
		if t.stage == idle {
			a.soon(t)
		}
	}
}

// soon has a turn asked now, but not within Fast of the last time.
func (a *asker) soon(t *turn) {
	t.poked = false
	t.late = t.at.Add(t.plan.Fast)
	t.early = t.late
	a.due.put(t)
}

// wait waits for events, until the next turn, or for an order.
func (a *asker) wait(events []unix.EpollEvent, now time.Time) int {
	limit := -1
	if len(a.due) > 0 {
		limit = max(0, int((a.due[0].late.Sub(now)+time.Millisecond-1)/time.Millisecond))
	}
	a.mu.Lock()
	if len(a.orders) > 0 || a.closed {
		limit = 0
	}
	a.rings = limit != 0
	a.mu.Unlock()
	n, err := unix.EpollWait(a.ep, events, limit)
	a.mu.Lock()
	a.rings = false
	a.mu.Unlock()
	if err != nil {
		return 0 // interrupted
	}
	return n
}

// begin asks everyone whose time is near, ends the runs that took too long, and asks anew beside those that take longer
// than the interval.
func (a *asker) begin(now time.Time) {
	a.begun = a.begun[:0]
	for len(a.due) > 0 && !a.due[0].early.After(now) {
		t := a.due[0]
		switch t.stage {
		case idle, elsewhere:
		default:
			if t.at.Add(t.limit).After(now) {
				a.goElsewhere(t)
			} else {
				a.tooLate(t)
			}
			continue
		}
		t.at, t.limit = now, t.w.check.timeout(t.plan.Timeout)
		if len(a.begun)%16 == 15 {
			t.at = time.Now() // it takes a while to begin with many
		}
		t.early = t.at.Add(min(t.limit, t.plan.Interval))
		t.late = t.early
		a.due.put(t)
		a.asking++
		if t.fd >= 0 {
			a.say(t)
			continue
		}
		a.connect(t)
	}
	a.look()
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

// goElsewhere has a goroutine see a run to its end: of a long answer, or of one that takes longer than the interval. Then
// the check is asked anew meanwhile, as often as the number of failures that count: a server that hangs is found within
// fall x interval + timeout, however long the timeout is.
func (a *asker) goElsewhere(t *turn) {
	run := leftover{t: t, at: t.at, limit: t.limit, said: t.stage == awaiting, unsaid: bytes.Clone(t.unsaid), got: t.got}
	if run.said {
		_ = a.list(t.fd, unix.EPOLL_CTL_DEL, 0) // the connection goes on under another number, which epoll must not follow
		delete(a.byFD, int32(t.fd))
		f := os.NewFile(uintptr(t.fd), "check")
		t.fd = -1
		var err error
		run.conn, err = net.FileConn(f)
		_ = f.Close() // conn is a duplicate
		if err != nil {
			a.finish(t, result{}, err, inTime)
			return
		}
	} else {
		a.hangUp(t) // a connect that takes so long is as well begun anew
	}
	a.asking--
	t.away++
	t.stage, t.got, t.unsaid = elsewhere, nil, nil
	if t.limit > t.plan.Interval && t.away < t.plan.Fall {
		t.early = t.at.Add(t.plan.Interval)
		t.late = t.early
		a.due.put(t)
	} else {
		a.due.remove(t) // an answer plans the next run
	}
	a.m.work.Go(func() { a.order(order{t, answered, run.finish()}) }) // ends with the run's limit
}

// cameBack takes the answer of a run that a goroutine saw to its end.
func (a *asker) cameBack(t *turn, answer Answer) {
	t.away--
	if t.stage == over {
		return
	}
	plan, pause := t.plan, t.plan.Interval
	if !answer.At.Before(t.newest) { // else a later question has been answered already
		t.newest = answer.At
		plan, pause = a.m.note(t.ctx, t.w, t.w.progress.Judge(answer))
	}
	if t.stage == elsewhere || pause == 0 { // else one is being asked, whose answer plans the next run
		a.next(t, plan, pause)
	}
}

// leftover is a run that a goroutine sees to its end.
type leftover struct {
	t           *turn
	at          time.Time
	limit       time.Duration
	said        bool     // conn is open, and got has come on it; else it is begun anew
	conn        net.Conn //
	unsaid, got []byte
}

func (o *leftover) finish() Answer {
	t := o.t
	run, cancel := context.WithDeadline(t.ctx, o.at.Add(o.limit))
	defer cancel()
	r, err := o.rest(run)
	end := inTime
	if run.Err() != nil {
		end = late
	}
	return t.w.check.answer(o.at, o.limit, end, r, err)
}

func (o *leftover) rest(run context.Context) (result, error) {
	if !o.said {
		return o.t.p.ask(run, o.t.target)
	}
	l := bound(run, o.conn)
	defer l.Close() //nolint:errcheck // all was said
	if _, err := l.Write(o.unsaid); len(o.unsaid) > 0 && err != nil {
		return result{}, readWords(err)
	}
	return o.t.p.read(io.MultiReader(bytes.NewReader(o.got), l), o.t.target)
}

// schedule is a heap of turns, the one whose time comes first on top.
type schedule []*turn

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].late.Before(s[j].late) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i]; s[i].place, s[j].place = i, j }
func (s *schedule) Push(x any)        { t := x.(*turn); t.place = len(*s); *s = append(*s, t) }
func (s *schedule) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	(*s)[last] = nil
	*s, t.place = (*s)[:last], -1
	return t
}

// put adds a turn, or moves it to where its time is now.
func (s *schedule) put(t *turn) {
	if t.place < 0 {
		heap.Push(s, t)
		return
	}
	heap.Fix(s, t.place)
}

func (s *schedule) remove(t *turn) {
	if t.place >= 0 {
		heap.Remove(s, t.place)
	}
}

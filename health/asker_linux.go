package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
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

//go:build linux

package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/bench/stats"
)

// client is a client process. Its loops run from begin to end; the commands in between only look.
type client struct {
	Client
	addr    unix.RawSockaddrInet4
	threads []*thread
	running sync.WaitGroup
	ending  atomic.Bool
	from    atomic.Int64 // latencies of messages due from here …
	to      atomic.Int64 // … to here are recorded; both set by mark
}

// thread is one loop of a client. All but its counters belong to the loop while it runs.
type thread struct {
	*client
	work   work
	conns  int     // its share
	rate   float64 // its share
	number int
	poller *poller
	result Result

	_                    [64]byte // the counters are read by others: keep them off the loop's cache lines
	units, bytes, failed atomic.Uint64
	_                    [64]byte
}

// work is what a mode does, in one thread. Events carry the index of a connection.
type work interface {
	open(t *thread) error                      // before the load: the connections
	begin(t *thread, now int64)                // the first messages
	tick(t *thread, now int64) int64           // what is due; returns how long nothing will be
	ready(t *thread, index int, events uint32) // a connection has news
	busy(t *thread) bool                       // at the end: is an answer still to come?
}

const (
	idleTick = 20e6 // ns: how soon a loop that waits for nothing else sees the end
	patience = 5e9  // ns: an answer that takes longer is lost
)

func newClient(text []byte) (child, error) {
	c := &client{}
	if err := json.Unmarshal(text, &c.Client); err != nil {
		return nil, err
	}
	var err error
	if c.addr, err = address(c.Addr); err != nil {
		return nil, err
	}
	c.from.Store(math.MaxInt64)
	c.to.Store(math.MaxInt64)
	n := max(1, min(c.Threads, c.Conns))
	for i := range n {
		t := &thread{client: c, number: i, conns: c.Conns / n, rate: c.Rate / float64(n)}
		if i < c.Conns%n {
			t.conns++
		}
		if t.work, err = newWork(&c.Client); err != nil {
			return nil, err
		}
		if t.poller, err = newPoller(); err != nil {
			return nil, err
		}
		if err := t.work.open(t); err != nil {
			return nil, err
		}
		c.threads = append(c.threads, t)
	}
	return c, nil
}

func newWork(c *Client) (work, error) {
	switch mode := c.Mode; mode {
	case EchoLoop:
		return &echoWork{}, nil
	case RateLoop:
		return &rateWork{}, nil
	case ConnectLoop:
		return &connectWork{}, nil
	case DrainLoop, FloodLoop:
		return &bulkWork{flood: mode == FloodLoop}, nil
	case IdleLoop:
		return &idleWork{}, nil
	case HTTPLoop, HTTPIdle:
		return &httpWork{idle: mode == HTTPIdle}, nil
	case HTTPOnce:
		return &httpOnceWork{}, nil
	case HTTPSLoop:
		return &secureWork{}, nil
	case H2Loop:
		return &secureWork{streams: c.Streams}, nil
	case StormLoop:
		return &stormWork{}, nil
	}
	return nil, fmt.Errorf("BUG: client: unknown mode %q", c.Mode)
}

func (c *client) obey(command string) (any, error) {
	switch command {
	case "begin":
		for _, t := range c.threads {
			c.running.Go(t.run) // ends at end
		}
		return nil, nil
	case "mark":
		return c.mark(), nil
	case "end":
		c.ending.Store(true)
		c.running.Wait()
		return c.sum(), nil
	}
	return nil, errors.New("BUG: client: unknown command " + command)
}

func (c *client) mark() Count {
	now := Mono()
	if !c.from.CompareAndSwap(math.MaxInt64, now) {
		c.to.CompareAndSwap(math.MaxInt64, now)
	}
	return c.count()
}

func (c *client) count() Count {
	n := Count{At: Mono()}
	for _, t := range c.threads {
		n.Units += t.units.Load()
		n.Bytes += t.bytes.Load()
		n.Failed += t.failed.Load()
	}
	return n
}

func (c *client) sum() *Result {
	r := &Result{Count: c.count(), Errors: map[string]uint64{}}
	for _, t := range c.threads {
		for text, n := range t.result.Errors {
			r.Errors[text] += n
		}
		r.Latency.Merge(&t.result.Latency)
		r.Lag.Merge(&t.result.Lag)
		r.New = append(r.New, t.result.New...)
		r.Old += t.result.Old
		r.OldLost = append(r.OldLost, t.result.OldLost...)
	}
	return r
}

func (t *thread) run() {
	runtime.LockOSThread()
	t.work.begin(t, Mono())
	for !t.ending.Load() {
		t.round()
	}
	for end := Mono() + patience; t.work.busy(t) && Mono() < end; {
		t.round()
	}
}

func (t *thread) round() {
	rest := t.work.tick(t, Mono())
	for _, ev := range t.poller.wait(min(rest, idleTick)) {
		t.work.ready(t, int(ev.Fd), ev.Events)
	}
}

// done counts a unit. The counters have one writer, so a store does, and it costs no locked instruction.
func (t *thread) done() { t.units.Store(t.units.Load() + 1) }

// fail counts a unit that failed, and why.
func (t *thread) fail(why string) {
	t.failed.Store(t.failed.Load() + 1)
	if t.result.Errors == nil {
		t.result.Errors = map[string]uint64{}
	}
	t.result.Errors[why]++
}

// record notes a latency if its message was due between the marks.
func (t *thread) record(h *stats.Hist, due, ns int64) {
	if due >= t.from.Load() && due < t.to.Load() {
		h.Record(ns)
	}
}

// source is the client address of connection i, all of them ports the system chooses late (at connect), so
// that one port serves many destinations.
func (t *thread) source(fd, i int) syscall.Errno {
	if t.Sources == 0 {
		return 0
	}
	i = i%t.Sources + 1
	a := sockaddr([4]byte{127, 0, byte(1 + i/250), byte(1 + i%250)}, 0)
	setInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	return bind(fd, &a)
}

// dial begins connection i: the socket, and the error of connect other than "in progress".
func (t *thread) dial(i int) (int, syscall.Errno) {
	fd, e := socket()
	if e != 0 {
		return -1, e
	}
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if e := t.source(fd, i); e != 0 {
		closeFD(fd)
		return -1, e
	}
	if e := connect(fd, &t.addr); e != 0 && e != syscall.EINPROGRESS {
		closeFD(fd)
		return -1, e
	}
	return fd, 0
}

// establish opens connection i and waits until it is there; with greet, until one message has come back over it,
// so that the proxy's other half is there too. Before the load only.
func (t *thread) establish(i int, greet bool) (int, error) {
	fd, e := t.dial(i)
	if e != 0 {
		return -1, t.openError(i, "connect", e)
	}
	if err := await(fd, unix.POLLOUT); err != nil {
		closeFD(fd)
		return -1, t.openError(i, "connect", err)
	}
	if e := socketError(fd); e != 0 {
		closeFD(fd)
		return -1, t.openError(i, "connect", e)
	}
	if greet {
		if err := greetOn(fd); err != nil {
			closeFD(fd)
			return -1, t.openError(i, "first message", err)
		}
	}
	return fd, nil
}

func (t *thread) openError(i int, what string, err error) error {
	hint := ""
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		hint = PortsHint
	}
	return fmt.Errorf("connection %d of %d to %s: %s: %w%s", i+1, t.conns, t.Addr, what, err, hint)
}

func greetOn(fd int) error {
	var m [MessageSize]byte
	if _, e := write(fd, m[:]); e != 0 {
		return e
	}
	for got := 0; got < len(m); {
		if err := await(fd, unix.POLLIN); err != nil {
			return err
		}
		n, e := read(fd, m[got:])
		if e != 0 {
			return e
		}
		if n == 0 {
			return errClosed
		}
		got += n
	}
	return nil
}

var (
	errClosed  = errors.New("closed before the answer")
	errTimeout = errors.New("no answer in " + time.Duration(patience).String())
)

func await(fd int, events int16) error {
	for end := Mono() + patience; ; {
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(p, 500)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		if Mono() > end {
			return errTimeout
		}
	}
}

// errorName is short and the same for every connection.
func errorName(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return e.Error()
}

// PortsHint explains EADDRNOTAVAIL.
const PortsHint = " (local ports ran out: each is kept for 60 s in TIME_WAIT; wait a minute, widen" +
	" net.ipv4.ip_local_port_range, or, for connect, raise -sources)"

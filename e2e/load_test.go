package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var ids atomic.Uint64

// attempt is one new connection as its client saw it.
type attempt struct {
	id         uint64
	begin, end int64 // before connect() was called; when all was over
	reply      int64 // when the server's name had come
	side       byte
	err        error
}

// patience is how long a client waits for anything.
var patience = slower(30 * time.Second)

// greet opens a connection, says an id and reads which server has it. The connection is nil after an error.
func greet(address string) (attempt, net.Conn) {
	a := attempt{id: ids.Add(1), begin: mono()}
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		a.err, a.end = err, mono()
		return a, nil
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if err = a.introduce(c); err != nil {
		_ = c.Close()
		a.err, a.end = err, mono()
		return a, nil
	}
	return a, c
}

func (a *attempt) introduce(c net.Conn) error {
	var b [9]byte
	binary.BigEndian.PutUint64(b[:8], a.id)
	if _, err := c.Write(b[:8]); err != nil {
		return err
	}
	if n, err := io.ReadFull(c, b[:]); err != nil {
		return fmt.Errorf("%d bytes of the greeting: %w", n, err)
	}
	a.side, a.reply = b[0], mono()
	if got := binary.BigEndian.Uint64(b[1:]); got != a.id {
		return fmt.Errorf("greeted as %d, not %d: somebody else's bytes", got, a.id)
	}
	return nil
}

// once is a connection with one greeting and one message.
func once(address string) (a attempt) {
	a, c := greet(address)
	if c == nil {
		return a
	}
	defer func() { _ = c.Close(); a.end = mono() }()
	msg := []byte("the quick brown fox")
	if a.id%4 == 0 {
		_ = c.(*net.TCPConn).SetLinger(0) // some clients leave without a word
	}
	if _, a.err = c.Write(msg); a.err != nil {
		return a
	}
	back := make([]byte, len(msg))
	if _, a.err = io.ReadFull(c, back); a.err == nil && !bytes.Equal(msg, back) {
		a.err = fmt.Errorf("echo %q", back)
	}
	return a
}

// load opens connections at a rate until it is stopped.
type load struct {
	quit  chan struct{}
	wg    sync.WaitGroup
	began time.Time
	next  atomic.Int64

	mu       sync.Mutex
	attempts []attempt
	lasted   time.Duration
	epoch    int // raised by between
	whole    int // connections that began and ended within the epoch
}

// startLoad begins; clients is the most at once.
func startLoad(address string, rate, clients int) *load {
	l := &load{quit: make(chan struct{}), began: time.Now()}
	for range clients {
		l.wg.Go(func() { l.client(address, rate) }) // ends with quit
	}
	return l
}

func (l *load) client(address string, rate int) {
	var own []attempt
	defer func() { l.mu.Lock(); l.attempts = append(l.attempts, own...); l.mu.Unlock() }()
	for {
		due := l.began.Add(time.Duration(l.next.Add(1)) * time.Second / time.Duration(rate))
		select {
		case <-l.quit:
			return
		case <-time.After(time.Until(due)):
		}
		l.mu.Lock()
		epoch := l.epoch
		l.mu.Unlock()
		own = append(own, once(address))
		l.mu.Lock()
		if l.epoch == epoch {
			l.whole++
		}
		l.mu.Unlock()
	}
}

// between returns when n connections have begun and ended since it was called.
func (l *load) between(t testing.TB, n int) {
	t.Helper()
	l.mu.Lock()
	l.epoch++
	l.whole = 0
	l.mu.Unlock()
	eventually(t, "connections come and go", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.whole >= n
	})
}

// stop ends the load and returns all attempts by their beginning.
func (l *load) stop() []attempt {
	close(l.quit)
	l.wg.Wait()
	l.lasted = time.Since(l.began)
	slices.SortFunc(l.attempts, func(a, b attempt) int { return int(a.begin - b.begin) })
	return l.attempts
}

// noFailures fails the test for each attempt that failed, and shows the first few.
func noFailures(t testing.TB, attempts []attempt) {
	t.Helper()
	failed := 0
	for _, a := range attempts {
		if a.err == nil {
			continue
		}
		if failed++; failed <= 5 {
			t.Errorf("connection %d (side %q) after %s: %v", a.id, a.side, time.Duration(a.end-a.begin), a.err)
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d connections failed", failed, len(attempts))
	}
}

// regulars are clients that stay and send a message now and then.
type regulars struct {
	conns []net.Conn
	sides []byte
	quit  chan struct{}
	wg    sync.WaitGroup
	sent  atomic.Int64

	mu     sync.Mutex
	broken []error
}

// startRegulars returns when all are connected.
func startRegulars(t testing.TB, address string, n int, every time.Duration) *regulars {
	t.Helper()
	r := &regulars{quit: make(chan struct{})}
	for range n {
		a, c := greet(address)
		if c == nil {
			t.Fatalf("regular: %v", a.err)
		}
		_ = c.SetDeadline(time.Time{})
		r.conns, r.sides = append(r.conns, c), append(r.sides, a.side)
	}
	for i, c := range r.conns {
		r.wg.Go(func() { r.talk(i, c, every) }) // ends with quit
	}
	t.Cleanup(func() { r.close() })
	return r
}

func (r *regulars) talk(i int, c net.Conn, every time.Duration) {
	msg, back := make([]byte, 64), make([]byte, 64)
	for k := uint64(1); ; k++ {
		select {
		case <-r.quit:
			return
		case <-time.After(every):
		}
		binary.BigEndian.PutUint64(msg, k)
		binary.BigEndian.PutUint64(msg[8:], uint64(i))
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := c.Write(msg)
		if err == nil {
			_, err = io.ReadFull(c, back)
		}
		if err == nil && !bytes.Equal(msg, back) {
			err = fmt.Errorf("message %d: sent %x, got %x", k, msg, back)
		}
		if err != nil {
			r.mu.Lock()
			r.broken = append(r.broken, fmt.Errorf("regular %d of side %c: %w", i, r.sides[i], err))
			r.mu.Unlock()
			return
		}
		r.sent.Add(1)
	}
}

// rest stops the talking; the connections stay.
func (r *regulars) rest() []error {
	select {
	case <-r.quit:
	default:
		close(r.quit)
	}
	r.wg.Wait()
	return r.broken
}

func (r *regulars) close() {
	r.rest()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

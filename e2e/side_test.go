package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

var epoch = time.Now()

// mono is the clock of all stamps: nanoseconds since the tests began; never 0.
func mono() int64 { return int64(time.Since(epoch)) + 1 }

// visit is one connection as its server saw it. Guarded by side.mu.
type visit struct {
	id                      uint64 // of the client's start; 0 on a connection without bytes
	accepted, first, closed int64  // 0: not yet
}

// side is a server that keeps a record of each connection. It reads an id of 8 bytes, answers with its name and
// that id, and echoes the rest.
type side struct {
	t    testing.TB
	name byte
	addr string // host:port or unix:/path

	mu     sync.Mutex
	l      net.Listener
	conns  map[net.Conn]*visit
	visits []*visit
}

func startSide(t testing.TB, name byte) *side { t.Helper(); return startSideAt(t, name, freePort(t)) }

func startSideAt(t testing.TB, name byte, addr string) *side {
	t.Helper()
	s := &side{t: t, name: name, addr: addr, conns: map[net.Conn]*visit{}}
	s.up()
	t.Cleanup(s.down)
	return s
}

// up begins to listen and returns the instant from which on connections succeed.
func (s *side) up() int64 {
	s.t.Helper()
	network, address := "tcp", s.addr
	if path, ok := strings.CutPrefix(s.addr, "unix:"); ok {
		network, address = "unix", path
	}
	l, err := listenAgain(network, address)
	if err != nil {
		s.t.Errorf("server %c: %v", s.name, err)
		return 0
	}
	at := mono()
	s.mu.Lock()
	s.l = l
	s.mu.Unlock()
	go s.accept(l) // ends with the listener
	return at
}

// away stops listening; connections that are there go on.
func (s *side) away() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		_ = s.l.Close()
		s.l = nil
	}
}

// down is the death of the server: no listener, each connection reset.
func (s *side) down() {
	s.away()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (s *side) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		v := &visit{accepted: mono()}
		s.mu.Lock()
		s.visits = append(s.visits, v)
		s.conns[c] = v
		dead := s.l != l
		s.mu.Unlock()
		if dead { // it died between the two
			_ = c.Close()
		}
		go s.serve(c, v) // ends with the connection
	}
}

func (s *side) serve(c net.Conn, v *visit) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		v.closed = mono()
		delete(s.conns, c)
	}()
	var head [9]byte
	n, err := io.ReadAtLeast(c, head[1:], 1)
	if err != nil {
		return // no bytes: a probe, or a dial taken back
	}
	first := mono()
	if n < 8 {
		if _, err := io.ReadFull(c, head[1+n:]); err != nil {
			return
		}
	}
	s.mu.Lock()
	v.first, v.id = first, binary.BigEndian.Uint64(head[1:])
	s.mu.Unlock()
	head[0] = s.name
	if _, err := c.Write(head[:]); err != nil {
		return
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// tally is what a side has seen.
type tally struct {
	served int // connections that carried bytes
	silent int // that did not: gate probes and dials taken back
	open   int // served and not over
}

func (s *side) tally() (n tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.visits {
		switch {
		case v.first == 0 && v.closed == 0: // undecided
		case v.first == 0:
			n.silent++
		default:
			n.served++
			if v.closed == 0 {
				n.open++
			}
		}
	}
	return n
}

// quiet tells whether no connection is open, not even an undecided one.
func (s *side) quiet() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 0 }

// record copies the visits with bytes in them.
func (s *side) record() (out []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.visits {
		if v.first != 0 {
			out = append(out, *v)
		}
	}
	return out
}

// forget begins a new record; connections that are open stay in it.
func (s *side) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = nil
	for _, v := range s.conns {
		s.visits = append(s.visits, v)
	}
}

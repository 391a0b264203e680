package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestRelay_HalfCloseOfTheClientReachesTheServerAndTheAnswerComesBack(t *testing.T) {
	for _, size := range []int{0, 1, 100_000, 3 << 20} {
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			n, err := verify(c, 1) // returns at the client's end of stream
			fmt.Fprintf(c, "%d %v", n, err)
			_, _ = c.Write(bytesOf(2, size))
		})
		d := openDoor(t, pools([]string{"a", srv.address()}))
		c := d.dial("svc").(*net.TCPConn)
		if _, err := c.Write(bytesOf(1, size)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		head := make([]byte, len(fmt.Sprintf("%d %v", size, nil)))
		if _, err := io.ReadFull(c, head); err != nil || string(head) != fmt.Sprintf("%d %v", size, nil) {
			t.Fatalf("size %d: the server saw %q, %v", size, head, err)
		}
		if n, err := verify(c, 2); n != int64(size) || err != nil {
			t.Fatalf("size %d: answer of %d bytes, %v", size, n, err)
		}
		d.gone()
	}
}

func TestRelay_HalfCloseOfTheServerReachesTheClientAndTheUploadGoesOn(t *testing.T) {
	const size = 3 << 20
	got := make(chan string, 1)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		fmt.Fprint(c, "hello")
		_ = c.CloseWrite()
		n, err := verify(c, 1)
		got <- fmt.Sprint(n, err)
	})
	d := openDoor(t, pools([]string{"a", srv.address()}))
	c := d.dial("svc").(*net.TCPConn)
	if all, err := readAll(c); all != "hello" || err != nil {
		t.Fatalf("%q, %v", all, err)
	}
	_, _ = c.Write(bytesOf(1, size))
	_ = c.CloseWrite()
	if s := <-got; s != fmt.Sprint(size, nil) {
		t.Fatalf("the server got %s", s)
	}
	d.gone()
}

func TestRelay_BothSidesHalfCloseAtOnce(t *testing.T) {
	const size = 64<<10 + 1
	got := make(chan string, 100)
	both := func(c *net.TCPConn, own, other byte) string {
		defer c.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = c.Write(bytesOf(own, size))
			_ = c.CloseWrite()
		})
		n, err := verify(c, other)
		wg.Wait()
		return fmt.Sprint(n, err)
	}
	srv := serve(t, "s", func(c *net.TCPConn) { got <- both(c, 1, 2) })
	d := openDoor(t, pools([]string{"a", srv.address()}))
	for range 50 {
		mine := both(d.dial("svc").(*net.TCPConn), 2, 1)
		theirs := <-got
		if want := fmt.Sprint(size, nil); mine != want || theirs != want {
			t.Fatalf("client got %s, server got %s", mine, theirs)
		}
	}
	d.gone()
}

// How far a connection is when it is reset.
var resetCases = map[string]func(t *testing.T, near, far net.Conn){
	"fresh": func(*testing.T, net.Conn, net.Conn) {},
	"after a talk": func(t *testing.T, near, far net.Conn) {
		ask2(t, near, far)
		ask2(t, far, near)
	},
	"after its own end of stream": func(t *testing.T, near, far net.Conn) {
		ask2(t, near, far)
		_ = near.(*net.TCPConn).CloseWrite()
		if s, err := readAll(far); s != "" || err != nil {
			t.Fatalf("%q %v", s, err)
		}
	},
	"after the other's end of stream": func(t *testing.T, near, far net.Conn) {
		_ = far.(*net.TCPConn).CloseWrite()
		if s, err := readAll(near); s != "" || err != nil {
			t.Fatalf("%q %v", s, err)
		}
	},
}

// ask2 carries a line from one end of a relayed connection to the other.
func ask2(t *testing.T, from, to net.Conn) {
	t.Helper()
	fmt.Fprintln(from, "line")
	if got := readLine(t, to); got != "line" {
		t.Fatal(got)
	}
}

// pairs opens relayed connections and gives both ends of each.
func pairs(t *testing.T) (*door, func() (client, server net.Conn)) {
	conns := make(chan net.Conn, 1)
	srv := serve(t, "s", func(c *net.TCPConn) { conns <- c })
	d := openDoor(t, pools([]string{"a", srv.address()}))
	return d, func() (net.Conn, net.Conn) {
		c := d.dial("svc")
		s := <-conns
		t.Cleanup(func() { s.Close() })
		_ = s.SetDeadline(time.Now().Add(2 * time.Minute))
		waitFor(t, "started", func() bool { return d.counts(srv.address()).Connections > 0 })
		return c, s
	}
}

// sensesReset waits until a socket hears of a reset, without writing. A read tells it, unless an end of stream
// came before: then only its poll state does.
func sensesReset(t *testing.T, c net.Conn) {
	t.Helper()
	waitFor(t, "the reset arrives", func() bool { return sockErr(c) })
}

func TestRelay_ResetIsCarriedAsReset(t *testing.T) {
	for name, prepare := range resetCases {
		for _, from := range []string{"client", "server"} {
			t.Run(from+" "+name, func(t *testing.T) {
				d, open := pairs(t)
				near, far := open()
				if from == "server" {
					near, far = far, near
				}
				prepare(t, near, far)
				reset(near)
				sensesReset(t, far)
				d.gone()
			})
		}
	}
}

func TestRelay_WhatWasSentBeforeAResetArrives(t *testing.T) {
	const size = 1 << 20
	for _, how := range []string{"reset", "close with unread input"} {
		for _, from := range []string{"client", "server"} {
			t.Run(from+" "+how, func(t *testing.T) {
				d, open := pairs(t)
				near, far := open()
				if from == "server" {
					near, far = far, near
				}
				if how != "reset" {
					_, _ = far.Write(make([]byte, 1000))
					waitFor(t, "unread input", func() bool { n, _ := inQueue(near); return n == 1000 })
				}
				done := make(chan bool)
				go func() {
					defer close(done)
					_, _ = near.Write(bytesOf(1, size))
					waitAcked(t, near)
					if how == "reset" {
						reset(near)
					} else {
						near.Close()
					}
				}()
				n, err := verify(slow{far}, 1)
				<-done
				if n != size || !isReset(err) {
					t.Fatalf("%d bytes, %v", n, err)
				}
				d.gone()
			})
		}
	}
}

// slow reads in small pieces.
type slow struct{ net.Conn }

func (s slow) Read(b []byte) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return s.Conn.Read(b[:min(len(b), 16<<10)])
}

// Both sides say something and break off while the door looks elsewhere: nothing is left to carry anywhere.
func TestRelay_BothSidesResetAtOnceLeaveNothingBehind(t *testing.T) {
	d, open := pairs(t)
	for _, say := range []string{"neither", "client", "server", "both"} {
		for _, finish := range []bool{false, true} {
			c, s := open()
			thaw := d.plane.Freeze()
			if say == "client" || say == "both" {
				_, _ = c.Write(make([]byte, 100))
			}
			if say == "server" || say == "both" {
				_, _ = s.Write(make([]byte, 100))
			}
			if finish {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			reset(c)
			reset(s)
			thaw()
			d.gone()
		}
	}
}

func TestRelay_AnEarlyAnswerArrivesWholeWhileTheClientStillUploads(t *testing.T) {
	const size = 300 << 10
	for _, how := range []string{"closes", "reads on"} {
		t.Run(how, func(t *testing.T) {
			srv := serve(t, "s", func(c *net.TCPConn) {
				defer c.Close()
				_, _ = io.ReadFull(c, make([]byte, 1))
				_, _ = c.Write(bytesOf(1, size))
				_ = c.CloseWrite()
				if how == "closes" {
					waitAcked(t, c)
				} else {
					_, _ = io.Copy(io.Discard, c)
				}
			})
			d := openDoor(t, pools([]string{"a", srv.address()}))
			c := d.dial("svc").(*net.TCPConn)
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(make([]byte, 16<<20))
				for how == "closes" && err == nil { // until it is told
					_, err = c.Write(make([]byte, 1<<20))
				}
				if err == nil {
					err = c.CloseWrite()
				}
				sent <- err
			}()
			if n, err := verify(slow{c}, 1); n != size || err != nil && !isReset(err) {
				t.Fatalf("%d of %d bytes, %v", n, size, err)
			}
			if err := <-sent; (err == nil) != (how == "reads on") || err != nil && !broken(err) {
				t.Fatalf("the upload: %v", err)
			}
			d.gone()
		})
	}
}

func TestRelay_NoTailIsLost(t *testing.T) {
	sizes := []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1<<20 + 7, 3<<20 + 11}
	for _, slowly := range []string{"both quick", "slow client", "slow server", "slow client, copied"} {
		t.Run(slowly, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, len(sizes))
			handle := func(c *net.TCPConn) {
				_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
				var head [8]byte
				_, _ = io.ReadFull(c, head[:])
				var size int
				_, _ = fmt.Sscanf(string(head[:]), "%d", &size)
				if slowly == "slow server" { // the client wrote at once and has closed
					n, err := verify(slow{c}, 1)
					got <- fmt.Sprint(n == int64(size), n, err)
				} else {
					_, _ = c.Write(bytesOf(1, size))
				}
				c.Close()
			}
			srv := serve(t, "s", handle)
			if slowly == "slow server" {
				srv = serveSmall(t, "s", 4096, handle)
			}
			d := openDoor(t, pools([]string{"a", srv.address()}))
			if strings.HasPrefix(slowly, "slow client") {
				d.plane.SmallSendBuffers()
			}
			if slowly == "slow client, copied" {
				defer d.plane.NoPipes()()
			}
			var wg sync.WaitGroup
			for _, size := range sizes {
				wg.Go(func() {
					var r io.Reader
					var c *net.TCPConn
					if strings.HasPrefix(slowly, "slow client") {
						c = d.dialSmall("svc", 4096)
						r = slow{c}
					} else {
						c = d.dial("svc").(*net.TCPConn)
						r = c
					}
					fmt.Fprintf(c, "%08d", size)
					if slowly == "slow server" {
						_, _ = c.Write(bytesOf(1, size))
						c.Close()
						return
					}
					if n, err := verify(r, 1); n != int64(size) || err != nil {
						t.Errorf("%d of %d bytes, %v", n, size, err)
					}
					c.Close()
				})
			}
			wg.Wait()
			if slowly == "slow server" {
				for range sizes {
					if s := <-got; s[:4] != "true" || s[len(s)-5:] != "<nil>" {
						t.Error(s)
					}
				}
			}
			d.gone()
		})
	}
}

func TestRelay_SingleBytesBothWays(t *testing.T) {
	const n = 2000
	oneByOne := func(c net.Conn, seed byte) {
		for _, b := range bytesOf(seed, n) {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Error(err)
				return
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}
	d, open := pairs(t)
	c, s := open()
	var wg sync.WaitGroup
	wg.Go(func() { oneByOne(c, 1) })
	wg.Go(func() { oneByOne(s, 2) })
	wg.Go(func() {
		if got, err := verify(s, 1); got != n || err != nil {
			t.Errorf("server: %d, %v", got, err)
		}
	})
	if got, err := verify(c, 2); got != n || err != nil {
		t.Errorf("client: %d, %v", got, err)
	}
	wg.Wait()
	d.gone()
}

// soak tells whether there is much time.
func soak() bool { return os.Getenv("TURNOUT_SOAK") != "" }

func TestRelay_CarriesMuchBothWaysByteForByte(t *testing.T) {
	size := int64(64 << 20)
	if soak() {
		size = 1 << 30
	}
	d, open := pairs(t)
	c, s := open()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	_ = s.SetDeadline(time.Now().Add(5 * time.Minute))
	var wg sync.WaitGroup
	send := func(c net.Conn, seed byte) {
		buf := make([]byte, 256<<10)
		p := &pattern{seed: seed}
		for left := size; left > 0; left -= int64(len(buf)) {
			_, _ = p.Read(buf)
			if _, err := c.Write(buf); err != nil {
				t.Error(err)
				return
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}
	wg.Go(func() { send(c, 1) })
	wg.Go(func() { send(s, 2) })
	var most atomic.Int64
	stop := make(chan bool)
	wg.Go(func() {
		for {
			most.Store(max(most.Load(), int64(d.plane.Lent().Pipes)))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	up := make(chan string, 1)
	go func() {
		n, err := verify(s, 1)
		up <- fmt.Sprint(n, err)
	}()
	if n, err := verify(c, 2); n != size || err != nil {
		t.Errorf("down: %d, %v", n, err)
	}
	if got := <-up; got != fmt.Sprint(size, nil) {
		t.Errorf("up: %s", got)
	}
	close(stop)
	wg.Wait()
	if most.Load() == 0 {
		t.Error("no pipe was seen at work: all was copied")
	}
	d.gone()
}

func TestRelay_BulkThenChattyThenBulkOnOneConnection(t *testing.T) {
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	d := openDoor(t, pools([]string{"a", srv.address()}))
	c := d.dial("svc")
	for round := range 4 {
		for _, size := range []int{4 << 20, 1, 200, 1460, 64 << 10, 3, 1 << 20} {
			want := bytesOf(byte(round), size)
			go func() { _, _ = c.Write(want) }()
			got := make([]byte, size)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d, %d bytes: %v", round, size, err)
			}
		}
	}
	if lent := d.plane.Lent(); lent.Pipes != 0 || lent.Bufs != 0 {
		t.Fatalf("a connection at rest holds %+v", lent)
	}
}

// A side that does not read stops the other side's being read; when it reads again, nothing is missing.
func TestRelay_ASideThatDoesNotReadStopsTheOther(t *testing.T) {
	conns := 16
	if soak() {
		conns = 100
	}
	for _, stalled := range []string{"client", "server"} {
		for _, kind := range []string{"spliced", "copied"} {
			t.Run(stalled+" "+kind, func(t *testing.T) {
				t.Parallel()
				begun := time.Now()
				accepted := make(chan *net.TCPConn, conns)
				srv := serveSmall(t, "s", 64<<10, func(c *net.TCPConn) { accepted <- c })
				d := openDoor(t, pools([]string{"a", srv.address()}))
				if kind == "copied" {
					defer d.plane.NoPipes()()
				}
				var wg sync.WaitGroup
				var readers []net.Conn
				sent := make([]atomic.Int64, conns)
				var stop atomic.Bool
				for i := range conns {
					from := net.Conn(d.dialSmall("svc", 64<<10))
					to := net.Conn(<-accepted)
					if stalled == "client" {
						from, to = to, from
					}
					_ = from.(*net.TCPConn).SetWriteBuffer(64 << 10)
					_ = from.SetWriteDeadline(time.Now().Add(30 * time.Second))
					readers = append(readers, to)
					wg.Go(func() {
						p, buf := &pattern{seed: byte(i)}, make([]byte, 256<<10)
						for !stop.Load() {
							_, _ = p.Read(buf)
							n, err := from.Write(buf)
							sent[i].Add(int64(n))
							if err != nil {
								t.Error(err)
								return
							}
						}
						_ = from.(*net.TCPConn).CloseWrite()
					})
				}
				sum := func() (n int64) {
					for i := range sent {
						n += sent[i].Load()
					}
					return n
				}
				// The writers stand still, but for what a closing window lets trickle.
				last, since := int64(-1), time.Now()
				waitFor(t, "all writers stopped", func() bool {
					if n := sum(); n > last+int64(conns)<<15 {
						last, since = n, time.Now()
					}
					return time.Since(since) > 200*time.Millisecond
				})
				t.Logf("stalled after %v", time.Since(begun))
				lent := d.plane.Lent()
				carried := carriedBytes(d)
				t.Logf("accepted %d KiB a connection, read %d KiB; lent %+v", last/int64(conns)>>10, carried/int64(conns)>>10, lent)
				if n := map[string]int{"spliced": lent.Pipes, "copied": lent.Bufs}[kind]; n < conns/4 { // some stall with less than makes a bulk flow
					t.Errorf("%d blocks and %d pipes for %d stalled directions", lent.Bufs, lent.Pipes, conns)
				}
				// What the door took from a sender and the reader's kernel has not: a block or a pipe.
				// Between them are the door's send buffer (tcp_wmem, 4 MiB) and the reader's.
				if per := carried / int64(conns); per > 4<<20+1<<20+64<<10 {
					t.Errorf("%d KiB were read for a side that takes none", per>>10)
				}
				stop.Store(true)
				var readWG sync.WaitGroup
				for i, c := range readers {
					readWG.Go(func() {
						if n, err := verify(c, byte(i)); err != nil || n != sent[i].Load() {
							t.Errorf("%d of %d bytes, %v", n, sent[i].Load(), err)
						}
						c.Close()
					})
				}
				wg.Wait()
				readWG.Wait()
				t.Logf("read after %v", time.Since(begun))
				if lent := d.plane.Lent(); lent.Pipes != 0 || lent.Bufs != 0 {
					t.Errorf("still lent: %+v", lent)
				}
			})
		}
	}
}

func carriedBytes(d *door) int64 {
	n := uint64(0)
	for _, p := range d.Current().Service("svc").Pools {
		for _, s := range p.Servers() {
			c := s.Counts()
			n += c.BytesToClient + c.BytesToServer
		}
	}
	return int64(n)
}

func TestRelay_IdleDeadlineClosesAndActivityDefersIt(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Timeouts.Idle = time.Second
	d := openDoor(t, spec)
	idle, busy := d.dial("svc"), d.dial("svc")
	readLine(t, idle)
	readLine(t, busy)
	begun := time.Now()
	ended := make(chan time.Duration, 1)
	go func() {
		_, _ = readAll(idle)
		ended <- time.Since(begun)
	}()
	for time.Since(begun) < 1600*time.Millisecond {
		if got := ask(t, busy, "still here"); got != "still here" {
			t.Fatal(got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := <-ended; took < 950*time.Millisecond || took > 10*time.Second {
		t.Errorf("the idle one ended after %v", took)
	}
	last := time.Now()
	if s, err := readAll(busy); s != "" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	if took := time.Since(last); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("the other one ended %v after its last word", took)
	}
}

// A client that reads nothing for so long is cut; it must not take what it has for the whole answer.
func TestRelay_IdleDeadlineInTheMiddleOfAnAnswerIsAReset(t *testing.T) {
	much := bytesOf(1, 32<<20)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		_, _ = c.Write(much)
	})
	spec := pools([]string{"a", srv.address()})
	spec.Services[0].Timeouts.Idle = 100 * time.Millisecond
	d := openDoor(t, spec)
	c := d.dialSmall("svc", 4096)
	waitFor(t, "stalled", func() bool { return d.plane.Lent().Pipes == 1 })
	d.gone()
	if n, err := verify(c, 1); !isReset(err) {
		t.Fatalf("%d bytes, then %v", n, err)
	}
}

// The story of a truncation: the loop is in the middle of carrying much (it has put itself on its again-list), when
// the sender breaks off. So a read meets the reset before any event tells of it; it must not pass for an end.
func TestRelay_AResetMetByAReadIsNoEndOfStream(t *testing.T) {
	conns := make(chan *net.TCPConn, 1)
	srv := serve(t, "s", func(c *net.TCPConn) { conns <- c })
	d := openDoorWith(t, pools([]string{"a", srv.address()}), 1, nil)
	defer d.plane.NoPipes()()              // by smaller steps
	const warm, much = 16 << 20, 512 << 10 // much: more than the loop carries in one go, less than in two
	for range 5 {
		c := d.dial("svc")
		s := <-conns
		defer s.Close()
		go func() { _, _ = s.Write(make([]byte, warm)) }() // lets the receive buffers grow
		if _, err := io.ReadFull(c, make([]byte, warm)); err != nil {
			t.Fatal(err)
		}
		wait, thaw1 := d.plane.FreezeSoon(-1)
		wait()
		_, _ = s.Write(bytesOf(1, much))
		queued := false
		for end := time.Now().Add(200 * time.Millisecond); !queued && time.Now().Before(end); time.Sleep(time.Millisecond) {
			n, _ := outQueue(s)
			queued = n == 0
		}
		// Mail is read after each handler and once more after a batch. So the second stop comes before the loop
		// looks for events again, and the third, asked for during the second, after the handler of what is
		// queued now.
		wait, thaw2 := d.plane.FreezeSoon(-1)
		thaw1()
		wait()
		wait, thaw3 := d.plane.FreezeSoon(-1)
		thaw2()
		wait()
		if !queued { // the buffers did not grow enough
			thaw3()
			c.Close()
			s.Close()
			continue
		}
		reset(s)
		thaw3()
		if n, err := verify(c, 1); n != much || !isReset(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
		d.gone()
		return
	}
	t.Skip("this kernel's receive buffers stay too small")
}

// A side whose reset waits for its acknowledgements may itself break off, and is done with at once; so is one whose
// server is to be reset, when a drain cuts all.
func TestRelay_AResetThatWaitsEndsWhenItsSideBreaksOff(t *testing.T) {
	conns := make(chan *net.TCPConn, 1)
	srv := serveSmall(t, "s", 4096, func(c *net.TCPConn) { conns <- c })
	d := openDoor(t, pools([]string{"blue", srv.address()}, []string{"green", echo(t, "green").address()}))
	for _, from := range []string{"server", "client"} {
		near, far := net.Conn(d.dialSmall("svc", 4096)), net.Conn(<-conns)
		if from == "server" {
			near, far = far, near
		}
		_, _ = near.Write(bytesOf(1, 200<<10))
		waitAcked(t, near)
		waitFor(t, "all carried", func() bool { l := d.plane.Lent(); return l.Bufs+l.Pipes == 0 })
		reset(near)
		begun := time.Now()
		if from == "server" {
			waitFor(t, "the server has none", func() bool { return d.counts(srv.address()).Connections == 0 })
			if d.plane.Connections() != 1 {
				t.Error("the client was reset before it had everything")
			}
			reset(far)
		} else {
			time.Sleep(20 * time.Millisecond)
			if d.counts(srv.address()).Connections != 1 {
				t.Error("the server still has a connection that is not counted")
			}
			d.drainOf(time.Millisecond, "")
		}
		d.gone()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: forgotten after %v", from, took)
		}
	}
}

func TestStop_ClientsInTheKernelsQueueAreTakenBeforeTheListenerCloses(t *testing.T) {
	d := openDoor(t, pools([]string{"a", echo(t, "a").address()}))
	thaw := d.plane.Freeze()
	var conns []net.Conn
	for range 100 {
		conns = append(conns, d.dial("svc"))
	}
	closed := make(chan bool)
	go func() {
		defer close(closed)
		d.plane.CloseListeners()
	}()
	thaw()
	<-closed
	for _, c := range conns {
		if got := readLine(t, c); got != "a" {
			t.Fatal(got)
		}
	}
}

func TestStop_EndsClientsInEveryState(t *testing.T) {
	nowhere, _ := deaf(t)
	much := bytesOf(1, 32<<20)
	srv := serve(t, "s", func(c *net.TCPConn) {
		_, _ = c.Write(much) // more than all buffers: in the middle of an answer
		c.Close()
	})
	spec := pools([]string{"a", srv.address()})
	add := func(name, server string, change func(s *proxy.ServiceSpec)) {
		s := pools([]string{"a", server}).Services[0]
		s.Name = name
		change(&s)
		spec.Services = append(spec.Services, s)
	}
	add("heading", srv.address(), func(s *proxy.ServiceSpec) { s.ProxyProtocol.Accept = true })
	add("dialing", nowhere, func(*proxy.ServiceSpec) {})
	add("held", srv.address(), func(*proxy.ServiceSpec) {})
	add("full", srv.address(), func(s *proxy.ServiceSpec) { s.Pools[0].Servers[0].MaxConnections = 1 })
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "held"})
	conns := map[string]net.Conn{"relaying": d.dialSmall("svc", 4096), "one of full": d.dialSmall("full", 4096)}
	waitFor(t, "two relay", func() bool { return d.counts(srv.address()).Connections == 2 })
	conns["heading"], conns["dialing"], conns["held"], conns["full"] = d.dial("heading"), d.dial("dialing"), d.dial("held"), d.dial("full")
	// The other side is gone, and what it said waits for a client that does not read.
	waitFor(t, "every state", func() bool {
		l := d.plane.Lent()
		return l.Conns == 6 && l.Dials == 1 && l.Queued == 2 && l.Pipes == 2
	})
	d.plane.Stop()
	d.plane.Stop() // harmless
	for name, c := range conns {
		n, err := verify(c, 1)
		if err != nil && !isReset(err) || name == "relaying" && !isReset(err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	if _, err := net.Dial("tcp", conns["relaying"].RemoteAddr().String()); err == nil {
		t.Error("still listening")
	} else if !errors.Is(err, errRefused) {
		t.Error(err)
	}
}

package stream_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

// dialTLS connects and shakes hands.
func (d *door) dialTLS(config *tls.Config) *tls.Conn {
	d.t.Helper()
	c := tls.Client(d.dial("svc"), config)
	if err := c.Handshake(); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// versions runs a test for both versions of TLS: in 1.2 an alert looks other, and the server's last word comes later.
func versions(t *testing.T, f func(t *testing.T, of func(*tls.Config) *tls.Config)) {
	for name, v := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			f(t, func(c *tls.Config) *tls.Config {
				c = c.Clone()
				c.MaxVersion = v
				return c
			})
		})
	}
}

func TestTLS_CarriesMuchBothWaysByteForByte(t *testing.T) {
	versions(t, func(t *testing.T, of func(*tls.Config) *tls.Config) {
		const size = 3 << 20
		up, down := make([]byte, size), make([]byte, size)
		rng := rand.NewChaCha8([32]byte{7})
		_, _ = rng.Read(up)
		_, _ = rng.Read(down)
		got := make(chan [32]byte, 1)
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			var sent sync.WaitGroup
			sent.Go(func() {
				pieces(c, down)
				_ = c.CloseWrite()
			})
			h := sha256.New()
			_, _ = io.Copy(h, c)
			got <- [32]byte(h.Sum(nil))
			sent.Wait()
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		d.plane.SmallSendBuffers()
		c := d.dialTLS(of(config))
		go func() {
			pieces(c, up)
			_ = c.CloseWrite()
		}()
		all, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(all, down) {
			t.Errorf("down: %d bytes, %v", len(all), err)
		}
		if <-got != sha256.Sum256(up) {
			t.Error("up: other bytes arrived")
		}
		waitFor(t, "the end", func() bool { return d.plane.Connections() == 0 })
		if n := d.Current().Service("svc").Counts(); n.Secured != 1 || n.Insecure != 0 {
			t.Errorf("got %+v", n)
		}
		if n := d.Current().Service("svc").Pools[0].Members[0].Counts(); n.BytesToServer != size || n.BytesToClient != size {
			t.Errorf("counted %d up and %d down: want what is inside TLS", n.BytesToServer, n.BytesToClient)
		}
	})
}

// pieces writes b in pieces of all sizes.
func pieces(w io.Writer, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1<<rand.IntN(18))
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func TestTLS_HalfCloseGoesThroughEachWay(t *testing.T) {
	versions(t, func(t *testing.T, of func(*tls.Config) *tls.Config) {
		srv := serve(t, "s", func(c *net.TCPConn) { // speaks only when the client has ended
			defer c.Close()
			all, err := io.ReadAll(c)
			if err == nil {
				_, _ = fmt.Fprintf(c, "got %s", all)
			}
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		c := d.dialTLS(of(config))
		_, _ = io.WriteString(c, "question")
		_ = c.CloseWrite()
		if all, err := io.ReadAll(c); err != nil || string(all) != "got question" { // without close_notify: unexpected EOF
			t.Errorf("got %q, %v", all, err)
		}
	})
	t.Run("the server first", func(t *testing.T) {
		got := make(chan string, 1)
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
			all, _ := io.ReadAll(c)
			got <- string(all)
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		c := d.dialTLS(config)
		if all, err := io.ReadAll(c); err != nil || string(all) != "bye" {
			t.Errorf("got %q, %v", all, err)
		}
		_, _ = io.WriteString(c, "still here")
		_ = c.Close()
		if s := <-got; s != "still here" {
			t.Errorf("got %q", s)
		}
	})
	t.Run("a client that ends without a word of TLS", func(t *testing.T) {
		got := make(chan error, 1)
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			_, err := io.ReadAll(c)
			got <- err
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		raw := d.dial("svc")
		c := tls.Client(raw, config)
		_, _ = io.WriteString(c, "x")
		_ = raw.Close()
		if err := <-got; err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestTLS_AResetIsAResetAndNeverAnEnd(t *testing.T) {
	t.Run("the server's", func(t *testing.T) {
		srv := serve(t, "s", func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "half of it")
			_, _ = c.Read(make([]byte, 1)) // the client has the half
			_ = c.SetLinger(0)
			_ = c.Close()
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		c := d.dialTLS(config)
		if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		if all, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, %v", all, err)
		}
	})
	t.Run("the client's", func(t *testing.T) {
		got := make(chan error, 1)
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			_, err := io.ReadAll(c)
			got <- err
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		raw := d.dial("svc")
		c := tls.Client(raw, config)
		_, _ = io.WriteString(c, "x")
		waitFor(t, "the start", func() bool { return d.Current().Service("svc").Connections() == 1 })
		_ = raw.(*net.TCPConn).SetLinger(0)
		_ = raw.Close()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a record that was changed on its way", func(t *testing.T) {
		got := make(chan error, 1)
		srv := serve(t, "s", func(c *net.TCPConn) {
			defer c.Close()
			_, err := io.ReadAll(c)
			got <- err
		})
		spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
		d := openDoor(t, spec)
		raw := d.dial("svc")
		c := tls.Client(raw, config)
		_, _ = io.WriteString(c, "x")
		waitFor(t, "the start", func() bool { return d.Current().Service("svc").Connections() == 1 })
		_, _ = raw.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTLS_AClientThatDoesNotReadStopsItsServer(t *testing.T) {
	var sent atomic.Int64
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Write(b)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
	d := openDoor(t, spec)
	c := d.dialTLS(config)
	last := int64(-1)
	waitFor(t, "the server to stand still", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := sent.Load()
		still := now == last && now > 0
		last = now
		return still
	})
	if lent := d.plane.Lent(); lent.Bufs > 1 {
		t.Errorf("%d blocks are held for one client", lent.Bufs)
	}
	if _, err := io.CopyN(io.Discard, c, last); err != nil { // and on it goes
		t.Fatal(err)
	}
}

func TestTLS_WhatIsNoHandshakeCostsOnlyItself(t *testing.T) {
	srv := echo(t, "s")
	spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
	spec.Services[0].TLS.Handshake = 300 * time.Millisecond
	d := openDoor(t, spec)
	ended := func(c net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	}
	var n uint64
	for what, send := range map[string]string{"nothing": "", "HTTP": "GET / HTTP/1.1\r\n\r\n", "half a greeting": "\x16\x03\x01\x01\x00\x01\x00\x00", "a greeting too big": "\x16\x03\x01\x40\x00\x01\x00\xff\xff",
		"an empty record": "\x16\x03\x01\x00\x00", "a greeting of nonsense": "\x16\x03\x01\x00\x08\x01\x00\x00\x04abcd"} {
		c := d.dial("svc")
		_, _ = io.WriteString(c, send)
		ended(c)
		n++
		waitFor(t, what+" to be counted", func() bool { return d.Current().Service("svc").Counts().Insecure == n })
	}
	// A client that greets and then says no more.
	c := d.dial("svc")
	one := &firstWrite{Conn: c}
	_ = tls.Client(one, config).Handshake()
	ended(c)
	// One that goes away in the middle.
	c = d.dial("svc")
	_ = tls.Client(&firstWrite{Conn: c}, config).Handshake()
	_ = c.Close()
	waitFor(t, "all to be gone", func() bool { return d.plane.Connections() == 0 })
	if total := d.Current().Service("svc").Pools[0].Members[0].Counts().Total; total != 0 {
		t.Errorf("%d reached the server", total)
	}
	// And one that greets byte by byte, in time.
	spec2 := *spec
	spec2.Services = []proxy.ServiceSpec{spec.Services[0]}
	slow := *spec.Services[0].TLS
	slow.Handshake = 20 * time.Second
	spec2.Services[0].TLS = &slow
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &spec2})
	tc := tls.Client(&dribble{d.dial("svc")}, config)
	if got := readLine(t, tc); got != "s" {
		t.Errorf("got %q", got)
	}
}

// firstWrite sends what is written first and fails then.
type firstWrite struct {
	net.Conn
	done bool
}

func (f *firstWrite) Write(b []byte) (int, error) {
	if f.done {
		return 0, errors.New("no more")
	}
	f.done = true
	return f.Conn.Write(b)
}

func (f *firstWrite) Read([]byte) (int, error) { return 0, errors.New("no answer wanted") }

// dribble sends each byte by itself.
type dribble struct{ net.Conn }

func (d *dribble) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestTLS_HoldAndSwapKeepTheirPromises(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	spec, config := proxytest.Secured(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc", For: time.Minute})
	stays, leaves, resets := d.dialTLS(config), d.dialTLS(config), d.dialTLS(config)
	waitFor(t, "three to wait", func() bool { return d.Current().Service("svc").Held() == 3 })
	_, _ = io.WriteString(stays, "hello\n")
	_ = leaves.Close()
	_ = resets.NetConn().(*net.TCPConn).SetLinger(0)
	_ = resets.NetConn().Close()
	waitFor(t, "two to have left", func() bool { return d.Current().Service("svc").Held() == 1 })
	d.swap("svc", "green")
	d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"})
	if a, b := readLine(t, stays), readLine(t, stays); a != "green" || b != "hello" {
		t.Errorf("got %q and %q", a, b)
	}

	// Swaps under load: whoever begins after the answer meets the new side.
	sessions := make([]*tls.Config, 8)
	for i := range sessions {
		sessions[i] = config.Clone()
		sessions[i].ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	proxytest.Storm{Swaps: 20, Between: 4, Clients: len(sessions), Swap: func(to string) { d.swap("svc", to) }, Ask: func(i int) (string, error) {
		c, err := tls.Dial("tcp", d.addr("svc"), sessions[i])
		if err != nil {
			return "", err
		}
		return greeting(c)
	}}.Run(t, "green", "blue")
}

func TestTLS_ADrainsDeadlineEndsAnIdleClientInOrder(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	spec, config := proxytest.Secured(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	d := openDoor(t, spec)
	c := d.dialTLS(config)
	if got := readLine(t, c); got != "blue" {
		t.Fatal(got)
	}
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Drain: 50 * time.Millisecond})
	if all, err := io.ReadAll(c); err != nil || len(all) != 0 { // without close_notify: unexpected EOF
		t.Errorf("got %q, %v", all, err)
	}
}

func TestTLS_ComesAfterTheClientsPROXYHeaderAndBeforeTheServers(t *testing.T) {
	got := make(chan string, 1)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, _ := io.ReadAll(c)
		got <- string(all)
	})
	spec, config := proxytest.Secured(t, pools([]string{"p", srv.address()}))
	spec.Services[0].ProxyProtocol = proxy.ProxyProtocolSpec{Accept: true, Send: proxy.ProxyV1}
	d := openDoor(t, spec)
	raw := d.dial("svc")
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 11 22\r\n"
	_, _ = io.WriteString(raw, header)
	c := tls.Client(raw, config)
	_, _ = io.WriteString(c, "inside")
	_ = c.CloseWrite()
	if s := <-got; s != header+"inside" {
		t.Errorf("got %q", s)
	}
}

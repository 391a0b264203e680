package stream_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

func TestServerTLS_CarriesMuchBothWaysByteForByte(t *testing.T) {
	ca := certstest.New(t)
	srv := speaksTLS(t, ca, "s", "127.0.0.1")
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprint("with TLS in front: ", both), func(t *testing.T) {
			spec := proxytest.ToServers(pools([]string{"p", srv.address()}), proxy.ServerTLSSpec{CA: ca.File})
			spec.Services[0].ProxyProtocol.Send = proxy.ProxyOff
			var config *tls.Config
			if both {
				spec, config = proxytest.Secured(t, spec)
			}
			d := openDoor(t, spec)
			var c interface {
				net.Conn
				CloseWrite() error
			} = d.dial("svc").(*net.TCPConn)
			if both {
				c = tls.Client(c, config)
			}
			sent := make([]byte, 4<<20)
			_, _ = rand.NewChaCha8([32]byte{3}).Read(sent)
			go func() {
				pieces(c, sent)
				_ = c.CloseWrite()
			}()
			if got := readLine(t, c); got != "s" {
				t.Fatal(got)
			}
			if all, err := io.ReadAll(c); err != nil || !bytes.Equal(all, sent) {
				t.Errorf("%d bytes came back, %v", len(all), err)
			}
			d.gone()
		})
	}
}

func TestServerTLS_AServerThatCannotProveWhoItIsCountsAsAFailedDial(t *testing.T) {
	ca, other := certstest.New(t), certstest.New(t)
	good := speaksTLS(t, ca, "good", "127.0.0.1")
	asks := func(t testing.TB) *toy {
		pair, err := tls.LoadX509KeyPair(ca.Pair(t.TempDir(), "asks", "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return serve(t, "asks", func(raw *net.TCPConn) { // in TLS 1.2 a client hears of a refusal within the handshake
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool, MaxVersion: tls.VersionTLS12})
			defer c.Close()
			fmt.Fprintln(c, "good")
			_, _ = io.Copy(c, c)
		})
	}
	shows := func(name string, begin, end time.Duration) *toy {
		pair := ca.Load(ca.PairBetween(time.Now().Add(begin), time.Now().Add(end), t.TempDir(), name, "127.0.0.1"))
		return serve(t, name, func(raw *net.TCPConn) {
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
			_, _ = io.Copy(c, c)
			_ = c.Close()
		})
	}
	for what, bad := range map[string]struct {
		server *toy
		why    string
	}{
		"another authority": {speaksTLS(t, other, "x", "127.0.0.1"), "unknown authority"}, "another name": {speaksTLS(t, ca, "x", "127.0.0.2"), "127.0.0.2, not 127.0.0.1"},
		"a time that is past": {shows("past", -2*time.Hour, -time.Hour), "certificate has expired or is not yet valid: current time"},
		"a time to come":      {shows("future", time.Hour, 2*time.Hour), "is before"},
		"no TLS": {serve(t, "x", func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "220 hello\r\n")
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}), "the server does not speak TLS"},
		"ends at once":           {serve(t, "x", func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.Copy(io.Discard, c); _ = c.Close() }), "ended the connection in the handshake"},
		"asks for a certificate": {asks(t), "the server says: "},
	} {
		t.Run(what, func(t *testing.T) {
			d := openDoor(t, proxytest.ToServers(pools([]string{"p", bad.server.address(), good.address()}), proxy.ServerTLSSpec{CA: ca.File}))
			for range 4 {
				if got := readLine(t, d.dial("svc")); got != "good" {
					t.Errorf("led to %s", got)
				}
			}
			if n := d.Current().Service("svc").Pools[0].Members[0].Counts(); n.Failures == 0 || !strings.Contains(n.LastError, "tls: ") || !strings.Contains(n.LastError, bad.why) {
				t.Errorf("got %d failures, %q; want %q", n.Failures, n.LastError, bad.why)
			}
			alone := openDoor(t, proxytest.ToServers(pools([]string{"p", bad.server.address()}), proxy.ServerTLSSpec{CA: ca.File}))
			if c, err := net.Dial("tcp", alone.addr("svc")); err == nil { // else it was reset at once
				if all, err := io.ReadAll(c); len(all) > 0 || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("alone: got %q, %v; want a reset", all, err)
				}
				_ = c.Close()
			}
		})
	}
	t.Run("a certificate is shown", func(t *testing.T) {
		cert, key := ca.Pair(t.TempDir(), "door", "door.test")
		d := openDoor(t, proxytest.ToServers(pools([]string{"p", asks(t).address()}), proxy.ServerTLSSpec{CA: ca.File, Cert: cert, Key: key}))
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Error(got)
		}
	})
	t.Run("another name is asked for", func(t *testing.T) {
		d := openDoor(t, proxytest.ToServers(pools([]string{"p", speaksTLS(t, ca, "named", "db.test").address()}), proxy.ServerTLSSpec{CA: ca.File, ServerName: "db.test"}))
		if got := readLine(t, d.dial("svc")); got != "named" {
			t.Error(got)
		}
	})
}

// A connection that ends without close_notify may have been cut by anybody: the client gets a reset, not an end.
func TestServerTLS_WhatIsCutShortDoesNotLookWhole(t *testing.T) {
	ca := certstest.New(t)
	pair, err := tls.LoadX509KeyPair(ca.Pair(t.TempDir(), "s", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{true, false} {
		srv := serve(t, "s", func(raw *net.TCPConn) {
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
			_, _ = io.WriteString(c, "half")
			if whole {
				_ = c.CloseWrite()
			} else {
				_ = raw.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, raw)
			_ = raw.Close()
		})
		d := openDoor(t, proxytest.ToServers(pools([]string{"p", srv.address()}), proxy.ServerTLSSpec{CA: ca.File}))
		c := d.dial("svc").(*net.TCPConn)
		all, err := io.ReadAll(c)
		if string(all) != "half" || whole != (err == nil) || !whole && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("whole %v: got %q, %v", whole, all, err)
		}
		_ = c.Close()
		d.gone()
	}
}

func TestServerTLS_SwapsUnderLoadLoseNothingAndMoveAllThatComesAfter(t *testing.T) {
	ca := certstest.New(t)
	blue, green := speaksTLS(t, ca, "blue", "127.0.0.1"), speaksTLS(t, ca, "green", "127.0.0.1")
	d := openDoor(t, proxytest.ToServers(pools([]string{"blue", blue.address()}, []string{"green", green.address()}), proxy.ServerTLSSpec{CA: ca.File}))
	addr := d.addr("svc")
	proxytest.Storm{Swaps: 30, Between: 5, Clients: 6, Swap: func(to string) { d.swap("svc", to) }, Ask: func(int) (string, error) {
		return greeting(dialAddr(t, addr))
	}}.Run(t, "blue", "green")
}

// greeting reads the line that a server says first, and ends the connection.
func greeting(c net.Conn) (string, error) {
	defer c.Close() //nolint:errcheck // a test's
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// A dial whose handshake is under way is taken back like any other.
func TestServerTLS_AHandshakeUnderWayIsTakenBackByASwap(t *testing.T) {
	ca := certstest.New(t)
	mute := serve(t, "mute", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
	green := speaksTLS(t, ca, "green", "127.0.0.1")
	d := openDoor(t, proxytest.ToServers(pools([]string{"blue", mute.address()}, []string{"green", green.address()}), proxy.ServerTLSSpec{CA: ca.File}))
	c := d.dial("svc")
	waitFor(t, "the handshake is under way", func() bool { return d.counts(mute.address()).Dialing == 1 })
	d.swap("svc", "green")
	if got := readLine(t, c); got != "green" {
		t.Error(got)
	}
	if n := d.counts(mute.address()); n.Dialing != 0 || n.Connections != 0 {
		t.Errorf("got %+v", n)
	}
}

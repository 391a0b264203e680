package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

// secured makes the one service of a spec speak TLS, with a further listener that leads to it.
func secured(t testing.TB, spec *proxy.Spec) (*proxy.Spec, *tls.Config) {
	t.Helper()
	spec, config := proxytest.Secured(t, spec)
	spec.Services[0].TLS.ALPN = []string{"http/1.1"}
	spec.Services[0].TLS.RedirectFrom = []proxy.ListenSpec{{Network: proxy.NetTCP, Address: "127.0.0.1:0"}}
	return spec, config
}

// https is a client that dials the door whatever the host is.
func (d *door) https(config *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: config, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", d.addr("svc")) }, ForceAttemptHTTP2: len(config.NextProtos) > 0, MaxIdleConnsPerHost: 100}
	d.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// digester answers with the digest of the body, the scheme that it was told, and as many bytes as are asked for.
func digester(t testing.TB, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		rw.Header().Set("X-Digest", hex.EncodeToString(h.Sum(nil)))
		rw.Header().Set("X-Proto", r.Header.Get("X-Forwarded-Proto"))
		rw.Header().Set("X-Name", name)
		var n int
		_, _ = fmt.Sscan(r.URL.Query().Get("n"), &n)
		_, _ = rw.Write(bytes.Repeat([]byte("x"), n))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestHTTPS_CarriesRequestsAndAnswersOfAllSizes(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		spec, config := secured(t, pools([]string{"p", digester(t, "s")}))
		d := openDoor(t, spec)
		config.MaxVersion = version
		c := d.https(config)
		for _, size := range []int{0, 1, 1000, 16 << 10, 100_000, 3 << 20} {
			body := make([]byte, size)
			for i := range body {
				body[i] = byte(rand.Uint32())
			}
			for _, chunked := range []bool{false, true} {
				var r io.Reader = bytes.NewReader(body)
				if chunked {
					r = io.MultiReader(r)
				}
				res, err := c.Post(fmt.Sprintf("https://door.test/?n=%d", size), "text/plain", r)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				want := sha256.Sum256(body)
				if err != nil || len(got) != size || res.Header.Get("X-Digest") != hex.EncodeToString(want[:]) || res.Header.Get("X-Proto") != "https" {
					t.Errorf("%d bytes, chunked %v: got %d, %v, %v", size, chunked, len(got), err, res.Header)
				}
				_ = res.Body.Close()
			}
		}
		if n := d.Current().Service("svc").Counts(); n.Secured != 1 {
			t.Errorf("%d handshakes for one connection", n.Secured)
		}
	}
}

func TestHTTPS_AnAnswerCutShortIsNeverMadeToLookWhole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the test
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			if bytes.Contains(b[:n], []byte("/open")) { // ends with the connection, which is reset
				_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhalf")
				time.Sleep(50 * time.Millisecond) // the reset must not overtake it
				_ = c.(*net.TCPConn).SetLinger(0)
			} else {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
			_ = c.Close()
		}
	}()
	spec, config := secured(t, pools([]string{"p", l.Addr().String()}))
	d := openDoor(t, spec)
	for _, request := range []string{get, "GET /open HTTP/1.0\r\nHost: h\r\n\r\n"} {
		c, err := tls.Dial("tcp", d.addr("svc"), config)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, request)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			continue // nor is half a head taken for a whole one
		}
		if all, err := io.ReadAll(res.Body); err == nil { // close_notify would say: that was all
			t.Errorf("%q: got %q and an orderly end", request, all)
		}
		_ = c.Close()
	}
}

func TestHTTPS_SwapsUnderLoadLoseNothing(t *testing.T) {
	spec, config := secured(t, pools([]string{"blue", digester(t, "blue")}, []string{"green", digester(t, "green")}))
	d := openDoor(t, spec)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	var clients []*http.Client
	for i := range 6 {
		c := d.https(config)
		c.Transport.(*http.Transport).DisableKeepAlives = i%3 == 0
		clients = append(clients, c)
	}
	proxytest.Storm{Swaps: 20, Between: 10, Clients: 6, Swap: func(to string) { d.swap(to) }, Ask: func(i int) (string, error) {
		return named(clients[i].Post("https://door.test/?n=100", "text/plain", strings.NewReader("hello")))
	}}.Run(t, "blue", "green")
}

func TestHTTPS_WhatIsNoHandshakeCostsOnlyItself(t *testing.T) {
	spec, config := secured(t, pools([]string{"p", digester(t, "s")}))
	spec.Services[0].TLS.Handshake = 300 * time.Millisecond
	d := openDoor(t, spec)
	for i, text := range []string{"", get, "\x16\x03\x01\x01\x00\x01\x00\x00"} {
		c := d.dial()
		c.send(text)
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: got %v", text, err)
		}
		waitFor(t, "it to be counted", func() bool { return d.Current().Service("svc").Counts().Insecure == uint64(i+1) })
	}
	waitFor(t, "all to be gone", func() bool { return d.front.Connections() == 0 })
	_ = config
}

// plainAddr is the listener that leads to https.
func (d *door) plainAddr() string {
	addr := ""
	d.Current().Listeners(func(slot int, _ proxy.ListenSpec, _ *proxy.Service) {
		if d.Current().Plain(slot) {
			addr = d.front.Addr(slot)
		}
	})
	return addr
}

func TestHTTPS_RedirectFromLeadsToTheSameURL(t *testing.T) {
	spec, config := secured(t, pools([]string{"p", digester(t, "s")}))
	spec.Services[0].Listen[0].Address = "127.0.0.1:0"
	d := openDoor(t, spec)
	port := ":0" // as the file says; an operator writes the real one
	for _, c := range []struct{ request, status, location string }{
		{"GET /a/b?c=d HTTP/1.1\r\nHost: Door.Test:80\r\n\r\n", "HTTP/1.1 301 Moved Permanently", "https://door.test" + port + "/a/b?c=d"},
		{"HEAD / HTTP/1.1\r\nHost: door.test\r\n\r\n", "HTTP/1.1 301 Moved Permanently", "https://door.test" + port + "/"},
		{"POST /x HTTP/1.1\r\nHost: door.test\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 308 Permanent Redirect", "https://door.test" + port + "/x"},
		{"GET http://other.test?q HTTP/1.1\r\nHost: door.test\r\n\r\n", "HTTP/1.1 301 Moved Permanently", "https://other.test" + port + "/?q"},
		{"OPTIONS * HTTP/1.1\r\nHost: door.test\r\n\r\n", "HTTP/1.1 308 Permanent Redirect", "https://door.test" + port + "/"},
		{"GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 400 Bad Request", ""},
		{"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: door.test\r\n\r\n", "HTTP/1.1 301 Moved Permanently", "https://door.test" + port + "/.well-known/acme-challenge/x"},
	} {
		raw, err := net.Dial("tcp", d.plainAddr())
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(raw, c.request)
		_ = raw.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(raw)
		status, rest, _ := strings.Cut(string(all), "\r\n")
		_, rest, _ = strings.Cut(rest, "Location: ")
		location, _, _ := strings.Cut(rest, "\r\n")
		if status != c.status || location != c.location {
			t.Errorf("%q: got %q, %q", c.request, status, location)
		}
		_ = raw.Close()
	}
	_ = config
}

func TestHTTPS_WhatAClientThatLeftHasAskedForIsTakenBack(t *testing.T) {
	spec, config := secured(t, pools([]string{"p", silent(t)}))
	d := openDoor(t, spec)
	c, err := tls.Dial("tcp", d.addr("svc"), config)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, get)
	server := d.Current().Service("svc").Pool("p").Servers()[0]
	waitFor(t, "it to be at the server", func() bool { return server.Counts().Connections == 1 })
	_ = c.Close()
	waitFor(t, "it to be taken back", func() bool { return server.Counts().Connections == 0 })
}

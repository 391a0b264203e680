package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tells is a server that answers with whom the door says the client is.
func tells(t testing.TB) string {
	return toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			_, who, _ := strings.Cut(h, "X-Forwarded-For: ")
			who, _, _ = strings.Cut(who, "\r\n")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(who), who)
		}
	})
}

const header = "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n"

func TestProxyProtocol_ARequestComesFromWhomTheHeaderNames(t *testing.T) {
	spec := pools([]string{"p", tells(t)})
	spec.Services[0].ProxyProtocol.Accept, spec.Services[0].Timeouts.Connect = true, 20*time.Second
	d := openDoor(t, spec)
	for _, c := range []struct{ header, who string }{
		{header, "192.0.2.1"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n", "2001:db8::1"},
		{"PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x00\x50", "192.0.2.1"},
	} {
		for _, whole := range []bool{true, false} {
			conn := d.dial()
			if text := c.header + get + get; whole {
				conn.send(text)
			} else {
				for i := range text {
					conn.send(text[i : i+1])
				}
			}
			for range 2 {
				if status, who := conn.answer(); status != "HTTP/1.1 200 OK" || who != c.who {
					t.Errorf("%q: got %s, %s", c.header, status, who)
				}
			}
		}
	}
}

func TestProxyProtocol_WhoDoesNotBeginWithAHeaderIsClosed(t *testing.T) {
	spec := pools([]string{"p", tells(t)})
	spec.Services[0].ProxyProtocol.Accept, spec.Services[0].Timeouts.Connect = true, 300*time.Millisecond
	d := openDoor(t, spec)
	for i, text := range []string{get, "PROXY TCP4 192.0.2.1", "PROXY TCP4 x y 1 2\r\n" + get, ""} {
		c := d.dial()
		_, _ = io.WriteString(c, text) // it may be too late already
		if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		waitFor(t, "it to be counted", func() bool { return d.Current().Service("svc").Counts().Malformed == uint64(i+1) })
	}
}

func TestProxyProtocol_ComesBeforeTLS(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		spec, config := secured2(t, pools([]string{"p", tells(t)}))
		spec.Services[0].ProxyProtocol.Accept, spec.Services[0].Timeouts.Connect = true, 20*time.Second
		d := openDoor(t, spec)
		config.NextProtos = []string{protocol}
		tr := &http.Transport{ForceAttemptHTTP2: protocol == "h2", TLSClientConfig: config, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			c, err := net.Dial("tcp", d.addr("svc"))
			if err != nil {
				return nil, err
			}
			_, _ = io.WriteString(c, header)
			conn := tls.Client(c, config)
			return conn, conn.Handshake()
		}}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Get("https://door.test/")
		if err != nil {
			t.Fatal(err)
		}
		if who, err := io.ReadAll(res.Body); err != nil || string(who) != "192.0.2.1" || (res.ProtoMajor == 2) != (protocol == "h2") {
			t.Errorf("%s: got %q by %s, %v", protocol, who, res.Proto, err)
		}
		_ = res.Body.Close()
	}
}

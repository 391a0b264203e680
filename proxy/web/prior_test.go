package web_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	framing "golang.org/x/net/http2"

	"github.com/turnout-proxy/turnout/proxy"
)

// alsoH2C lets clients of a service speak HTTP/2 without TLS.
func alsoH2C(spec *proxy.Spec) *proxy.Spec {
	spec.Services[0].H2C = true
	return spec
}

func TestH2CInFront_BothProtocolsOnOneListenerThroughASwap(t *testing.T) {
	d := openDoor(t, alsoH2C(pools([]string{"blue", digester(t, "blue")}, []string{"green", digester(t, "green")})))
	both := new(http.Protocols)
	both.SetUnencryptedHTTP2(true)
	clients := map[string]*http.Client{"HTTP/2.0": {Transport: &http.Transport{Protocols: both}}, "HTTP/1.1": {Transport: &http.Transport{}}}
	for _, side := range []string{"blue", "green"} {
		for proto, c := range clients {
			res, err := c.Post("http://"+d.addr("svc")+"/?n=70000", "text/plain", strings.NewReader(strings.Repeat("y", 100_000)))
			if err != nil {
				t.Fatal(proto, err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || len(b) != 70000 || res.Proto != proto || res.Header.Get("X-Name") != side || res.Header.Get("X-Proto") != "http" {
				t.Errorf("%s: got %s of %d bytes, %v, %v", proto, res.Proto, len(b), err, res.Header)
			}
		}
		d.swap("green")
	}
	for _, c := range clients {
		c.CloseIdleConnections()
	}
}

func TestH2CInFront_ThePrefaceMayComeByteByByteWithAllThatFollows(t *testing.T) {
	d := openDoor(t, alsoH2C(pools([]string{"p", says(t, "p")})))
	c := d.dial()
	for _, b := range []byte(framing.ClientPreface[:20]) {
		c.send(string(b))
	}
	var rest strings.Builder
	rest.WriteString(framing.ClientPreface[20:])
	f := framing.NewFramer(&rest, nil)
	_ = f.WriteSettings()
	_ = f.WritePing(false, [8]byte{1})
	c.send(rest.String())
	h := &h2conn{Framer: framing.NewFramer(c, c.r), t: t, conn: c}
	if got := h.until("PING", "GOAWAY", "end"); got != "PING" {
		t.Error(got)
	}
}

func TestH2CInFront_WhatIsNoPrefaceIsJudgedAsHTTP1(t *testing.T) {
	d := openDoor(t, alsoH2C(pools([]string{"p", says(t, "p")})))
	for _, c := range []struct{ sent, want string }{
		{"P", ""}, // and then the end
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", ""},
		{"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n", "HTTP/1.1 505 "},
		{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 "},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "HTTP/1.1 200 "}, // RFC 9113 3.1
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n" + framing.ClientPreface, "HTTP/1.1 200 "},
	} {
		conn := d.dial()
		conn.send(c.sent)
		_ = conn.CloseWrite()
		if got := conn.tail(); !strings.HasPrefix(got, c.want) || strings.Contains(got, "101") || c.want == "" && strings.HasPrefix(got, "HTTP/1.1 2") {
			t.Errorf("%q was answered with %q", c.sent, got)
		}
	}
}

func TestH2CInFront_IsOnlyServedWhenAskedFor(t *testing.T) {
	d := openDoor(t, pools([]string{"p", says(t, "p")}))
	c := d.dial()
	c.send(framing.ClientPreface)
	if status, _ := c.answer(); !strings.HasPrefix(status, "HTTP/1.1 505 ") {
		t.Error(status)
	}
}

func TestH2CInFront_APrefaceThatStallsIsGivenUpAsAHeadIs(t *testing.T) {
	spec := alsoH2C(pools([]string{"p", says(t, "p")}))
	spec.Services[0].Timeouts.RequestHeader = 50 * time.Millisecond
	d := openDoor(t, spec)
	c := d.dial()
	c.send("PRI * HTTP/2")
	if got := c.tail(); got != "" {
		t.Errorf("was told %q", got)
	}
}

func TestH2CInFront_GoesAwayWhenTheDoorEnds(t *testing.T) {
	d := openDoor(t, alsoH2C(pools([]string{"p", says(t, "p")})))
	raw, err := net.Dial("tcp", d.addr("svc"))
	if err != nil {
		t.Fatal(err)
	}
	c := d.h2on(raw)
	c.headers(1, true)
	if got := c.until("HEADERS", "GOAWAY", "end"); got != "HEADERS 1 200" {
		t.Fatal(got)
	}
	d.front.CloseListeners()
	if got := c.until("GOAWAY", "end"); got != "GOAWAY NO_ERROR" {
		t.Error(got)
	}
}

package web_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	framing "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/turnout-proxy/turnout/proxy"
)

// recorder is a server that keeps each request as it came, and answers as its path says.
func recorder(t testing.TB) (address string, requests func() []string) {
	var mu sync.Mutex
	var all []string
	address = toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			low := strings.ToLower(h)
			body := ""
			switch {
			case strings.Contains(low, "get /early"), strings.Contains(low, "post /early"):
			case strings.Contains(low, "transfer-encoding: chunked"):
				for !strings.Contains(body, "0\r\n") || !strings.HasSuffix(body, "\r\n\r\n") {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					body += line
				}
			case strings.Contains(low, "content-length: "):
				var n int
				_, _ = fmt.Sscan(low[strings.Index(low, "content-length: ")+len("content-length: "):], &n)
				b := make([]byte, n)
				if _, err := io.ReadFull(r, b); err != nil {
					return
				}
				body = string(b)
			}
			mu.Lock()
			all = append(all, h+body)
			mu.Unlock()
			_, path, _ := strings.Cut(h, " ")
			path, _, _ = strings.Cut(path, " ")
			said := map[string]string{
				"/hints":    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
				"/none":     "HTTP/1.1 204 No Content\r\n\r\n",
				"/same":     "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
				"/head":     "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
				"/chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n",
				"/trailers": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nx-sum: 7\r\n\r\n",
				"/early":    "HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno",
				"/closing":  "HTTP/1.0 200 OK\r\n\r\nall there is",
				"/big":      "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("b", 200_000),
			}[path]
			if said == "" {
				said = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
			}
			if _, err := io.WriteString(c, said); err != nil || path == "/closing" || path == "/early" {
				return
			}
		}
	})
	return address, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// request asks for a path, with more fields.
func (c *h2conn) request(stream uint32, last bool, method, path string, fields ...string) {
	c.raw(stream, last, append([]string{":method", method, ":scheme", "https", ":authority", "door.test", ":path", path}, fields...)...)
}

// raw says a head of just these fields, in as many frames as it takes.
func (c *h2conn) raw(stream uint32, last bool, fields ...string) {
	const most = 16 << 10
	b := c.block(fields...)
	piece := b[:min(len(b), most)]
	_ = c.WriteHeaders(framing.HeadersFrameParam{StreamID: stream, BlockFragment: piece, EndStream: last, EndHeaders: len(b) <= most})
	for b = b[len(piece):]; len(b) > 0; b = b[len(piece):] {
		piece = b[:min(len(b), most)]
		_ = c.WriteContinuation(stream, len(b) <= most, piece)
	}
}

// all reads what is said up to the end of a stream, or of the connection, with DATA added up.
func (c *h2conn) all(stream uint32) string {
	var said []string
	data := 0
	for {
		s := c.until("HEADERS", "DATA", "RST_STREAM", "GOAWAY", "end", "nothing")
		kind, rest, _ := strings.Cut(s, " ")
		var id uint32
		_, _ = fmt.Sscan(rest, &id)
		if kind == "DATA" {
			var n int
			var last bool
			_, _ = fmt.Sscan(rest, &id, &n, &last)
			if data += n; !last {
				continue
			}
			said = append(said, fmt.Sprintf("%d bytes, end", data))
		} else {
			if data > 0 && kind == "RST_STREAM" {
				said = append(said, fmt.Sprintf("%d bytes", data))
			}
			said = append(said, s)
		}
		if kind == "DATA" || kind == "HEADERS" && c.ended || kind == "RST_STREAM" && id == stream || kind == "GOAWAY" || kind == "end" || kind == "nothing" {
			return strings.Join(said, "; ")
		}
	}
}

func TestHTTP2_WhatTheClientSaysAndWhatTheServerAndItGet(t *testing.T) {
	const get = "GET"
	for _, c := range []struct {
		name   string
		do     func(c *h2conn)
		client string // what the client gets, of stream 1
		server string // a part of the last request that the server has seen; "": it has seen none
	}{
		{"cookies in pieces are one field", func(c *h2conn) { c.request(1, true, get, "/", "cookie", "a=1", "x-a", "b", "cookie", "c=2") }, "HEADERS 1 200; 2 bytes, end", "cookie: a=1; c=2\r\n"},
		{"a body of known length", func(c *h2conn) {
			c.request(1, false, "POST", "/", "content-length", "3")
			_ = c.WriteData(1, true, []byte("abc"))
		}, "HEADERS 1 200; 2 bytes, end", "\r\n\r\nabc"},
		{"a body of unknown length", func(c *h2conn) {
			c.request(1, false, "POST", "/")
			_ = c.WriteData(1, false, []byte("abc"))
			_ = c.WriteData(1, true, nil)
		}, "HEADERS 1 200; 2 bytes, end", "3\r\nabc\r\n0\r\n\r\n"},
		{"a POST without a body says so", func(c *h2conn) { c.request(1, true, "POST", "/") }, "HEADERS 1 200; 2 bytes, end", "content-length: 0\r\n"},
		{"trailers of a request", func(c *h2conn) {
			c.request(1, false, "POST", "/")
			_ = c.WriteData(1, false, []byte("abc"))
			c.raw(1, true, "x-sum", "9")
		}, "HEADERS 1 200; 2 bytes, end", "0\r\nx-sum: 9\r\n\r\n"},
		{"trailers are of one stream only", func(c *h2conn) {
			c.request(3, false, "POST", "/slow")
			c.request(5, false, "POST", "/early")
			c.raw(5, true, "x-sum", "9")
			_ = c.WriteData(3, true, nil)
			c.until("DATA")
			c.request(7, true, get, "/none")
		}, "", "\r\n\r\n"},
		{"padding is no body", func(c *h2conn) {
			c.request(1, false, "POST", "/", "content-length", "3")
			_ = c.WriteDataPadded(1, true, []byte("abc"), make([]byte, 200))
		}, "HEADERS 1 200; 2 bytes, end", "\r\n\r\nabc"},
		{"te: trailers is of this connection only", func(c *h2conn) { c.request(1, true, get, "/", "te", "trailers") }, "HEADERS 1 200; 2 bytes, end", "GET / HTTP/1.1\r\n"},
		{"host in place of :authority", func(c *h2conn) { c.raw(1, true, ":method", get, ":scheme", "https", ":path", "/", "host", "door.test") }, "HEADERS 1 200; 2 bytes, end", "door.test\r\n"},
		{"OPTIONS *", func(c *h2conn) {
			c.raw(1, true, ":method", "OPTIONS", ":scheme", "https", ":authority", "door.test", ":path", "*")
		}, "HEADERS 1 200; 2 bytes, end", "OPTIONS * HTTP/1.1\r\n"},
		{"no host at all", func(c *h2conn) { c.raw(1, true, ":method", get, ":scheme", "https", ":path", "/") }, "HEADERS 1 400; …", ""},
		{"a head larger than any should be", func(c *h2conn) { c.request(1, true, get, "/", "x-large", strings.Repeat("x", 40<<10)) }, "HEADERS 1 431; …", ""},
		{"200 fields", func(c *h2conn) {
			var f []string
			for i := range 200 {
				f = append(f, fmt.Sprint("x-", i), "v")
			}
			c.request(1, true, get, "/", f...)
		}, "HEADERS 1 431; …", ""},
		{"CONNECT", func(c *h2conn) { c.raw(1, true, ":method", "CONNECT", ":authority", "door.test:443") }, "HEADERS 1 501; …", ""},

		{"a value that would be two lines", func(c *h2conn) { c.request(1, true, get, "/", "x-a", "b\r\nx-evil: 1") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a value with NUL", func(c *h2conn) { c.request(1, true, get, "/", "x-a", "b\x00") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a path that would be two requests", func(c *h2conn) { c.request(1, true, get, "/ HTTP/1.1\r\nhost: evil\r\n\r\nGET /") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a path with a space", func(c *h2conn) { c.request(1, true, get, "/a b") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a method with a space", func(c *h2conn) { c.request(1, true, "GET /evil", "/") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"an authority with a line end", func(c *h2conn) {
			c.raw(1, true, ":method", get, ":scheme", "https", ":authority", "door.test\r\nx-evil: 1", ":path", "/")
		}, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a name with a colon", func(c *h2conn) { c.request(1, true, get, "/", "x-a: b\r\nx", "v") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a name with a space", func(c *h2conn) { c.request(1, true, get, "/", "x a", "v") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"transfer-encoding", func(c *h2conn) { c.request(1, false, "POST", "/", "transfer-encoding", "chunked") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"upgrade", func(c *h2conn) { c.request(1, true, get, "/", "upgrade", "websocket") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"two lengths", func(c *h2conn) { c.request(1, false, "POST", "/", "content-length", "3", "content-length", "4") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a length with a sign", func(c *h2conn) { c.request(1, false, "POST", "/", "content-length", "+3") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"a length and no body", func(c *h2conn) { c.request(1, true, "POST", "/", "content-length", "3") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"more than its length", func(c *h2conn) {
			c.request(1, false, "POST", "/", "content-length", "3")
			_ = c.WriteData(1, true, []byte("abcd"))
		}, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"less than its length", func(c *h2conn) {
			c.request(1, false, "POST", "/", "content-length", "3")
			_ = c.WriteData(1, true, []byte("ab"))
		}, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"an authority and another host", func(c *h2conn) { c.request(1, true, get, "/", "host", "other.test") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"CONNECT with a path", func(c *h2conn) { c.request(1, true, "CONNECT", "/") }, "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{"an interim answer", func(c *h2conn) { c.request(1, true, get, "/hints") }, "HEADERS 1 103; HEADERS 1 200; 2 bytes, end", "GET /hints"},
		{"204", func(c *h2conn) { c.request(1, true, get, "/none") }, "HEADERS 1 204", "GET /none"},
		{"304", func(c *h2conn) { c.request(1, true, get, "/same") }, "HEADERS 1 304", "GET /same"},
		{"HEAD", func(c *h2conn) { c.request(1, true, "HEAD", "/head") }, "HEADERS 1 200", "HEAD /head"},
		{"chunks", func(c *h2conn) { c.request(1, true, get, "/chunks") }, "HEADERS 1 200; 10 bytes, end", "GET /chunks"},
		{"trailers of an answer", func(c *h2conn) { c.request(1, true, get, "/trailers") }, "HEADERS 1 200; HEADERS 1 ", "GET /trailers"},
		{"an answer that ends with the server's connection", func(c *h2conn) { c.request(1, true, get, "/closing") }, "HEADERS 1 200; 12 bytes, end", "GET /closing"},
		{"an answer before the end of the request", func(c *h2conn) {
			c.request(1, false, "POST", "/early")
			_ = c.WriteData(1, false, []byte("abc"))
		}, "HEADERS 1 413; 2 bytes, end", "POST /early"},
		{"a window that the answer fills to the last byte", func(c *h2conn) {
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 10})
			c.request(1, true, get, "/chunks")
		}, "HEADERS 1 200; 10 bytes, end", "GET /chunks"},
		{"a window that grows bit by bit", func(c *h2conn) {
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 1})
			c.request(1, true, get, "/chunks")
			c.until("DATA")
			_ = c.WriteWindowUpdate(1, 4)
			c.until("DATA")
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 100})
		}, "6 bytes, end", "GET /chunks"},
		{"a large answer and a client that reads it", func(c *h2conn) {
			_ = c.WriteWindowUpdate(0, 1<<20)
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 1 << 20})
			c.request(1, true, get, "/big")
		}, "HEADERS 1 200; 200000 bytes, end", "GET /big"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address, requests := recorder(t)
			spec, config := secured2(t, pools([]string{"p", address}))
			d := openDoor(t, spec)
			conn := d.h2(config)
			c.do(conn)
			if c.client != "" {
				want, words := strings.CutSuffix(c.client, "…") // the door's own words may change
				if got := conn.all(1); got != want && !(words && strings.HasPrefix(got, want)) {
					t.Errorf("the client got %q, want %q", got, c.client)
				}
			}
			seen := requests()
			switch {
			case c.server == "" && len(seen) > 0:
				t.Errorf("the server saw %q", seen)
			case c.server != "":
				waitFor(t, "the server to see it", func() bool {
					seen = requests()
					return len(seen) > 0 && strings.Contains(strings.ToLower(seen[len(seen)-1]), strings.ToLower(c.server))
				})
				for _, r := range seen {
					if low := strings.ToLower(r); strings.Contains(low, "evil") || strings.Contains(low, "\nte:") || c.name == "trailers are of one stream only" && strings.Contains(r, "slow") && strings.Contains(r, "x-sum") {
						t.Errorf("the server saw %q", r)
					}
				}
			}
			// What one stream did is nothing to the next one.
			conn.request(101, true, get, "/none")
			for {
				switch got := conn.until("HEADERS", "end", "GOAWAY", "nothing"); {
				case strings.HasPrefix(got, "HEADERS") && !strings.HasPrefix(got, "HEADERS 101"):
					continue
				case got != "HEADERS 101 204":
					t.Errorf("the next stream got %q", got)
				}
				return
			}
		})
	}
}

func TestHTTP2_WhoBreaksTheConnectionsRulesOrFloodsItIsEnded(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *h2conn, i int) bool // until it says false
		want string
	}{
		{"pings without end", func(c *h2conn, i int) bool { return c.WritePing(false, [8]byte{}) == nil && i < 1_000_000 }, "ENHANCE_YOUR_CALM"},
		{"settings without end", func(c *h2conn, i int) bool { return c.WriteSettings() == nil && i < 1_000_000 }, "ENHANCE_YOUR_CALM"},
		{"empty DATA without end", func(c *h2conn, i int) bool {
			if i == 0 {
				c.request(1, false, "POST", "/")
			}
			return c.WriteData(1, false, nil) == nil && i < 1_000_000
		}, "ENHANCE_YOUR_CALM"},
		{"empty CONTINUATION without end", func(c *h2conn, i int) bool {
			if i == 0 {
				_ = c.WriteHeaders(framing.HeadersFrameParam{StreamID: 1})
			}
			return c.WriteContinuation(1, false, nil) == nil && i < 1_000_000
		}, "ENHANCE_YOUR_CALM"},
		{"it has the door reset its streams", func(c *h2conn, i int) bool {
			id := uint32(2*i + 1)
			c.request(id, false, "POST", "/")
			return c.WriteWindowUpdate(id, 0) == nil && i < 1_000_000
		}, "ENHANCE_YOUR_CALM"},
		{"a stream of the other side", func(c *h2conn, _ int) bool { c.request(2, true, "GET", "/"); return false }, "PROTOCOL_ERROR"},
		{"a stream that goes back", func(c *h2conn, _ int) bool {
			c.request(5, true, "GET", "/")
			c.until("DATA")
			c.request(3, true, "GET", "/")
			return false
		}, "STREAM_CLOSED"},
		{"more than the window of all streams", func(c *h2conn, _ int) bool {
			for id := uint32(1); id < 12; id += 2 {
				c.request(id, false, "POST", "/")
			}
			for i := range 6 * 16 { // requests are held, and so not read
				if c.WriteData(uint32(i%6*2+1), false, make([]byte, 16<<10)) != nil {
					return false
				}
			}
			return true
		}, "FLOW_CONTROL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec, config := secured2(t, pools([]string{"p", stuck(t)}))
			if c.want == "STREAM_CLOSED" {
				spec, config = secured2(t, pools([]string{"p", says(t, "p")}))
			}
			d := openDoor(t, spec)
			if c.want == "FLOW_CONTROL_ERROR" {
				d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"})
			}
			conn := d.h2(config)
			said := make(chan string, 1)
			read := func() { said <- conn.until("GOAWAY", "end") }
			if !strings.Contains(c.name, "goes back") {
				go read()
			}
			for i := 0; c.do(conn, i); i++ { // ends when the door does
			}
			if strings.Contains(c.name, "goes back") {
				go read()
			}
			if got := <-said; got != "GOAWAY "+c.want && got != "end" {
				t.Errorf("got %q, want %s", got, c.want)
			}
			waitFor(t, "nothing of it to be left", func() bool { return d.Current().Service("svc").Pool("p").Servers()[0].Counts().Connections == 0 })
		})
	}
}

// stuck is a server that takes a request's head, and nothing more.
func stuck(t testing.TB) string {
	return toy(t, func(_ *net.TCPConn, r *bufio.Reader) {
		_, _ = head(r)
		<-t.Context().Done()
	})
}

func TestHTTP2_WhoStallsWithinAHeadIsEndedAtItsDeadline(t *testing.T) {
	for name, do := range map[string]func(c *h2conn, raw io.Writer){
		"after the preface's beginning": nil,
		"before the end of a head": func(c *h2conn, _ io.Writer) {
			_ = c.WriteHeaders(framing.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(":method", "GET")})
		},
		"within a frame":        func(_ *h2conn, raw io.Writer) { _, _ = raw.Write([]byte{0, 0, 100, 1, 5, 0, 0, 0, 1, 0x82}) },
		"within a frame's head": func(_ *h2conn, raw io.Writer) { _, _ = raw.Write([]byte{0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
			spec.Services[0].Timeouts.RequestHeader = 300 * time.Millisecond
			d := openDoor(t, spec)
			if do == nil {
				conn, err := dialTLS(d, config)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close() //nolint:errcheck // a test's
				_, _ = io.WriteString(conn, framing.ClientPreface[:10])
				_, _ = io.Copy(io.Discard, conn) // ends by the door, or the test does not
				return
			}
			c := d.h2(config)
			do(c, c.conn)
			if got := c.until("GOAWAY", "end"); got != "GOAWAY ENHANCE_YOUR_CALM" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestHTTP2_AClientWithASmallTableIsToldThatItIsEmpty(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
	d := openDoor(t, spec)
	c := d.h2(config)
	c.ReadMetaHeaders = nil
	c.settings(framing.Setting{ID: framing.SettingHeaderTableSize, Val: 0})
	for id := uint32(1); id < 6; id += 2 {
		c.request(id, true, "GET", "/")
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*framing.HeadersFrame); ok {
				if b := h.HeaderBlockFragment(); bytes.HasPrefix(b, []byte{0x20}) != (id == 1) { // RFC 7541 4.2
					t.Errorf("stream %d: its head begins with %x", id, b[:2])
				}
				break
			}
		}
	}
}

func TestHTTP2_AfterAWarningStreamsAreCarriedAndAfterTheLastWordNoNewOnes(t *testing.T) {
	release := make(chan struct{})
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			if strings.Contains(h, "/wait") {
				<-release
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	spec, config := secured2(t, pools([]string{"p", server}))
	d := openDoor(t, spec)
	c := d.h2(config)
	c.request(1, true, "GET", "/wait")
	waitFor(t, "the request to be at the server", func() bool { return d.Current().Service("svc").Pool("p").Servers()[0].Counts().Connections == 1 })
	d.front.CloseListeners()
	if got := c.until("GOAWAY", "end"); got != "GOAWAY NO_ERROR" {
		t.Fatalf("got %s", got)
	}
	c.request(3, true, "GET", "/") // it was under way
	if got := c.until("HEADERS", "RST_STREAM", "end"); got != "HEADERS 3 200" {
		t.Errorf("after the warning: got %s", got)
	}
	if got := c.until("GOAWAY", "end"); got != "GOAWAY NO_ERROR" {
		t.Fatalf("got %s", got)
	}
	c.request(5, true, "GET", "/")
	_ = c.WritePing(false, [8]byte{})
	if got := c.until("HEADERS", "PING", "end"); got != "PING" {
		t.Errorf("after the last word: got %s", got)
	}
	close(release)
	if got := c.until("HEADERS", "end"); got != "HEADERS 1 200" {
		t.Errorf("what was asked for before got %s", got)
	}
	c.until("DATA")
	if got := c.until("HEADERS", "end"); got != "end" {
		t.Errorf("at the end: %s", got)
	}
}

func TestHTTP2_AnUploadGoesOnAsTheWindowsGrow(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", digester(t, "s")}))
	d := openDoor(t, spec)
	c := d.h2(config)
	const frames = 30_000 // of one byte and much padding: 7.7 MB on the wire
	room := make(chan int, 1000)
	answered := make(chan string, 1)
	go func() {
		defer close(room)
		for {
			f, err := c.ReadFrame()
			if err != nil {
				answered <- err.Error()
				return
			}
			switch f := f.(type) {
			case *framing.WindowUpdateFrame:
				if f.StreamID == 1 {
					room <- int(f.Increment)
				}
			case *framing.MetaHeadersFrame:
				answered <- f.PseudoValue("status")
				return
			case *framing.RSTStreamFrame, *framing.GoAwayFrame:
				answered <- f.Header().String()
				return
			}
		}
	}()
	c.request(1, false, "POST", "/")
	left := 256 << 10
	pad := make([]byte, 254)
	for range frames {
		for left < 256 {
			n, ok := <-room
			if !ok {
				t.Fatal("the answer came too early: " + <-answered)
			}
			left += n
		}
		_ = c.WriteDataPadded(1, false, []byte("x"), pad)
		left -= 256
	}
	_ = c.WriteData(1, true, nil)
	if got := <-answered; got != "200" {
		t.Errorf("got %s", got)
	}
}

func TestHTTP2_MoreThanAStreamsWindowResetsIt(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"}) // so nothing is read
	c := d.h2(config)
	c.request(1, false, "POST", "/")
	for range 17 {
		_ = c.WriteData(1, false, make([]byte, 16<<10))
	}
	if got := c.until("RST_STREAM", "GOAWAY", "HEADERS", "end"); got != "RST_STREAM 1 FLOW_CONTROL_ERROR" {
		t.Errorf("got %s", got)
	}
	if n := d.Current().Service("svc").Held(); n != 0 {
		t.Errorf("%d are held", n)
	}
}

func TestHTTP2_AHeadWaitsForRoomButForNoWindow(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", digester(t, "s")}))
	d := openDoor(t, spec)
	c := d.h2(config)
	const large = 20 << 20
	c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 0})
	_ = c.WriteWindowUpdate(0, 2*large)
	c.request(1, true, "GET", fmt.Sprintf("/?n=%d", large))
	_ = c.WriteWindowUpdate(1, large)
	if got := c.until("DATA", "end"); got == "end" {
		t.Fatal(got)
	}
	for id := uint32(3); id < 40; id += 2 { // they find no room: the first has taken it
		c.request(id, true, "GET", "/?n=1")
	}
	for heads := 0; heads < 19; heads++ {
		if got := c.until("HEADERS", "GOAWAY", "end", "nothing"); !strings.HasSuffix(got, " 200") {
			t.Fatalf("after %d heads: %s", heads, got)
		}
	}
}

// FuzzHTTP2 has a door read frames of all kinds, whole and broken; each input is one connection, and after it the door
// still serves.
func FuzzHTTP2(f *testing.F) {
	d := openDoor(f, alsoH2C(pools([]string{"p", digester(f, "s")})))
	address := d.addr("svc")
	for _, do := range []func(c *h2conn){
		func(c *h2conn) { c.request(1, true, "GET", "/?n=100"); _ = c.WritePing(false, [8]byte{1}) },
		func(c *h2conn) {
			c.request(1, false, "POST", "/", "content-length", "3")
			_ = c.WriteDataPadded(1, true, []byte("abc"), make([]byte, 20))
			c.request(3, false, "PUT", "/")
			_ = c.WriteData(3, false, []byte("abc"))
			c.raw(3, true, "x-sum", "1")
			_ = c.WriteRSTStream(3, framing.ErrCodeCancel)
		},
		func(c *h2conn) {
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 10}, framing.Setting{ID: framing.SettingHeaderTableSize, Val: 0})
			c.request(1, true, "GET", "/?n=100000", "cookie", "a=b", "cookie", "c=d")
			_ = c.WriteWindowUpdate(1, 1000)
			_ = c.WriteWindowUpdate(0, 1000)
			_ = c.WritePriority(1, framing.PriorityParam{StreamDep: 3})
			_ = c.WriteGoAway(0, framing.ErrCodeNo, nil)
		},
	} {
		var b bytes.Buffer
		c := &h2conn{Framer: framing.NewFramer(&b, nil), t: f}
		c.AllowIllegalWrites = true
		c.enc = hpack.NewEncoder(&c.out)
		c.settings()
		do(c)
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // it was read to its end
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, framing.ClientPreface)
		_, _ = conn.Write(said)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, err = io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the door neither ends the connection nor answers")
		}
	})
}

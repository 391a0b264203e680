package web_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	framing "golang.org/x/net/http2"

	"github.com/turnout-proxy/turnout/proxy"
)

// silent is a server that reads and never answers.
func silent(t testing.TB) string {
	return toy(t, func(_ *net.TCPConn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
}

func TestHTTP2_AClientThatResetsWhatItAsksForIsEnded(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", silent(t)}, []string{"q", says(t, "q")}))
	d := openDoor(t, spec)
	c := d.h2(config)
	ended := make(chan string, 1)
	go func() { ended <- c.until("GOAWAY", "end") }()
	for id := uint32(1); ; id += 2 {
		select {
		case <-ended:
		default:
			c.headers(id, true)
			_ = c.WriteRSTStream(id, framing.ErrCodeCancel)
			if id < 2_000_000 {
				continue
			}
			t.Error("a million requests were thrown away on one connection")
		}
		break
	}
	waitFor(t, "all that it asked for is taken back from the server", func() bool { return d.Current().Service("svc").Pool("p").Servers()[0].Counts().Connections == 0 })
	d.swap("q")
	if res, err := d.http2(config).Get("https://door.test/"); err != nil || res.StatusCode != 200 {
		t.Errorf("others got %v, %v", res, err)
	}
}

func TestHTTP2_AFewResetsAreNoFault(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", silent(t)}, []string{"q", says(t, "q")}))
	d := openDoor(t, spec)
	c := d.h2(config)
	for id := uint32(1); id < 120; id += 2 { // a browser that leaves a page
		c.headers(id, true)
	}
	server := d.Current().Service("svc").Pool("p").Servers()[0]
	waitFor(t, "all to be at the server", func() bool { return server.Counts().Connections == 60 })
	for id := uint32(1); id < 120; id += 2 {
		_ = c.WriteRSTStream(id, framing.ErrCodeCancel)
	}
	waitFor(t, "all to be taken back", func() bool { return server.Counts().Connections == 0 })
	d.swap("q")
	c.headers(121, true)
	if got := c.until("HEADERS", "GOAWAY", "end"); got != "HEADERS 121 200" {
		t.Errorf("the next request got %s", got)
	}
}

func TestHTTP2_HeadersWithoutAnEndEndTheirConnection(t *testing.T) {
	for name, piece := range map[string]int{"full": 16 << 10, "small": 100} {
		t.Run(name, func(t *testing.T) {
			spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
			d := openDoor(t, spec)
			c := d.h2(config)
			ended := make(chan string, 1)
			go func() { ended <- c.until("GOAWAY", "end") }()
			_ = c.WriteHeaders(framing.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(":method", "GET", ":scheme", "https", ":authority", "door.test", ":path", "/")})
			more := c.block("x-more", strings.Repeat("y", piece))
			for sent := 0; ; sent += len(more) {
				select {
				case <-ended:
				default:
					_ = c.WriteContinuation(1, false, more)
					if sent < 256<<20 {
						continue
					}
					t.Error("256 MiB of one head were taken")
				}
				return
			}
		})
	}
}

func TestHTTP2_GoesAwayWhenItsListenerDoesOrTheDoorOrItWasAtRestForLong(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(d *door, spec *proxy.Spec)
	}{
		{"a reload takes the listener away", func(d *door, spec *proxy.Spec) {
			next := *spec
			next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
			next.Services[0].Listen = []proxy.ListenSpec{{Network: proxy.NetTCP, Address: "127.0.0.2:0"}}
			secure := *spec.Services[0].TLS
			secure.RedirectFrom = nil // or it would get the slot that is free now
			next.Services[0].TLS = &secure
			d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
		}},
		{"the door ends", func(d *door, _ *proxy.Spec) { d.front.CloseListeners() }},
		{"it was at rest for long", func(*door, *proxy.Spec) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			release := make(chan struct{})
			server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
				if _, err := head(r); err == nil {
					<-release
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			spec, config := secured2(t, pools([]string{"p", server}))
			rest := c.name == "it was at rest for long"
			if rest {
				spec.Services[0].Timeouts.Idle = 300 * time.Millisecond
			}
			d := openDoor(t, spec)
			conn := d.h2(config)
			if !rest {
				conn.headers(1, true)
				waitFor(t, "the request to be at the server", func() bool { return d.Current().Service("svc").Pool("p").Servers()[0].Counts().Connections == 1 })
			}
			c.do(d, spec)
			if got := conn.until("GOAWAY", "HEADERS", "end"); got != "GOAWAY NO_ERROR" {
				t.Fatalf("got %s", got)
			}
			close(release)
			if rest {
				return
			}
			if got := conn.until("HEADERS", "end"); got != "HEADERS 1 200" { // what was asked for before is answered
				t.Errorf("after GOAWAY: got %s", got)
			}
			if got := conn.until("DATA", "end"); !strings.HasPrefix(got, "DATA 1 2") {
				t.Errorf("after GOAWAY: got %s", got)
			}
		})
	}
}

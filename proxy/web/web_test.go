package web_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestAKeptAliveClientsVeryNextRequestGoesToTheNewSide(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")}))
	c := d.dial()
	for range 20 {
		for _, side := range []string{"green", "blue"} {
			was := map[string]string{"green": "blue", "blue": "green"}[side]
			c.send(get + get)
			for range 2 {
				if status, body := c.answer(); status != "HTTP/1.1 200 OK" || body != was {
					t.Fatalf("%s %q, want %s", status, body, was)
				}
			}
			d.swap(side)
		}
	}
}

func TestSwapsUnderLoadLoseNothingAndNothingComesLate(t *testing.T) {
	var stamps [2]sync.Map
	side := func(i int) string {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			stamps[i].Store(r.Header.Get("X-N"), proxy.Clock())
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(err)
			}
			rw.Header().Set("X-N", r.Header.Get("X-N"))
			_, _ = rw.Write(b)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	d := openDoor(t, pools([]string{"blue", side(0)}, []string{"green", side(1)}))
	var stop atomic.Bool
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: k%4 == 0}}
			defer client.CloseIdleConnections()
			body := make([]byte, 40<<10)
			_, _ = rand.Read(body)
			for !stop.Load() {
				id := fmt.Sprint(n.Add(1))
				method, b := "GET", []byte(nil)
				if k%4 < 2 {
					method, b = "POST", body[:1+len(id)*3000]
				}
				var reader io.Reader = bytes.NewReader(b)
				if k%2 == 0 {
					reader = struct{ io.Reader }{reader} // chunked
				}
				req, _ := http.NewRequest(method, "http://"+d.addr("svc")+"/", reader)
				req.Header.Set("X-N", id)
				resp, err := client.Do(req)
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, b) || resp.Header.Get("X-N") != id {
					failed.Add(1)
					t.Errorf("%s %s: %d, %d bytes of %d, %v", method, id, resp.StatusCode, len(got), len(b), err)
					return
				}
			}
		})
	}
	sides := []string{"blue", "green"}
	old := 0
	for range 20 {
		before := n.Load()
		waitFor(t, "some requests", func() bool { return n.Load() > before+10 || failed.Load() > 0 })
		d.swap(sides[1-old])
		answered := proxy.Clock()
		last := n.Load()
		waitFor(t, "some requests", func() bool { return n.Load() > last+10 || failed.Load() > 0 })
		for id := last + 1; id <= last+10; id++ {
			// Begun after the answer: must not be on the old side.
			if at, ok := stamps[old].Load(fmt.Sprint(id)); ok && at.(int64) > answered {
				t.Errorf("request %d began after the swap to %s was answered and came to %s", id, sides[1-old], sides[old])
			}
		}
		old = 1 - old
	}
	stop.Store(true)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed", failed.Load(), n.Load())
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			path := strings.Fields(h)[1]
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
		}
	})
	d := openDoor(t, pools([]string{"blue", server}))
	c := d.dial()
	var all strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i)
	}
	go func() { _, _ = io.WriteString(c, all.String()) }()
	for i := range 1000 {
		if _, body := c.answer(); body != fmt.Sprintf("/%d", i) {
			t.Fatalf("answer %d is %q", i, body)
		}
	}
}

func TestAServerThatSaysMoreThanItAnnouncedIsNotUsedAgain(t *testing.T) {
	var conns atomic.Int64
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := head(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
		}
	})
	d := openDoor(t, pools([]string{"blue", server}))
	c := d.dial()
	for range 50 {
		c.send(get)
		if _, body := c.answer(); body != "ok" {
			t.Fatalf("got %q", body)
		}
	}
	if n := conns.Load(); n < 50 {
		t.Errorf("50 requests over %d connections, each of which had bytes left", n)
	}
}

// tail reads what comes until the other side ends.
func (c *conn) tail() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

func TestATunnelCarriesBothWaysAndEachEndByItself(t *testing.T) {
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if h, err := head(r); err != nil || !strings.Contains(h, "Upgrade: chat\r\n") {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello ")
		b, _ := io.ReadAll(r) // to the client's end
		c.Write(b)
	})
	d := openDoor(t, pools([]string{"blue", server}))
	c := d.dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nearly ")
	if h, err := head(c.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatal(h, err)
	}
	waitFor(t, "the tunnel is counted", func() bool { return d.Current().Service("svc").Connections() == 1 })
	c.send("late")
	c.CloseWrite()
	if got := c.tail(); got != "hello early late" {
		t.Errorf("got %q", got)
	}
	waitFor(t, "the tunnel's end is counted", func() bool { return d.Current().Service("svc").Connections() == 0 })
}

func TestAWebSocketIsEndedWith1012BetweenTwoFramesAtTheDrainsDeadline(t *testing.T) {
	got := make(chan string, 1)
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05he") // within a frame
		b := make([]byte, 16)
		_, _ = io.ReadFull(r, b)
		io.WriteString(c, "llo\x81\x02no") // the first frame's end, and one that comes too late
		rest, _ := io.ReadAll(r)
		got <- string(b) + string(rest)
	})
	d := openDoor(t, pools([]string{"blue", server}, []string{"green", says(t, "green")}))
	c := d.dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x82\x00\x00\x00\x00hi")
	if h, err := head(c.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatal(h, err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c.r, b); err != nil {
		t.Fatal(err)
	}
	op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Drain: 1})
	if b := <-got; b != "\x81\x82\x00\x00\x00\x00hi\x88\x82\x00\x00\x00\x00\x03\xf4" {
		t.Errorf("the server got %q", b)
	}
	if rest := c.tail(); rest != "llo\x88\x02\x03\xf4" {
		t.Errorf("the client got %q", rest)
	}
	c.Close()
	waitFor(t, "the drain has ended", func() bool { return op.View().State == proxy.StateDone })
	if v := op.View(); v.Cut != 1 {
		t.Errorf("%d cut, want 1", v.Cut)
	}
}

func TestAnUploadThatIsAnsweredEarlyIsNeverTakenForTheNextRequest(t *testing.T) {
	for name, after := range map[string]string{"the server goes on reading": "reads", "the server closes": "closes"} {
		t.Run(name, func(t *testing.T) {
			read := make(chan int64, 10)
			server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
				for {
					h, err := head(r)
					if err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
					if strings.HasPrefix(h, "GET") {
						continue
					}
					if after == "closes" {
						return
					}
					n, _ := io.CopyN(io.Discard, r, 2<<20)
					read <- n
				}
			})
			d := openDoor(t, pools([]string{"blue", server}))
			c := d.dial()
			c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n")
			if status, body := c.answer(); body != "early" {
				t.Fatal(status, body)
			}
			request := "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
			c.send(strings.Repeat(request, 2<<20/len(request)+1)[:2<<20])
			if after == "reads" {
				if n := <-read; n != 2<<20 {
					t.Errorf("the server read %d", n)
				}
			}
			c.send(get)
			if status, body := c.answer(); body != "early" {
				t.Fatal(status, body)
			}
			c.CloseWrite()
			if rest := c.tail(); rest != "" {
				t.Errorf("then came %q", rest)
			}
		})
	}
}

func TestTheLastHopAnswersTraceAndOptionsItself(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", says(t, "blue")}))
	c := d.dial()
	c.send("TRACE /x HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n")
	if status, body := c.answer(); status != "HTTP/1.1 200 OK" || body != "TRACE /x HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n" {
		t.Errorf("%s %q", status, body)
	}
	c.send("OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n")
	if status, body := c.answer(); status != "HTTP/1.1 200 OK" || body != "" {
		t.Errorf("%s %q", status, body)
	}
	c.send("OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\n\r\n")
	if status, body := c.answer(); status != "HTTP/1.1 200 OK" || body != "blue" {
		t.Errorf("%s %q", status, body)
	}
}

func TestALargeAnswerCostsLittleWhileItsClientDoesNotRead(t *testing.T) {
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
		_, _ = io.Copy(c, io.LimitReader(zeros{}, 1<<30))
	})
	d := openDoor(t, pools([]string{"blue", server}))
	c := d.dial()
	c.send(get)
	if _, err := c.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "something waits for the client", func() bool { l := d.plane.Lent(); return l.Bufs+l.Pipes >= 1 })
	if lent := d.plane.Lent(); lent.Bufs+lent.Pipes > 2 {
		t.Errorf("%+v", lent)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestAClientThatHalfClosesGetsItsAnswerAndOneThatLeavesEndsItsRequest(t *testing.T) {
	left, answer := make(chan bool, 4), make(chan bool)
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		h, err := head(r)
		if err != nil {
			return
		}
		if strings.HasPrefix(h, "GET /wait") {
			_, err = r.ReadByte()
			left <- err != nil
			return
		}
		<-answer
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	d := openDoor(t, pools([]string{"blue", server}))
	for name, leave := range map[string]func(c *conn){"closes": func(c *conn) { c.Close() }, "resets": func(c *conn) { _ = c.SetLinger(0); c.Close() }} {
		c := d.dial()
		c.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
		waitFor(t, "the request is under way", func() bool { return d.Current().Service("svc").Connections() == 1 })
		leave(c)
		if !<-left {
			t.Errorf("%s: the server's connection did not end", name)
		}
		waitFor(t, "nothing is counted", func() bool { return d.Current().Service("svc").Connections() == 0 })
	}
	for _, late := range []bool{false, true} {
		c := d.dial()
		c.send(get)
		c.CloseWrite()
		if late { // it is asked whether it is there, and reads on
			if h, err := head(c.r); err != nil || h != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("%q %v", h, err)
			}
		}
		answer <- true
		if got := c.tail(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") {
			t.Errorf("got %q", got)
		}
	}
}

func TestAnUploadThatStopsAfterItsAnswerEndsTheConnectionAndTheAnswerStays(t *testing.T) {
	spec := pools([]string{"blue", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
			_, _ = io.Copy(io.Discard, r)
		}
	})})
	spec.Services[0].Timeouts.RequestBody = 300 * time.Millisecond
	d := openDoor(t, spec)
	for _, leave := range []func(c *conn){func(*conn) {}, func(c *conn) { c.CloseWrite() }} {
		c := d.dial()
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
		leave(c)
		if got := c.tail(); !strings.HasSuffix(got, "\r\n\r\nearly") && !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %q", got)
		}
		waitFor(t, "nothing is counted", func() bool { return d.Current().Service("svc").Connections() == 0 })
	}
}

package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestEachRequestHasALineInTheAccessLog(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	spec := pools([]string{"blue", says(t, "blue")})
	spec.Services[0].AccessLog = true
	d := openDoorWith(t, spec, zap.New(core))
	c := d.dial()
	c.send("GET /a?b HTTP/1.1\r\nHost: H:80\r\nX-Request-Id: mine\r\n\r\n" + "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	c.answer()
	c.answer()
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true})
	c.send("GET /refused HTTP/1.1\r\nHost: h\r\n\r\n")
	c.answer()
	waitFor(t, "three lines", func() bool { return logged.Len() == 3 })
	for i, want := range []map[string]any{
		{"service": "svc", "pool": "blue", "method": "GET", "host": "h", "path": "/a?b", "status": uint64(200), "request_id": "mine", "end": "done"},
		{"service": "svc", "pool": "blue", "method": "POST", "host": "h", "path": "/", "status": uint64(200), "end": "done"},
		{"service": "svc", "pool": "", "server": "", "method": "GET", "path": "/refused", "status": uint64(503), "end": "answered by the door"},
	} {
		got := logged.All()[i].ContextMap()
		for k, v := range want {
			if fmt.Sprint(got[k]) != fmt.Sprint(v) {
				t.Errorf("line %d: %s is %v, want %v", i, k, got[k], v)
			}
		}
		if id, _ := got["request_id"].(string); i > 0 && len(id) != 32 {
			t.Errorf("line %d: request id %q", i, id)
		}
		if took, ok := got["took"].(time.Duration); !ok || took < 0 || got["bytes"] == uint64(0) {
			t.Errorf("line %d: %v", i, got)
		}
	}
	n := d.Current().Service("svc").Pools[0].Members[0].Counts().Requests
	if n.Answers != [proxy.AnswerClasses]uint64{2: 2} || n.Sum <= 0 {
		t.Errorf("counted %+v", n)
	}
}

func TestWhatTheDoorAnswersItselfIsCountedAndLogged(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	spec := pools([]string{"blue", says(t, "blue")})
	first := &spec.Services[0]
	first.Listen = []proxy.ListenSpec{{Network: proxy.NetTCP, Address: freeAddress(t)}}
	first.AccessLog, first.Routes = true, []proxy.RouteSpec{{Host: "a"}}
	second := *first
	second.Name, second.Routes = "two", []proxy.RouteSpec{{Host: "b"}}
	spec.Services = append(spec.Services, second)
	d := openDoorWith(t, spec, zap.New(core))
	for i, x := range []struct {
		send, service string
		status        int
		log           map[string]any
	}{
		{"GET /x HTTP/1.1\r\nHost: c\r\n\r\n", "svc", 404, map[string]any{"service": "", "method": "GET", "host": "c", "path": "/x"}},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "svc", 400, map[string]any{"service": "svc", "method": "", "path": ""}},
		{"OPTIONS * HTTP/1.1\r\nHost: b\r\nMax-Forwards: 0\r\n\r\n", "two", 200, map[string]any{"service": "two", "method": "OPTIONS", "path": "*"}},
	} {
		c := d.dial()
		c.send(x.send)
		if status, _ := c.answer(); !strings.HasPrefix(status, fmt.Sprintf("HTTP/1.1 %d ", x.status)) {
			t.Errorf("%q: got %s", x.send, status)
		}
		waitFor(t, "its line", func() bool { return logged.Len() == i+1 })
		line := logged.All()[i].ContextMap()
		x.log["status"], x.log["end"], x.log["pool"] = x.status, "answered by the door", ""
		for k, v := range x.log {
			if fmt.Sprint(line[k]) != fmt.Sprint(v) {
				t.Errorf("%q: %s is %v, want %v", x.send, k, line[k], v)
			}
		}
		n := d.Current().Service(x.service).Counts()
		if k := slices.Index(proxy.OwnStatuses[:], x.status); n.Own[k] != 1 {
			t.Errorf("%q: counted %v", x.send, n.Own)
		}
	}
}

func TestARequestThatDoesNotComeIsLogged(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	spec := pools([]string{"blue", says(t, "blue")})
	spec.Services[0].AccessLog, spec.Services[0].Timeouts.RequestHeader = true, 200*time.Millisecond
	d := openDoorWith(t, spec, zap.New(core))
	waitFor(t, "a line of a 408", func() bool { // who is slow to begin is closed without a word
		c := d.dial()
		_, _ = io.WriteString(c, "GET / HTT")
		_, _ = io.Copy(io.Discard, c)
		return slices.ContainsFunc(logged.All(), func(e observer.LoggedEntry) bool {
			m := e.ContextMap()
			return fmt.Sprintf("%v %v [%v%v]", m["status"], m["service"], m["method"], m["path"]) == "408 svc []"
		})
	})
}

func TestInterimAnswersWithoutEndAreEnded(t *testing.T) {
	for _, version := range []string{"1.1", "1.0"} {
		d := openDoor(t, pools([]string{"p", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
			if _, err := head(r); err != nil {
				return
			}
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
					return
				}
			}
		})}))
		c := d.dial()
		c.send("GET / HTTP/" + version + "\r\nHost: h\r\n\r\n")
		for n := 0; ; n++ {
			status, body := c.answer()
			if status == "HTTP/1.1 103 Early Hints" && version == "1.1" && n < 128 {
				continue
			}
			if status != "HTTP/1.1 502 Bad Gateway" || !strings.Contains(body, "interim") {
				t.Errorf("%s: after %d: got %s %s", version, n, status, body)
			}
			break
		}
	}
}

func TestWhatAClientSaysOfWhoIsBehindItCountsOnlyIfItIsTrusted(t *testing.T) {
	got := make(chan string, 1)
	spec := pools([]string{"blue", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			got <- h
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})})
	d := openDoor(t, spec)
	ask := "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\r\n"
	for _, trusted := range []bool{false, true} {
		if trusted {
			next := *spec
			next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
			next.Services[0].TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
		}
		c := d.dial()
		c.send(ask)
		c.answer()
		h := <-got
		if strings.Contains(h, "X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n") != trusted || strings.Contains(h, "192.0.2.1") != trusted ||
			!strings.Contains(h, "127.0.0.1\r\n") || strings.Contains(h, "X-Forwarded-Proto: https\r\n") != trusted {
			t.Errorf("trusted %v: %s", trusted, h)
		}
	}
}

func TestKeptAliveConnectionsToASealedServerCloseAtRest(t *testing.T) {
	var open atomic.Int64
	old := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		for {
			if _, err := head(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	d := openDoor(t, pools([]string{"blue", old}, []string{"green", says(t, "green")}))
	for range 8 {
		c := d.dial()
		c.send(get)
		c.answer()
	}
	if open.Load() == 0 {
		t.Fatal("none is kept")
	}
	d.swap("green")
	waitFor(t, "the old server has no connection", func() bool { return open.Load() == 0 })
}

func TestARequestMeetsAClosingConnectionOnceAndOnlyIfItMayBeRepeated(t *testing.T) {
	var conns atomic.Int64
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		first := conns.Add(1) == 1
		for n := 0; ; n++ {
			h, err := head(r)
			if err != nil || n == 1 && first { // it closes with the second request unanswered
				return
			}
			if strings.HasPrefix(h, "POST") {
				_, _ = io.CopyN(io.Discard, r, 2)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	d := openDoor(t, pools([]string{"blue", server}))
	c := d.dial()
	c.send(get)
	c.answer()
	c.send(get)
	if status, body := c.answer(); body != "ok" {
		t.Errorf("GET: %s %s", status, body)
	}
	conns.Store(0)
	d2 := openDoor(t, pools([]string{"blue", server}))
	c = d2.dial()
	c.send(get)
	c.answer()
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	if status, _ := c.answer(); status != "HTTP/1.1 502 Bad Gateway" {
		t.Errorf("POST: %s", status)
	}
}

func TestSlowClientsAreToldAndCostOnlyThemselves(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")})
	spec.Services[0].Timeouts.RequestHeader = 300 * time.Millisecond
	spec.Services[0].Timeouts.RequestBody = 300 * time.Millisecond
	d := openDoor(t, spec)
	var slow []*conn
	for i := range 300 {
		c := d.dial()
		if i%2 == 0 {
			c.send("GET / HTTP/1.1\r\nHost: h\r\nX-A")
		} else {
			c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nab")
		}
		slow = append(slow, c)
	}
	c := d.dial()
	c.send(get)
	if status, body := c.answer(); body != "blue" {
		t.Error(status, body)
	}
	for i, c := range slow {
		if status, _ := c.answer(); status != "HTTP/1.1 408 Request Timeout" && i%2 == 0 {
			t.Fatalf("slow client %d: %s", i, status)
		}
	}
}

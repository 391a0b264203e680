//go:build linux

package health

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// watchOne has a monitor ask one target, and gives its answers to look until that is content.
func watchOne(t *testing.T, c *Check, address string, p Plan, look func(Report) bool) {
	t.Helper()
	m := NewMonitor(nil)
	defer m.Close()
	p.Target, p.Checks = Target{Name: "s1", Address: address}, []*Check{c}
	m.Put("a", p)
	waitFor(t, func() bool { r, _ := m.Get("a"); return look(r) })
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that within a minute")
		}
	}
}

// pieces answers in pieces that do not come together.
func pieces(texts ...string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		for _, text := range texts {
			_, _ = io.WriteString(c, text)
			time.Sleep(5 * time.Millisecond)
		}
		hangs(c)
	}
}

func TestMonitor_SaysOfAnyServerWhatASingleRunSays(t *testing.T) {
	refusing := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	path := filepath.Join(t.TempDir(), "s")
	onUnix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = http.Serve(onUnix, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	}()
	t.Cleanup(func() { _ = onUnix.Close() })
	ready := Spec{HTTP: &HTTP{}, Expect: "status == 200 && body.ready == true"}
	plainly := Spec{HTTP: &HTTP{}}
	large := `{"ready":true,"pad":"` + strings.Repeat("x", 100<<10) + `"}`
	for name, c := range map[string]struct {
		spec    Spec
		address string
	}{
		"nobody listens":          {plainly, refusing},
		"nobody listens, tcp":     {Spec{TCP: &TCP{}}, refusing},
		"no such socket":          {plainly, "unix:" + filepath.Join(t.TempDir(), "none")},
		"a Unix socket":           {plainly, "unix:" + path},
		"no port":                 {plainly, "127.0.0.1"},
		"in time":                 {ready, raw(t, pieces("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"ready\":true}"))},
		"in pieces":               {ready, raw(t, pieces("HT", "TP/1.1 200 O", "K\r\nContent-Len", "gth: 14\r\n\r", "\n{\"ready\"", ":true}"))},
		"in chunks":               {ready, raw(t, pieces("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\n{\"ready\"\r\n", "5\r\n:tr", "ue}\r\n", "0\r\n", "\r\n"))},
		"bad chunks":              {plainly, raw(t, pieces("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))},
		"until the end":           {ready, saying(t, "HTTP/1.0 200 OK\r\n\r\n{\"ready\":true}")},
		"after a 103":             {ready, raw(t, pieces("HTTP/1.1 103 Early\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"ready\":true}"))},
		"not ready":               {ready, saying(t, "HTTP/1.1 503 No\r\nContent-Length: 15\r\n\r\n{\"ready\":false}")},
		"no JSON":                 {ready, saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")},
		"no HTTP":                 {plainly, saying(t, "SSH-2.0-x\r\n")},
		"nothing":                 {plainly, saying(t, "")},
		"half a head":             {plainly, saying(t, "HTTP/1.1 200 OK\r\nContent-")},
		"half a body":             {plainly, saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")},
		"large":                   {ready, saying(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large))},
		"endless":                 {plainly, raw(t, flood("HTTP/1.1 200 OK\r\n\r\n"))},
		"an endless head":         {plainly, raw(t, flood("HTTP/1.1 200 OK\r\nX: "))},
		"silence":                 {Spec{HTTP: &HTTP{}, Timeout: 50 * time.Millisecond}, raw(t, hangs)},
		"half, then silence":      {Spec{HTTP: &HTTP{}, Timeout: 50 * time.Millisecond}, raw(t, pieces("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))},
		"HEAD":                    {Spec{HTTP: &HTTP{Method: "HEAD"}}, raw(t, pieces("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))},
		"a large question":        {Spec{HTTP: &HTTP{Body: strings.Repeat("q", 8<<20)}}, raw(t, func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 8<<20); pieces("HTTP/1.1 204 No\r\n\r\n")(c) })},
		"tcp":                     {Spec{TCP: &TCP{}}, raw(t, hangs)},
		"tcp, an answer":          {Spec{TCP: &TCP{Send: "PING\r\n", Receive: "PONG"}}, raw(t, pieces("+PO", "NG\r\n"))},
		"tcp, another answer":     {Spec{TCP: &TCP{Send: "PING\r\n", Receive: "PONG"}}, saying(t, "-ERR\r\n")},
		"tcp, a banner":           {Spec{TCP: &TCP{Receive: "220 "}}, raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n"); hangs(c) })},
		"tcp, silence":            {Spec{TCP: &TCP{Receive: "220 "}, Timeout: 50 * time.Millisecond}, raw(t, hangs)},
		"tcp, half, then silence": {Spec{TCP: &TCP{Receive: "220 "}, Timeout: 50 * time.Millisecond}, raw(t, pieces("22"))},
		"tcp, endless":            {Spec{TCP: &TCP{Receive: "220 "}}, raw(t, flood(""))},
		"tcp, an expression":      {Spec{TCP: &TCP{Send: "x"}, Expect: `body.role == "primary"`}, raw(t, pieces("{\"role\":", "\"primary\"}\n"))},
		"an address of its own":   {Spec{TCP: &TCP{}, Address: refusing}, raw(t, hangs)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.spec.Timeout == 0 {
				c.spec.Timeout = 30 * time.Second
			}
			check := must(t, c.spec)
			want := check.Run(t.Context(), Target{Name: "s1", Address: c.address})
			watchOne(t, check, c.address, Plan{Interval: time.Hour, Fast: time.Millisecond}, func(r Report) bool {
				if len(r.Checks[0].Last) == 0 {
					return false
				}
				got := r.Checks[0].Last[0]
				if got.OK != want.OK || got.Reason != want.Reason || got.Status != want.Status || len(r.Checks[0].Last) == 1 && got.Body != want.Body {
					t.Errorf("got %+v\nwant %+v", got, want)
				}
				return true
			})
		})
	}
}

func TestMonitor_KeepsAConnectionForAFewAnswers(t *testing.T) {
	var connections, requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); fmt.Fprint(w, "fine") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	for _, spec := range []*HTTP{{}, {Body: `{"method":"eth_blockNumber"}`}} {
		connections.Store(0)
		requests.Store(0)
		// What takes longer than the interval is asked anew on another connection, so it is more than a busy machine pauses for.
		watchOne(t, must(t, Spec{HTTP: spec}), s.Listener.Addr().String(), Plan{Interval: 25 * time.Millisecond, Timeout: 30 * time.Second}, func(Report) bool { return requests.Load() >= 60 })
		if c, r := connections.Load(), requests.Load(); c < r/maxKept || c > r/maxKept+10 {
			t.Errorf("%d connections for %d requests", c, r)
		}
	}
}

// However long the timeout is, a server that hangs is asked on, as often as failures count and no more; and whoever takes long
// and answers is not taken for one that hangs.
func TestMonitor_AsksOnWhileAServerOwesAnAnswer(t *testing.T) {
	var open, most atomic.Int64
	answer := make(chan struct{})
	address := raw(t, func(c net.Conn) {
		most.Store(max(most.Load(), open.Add(1)))
		defer open.Add(-1)
		if n, _ := c.Read(make([]byte, 4096)); n == 0 {
			return // it was hung up
		}
		<-answer
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	asked := false
	watchOne(t, must(t, Spec{HTTP: &HTTP{}, Timeout: time.Hour}), address, Plan{Interval: time.Millisecond, Fall: 3}, func(r Report) bool {
		if open.Load() == 3 && !asked {
			asked = true
			time.Sleep(20 * time.Millisecond) // for a fourth one to come, if it does
			if n := most.Load(); n > 3 {
				t.Errorf("%d questions at a time", n)
			}
			close(answer)
		}
		return r.State == Ready && r.Checks[0].Passes > 5
	})
}

func TestMonitor_NoticesThatNewConnectionsAreNotTaken(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	defer s.Close()
	closed := false
	watchOne(t, must(t, Spec{HTTP: &HTTP{}}), s.Listener.Addr().String(), Plan{Interval: 5 * time.Millisecond, Timeout: 30 * time.Second}, func(r Report) bool {
		if r.State == Ready && !closed {
			closed = true
			_ = s.Listener.Close() // those who are connected are served on
		}
		return r.State == Failing && r.Reason == "connect: connection refused"
	})
}

func TestMonitor_AKeptConnectionThatTheServerClosesIsNoFailure(t *testing.T) {
	var answers atomic.Int64
	address := raw(t, func(c net.Conn) { // closes without a word about it
		for range 2 {
			if n, _ := c.Read(make([]byte, 4096)); n == 0 {
				return
			}
			answers.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		_, _ = c.Read(make([]byte, 4096)) // and when it is asked a third time
	})
	watchOne(t, must(t, Spec{HTTP: &HTTP{}}), address, Plan{Interval: 2 * time.Millisecond, Timeout: 30 * time.Second}, func(r Report) bool {
		if r.Checks[0].Fails > 0 {
			t.Fatalf("%+v", r.Checks[0].Last)
		}
		return answers.Load() > 50
	})
}

func TestMonitor_AThousandPlainChecksAreOneThreadsWorkAndLeaveNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel answers for it; nobody accepts, speaks or closes
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before, descriptorsBefore := runtime.NumGoroutine(), descriptors(t)
	m := NewMonitor(nil)
	connects, silent := must(t, Spec{TCP: &TCP{}}), must(t, Spec{HTTP: &HTTP{}, Timeout: time.Hour})
	for i := range 1000 {
		check := connects
		if i < 100 {
			check = silent
		}
		m.Put(fmt.Sprint(i), Plan{Target: Target{Name: "s", Address: l.Addr().String()}, Checks: []*Check{check}, Rise: 1, Interval: time.Hour, Fast: 100 * time.Millisecond, Timeout: time.Minute})
	}
	waitFor(t, func() bool {
		ready := 0
		for _, r := range m.Snapshot() {
			if r.State == Ready {
				ready++
			}
		}
		return ready == 900 && descriptors(t) >= descriptorsBefore+100
	})
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines more", n)
	}
	for i := range 50 {
		m.Remove(fmt.Sprint(i))
	}
	waitFor(t, func() bool { return descriptors(t) < descriptorsBefore+60 })
	m.Close()
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before && descriptors(t) <= descriptorsBefore })
}

func TestMonitor_AsksAtOnceWhenAsked(t *testing.T) {
	up := atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	m := NewMonitor(nil)
	defer m.Close()
	m.Put("a", Plan{Target: Target{Name: "s", Address: s.Listener.Addr().String()}, Checks: []*Check{must(t, Spec{HTTP: &HTTP{}})}, Interval: time.Hour, Fast: time.Millisecond, Timeout: time.Minute, Rise: 1, Fall: 1})
	waitFor(t, func() bool { r, _ := m.Get("a"); return r.State == Waiting })
	up.Store(true)
	m.Ask("a")
	waitFor(t, func() bool { r, _ := m.Get("a"); return r.State == Ready })
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// patient is an HTTP server that answers as a test tells it to.
type patient struct {
	t    testing.TB
	name string
	addr string
	how  atomic.Pointer[http.HandlerFunc]
	hits atomic.Int64 // of /, what clients ask for
	srv  atomic.Pointer[http.Server]
}

func startPatient(t testing.TB, name string) *patient {
	t.Helper()
	p := &patient{t: t, name: name, addr: freePort(t)}
	p.says(`{"ready": true}`)
	p.up()
	t.Cleanup(p.down)
	return p
}

func (p *patient) up() {
	p.t.Helper()
	l, err := listenAgain("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) { (*p.how.Load())(w, r) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.hits.Add(1)
		_, _ = io.WriteString(w, p.name)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	p.srv.Store(srv)
	go func() { _ = srv.Serve(l) }() // ends with down
}

func (p *patient) down() { _ = p.srv.Load().Close() }

func (p *patient) answers(f http.HandlerFunc) { p.how.Store(&f) }

func (p *patient) says(body string) {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
}

const readyCheck = `checks:
  ready: {http: {path: /readyz, headers: {Authorization: "Bearer ${E2E_TOKEN}"}}, expect: status == 200 && body.ready == true}
`

// watchedPair is a file with two pools, a and b, whose servers are watched.
func watchedPair(address, a, b, more string) string {
	return fmt.Sprintf("%sservices:\n  web:\n    listen: %q\n    pools: {a: [%s], b: [%s]}\n    health: {checks: [ready], interval: 200ms, timeout: 150ms%s}\n", readyCheck, address, a, b, more)
}

func quoted(p *patient) string { return fmt.Sprintf("{name: %s, address: %q}", p.name, p.addr) }

// asked is what a new client is answered.
func asked(address string) string {
	body, err := get(address, 20*time.Second)
	if err != nil {
		return err.Error()
	}
	return body
}

func get(address string, limit time.Duration) (string, error) {
	h := &http.Client{Timeout: slower(limit), Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := h.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (d *door) server(pool, name string) api.Server {
	d.t.Helper()
	return d.service("web").Pools[pool].Servers[name]
}

func (d *door) awaitState(pool, name, state string) {
	d.t.Helper()
	eventually(d.t, pool+"/"+name+" is "+state, func() bool { return d.server(pool, name).State == state })
}

func TestHealth_AFailingServerGetsNoNewClientsAndStatusSaysWhy(t *testing.T) {
	one, two, standby := startPatient(t, "one"), startPatient(t, "two"), startPatient(t, "standby")
	standby.down()
	address := freePort(t)
	d := newDoor(t, watchedPair(address, quoted(one)+", "+quoted(two), quoted(standby), ""))
	d.env = []string{"E2E_TOKEN=open-sesame-1"}
	d.start()
	d.awaitState("a", "one", "ready")
	d.awaitState("a", "two", "ready")
	d.awaitState("b", "standby", "waiting") // it never was ready: that is no failure
	before := d.look().Revision

	one.says(`{"ready": false, "why": "open-sesame-1"}`)
	d.awaitState("a", "one", "failing")
	if h := d.server("a", "one").Health; h == nil || h.Check != "ready" || h.Reason != "200 OK: ready=false" {
		t.Errorf("health: %+v", h)
	}
	hits := one.hits.Load()
	for range 30 {
		if got := asked(address); got != "two" {
			t.Fatalf("answered by %s", got)
		}
	}
	if n := one.hits.Load() - hits; n > 0 {
		t.Errorf("%d clients reached the failing server", n)
	}
	if out := d.must("status", "web").out; !strings.Contains(out, "a/one failing since ") || !strings.Contains(out, "ready: 200 OK: ready=false") {
		t.Error(out)
	}
	if n := d.metric(`turnout_server_health{pool="a",server="one",service="web",state="failing"}`); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	if after := d.look().Revision; after != before {
		t.Errorf("revision %d became %d: nobody changed anything", before, after)
	}

	one.says(`{"ready": true}`)
	d.awaitState("a", "one", "ready")
	eventually(t, "the server has clients again", func() bool { return asked(address) == "one" })

	if r := d.cli("probe", "web/b"); r.code != 4 || !strings.Contains(r.out, "connection refused") {
		t.Errorf("probe of a dead pool: %s", r)
	}
	if r := d.must("probe", "web/a/one", "-n", "2", "--every", "10ms"); strings.Count(r.out, "200 OK") != 2 {
		t.Errorf("probe: %s", r)
	}
	for what, text := range map[string]string{"log": d.process.err.String(), "status": d.must("status", "-o", "json").out, "probe": d.cli("probe", "web/a", "-o", "json").out} {
		if strings.Contains(text, "open-sesame") {
			t.Errorf("the %s shows the secret", what)
		}
	}
	journal, _ := filepath.Glob(filepath.Join(d.state, "*"))
	for _, file := range journal {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), "open-sesame") {
			t.Errorf("%s has the secret", file)
		}
	}
}

func TestHealth_TheGateOfASwapAsksTheChecksAndNotThePort(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.says(`{"ready": false}`)
	address := freePort(t)
	d := newDoor(t, watchedPair(address, quoted(a), quoted(b), ", none_ready: refuse"))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("b", "b", "waiting")
	r := d.cli("swap", "web")
	if r.code != 4 || !strings.Contains(r.err, "ready: 200 OK: ready=false") || !strings.Contains(r.err, "still serving a") || !strings.Contains(r.err, "turnout probe web/b") {
		t.Fatalf("swap to a server that is not ready: %s", r)
	}
	b.says(`{"ready": true}`)
	d.must("swap", "web") // now, not when it has risen
	if got := asked(address); got != "b" {
		t.Errorf("after the swap: %s", got)
	}
}

func TestHealth_WhenNoServerIsReadyThePolicyDecides(t *testing.T) {
	for policy, want := range map[string]string{"try": "a", "refuse": "", "hold": "a"} {
		t.Run(policy, func(t *testing.T) {
			a, b := startPatient(t, "a"), startPatient(t, "b")
			b.down()
			address := freePort(t)
			d := newDoor(t, watchedPair(address, quoted(a), quoted(b), ", none_ready: "+policy)+"    hold: {timeout: 30s}\n")
			d.env = []string{"E2E_TOKEN=x"}
			d.start()
			d.awaitState("a", "a", "ready")
			a.says("lies")
			d.awaitState("a", "a", "failing")
			if policy != "hold" {
				if got, _ := get(address, 20*time.Second); got != want {
					t.Errorf("answered by %q, want %q", got, want)
				}
				return
			}
			answer := make(chan string, 1)
			go func() { answer <- asked(address) }() // ends with its answer
			eventually(t, "the client waits", func() bool { return d.service("web").Held == 1 })
			a.says(`{"ready": true}`)
			if got := <-answer; got != want {
				t.Errorf("the client that waited: %s", got)
			}
		})
	}
}

// The server dies between two checks: whoever finds the port closed waits, and nobody has to change anything.
func TestHealth_HoldKeepsClientsOfAServerThatRestarts(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.down()
	address := freePort(t)
	d := newDoor(t, watchedPair(address, quoted(a), quoted(b), ", none_ready: hold")+"    hold: {timeout: 30s}\n")
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	for range 3 {
		a.down()
		answers := make(chan string, 20)
		for range cap(answers) {
			go func() { answers <- asked(address) }() // ends with its answer
		}
		eventually(t, "the clients wait", func() bool { return d.service("web").Held == cap(answers) })
		a.up()
		for range cap(answers) {
			if got := <-answers; got != "a" {
				t.Fatalf("a client that waited: %s", got)
			}
		}
	}
}

func TestHealth_OddTargetsGetAClearStateAndCostLittle(t *testing.T) {
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	odd := map[string]http.HandlerFunc{
		"no answer within": func(http.ResponseWriter, *http.Request) { <-never },
		"ready=false":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ready": false}`) },
		"not JSON":         func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"503":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"ready is missing": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]int{"other": 1})
		},
		"too early": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		},
		"larger than 1 MiB": func(w http.ResponseWriter, _ *http.Request) {
			for range 512 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	}
	a, b := startPatient(t, "a"), startPatient(t, "b")
	d := newDoor(t, strings.Replace(watchedPair(freePort(t), quoted(a), quoted(b), ", rise: 1, fall: 2"), "timeout: 150ms", "timeout: 2s", 1))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	before := d.resident()
	for reason, how := range odd {
		a.answers(how)
		eventually(t, "the reason is "+reason, func() bool {
			s := d.server("a", "a")
			return s.State == "failing" && s.Health != nil && strings.Contains(s.Health.Reason, reason)
		})
	}
	a.says(`{"ready": true}`)
	d.awaitState("a", "a", "ready")
	if after := d.resident(); after > before+192 { // with the race detector, and what its collector has not seen yet
		t.Errorf("%.0f MiB became %.0f", before, after)
	}
}

func TestHealth_ADoorThatStartsServesUntilAServerWasShownDead(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	address := freePort(t)
	d := newDoor(t, strings.Replace(watchedPair(address, quoted(a), quoted(b), ", none_ready: refuse"), "interval: 200ms", "interval: 1h", 1))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	if got := asked(address); got != "a" {
		t.Errorf("answered by %s", got)
	}
	d.kill9()
	d.start()
	if got := asked(address); got != "a" {
		t.Errorf("after a restart: answered by %s", got)
	}
	st, err := d.Client.Status(context.Background(), "web")
	if err != nil || st.Services["web"].Pools["a"].Servers["a"].Health == nil {
		t.Errorf("%+v %v", st, err)
	}
}

// slowServer speaks a line protocol: it answers each connection by how it is told to.
type slowServer struct {
	addr string
	how  atomic.Pointer[func(c net.Conn, over <-chan struct{})]
	open atomic.Int64 // connections that the other side has not closed
	came atomic.Int64 // connections so far
}

func startSlowServer(t *testing.T) *slowServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowServer{addr: l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.open.Add(1)
			s.came.Add(1)
			over := make(chan struct{})
			go func() { // ends when the other side closes
				_, _ = io.Copy(io.Discard, c)
				close(over)
				_ = c.Close()
				s.open.Add(-1)
			}()
			go (*s.how.Load())(c, over) // ends by itself, or with over
		}
	}()
	return s
}

func (s *slowServer) does(f func(c net.Conn, over <-chan struct{})) { s.how.Store(&f) }

// dribble sends one byte after the other for ever.
func dribble(text string) func(net.Conn, <-chan struct{}) {
	return func(c net.Conn, over <-chan struct{}) {
		for i := 0; ; i++ {
			b := byte('x')
			if i < len(text) {
				b = text[i]
			}
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = c.Write([]byte{b})
			}
		}
	}
}

func TestHealth_AServerThatAcceptsAndHangsOrDribblesFailsItsChecksByTheTimeout(t *testing.T) {
	t.Parallel()
	checks := map[string]string{
		"tcp":      `{tcp: {send: "PING\n", receive: PONG}}`,
		"http":     `{http: {path: /}}`,
		"redis":    `{redis: {}}`,
		"postgres": `{postgres: {dsn: "postgres://x@SERVER/x?sslmode=disable", query: select 1}}`,
	}
	for kind, check := range checks {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := startSlowServer(t)
			s.does(func(net.Conn, <-chan struct{}) {})
			d := newDoor(t, fmt.Sprintf(`checks:
  works: %s
services:
  web:
    listen: %q
    health: {checks: [works], interval: 300ms, timeout: 200ms, rise: 1, fall: 2}
    pools:
      a: [{name: a, address: %q}]
`, strings.ReplaceAll(check, "SERVER", s.addr), freePort(t), s.addr)).start()
			state := "waiting" // it never was ready
			failing := func(what string) {
				t.Helper()
				n := s.came.Load()
				eventually(t, what+" is shown as such", func() bool {
					h := d.server("a", "a") // two that came: the check of the first one has ended
					return s.came.Load() >= n+2 && h.State == state && h.Health != nil && strings.HasSuffix(h.Health.Reason, "within 200ms")
				})
			}
			failing("a server that accepts and never answers")
			if kind == "tcp" {
				s.does(func(c net.Conn, _ <-chan struct{}) { _, _ = c.Write([]byte("PONG\n")) })
				d.awaitState("a", "a", "ready")
				state = "failing"
				hung := time.Now()
				s.does(func(net.Conn, <-chan struct{}) {})
				failing("a server that worked, then hung")
				t.Logf("seen %s after it hung; fall x interval + timeout is 800ms", d.server("a", "a").Health.Since.Sub(hung).Round(time.Millisecond))
				s.does(func(c net.Conn, _ <-chan struct{}) { _, _ = c.Write([]byte("PONG\n")) })
				d.awaitState("a", "a", "ready")
			}
			s.does(dribble(map[string]string{"http": "HTTP/1.1 200 OK\r\nX: ", "redis": "+", "postgres": "R\x00\x00\x00\x7f"}[kind]))
			failing("a server that sends a byte now and then for ever")
			s.does(func(c net.Conn, _ <-chan struct{}) { _ = c.Close() })
			eventually(t, "no connection of a check is left", func() bool { return s.open.Load() <= 1 })
		})
	}
}

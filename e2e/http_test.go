package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// httpSide is a server that answers each request with its name and the request's body.
func httpSide(t testing.TB, name byte) *side {
	t.Helper()
	s := &side{t: t, name: name, addr: freePort(t)}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(append([]byte{name}, body...))
	})}
	go server.Serve(l)                   //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // nothing is lost by it
	return s
}

// httpLoad sends requests, a quarter of them with bodies, a quarter on connections of their own.
type httpLoad struct {
	quit chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	attempts []attempt
}

func startHTTPLoad(address string, clients int) *httpLoad {
	l := &httpLoad{quit: make(chan struct{})}
	for k := range clients {
		l.wg.Go(func() { l.client(address, k) }) // ends with quit
	}
	return l
}

func (l *httpLoad) client(address string, k int) {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: k%4 == 0}}
	defer c.CloseIdleConnections()
	var own []attempt
	defer func() { l.mu.Lock(); l.attempts = append(l.attempts, own...); l.mu.Unlock() }()
	for i := 0; ; i++ {
		select {
		case <-l.quit:
			return
		case <-time.After(2 * time.Millisecond):
		}
		var body []byte
		if i%4 == 1 {
			body = bytes.Repeat([]byte("turnout "), 1+i%2000)
		}
		own = append(own, request(c, address, body, k%2 == 0))
	}
}

// request is one request, which must come back as it was sent.
func request(c *http.Client, address string, body []byte, chunked bool) (a attempt) {
	a = attempt{id: ids.Add(1), begin: mono()}
	defer func() { a.end = mono() }()
	method, r := "GET", io.Reader(nil)
	if body != nil {
		method, r = "POST", bytes.NewReader(body)
		if chunked {
			r = struct{ io.Reader }{r}
		}
	}
	req, err := http.NewRequest(method, "http://"+address+"/", r)
	if err != nil {
		a.err = err
		return a
	}
	resp, err := c.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		a.err = err
	case resp.StatusCode != 200 || len(got) == 0 || !bytes.Equal(got[1:], body):
		a.err = fmt.Errorf("%s with %d bytes: %s, %d bytes: %.60q", method, len(body), resp.Status, len(got), got)
	default:
		a.side, a.reply = got[0], mono()
	}
	return a
}

func (l *httpLoad) stop() []attempt { close(l.quit); l.wg.Wait(); return l.attempts }

const modeHTTP = "    mode: http\n"

func TestHTTP_SwapsUnderLoadFailNoRequestAndNoneComesLate(t *testing.T) {
	a, b := httpSide(t, 'a'), httpSide(t, 'b')
	listen := freePort(t)
	d := newDoor(t, pairOf(listen, a, b, modeHTTP+longDrain)).start()
	l, begun := startHTTPLoad(listen, lighter(32, 2)), time.Now()
	swaps := swapStorm(d, lighter(200, 6), func() { pace(20 * time.Millisecond) })
	// Right after a reload, too.
	d.write(pairOf(listen, a, b, modeHTTP+longDrain+"    balance: least_connections\n"))
	d.must("reload")
	swaps = append(swaps, swapStorm(d, 10, func() { pace(20 * time.Millisecond) })...)
	attempts := l.stop()
	noFailures(t, attempts)
	v, example := judge('a', swaps, attempts)
	t.Logf("%d requests (%.0f/s) over %d swaps, %d of them outside of any: 0 failed, %d late", len(attempts), float64(len(attempts))/time.Since(begun).Seconds(), len(swaps), v.strict, v.late)
	if v.late > 0 {
		t.Errorf("%d requests began after an answer and reached the side it had sealed, such as %s", v.late, example)
	}
	eventually(t, "no request is counted any more", func() bool {
		for _, p := range d.service("svc").Pools {
			if p.Connections != 0 {
				return false
			}
		}
		return true
	})
}

func TestHTTP_AReloadChangesAServicesModeOnTheSameListener(t *testing.T) {
	a, b := httpSide(t, 'a'), httpSide(t, 'b')
	listen := freePort(t)
	d := newDoor(t, pairOf(listen, a, b, modeHTTP)).start()
	const ask1 = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for i, mode := range []string{modeHTTP, "", modeHTTP} {
		if i > 0 {
			d.write(pairOf(listen, a, b, mode))
			d.must("reload")
		}
		got, err := ask(t, "tcp", listen, ask1)
		if err != nil || !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\na") {
			t.Fatalf("mode %q: %q, %v", mode, got, err)
		}
		if via := strings.Contains(got, "\r\nVia: 1.1 turnout\r\n"); via != (mode == modeHTTP) {
			t.Errorf("mode %q: %q", mode, got)
		}
	}
}

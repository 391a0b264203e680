package web_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// talk sends n requests on one connection and reads the answers, without an allocation of its own.
func talk(t testing.TB, c net.Conn, n int, ask []byte, answer []byte) {
	for range n {
		if _, err := c.Write(ask); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
	}
}

// quickServer answers each request, of which there is one in each read, with the same bytes.
func quickServer(t testing.TB, answer []byte) string {
	return toy(t, func(c *net.TCPConn, _ *bufio.Reader) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
}

var (
	quickAsk    = []byte("GET /v2/status HTTP/1.1\r\nHost: api.example.org\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n")
	quickAnswer = []byte("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
)

func quickDoor(t testing.TB, changes ...proxy.Change) (c net.Conn, answer []byte) {
	d := openDoor(t, pools([]string{"blue", quickServer(t, quickAnswer)}))
	for _, ch := range changes {
		d.must(ch)
	}
	c = d.dial().TCPConn
	b := make([]byte, 4096)
	if _, err := c.Write(quickAsk); err != nil {
		t.Fatal(err)
	}
	n := 0
	for n < 2 || string(b[n-2:n]) != "ok" {
		m, err := c.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	return c, b[:n]
}

func TestARequestAllocatesNothing(t *testing.T) { allocatesNothing(t) }

func TestARequestAllocatesNothingWhileMaintenanceIsAnnounced(t *testing.T) {
	allocatesNothing(t, proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, At: time.Now().Add(time.Hour), For: time.Hour})
}

func allocatesNothing(t *testing.T, changes ...proxy.Change) {
	t.Helper()
	c, answer := quickDoor(t, changes...)
	if got := bytes.Contains(answer, []byte("X-Turnout-Maintenance: ")); got != (changes != nil) {
		t.Fatalf("%s", answer)
	}
	talk(t, c, 200, quickAsk, answer)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 2000
	talk(t, c, n, quickAsk, answer)
	runtime.ReadMemStats(&after)
	if got := float64(after.Mallocs-before.Mallocs) / n; got > 0.1 { // what the rest of the process does is in it
		t.Errorf("%.2f allocations a request", got)
	}
}

func BenchmarkRequest(b *testing.B) { benchmarkRequests(b) }

func BenchmarkRequestWhileMaintenanceIsAnnounced(b *testing.B) {
	benchmarkRequests(b, proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, At: time.Now().Add(time.Hour), For: time.Hour})
}

func benchmarkRequests(b *testing.B, changes ...proxy.Change) {
	c, answer := quickDoor(b, changes...)
	b.ReportAllocs()
	b.ResetTimer()
	talk(b, c, b.N, quickAsk, answer)
}

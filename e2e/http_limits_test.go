package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A row of a deadline: what the client sends, how the server answers, and what comes of it when nothing more is said.
func TestHTTP_Deadlines(t *testing.T) {
	t.Parallel()
	const short = "2s" // and no less: a loaded machine must answer what comes after in that time
	for _, row := range []struct {
		key  string
		rows []httpCase
	}{
		{"request_header", []httpCase{
			{"half a head", "GET / HTTP/1.1¶Host: a¶⟨ended⟩", nil, nil, []string{"408"}, "closed none", "", true},
			{"half a request line", "GE⟨ended⟩", nil, nil, []string{"408"}, "closed none", "", true},
			{"half a head behind a good one", good + "GET / HTTP⟨ended⟩", nil, []string{goodIt}, []string{ok2, "408"}, "closed kept", "", true},
			{"nothing at all", "⟨ended⟩", nil, nil, []string{"…eof"}, "closed none", "", true},
		}},
		{"request_body", []httpCase{
			{"half a body", "POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello⟨ended⟩", nil, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello…cut"}, []string{"408"}, "closed cut", "", true},
			{"no body", "POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶⟨ended⟩", nil, []string{"?POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶…cut"}, []string{"408"}, "closed any", "", true},
			{"half a chunk", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶a¶hello⟨ended⟩", nil, []string{chunkedTo + "hello…cut"}, []string{"408"}, "closed cut", "", true},
			{"no last chunk", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶5¶hello¶⟨ended⟩", nil, []string{chunkedTo + "hello…cut"}, []string{"408"}, "closed cut", "", true},
		}},
		{"response", []httpCase{
			{"no answer", plainGet, []string{"⟨mute⟩"}, []string{plainGet}, []string{"504"}, "told cut", "", true},
			{"no answer to a body", postHi, []string{"⟨mute⟩"}, []string{postHi}, []string{"504"}, "told cut", "", true},
			{"half a head", plainGet, []string{"HTTP/1.1 200 OK¶X: y¶⟨mute⟩"}, []string{plainGet}, []string{"504|502"}, "told cut", "", true},
			{"interim answers and no more", plainGet, []string{"HTTP/1.1 103 Early Hints¶¶⟨mute⟩"}, []string{plainGet}, []string{"103 Early Hints¶¶", "504"}, "told cut", "", true},
			{"half an answer", plainGet, []string{head11("Content-Length: 10") + "hello⟨mute⟩"}, []string{plainGet}, []string{"200 OK¶Content-Length: 10¶¶hello…cut"}, "cut cut", "", true},
			{"no last chunk", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶⟨mute⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", true},
		}},
		{"idle", []httpCase{
			{"behind an answer", plainGet + "⟨ended⟩", nil, []string{plainGet}, []string{"200 OK¶Content-Length: 2¶¶ok"}, "idle kept", "", true},
		}},
	} {
		t.Run(row.key, func(t *testing.T) {
			t.Parallel()
			lanes := startLanes(t, len(row.rows), ", timeouts: {"+row.key+": "+short+"}")
			runTable(t, lanes, row.rows)
		})
	}
}

// keepAsking asks in a loop until it is told to stop, and returns how many were answered and the first that was not.
func keepAsking(address string, stop chan struct{}) (n int, wrong error) {
	for {
		select {
		case <-stop:
			return n, nil
		default:
		}
		got, err := askHTTP(address)
		if err != nil || got != "ok" {
			return n, fmt.Errorf("request %d: %q, %v", n, got, err)
		}
		n++
	}
}

func askHTTP(address string) (string, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // the answer was read
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(c)
	raw, err := readHead(r)
	if err != nil {
		return raw, err
	}
	var body strings.Builder
	err = readBody(r, parseMessage(raw), true, func(b []byte) { body.Write(b) })
	return body.String(), err
}

// 300 clients that send a byte now and then, in their heads or bodies, and others that read one now and then.
func TestHTTP_SlowClientsCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	o := startOrigin(t)
	if err := o.begin(nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, timeouts: {request_header: 3s, request_body: 3s}, pools: {only: [%q]}}\n", listen, o.addr)).start()
	if _, err := askHTTP(listen); err != nil {
		t.Fatal(err)
	}
	before := d.resident()
	var slow, quick sync.WaitGroup
	var mu sync.Mutex
	ends := map[string]int{}
	begun := time.Now()
	for i := range 300 {
		slow.Go(func() {
			end := slowLoris(listen, i)
			mu.Lock()
			defer mu.Unlock()
			ends[end]++
		})
	}
	stop := make(chan struct{})
	for range 2 {
		quick.Go(func() {
			if n, err := keepAsking(listen, stop); err != nil || n == 0 {
				t.Errorf("beside the slow ones: %d answered, then %v", n, err)
			}
		})
	}
	slow.Wait()
	close(stop)
	quick.Wait()
	t.Logf("300 slow clients ended within %s: %v", time.Since(begun).Round(time.Millisecond), ends)
	if ends["408"] != 300 {
		t.Errorf("ends of 300 slow clients: %v, want 408 each", ends)
	}
	if grown := d.resident() - before; grown > float64(lighter(16, 1)) && !raced {
		t.Errorf("300 slow clients cost %.1f MiB", grown)
	}
}

// slowLoris sends a byte of a request each 20 ms until the door answers, and returns the status.
func slowLoris(address string, i int) string {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err.Error()
	}
	defer c.Close() //nolint:errcheck // it was judged
	endless := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 10_000)
	if i%2 == 1 {
		// The head at once, then nothing of the body: a byte now and then is progress.
		endless = ""
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx"); err != nil {
			return err.Error()
		}
	}
	answer := make(chan string, 1)
	go func() { // ends with the connection
		_ = c.SetReadDeadline(time.Now().Add(patience))
		raw, err := readHead(bufio.NewReader(c))
		if err != nil {
			answer <- fmt.Sprintf("%q, %v", raw, err)
			return
		}
		answer <- strings.Fields(raw)[1]
	}()
	for {
		select {
		case a := <-answer:
			return a
		case <-time.After(20 * time.Millisecond):
			if endless != "" {
				if _, err := io.WriteString(c, endless[:1]); err == nil {
					endless = endless[1:]
				}
			}
		}
	}
}

func TestHTTP_AClientThatDoesNotReadAGiBCostsLittle(t *testing.T) {
	t.Parallel()
	const answer = 1 << 30
	listen, server := freePort(t), sumServer(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {only: [%q]}}\n", listen, server)).start()
	// What the first answer of that kind takes once.
	if got, err := ask(t, "tcp", listen, "GET /?send=4000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil || len(got) < 4_000_000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	before := d.resident()
	const clients = 8
	for range clients {
		c, err := net.Dial("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // never read from
		if _, err := fmt.Fprintf(c, "GET /?send=%d HTTP/1.1\r\nHost: a\r\n\r\n", answer); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing moves any more when the counter of bytes stands still.
	last := -1.0
	eventually(t, "nothing moves", func() bool {
		pace(100 * time.Millisecond)
		now := d.metric(fmt.Sprintf(`turnout_bytes_total{direction="to_client",pool="only",server=%q,service="svc"}`, server))
		still := now == last
		last = now
		return still
	})
	grown := (d.resident() - before) / clients
	t.Logf("%.2f MiB for each client that does not read", grown)
	if grown > 1 && !raced {
		t.Errorf("%.2f MiB for each client that does not read a GiB, want less than 1", grown)
	}
}

func TestHTTP_FiveThousandIdleClientsTakeAKiBEach(t *testing.T) {
	t.Parallel()
	n := lighter(5000, 5)
	o := startOrigin(t)
	if err := o.begin(nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {only: [%q]}}\n", listen, o.addr)).start()
	open := func(n int) (conns []net.Conn) {
		for range n {
			c, err := net.Dial("tcp", listen)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			conns = append(conns, c)
			if _, err := io.WriteString(c, "GET /after HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReaderSize(c, 512)
			raw, err := readHead(r)
			if err != nil || !strings.HasPrefix(raw, "HTTP/1.1 200 ") {
				t.Fatalf("%q, %v", raw, err)
			}
			if _, err := r.Discard(len("after\n")); err != nil {
				t.Fatal(err)
			}
		}
		return conns
	}
	for _, c := range open(100) { // what the first ones take once
		_ = c.Close()
	}
	before := d.resident()
	conns := open(n)
	grown := (d.resident() - before) * (1 << 20) / float64(n)
	t.Logf("%.0f bytes for each of %d idle clients", grown, n)
	if grown > 1024 && !raced {
		t.Errorf("%.0f bytes for each idle client, want 1 KiB at most", grown)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

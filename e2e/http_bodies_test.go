package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// stream is n bytes that no piece of is like another, made as they are read.
type stream struct {
	seed uint64
	at   int64
	n    int64
}

func (s *stream) Read(p []byte) (int, error) {
	if s.at == s.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.n-s.at)]
	for i := 0; i < len(p); {
		off := s.at + int64(i)
		x := (s.seed + uint64(off/8)) * 0x9e3779b97f4a7c15
		x ^= x >> 29
		if off%8 == 0 && len(p)-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], x)
			i += 8
			continue
		}
		p[i] = byte(x >> (8 * (off % 8)))
		i++
	}
	s.at += int64(len(p))
	return len(p), nil
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// sum is what a body of n bytes from a seed comes to.
func sum(seed uint64, n int64) uint64 {
	h := crc64.New(crcTable)
	_, _ = io.Copy(h, &stream{seed: seed, n: n})
	return h.Sum64()
}

// sumServer answers with a body of ?send bytes from ?seed, and says the sum of what it received in X-Sum.
func sumServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := crc64.New(crcTable)
		if _, err := io.Copy(h, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		q := r.URL.Query()
		seed, _ := strconv.ParseUint(q.Get("seed"), 10, 64)
		n, _ := strconv.ParseInt(q.Get("send"), 10, 64)
		w.Header().Set("X-Sum", strconv.FormatUint(h.Sum64(), 10))
		if q.Get("chunked") == "" {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		}
		_, _ = io.Copy(struct{ io.Writer }{w}, &stream{seed: seed, n: n})
	})}
	go server.Serve(l)                   //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // nothing is lost by it
	return l.Addr().String()
}

func TestHTTP_BodiesOfAnySizeArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	listen := freePort(t)
	newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {only: [%q]}}\n", listen, sumServer(t))).start()
	c := &http.Client{Timeout: 4 * patience}
	defer c.CloseIdleConnections()
	largest := int64(lighter(256<<20, 16))
	for i, size := range []int64{1, 1023, 16<<10 - 1, 16 << 10, 64<<10 + 1, 1<<20 - 1, 5 << 20, largest} {
		for _, chunked := range []bool{false, true} {
			up, down := size, size+int64(i)
			body := io.Reader(&stream{seed: uint64(i), n: up})
			req, err := http.NewRequest("POST", fmt.Sprintf("http://%s/?seed=%d&send=%d", listen, i+100, down), body)
			if err != nil {
				t.Fatal(err)
			}
			if req.ContentLength = up; chunked {
				req.ContentLength = -1
				req.URL.RawQuery += "&chunked=1"
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatalf("%d bytes, chunked %v: %v", size, chunked, err)
			}
			h := crc64.New(crcTable)
			n, err := io.Copy(h, resp.Body)
			_ = resp.Body.Close()
			if err != nil || n != down || h.Sum64() != sum(uint64(i+100), down) {
				t.Errorf("%d bytes, chunked %v: %d of %d came down, %v, or others", size, chunked, n, down, err)
			}
			if got := resp.Header.Get("X-Sum"); resp.StatusCode != 200 || got != strconv.FormatUint(sum(uint64(i), up), 10) {
				t.Errorf("%d bytes, chunked %v: %s, others came up", size, chunked, resp.Status)
			}
		}
	}
}

// earlyServer answers a request when its head is there. What is in the target says how: /keep, /close (and it closes at
// once), /rst (it resets a moment after its answer), and how long the answer is.
func earlyServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerEarly(c) // ends with the connection
		}
	}()
	return l.Addr().String()
}

func answerEarly(c net.Conn) {
	defer c.Close() //nolint:errcheck // it is over
	r := bufio.NewReader(c)
	for {
		raw, err := readHead(r)
		if err != nil {
			return
		}
		m := parseMessage(raw)
		how := strings.Fields(m.start)[1]
		fields := ""
		if how == "/close" {
			fields = "Connection: close\r\n"
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(how), how); err != nil {
			return
		}
		if how == "/close" {
			return
		}
		if err := readBody(r, m, false, func([]byte) {}); err != nil {
			return
		}
	}
}

// A client that sends all of its upload before it reads must get an answer that came early, whatever the size; and what
// comes next on its connection is answered, or the answer said close.
func TestHTTP_EarlyAnswersReachClientsThatAreStillSending(t *testing.T) {
	t.Parallel()
	listen := freePort(t)
	newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {only: [%q]}}\n", listen, earlyServer(t))).start()
	var wg sync.WaitGroup
	for _, how := range []string{"/keep", "/close"} {
		for _, size := range []int64{0, 1, 1000, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 32 << 20} {
			for _, chunked := range []bool{false, true} {
				wg.Go(func() {
					if wrong := sendAllThenRead(listen, how, size, chunked); wrong != "" {
						t.Errorf("%s, %d bytes, chunked %v: %s", how, size, chunked, wrong)
					}
				})
			}
		}
	}
	wg.Wait()
}

func sendAllThenRead(address, how string, size int64, chunked bool) (wrong string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer c.Close() //nolint:errcheck // it was judged
	_ = c.SetDeadline(time.Now().Add(patience))
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", how, size)
	body := io.Reader(&stream{n: size})
	if chunked {
		head = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", how, size)
		body = io.MultiReader(body, strings.NewReader("\r\n0\r\n\r\n"))
		if size == 0 {
			body = strings.NewReader("\r\n")
		}
	}
	_, err = io.WriteString(c, head)
	if err == nil {
		_, err = io.Copy(struct{ io.Writer }{c}, body)
	}
	sent := err // the door may have ended its direction of reading, if the answer is there all the same
	r := bufio.NewReader(c)
	raw, err := readHead(r)
	if err != nil {
		return fmt.Sprintf("no answer: %q, %v (sending: %v)", raw, err, sent)
	}
	m := parseMessage(raw)
	var got strings.Builder
	err = readBody(r, m, true, func(b []byte) { got.Write(b) })
	if m.start != "HTTP/1.1 200 OK" || err != nil || got.String() != how {
		return fmt.Sprintf("answered %q, %v", raw+got.String(), err)
	}
	if sent != nil || m.options() != nil && m.options()[0] == "close" {
		return ""
	}
	if _, err = io.WriteString(c, "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"); err == nil {
		raw, err = readHead(r)
	}
	if m = parseMessage(raw); err != nil || m.start != "HTTP/1.1 200 OK" {
		return fmt.Sprintf("the next request of a kept connection: %q, %v", raw, err)
	}
	return ""
}

// unruly is a server that answers each request with its id, and then often does what it must not: sends more than it
// announced, an answer nobody asked for, or less; closes, resets, waits. Not one byte of an answer may reach another client.
// (What comes when the next request is on its way already is that request's answer, to anybody.)
type unruly struct{ conns atomic.Int64 }

func (u *unruly) start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c.(*net.TCPConn), rand.New(rand.NewPCG(1, uint64(u.conns.Add(1))))) // ends with the connection
		}
	}()
	return l.Addr().String()
}

func (u *unruly) serve(c *net.TCPConn, random *rand.Rand) {
	defer c.Close() //nolint:errcheck // it is over
	r := bufio.NewReader(c)
	for {
		raw, err := readHead(r)
		if err != nil {
			return
		}
		m := parseMessage(raw)
		if readBody(r, m, false, func([]byte) {}) != nil {
			return
		}
		id := strings.Fields(m.start)[1][1:]
		body := strings.Repeat(id+" ", 1+random.IntN(2000)*random.IntN(2))
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
		chunks := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", id, len(body), body)
		stop := true
		switch random.IntN(12) {
		case 0: // more than announced
			_, err = io.WriteString(c, whole+body)
		case 1: // a second answer
			_, err = io.WriteString(c, whole+whole)
		case 2: // in two pieces, of which the second has more than announced
			if _, err = io.WriteString(c, whole[:len(whole)-1]); err == nil {
				_, err = io.WriteString(c, whole[len(whole)-1:]+chunks)
			}
		case 3: // less than announced
			_, err = io.WriteString(c, whole[:len(whole)-len(body)/2-1])
			_ = c.CloseWrite()
		case 4: // half of its chunks
			_, err = io.WriteString(c, chunks[:len(chunks)-5-random.IntN(len(body))])
			_ = c.CloseWrite()
		case 5:
			_ = c.SetLinger(0)
			_, _ = io.WriteString(c, whole[:random.IntN(len(whole))])
			return
		case 6: // nothing
			return
		case 7: // until the end
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nConnection: close\r\n\r\n%s", id, body)
			return
		case 8: // no body at all, with a body
			_, err = fmt.Fprintf(c, "HTTP/1.1 304 Not Modified\r\nX-Id: %s\r\n\r\n%s", id, body)
		case 9:
			_, err = io.WriteString(c, chunks)
			stop = false
		default:
			_, err = io.WriteString(c, whole)
			stop = false
		}
		if err != nil || stop && random.IntN(2) == 0 {
			return
		}
	}
}

func TestHTTP_AnAnswerReachesNobodyElseHoweverServersMisbehave(t *testing.T) {
	t.Parallel()
	listen := freePort(t)
	u := &unruly{}
	newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, timeouts: {response: 5s}, pools: {only: [%q, %q]}}\n", listen, u.start(t), u.start(t))).start()
	var wg sync.WaitGroup
	var answers, whole atomic.Int64
	end := time.Now().Add(asLongAs(t, slower(500*time.Millisecond)))
	for range 16 {
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				n, m, wrong := strictClient(listen, end)
				answers.Add(n)
				if whole.Add(m); wrong != "" {
					t.Error(wrong)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d answers, %d of them whole, over %d connections to servers", answers.Load(), whole.Load(), u.conns.Load())
	if whole.Load() == 0 {
		t.Error("no answer was whole")
	}
}

// strictClient asks for ids of its own on one connection until that ends, and takes nothing else for an answer.
func strictClient(address string, end time.Time) (answers, whole int64, wrong string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, 0, err.Error()
	}
	defer c.Close() //nolint:errcheck // it was judged
	r := bufio.NewReader(c)
	for time.Now().Before(end) {
		_ = c.SetDeadline(time.Now().Add(patience))
		id := strconv.FormatUint(ids.Add(1), 10)
		if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", id); err != nil {
			return answers, whole, ""
		}
		raw, err := readHead(r)
		if err != nil {
			if raw != "" || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				return answers, whole, fmt.Sprintf("request %s: %q, %v", id, raw, err)
			}
			return answers, whole, ""
		}
		answers++
		m := parseMessage(raw)
		var body strings.Builder
		if code := m.start[9:12]; code != "304" {
			err = readBody(r, m, true, func(b []byte) { body.Write(b) })
		}
		if strings.HasPrefix(m.start, "HTTP/1.1 502 ") {
			continue
		}
		if got, _ := m.get("x-id"); got != id {
			return answers, whole, fmt.Sprintf("request %s got the answer to %s: %q", id, got, raw)
		}
		if rest := strings.ReplaceAll(body.String(), id+" ", ""); rest != "" && !strings.HasPrefix(id+" ", rest) {
			return answers, whole, fmt.Sprintf("request %s got %.200q", id, rest)
		}
		if err != nil {
			return answers, whole, ""
		}
		whole++
	}
	return answers, whole, ""
}

// asLongAs is TURNOUT_SOAK, or else this long.
func asLongAs(t testing.TB, d time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("TURNOUT_SOAK")
	if text == "" {
		return d
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("TURNOUT_SOAK=%s: %v", text, err)
	}
	return d
}

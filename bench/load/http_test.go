//go:build linux

package load

import (
	"testing"
	"time"
)

// runUntil loads until n units are done, however long that takes on this machine.
func runUntil(t *testing.T, p *ClientProcess, n uint64) *Result {
	t.Helper()
	err := p.Begin()
	for end := time.Now().Add(time.Minute); err == nil; {
		var c Count
		if c, err = p.Mark(); c.Units >= n || time.Now().After(end) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r, endErr := p.End()
	if err != nil || endErr != nil || r.Units < n || r.Failed > 0 {
		t.Fatalf("%v, %v: %+v", err, endErr, r)
	}
	return r
}

func TestHTTP_RequestsAreAnsweredWholeAndCounted(t *testing.T) {
	for _, mode := range []string{HTTPLoop, HTTPOnce} {
		for _, bytes := range []int64{0, 128, 3 << 20} {
			s, p := throughBytes(t, HTTP, bytes, Client{Mode: mode, Threads: 2, Conns: 5})
			r := runUntil(t, p, 10)
			if served, err := s.Served(); err != nil || served[0].Messages < r.Units {
				t.Errorf("%s, %d bytes: the client has %d answers, the server gave %+v, %v", mode, bytes, r.Units, served, err)
			}
			if mode == HTTPLoop && r.Bytes < r.Units*uint64(bytes) {
				t.Errorf("%d answers of %d bytes are %d bytes", r.Units, bytes, r.Bytes)
			}
		}
	}
}

func TestHTTPIdle_AsksOnceAndStays(t *testing.T) {
	s, p := throughBytes(t, HTTP, 128, Client{Mode: HTTPIdle, Conns: 20})
	runUntil(t, p, 0)
	if served, err := s.Served(); err != nil || served[0].Messages != 20 {
		t.Errorf("%+v, %v", served, err)
	}
}

func TestAnswers_AreReadHoweverTheyAreCut(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 12\r\nDate: y\r\n\r\nhello, world"
	for i := range answer {
		var a answerReader
		if whole, why := a.take([]byte(answer[:i])); whole || why != "" {
			t.Fatalf("cut at %d: whole %v, %q", i, whole, why)
		}
		if whole, why := a.take([]byte(answer[i:])); !whole || why != "" {
			t.Fatalf("cut at %d: not whole, %q", i, why)
		}
		if whole, why := a.take([]byte(answer)); !whole || why != "" {
			t.Fatalf("the next one: %v, %q", whole, why)
		}
	}
	for answer, want := range map[string]string{
		"HTTP/1.1 502 Bad Gateway\r\n\r\n":                             "HTTP/1.1 502",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":        "an answer without Content-Length",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!":              "bytes behind an answer",
		"HTTP/1.1 200 OK\r\nX: " + string(make([]byte, maxAnswerHead)): "an answer's head without end",
	} {
		if _, why := new(answerReader).take([]byte(answer)); why != want {
			t.Errorf("%.60q: %q, want %q", answer, why, want)
		}
	}
}

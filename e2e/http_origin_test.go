package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// play carries a script out on a connection; step is the most bytes of one write, 0: all.
//
// In scripts of HTTP ¶ is CRLF, and a word in ⟨⟩ is an act:
//
//	⟨fin⟩   end this direction            ⟨close⟩  close the socket        ⟨rst⟩  reset the connection
//	⟨head⟩  first: act when the request's head is there, its body unread
//	⟨mute⟩  say nothing, and wait for the end
//	⟨echo⟩  return every byte from now on
//	⟨held⟩  wait until a request's head has come to the server
//	⟨seen TEXT⟩, ⟨got TEXT⟩  wait until the server, or the client, has received TEXT
func play(c net.Conn, script string, step int, wait func(act string) error) error {
	for script != "" {
		text, rest, found := strings.Cut(script, "⟨")
		for b := wire(text); len(b) > 0; {
			n := len(b)
			if step > 0 {
				n = min(n, step)
			}
			if _, err := io.WriteString(c, b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		if !found {
			return nil
		}
		word, after, _ := strings.Cut(rest, "⟩")
		script = after
		var err error
		switch word {
		case "fin":
			err = c.(*net.TCPConn).CloseWrite()
		case "close":
			err = c.Close()
		case "rst":
			_ = c.(*net.TCPConn).SetLinger(0)
			err = c.Close()
		default:
			err = wait(word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func wire(s string) string { return strings.ReplaceAll(s, "¶", "\r\n") }

// shown is the reverse of wire, and short.
func shown(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "¶")
	if len(s) > 700 {
		s = fmt.Sprintf("%s…%d bytes…%s", s[:500], len(s)-600, s[len(s)-100:])
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// origin is a server that follows a script: it keeps what it received, by connection, and answers each whole request
// with the next text. Requests for /after are no part of the script: the judge asks them.
type origin struct {
	t    testing.TB
	addr string
	l    net.Listener

	mu      sync.Mutex
	step    int
	script  []string
	got     []*arrival
	lines   []*line
	faults  []string
	look    func(act string) error // waits for what the judge can see
	changed chan struct{}          // closed and made anew at each change
}

// arrival is one request as it came.
type arrival struct {
	line  *line
	head  message
	body  strings.Builder
	state string // "" whole; "…": not yet; "…eof", "…rst": it never will be
}

// line is one connection to the origin.
type line struct {
	c     net.Conn
	ended string // "": open; "closed", "reset": by the door
	told  bool   // that it is to end
	after bool   // the judge's request came over it
}

func startOrigin(t testing.TB) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{t: t, addr: l.Addr().String(), l: l, changed: make(chan struct{})}
	t.Cleanup(func() { _ = l.Close(); o.closeAll() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ln := &line{c: c}
			o.update(func() { o.lines = append(o.lines, ln) })
			go o.serve(ln) // ends with the connection
		}
	}()
	return o
}

func (o *origin) update(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	close(o.changed)
	o.changed = make(chan struct{})
}

// await waits until cond, which is asked under the lock, holds.
func (o *origin) await(cond func() bool) bool {
	end := time.After(httpPatience)
	for {
		o.mu.Lock()
		ok, changed := cond(), o.changed
		o.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-end:
			return false
		}
	}
}

func (o *origin) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ln := range o.lines {
		_ = ln.c.Close()
	}
}

// begin forgets what was, and takes a new script. Old connections are ended, and the door has seen it.
func (o *origin) begin(script []string, step int, look func(act string) error) error {
	open := func(ln *line) bool {
		if ln.ended == "" && !ln.told {
			_ = ln.c.(*net.TCPConn).CloseWrite()
			ln.told = true
		}
		return ln.ended == ""
	}
	if !o.await(func() bool {
		n := 0
		for _, ln := range o.lines {
			if open(ln) {
				n++
			}
		}
		if n == 0 {
			o.script, o.step, o.look = script, step, look
			o.got, o.lines, o.faults = nil, nil, nil
		}
		return n == 0
	}) {
		o.closeAll()
		return errors.New("the door keeps a connection that its server has ended")
	}
	return nil
}

func (o *origin) fault(format string, args ...any) {
	o.update(func() { o.faults = append(o.faults, fmt.Sprintf(format, args...)) })
}

func (o *origin) serve(ln *line) {
	r := bufio.NewReaderSize(ln.c, 64<<10)
	err := error(nil)
	for err == nil {
		err = o.request(ln, r)
	}
	how := "closed"
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		how = "reset"
	}
	o.update(func() {
		ln.ended = how
		for _, a := range o.got {
			if a.line == ln && a.state == "…" {
				a.state += map[string]string{"closed": "eof", "reset": "rst"}[how]
			}
		}
	})
	_ = ln.c.Close()
}

// request reads one request and answers it.
func (o *origin) request(ln *line, r *bufio.Reader) error {
	a := &arrival{line: ln, state: "…"}
	raw, err := readHead(r)
	if err != nil {
		if raw != "" {
			o.fault("half a head came to the server: %s", shown(raw))
		}
		return err
	}
	a.head = parseMessage(raw)
	for _, f := range a.head.faultsOfRequest() {
		o.fault("sent to the server: %s in %s", f, shown(raw))
	}
	if strings.Contains(a.head.start, " /after ") {
		o.update(func() { ln.after = true })
		_, err = io.WriteString(ln.c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nafter\n")
		return err
	}
	answer := plainAnswer
	o.update(func() {
		o.got = append(o.got, a)
		if len(o.script) > 0 {
			answer, o.script = o.script[0], o.script[1:]
		}
	})
	answer, early := strings.CutPrefix(answer, "⟨head⟩")
	played := make(chan error, 1)
	if early {
		go func() { played <- o.play(ln, a, answer, nil) }() // ends with its script
	}
	if err := readBody(r, a.head, false, func(b []byte) { o.update(func() { a.body.Write(b) }) }); err != nil {
		var bad *badFraming
		if errors.As(err, &bad) {
			o.fault("%v", err)
		}
		return err
	}
	o.update(func() { a.state = "" })
	if early {
		return <-played
	}
	if r.Buffered() > 0 {
		o.fault("bytes behind a request that has no answer yet")
	}
	return o.play(ln, a, answer, r)
}

const plainAnswer = "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok"

var errMute = errors.New("says nothing")

func (o *origin) play(ln *line, a *arrival, script string, r *bufio.Reader) error {
	return play(ln.c, script, o.step, func(act string) error {
		switch act {
		case "mute":
			_, err := r.ReadByte()
			if err == nil {
				o.fault("bytes behind a request that has no answer yet")
				err = errMute
			}
			return err
		case "echo":
			buf := make([]byte, 32<<10)
			for {
				n, err := r.Read(buf)
				if n > 0 {
					o.update(func() { a.body.Write(buf[:n]) })
					if _, err := ln.c.Write(buf[:n]); err != nil {
						return err
					}
				}
				if err != nil {
					return err
				}
			}
		}
		return o.look(act)
	})
}

// received is what came, in the short form of the tables.
func (o *origin) received(keep []string) (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.got {
		all = append(all, a.head.canon(addedToRequests, keep)+a.body.String()+a.state)
	}
	return all
}

// badFraming is a body that no strict recipient takes.
type badFraming struct{ what string }

func (b *badFraming) Error() string { return b.what }

// readHead reads up to the empty line.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		part, err := r.ReadString('\n')
		b.WriteString(part)
		if err != nil {
			return b.String(), err
		}
		if b.Len() > 1<<20 {
			return b.String(), errors.New("a head of more than a MiB")
		}
	}
	return b.String(), nil
}

// readBody reads what the head announces and hands it on as it comes, trailers in the end. It is strict: this
// is what a peer of the door would do.
func readBody(r *bufio.Reader, m message, untilClose bool, sink func([]byte)) error {
	length, ok := m.get("content-length")
	coding, chunked := m.get("transfer-encoding")
	switch {
	case chunked && coding != "chunked":
		return &badFraming{"transfer coding " + coding}
	case chunked:
		return readChunks(r, sink)
	case ok:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n < 0 {
			return &badFraming{"content-length " + length}
		}
		return readN(r, n, sink)
	case untilClose:
		return readN(r, 1<<62, sink)
	}
	return nil
}

func readN(r *bufio.Reader, n int64, sink func([]byte)) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := r.Read(buf[:min(n, int64(len(buf)))])
		if m > 0 {
			sink(buf[:m])
			n -= int64(m)
		}
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

func readChunks(r *bufio.Reader, sink func([]byte)) error {
	for {
		text, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		text, whole := strings.CutSuffix(text, "\r\n")
		n, err := strconv.ParseUint(text, 16, 63)
		if !whole || err != nil {
			return &badFraming{fmt.Sprintf("chunk size %q", text)}
		}
		if n == 0 {
			break
		}
		if err := readN(r, int64(n), sink); err != nil {
			return err
		}
		var end [2]byte
		if _, err := io.ReadFull(r, end[:]); err != nil {
			return err
		}
		if string(end[:]) != "\r\n" {
			return &badFraming{fmt.Sprintf("%q behind a chunk", end)}
		}
	}
	for {
		text, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if text == "\r\n" {
			return nil
		}
		if !strings.HasSuffix(text, "\r\n") || strings.TrimRight(text, "\r\n") == "" || text[0] == ' ' {
			return &badFraming{fmt.Sprintf("trailer %q", text)}
		}
		sink([]byte("⟨" + strings.TrimSuffix(text, "\r\n") + "⟩"))
	}
}

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// httpPatience is how long a judge waits for what has to come.
var httpPatience = slower(8 * time.Second)

// httpCase is one conversation through a door of HTTP, and what must come of it. Texts are scripts, see play.
type httpCase struct {
	name   string
	send   string   // by the client
	serve  []string // by the server, one for each request that came; then plainAnswer
	server []string // what the server received, as message.canon has it: one for each request; "?…" as the last: or nothing
	client []string // what the client received; "400" is an answer of the door's own, "HEAD 200 …" one without a body
	fate   string   // of the client's connection, and of each to the server: see judgeFates
	keep   string   // fields that doors add and this case compares, separated by commas
	whole  bool     // not byte by byte
}

// lane is a service of a door with a server of its own. One case at a time.
type lane struct {
	addr   string
	origin *origin
}

// rawClient is a client that writes a script and keeps all that comes.
type rawClient struct {
	c net.Conn

	mu      sync.Mutex
	in      bytes.Buffer
	taken   int
	err     error // of the end
	changed chan struct{}
}

func dialRaw(addr string) (*rawClient, error) {
	c, err := net.DialTimeout("tcp", addr, httpPatience)
	if err != nil {
		return nil, err
	}
	r := &rawClient{c: c, changed: make(chan struct{})}
	go r.read() // ends with the connection
	return r, nil
}

func (r *rawClient) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.c.Read(buf)
		r.mu.Lock()
		r.in.Write(buf[:n])
		r.err = err
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read takes the next bytes, when they come.
func (r *rawClient) Read(b []byte) (int, error) {
	if !r.await(func(in []byte, ended bool) bool { return len(in) > r.taken || ended }) {
		return 0, os.ErrDeadlineExceeded
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := copy(b, r.in.Bytes()[r.taken:])
	if r.taken += n; n == 0 {
		return 0, r.err
	}
	return n, nil
}

func (r *rawClient) await(cond func(in []byte, ended bool) bool) bool {
	end := time.After(httpPatience)
	for {
		r.mu.Lock()
		ok, changed := cond(r.in.Bytes(), r.err != nil), r.changed
		r.mu.Unlock()
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

func (r *rawClient) has(text string) bool {
	return r.await(func(in []byte, _ bool) bool { return bytes.Contains(in, []byte(wire(text))) })
}

// run is one conversation. It returns what was wrong; "" is nothing.
func (l *lane) run(c *httpCase, step int) (wrong string) {
	client, err := dialRaw(l.addr)
	if err != nil {
		return err.Error()
	}
	defer client.c.Close() //nolint:errcheck // it was judged
	j := &trial{httpCase: c, lane: l, client: client}
	if err := l.origin.begin(c.serve, step, j.wait); err != nil {
		return err.Error()
	}
	wrote := make(chan error, 1)
	go func() { wrote <- play(client.c, c.send, step, j.wait) }() // ends at the latest with the connection
	j.answers()
	j.scripted(wrote)
	j.judgeServer()
	if len(j.wrong) == 0 {
		j.judgeFates()
	}
	l.origin.update(func() { j.wrong = append(j.wrong, l.origin.faults...) })
	if len(j.wrong) == 0 {
		return ""
	}
	return strings.Join(j.wrong, "\n  ") + "\n  the client received in all: " + client.shown() + "\n  the server: " + shown(strings.Join(l.origin.received(nil), " and "))
}

func (r *rawClient) shown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%s (%v)", shown(r.in.String()), r.err)
}

type trial struct {
	*httpCase
	*lane
	client *rawClient
	wrong  []string
	last   string // the last response's head, when it was whole
}

type unmet string

func (u unmet) Error() string { return string(u) }

func (j *trial) say(format string, args ...any) {
	j.wrong = append(j.wrong, fmt.Sprintf(format, args...))
}

// wait is for the acts that look at the other side: "held", "seen TEXT" (the server received it), "got TEXT" (the
// client did), "ended" (the client's connection did).
func (j *trial) wait(act string) error {
	word, text, _ := strings.Cut(act, " ")
	ok := false
	switch word {
	case "held":
		ok = j.origin.await(func() bool { return len(j.origin.got) > 0 })
	case "seen":
		ok = j.origin.await(func() bool {
			return slices.ContainsFunc(j.origin.got, func(a *arrival) bool {
				return strings.Contains(a.head.raw+a.body.String(), wire(text))
			})
		})
	case "got":
		ok = j.client.has(text)
	case "ended":
		ok = j.client.await(func(_ []byte, ended bool) bool { return ended })
	default:
		return unmet("BUG: unknown act " + act)
	}
	if !ok {
		return unmet("waited in vain: " + act)
	}
	return nil
}

// scripted waits until the client has said all; what is said of the connections then is not in the midst of it.
func (j *trial) scripted(wrote chan error) {
	select {
	case err := <-wrote:
		var unmet unmet
		if errors.As(err, &unmet) {
			j.say("%v", err)
		}
	case <-time.After(2 * httpPatience):
		j.say("the client is stuck in its script")
	}
}

// answers reads as many messages as are expected and compares them.
func (j *trial) answers() {
	r := bufio.NewReaderSize(j.client, 16)
	for i, want := range j.httpCase.client {
		if !j.answer(r, i, want) {
			return
		}
	}
}

func (j *trial) answer(r *bufio.Reader, i int, want string) bool {
	if text, ok := strings.CutPrefix(want, "raw:"); ok {
		return j.rawBytes(r, text)
	}
	want, head := strings.CutPrefix(want, "HEAD ")
	raw, err := readHead(r)
	if err != nil {
		if got := shown(raw) + ending(err); !matches(got, want) {
			j.say("answer %d: got %s, want %s", i+1, got, want)
		}
		return false
	}
	m := parseMessage(raw)
	for _, f := range m.faultsOfResponse() {
		j.say("answer %d: %s in %s", i+1, f, shown(raw))
	}
	if len(j.wrong) > 0 {
		return false
	}
	var body strings.Builder
	if code := m.start[9:12]; !head && code[0] != '1' && code != "204" && code != "304" {
		err = readBody(r, m, true, func(b []byte) { body.Write(b) })
	}
	_, length := m.get("content-length")
	_, coding := m.get("transfer-encoding")
	untilClose := !length && !coding && errors.Is(err, io.EOF)
	j.last = ""
	if err == nil || untilClose {
		j.last = raw
	}
	m.start = strings.TrimPrefix(m.start, "HTTP/1.1 ")
	if mine, _, others := strings.Cut(want, " || "); own.MatchString(mine) && (!others || strings.Contains(mine, m.start[:3])) {
		if !strings.Contains(mine, m.start[:3]) || err != nil {
			j.say("answer %d: got %s, want a %s of the door", i+1, shown(raw+body.String())+ending(err), want)
		}
		return len(j.wrong) == 0
	}
	got := m.canon(addedToResponses, strings.Split(j.keep, ",")) + body.String()
	if err != nil && !untilClose {
		got += ending(err)
	}
	if !matches(got, want) {
		j.say("answer %d:\n   got %s\n  want %s", i+1, shown(got), shown(want))
	}
	return len(j.wrong) == 0 && err == nil
}

var own = regexp.MustCompile(`^\d{3}(\|\d{3})*$`)

// rawBytes is what comes through a tunnel.
func (j *trial) rawBytes(r *bufio.Reader, want string) bool {
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if string(got[:n]) != want {
		j.say("through the tunnel: got %s%s, want %s", shown(string(got[:n])), ending(err), shown(want))
	}
	return err == nil
}

// ending shows how a message that is not whole ends.
func ending(err error) string {
	var bad *badFraming
	switch {
	case err == nil:
		return ""
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "…eof"
	case errors.Is(err, syscall.ECONNRESET):
		return "…rst"
	case errors.As(err, &bad):
		return "…" + bad.what
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "…nothing more"
	}
	return "…" + err.Error()
}

// judgeServer compares what the server received, once it is all there.
func (j *trial) judgeServer() {
	need := len(j.server)
	if need > 0 && strings.HasPrefix(j.server[need-1], "?") {
		need--
	}
	j.origin.await(func() bool {
		undecided := func(a *arrival) bool { return a.state == "…" }
		return len(j.wrong) > 0 || len(j.origin.got) >= need && !slices.ContainsFunc(j.origin.got, undecided)
	})
	got := j.origin.received(strings.Split(j.keep, ","))
	want := slices.Clone(j.server)
	if n := len(want); n > 0 && n != len(got) && strings.HasPrefix(want[n-1], "?") {
		want = want[:n-1]
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			j.say("the server never received %s", want[i])
		case i >= len(want):
			j.say("the server received what it should not: %s", shown(got[i]))
		case !matches(got[i], strings.TrimPrefix(want[i], "?")):
			j.say("the server\n   got %s\n  want %s", shown(got[i]), shown(want[i]))
		}
	}
}

// matches: where the door may end with FIN or RST, want says "…cut"; where part of a body may have gone on, "*…cut";
// where that may be all of it, "*…any". " || " stands between what may be.
func matches(got, want string) bool {
	if one, others, several := strings.Cut(want, " || "); several {
		return matches(got, one) || matches(got, others)
	}
	if w, any := strings.CutSuffix(want, "*…any"); any {
		return strings.HasPrefix(got, w)
	}
	w, cut := strings.CutSuffix(want, "…cut")
	if !cut {
		return got == wire(want) || got == want
	}
	got, end := strings.CutSuffix(got, "…eof")
	if !end {
		got, end = strings.CutSuffix(got, "…rst")
	}
	if w, some := strings.CutSuffix(w, "*"); some {
		return end && strings.HasPrefix(got, w)
	}
	return end && got == w
}

// judgeFates takes "client server,server…". A client's connection is
//
//	kept    the next request on it is answered
//	closed  ended with FIN, nothing behind the answers
//	reset   ended with RST
//	cut     one of the two
//	gone    ended by the client itself, whatever followed
//	idle    ended with FIN by a deadline, behind an answer that could not say so
//	told    what the last answer says: kept, or closed; cut when it was not whole
//
// and a server's is kept (the next request comes over it), closed, reset, cut, gone, any (of these), or none: there was
// none. With a "?" behind it, there may be none.
func (j *trial) judgeFates() {
	mine, theirs, _ := strings.Cut(j.fate, " ")
	if mine == "told" {
		mine = j.told()
	}
	if theirs == "none" {
		j.origin.update(func() {
			if n := len(j.origin.lines); n > 0 {
				j.say("%d connections to the server, want none", n)
			}
		})
	}
	// What ends, first: what would be asked over it otherwise could meet it.
	for i, fate := range strings.Split(theirs, ",") {
		if theirs != "none" && !strings.HasPrefix(fate, "kept") {
			j.serverEnds(i, fate)
		}
	}
	switch mine {
	case "kept":
		if o := j.lastOptions(); slices.Contains(o, "close") {
			j.say("the client's connection is to be kept, and the answer says close: %s", shown(j.last))
		}
		if wrong := after(j.client); wrong != "" {
			j.say("the next request of the client's connection: %s", wrong)
		}
	case "gone":
	default:
		j.clientEnds(mine)
	}
	for i, fate := range strings.Split(theirs, ",") {
		if fate == "kept" {
			j.serverStays(i, mine == "kept")
		}
	}
}

func (j *trial) told() string {
	if j.last == "" {
		return "cut"
	}
	m := parseMessage(j.last)
	_, length := m.get("content-length")
	_, coding := m.get("transfer-encoding")
	bodiless := strings.HasPrefix(m.start, "HTTP/1.1 204") || strings.HasPrefix(m.start, "HTTP/1.1 304")
	if slices.Contains(m.options(), "close") || !length && !coding && !bodiless {
		return "closed"
	}
	return "kept"
}

func (j *trial) lastOptions() []string {
	m := parseMessage(j.last)
	return m.options()
}

func (j *trial) clientEnds(want string) {
	if want == "idle" {
		want, j.last = "closed", ""
	}
	rest, err := io.ReadAll(j.client)
	if len(rest) > 0 {
		j.say("behind the last answer: %s", shown(string(rest)))
	}
	got := map[bool]string{true: "closed", false: "reset"}[err == nil]
	if errors.Is(err, os.ErrDeadlineExceeded) {
		got = "kept, or nothing was said of it"
	}
	if got != want && !(want == "cut" && !strings.HasPrefix(got, "kept")) {
		j.say("the client's connection was %s, want %s", got, want)
	}
	// RFC 9112 9.6: who ends a connection says so in its last answer, unless the client did.
	if m := parseMessage(j.last); j.last != "" && want == "closed" && !strings.Contains(j.send, "⟨fin⟩") && !slices.Contains(m.options(), "close") {
		_, length := m.get("content-length")
		_, coding := m.get("transfer-encoding")
		if length || coding {
			j.say("closed behind an answer that does not say so: %s", shown(j.last))
		}
	}
}

// after asks for one more answer.
func after(c *rawClient) (wrong string) {
	if _, err := io.WriteString(c.c, "GET /after HTTP/1.1\r\nHost: after\r\n\r\n"); err != nil {
		return err.Error()
	}
	r := bufio.NewReaderSize(c, 16)
	raw, err := readHead(r)
	if err != nil {
		return shown(raw) + ending(err)
	}
	m := parseMessage(raw)
	var body strings.Builder
	err = readBody(r, m, true, func(b []byte) { body.Write(b) })
	if m.start != "HTTP/1.1 200 OK" || body.String() != "after\n" {
		return "answered " + shown(raw+body.String()) + ending(err)
	}
	return ""
}

// serverStays: the next request comes over it; asked tells that there was one.
func (j *trial) serverStays(i int, asked bool) {
	if !asked {
		c, err := dialRaw(j.addr)
		if err != nil {
			j.say("%v", err)
			return
		}
		defer c.c.Close() //nolint:errcheck // one answer was all
		if wrong := after(c); wrong != "" {
			j.say("the next client: %s", wrong)
		}
	}
	j.origin.update(func() {
		switch n := len(j.origin.lines); {
		case n != i+1:
			j.say("%d connections to the server when one more request had come, want %d", n, i+1)
		case !j.origin.lines[i].after:
			j.say("the next request did not come over connection %d to the server, which was to be kept", i+1)
		}
	})
}

func (j *trial) serverEnds(i int, want string) {
	want, perhaps := strings.CutSuffix(want, "?")
	var ln *line
	j.origin.update(func() {
		if i < len(j.origin.lines) {
			ln = j.origin.lines[i]
		}
	})
	switch {
	case want == "gone" || want == "any" || ln == nil && perhaps:
		return
	case ln == nil:
		j.say("there was no connection %d to the server", i+1)
		return
	case !j.origin.await(func() bool { return ln.ended != "" }):
		j.say("connection %d to the server is still there, want %s", i+1, want)
		return
	}
	j.origin.update(func() {
		if ln.ended != want && want != "cut" {
			j.say("connection %d to the server was %s, want %s", i+1, ln.ended, want)
		}
	})
}

// startLanes starts a door with n services of one server each.
func startLanes(t *testing.T, n int, keys string) []*lane {
	t.Helper()
	var lanes []*lane
	for range n {
		lanes = append(lanes, &lane{freePort(t), startOrigin(t)})
	}
	if peer := os.Getenv("TURNOUT_E2E_HTTP"); peer != "" {
		startPeerLanes(t, peer, lanes)
		return lanes
	}
	var b strings.Builder
	b.WriteString("services:\n")
	for i, l := range lanes {
		fmt.Fprintf(&b, "  lane%d: {mode: http, listen: %q, pools: {only: [%q]}%s}\n", i, l.addr, l.origin.addr, keys)
	}
	d := newDoor(t, b.String())
	d.args = []string{"--loops", "1"} // so that the next client meets the last one's connection to the server
	d.start()
	return lanes
}

// runTable runs each case whole and then one byte at a time, on all lanes at once.
func runTable(t *testing.T, lanes []*lane, cases []httpCase) {
	t.Helper()
	type job struct {
		c    *httpCase
		step int
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(func() {
			for j := range jobs {
				name := j.c.name
				if j.step > 0 {
					name += "/byte by byte"
				}
				t.Run(name, func(t *testing.T) {
					if wrong := l.run(j.c, j.step); wrong != "" {
						t.Errorf("%s\n  %s", shown(j.c.send), wrong)
					}
				})
			}
		})
	}
	for i := range cases {
		jobs <- job{&cases[i], 0}
		if n := len(cases[i].send) + len(strings.Join(cases[i].serve, "")); n < 4<<10 && !cases[i].whole {
			jobs <- job{&cases[i], 1}
		}
	}
	close(jobs)
	wg.Wait()
}

package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// raw talks to the socket without our client.
func (d *door) raw() *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket)
	}}
	d.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// send makes one request and reads its error.
func (d *door) send(method, path, body string) (int, *api.Error) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://turnout"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.raw().Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Error *api.Error }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		d.t.Fatal(err)
	}
	if answer.Error == nil {
		answer.Error = &api.Error{}
	}
	return resp.StatusCode, answer.Error
}

func (d *door) dial() net.Conn {
	d.t.Helper()
	c, err := net.Dial("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRequest_ThatIsWrongIsRefusedInWords(t *testing.T) {
	d := open(t)
	const swap = "/v1/services/api/swap"
	for _, c := range []struct {
		method, path, body string
		status             int
		code, message      string
	}{
		{"POST", swap, `not JSON`, 400, api.CodeUsage, "the body is not JSON: invalid character 'o' in literal null (expecting 'u') at byte 2"},
		{"POST", swap, `{"to": "green"`, 400, api.CodeUsage, "the body is not JSON: it ends too early"},
		{"POST", swap, `{"to": "green"} {}`, 400, api.CodeUsage, "the body goes on after its JSON object"},
		{"POST", swap, `["green"]`, 400, api.CodeUsage, "the body is not a JSON object"},
		{"POST", swap, `{"drian": "1s"}`, 400, api.CodeUsage, `unknown field "drian"`},
		{"POST", swap, `{"drain": 10}`, 400, api.CodeUsage, `drain: a number, want a string such as "30s"`},
		{"POST", swap, `{"drain": "1000h"}`, 400, api.CodeUsage, `drain: "1000h0m0s": want at most 720h (30 days)`},
		{"POST", swap, `{"drain": "9999999h"}`, 400, api.CodeUsage, `"9999999h": want at most 720h (30 days)`},
		{"POST", swap, `{"drain": "10"}`, 400, api.CodeUsage, `"10": want a duration with a unit, such as 30s or 1m30s`},
		{"POST", swap, `{"drain": "-1s"}`, 400, api.CodeUsage, `drain: "-1s": want more than 0s`},
		{"POST", swap, `{"hold": "-1s"}`, 400, api.CodeUsage, `hold: "-1s": want more than 0s`},
		{"POST", swap, `{"force": "yes"}`, 400, api.CodeUsage, `force: a string, want true or false`},
		{"POST", swap, `{"then": "cut"}`, 400, api.CodeUsage, `then: "cut": want close or keep`},
		{"POST", swap, `{"to": "green", "if_revision": 9}`, 409, api.CodeConflict, "the revision is 1, not 9: something changed since you looked"},
		{"POST", "/v1/services/api/back", `{"to": "green"}`, 400, api.CodeUsage, "to: back goes to where it was; leave it out, or swap"},
		{"POST", "/v1/services/api/back", ``, 422, api.CodeFailed, "api was not swapped yet, so there is no way back"},
		{"POST", "/v1/services/api/maintenance", `{}`, 400, api.CodeUsage, "on is missing: true or false"},
		{"POST", "/v1/services/api/pools/blue/servers/b1/weight", `{}`, 400, api.CodeUsage, "weight is missing: 0 to 256"},
		{"POST", "/v1/services/api/pools/blue/servers/b1/weight", `{"weight": 257}`, 400, api.CodeUsage, "weight 257: want 0 to 256"},
		{"POST", "/v1/services/all/pools/blue/drain", `{}`, 400, api.CodeUsage, "all is a group: drain takes SERVICE/POOL or SERVICE/POOL/SERVER"},
		{"POST", "/v1/services/apx/swap", `{}`, 404, api.CodeNotFound, `no service or group is named "apx"`},
		{"GET", swap, ``, 405, api.CodeUsage, "GET /v1/services/api/swap: use POST"},
		{"POST", "/v1/status", ``, 405, api.CodeUsage, "POST /v1/status: use GET"},
		{"GET", "/v2/status", ``, 404, api.CodeNotFound, "there is no /v2/status"},
		{"GET", "/v1/status?services=api", ``, 400, api.CodeUsage, `unknown parameter "services"`},
		{"GET", "/v1/history?limit=0", ``, 400, api.CodeUsage, `limit: "0": want 1 to 10000`},
		{"GET", "/v1/operations/1?wait=10", ``, 400, api.CodeUsage, `wait: "10": want a duration such as 10s`},
		{"GET", "/v1/operations/1?after=x", ``, 400, api.CodeUsage, `after: "x": want a number of steps`},
		{"POST", "/v1/operations/999/continue", `{"step": "stop_old"}`, 404, api.CodeNotFound, `no operation "999" is known`},
	} {
		status, e := d.send(c.method, c.path, c.body)
		if status != c.status || e.Code != c.code || e.Message != c.message {
			t.Errorf("%s %s %s:\ngot  %d %s\nwant %d %s: %s", c.method, c.path, c.body, status, asJSON(e), c.status, c.code, c.message)
		}
	}
	if d.status().Revision != 1 {
		t.Error("a refused request changed something")
	}
	_, e := d.send("POST", swap, `{"drian": "1s"}`)
	if e.Hint != "known: reason, if_revision, force, plan, wait, to, servers, drain, then, exclusive, hold, wait_for, stop_old, start_new, watch, rollback_if, steps, every" {
		t.Errorf("hint: %s", e.Hint)
	}
}

// The client of this test does not read before it has sent all: so it sees the answer only if the door reads
// on after it knows that the body is too large.
func TestBody_OfTenMebibytesIsRefusedAndTheNextRequestIsAnswered(t *testing.T) {
	d := open(t)
	c := d.dial()
	const size = 10 << 20
	if _, err := fmt.Fprintf(c, "POST /v1/services/api/swap HTTP/1.1\r\nHost: turnout\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(err, resp)
	}
	if d.status().Revision != 1 {
		t.Error("it changed something")
	}
}

func TestBody_ThatComesTooSlowlyIsGivenUp(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.body = 20 * time.Millisecond })
	c := d.dial()
	if _, err := io.WriteString(c, "POST /v1/freeze HTTP/1.1\r\nHost: turnout\r\nContent-Length: 10\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestTimeout {
		t.Fatal(err, resp)
	}
	if d.status().Frozen != nil {
		t.Error("a body that was not whole was carried out")
	}
}

func TestClient_ThatSaysNothingIsClosed(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.header = 20 * time.Millisecond })
	if _, err := d.dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestClients_AThousandIdleOnesAreHarmless(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.header = time.Second })
	before := runtime.NumGoroutine()
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = d.dial()
	}
	begun := time.Now()
	d.done(d.Swap(t.Context(), "api", api.SwapRequest{}))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("a swap took %s beside them", took)
	}
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	eventually(t, "their goroutines end", func() bool { return runtime.NumGoroutine() <= before+10 })
}

func TestWait_EndsWhenTheClientGoesAwayAndTheOperationGoesOn(t *testing.T) {
	d := open(t)
	old := d.plane.connect(t, "api")
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := d.Swap(ctx, "api", api.SwapRequest{})
		gone <- err
	}()
	eventually(t, "the swap is in force", func() bool { return d.sw.Current().Revision == 2 })
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.plane.end(old, false)
	eventually(t, "its drain ends", func() bool { return d.status().Services["api"].Operation == "" })
}

// The deadline of a body must not end the watch for a client that goes away, and with it the wait.
func TestWait_OutlastsTheTimeThatABodyMayTake(t *testing.T) {
	d := open(t, func(s *Server) { s.limits.body = 10 * time.Millisecond })
	op := d.done(d.Swap(t.Context(), "db", api.SwapRequest{StopOld: true}))
	asked := time.Now()
	op = d.done(d.Operation(t.Context(), op.ID, 99, time.Second)) // answers at once: it waits for a hook
	if op.State != "waiting" {
		t.Error(asJSON(op))
	}
	d.plane.connect(t, "api")
	op = d.done(d.Swap(t.Context(), "api", api.SwapRequest{Drain: api.Duration(100 * time.Millisecond)}))
	if op.State != "done" || op.Proofs[0].Cut != 1 || time.Since(asked) < 100*time.Millisecond {
		t.Error(asJSON(op))
	}
}

func TestClient_SaysWhenItsOwnTimeIsUp(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Swap(ctx, "api", api.SwapRequest{})
	if e := refused(t, err, api.CodeTimeout); !strings.Contains(e.Message, d.socket) {
		t.Error(e)
	}
}

func TestClient_SaysThatNoDoorAnswers(t *testing.T) {
	_, err := client.Dial("/nowhere/admin.sock").Status(t.Context(), "")
	e := refused(t, err, api.CodeUnreachable)
	if e.Message != "no door answers at /nowhere/admin.sock: connect: no such file or directory" || e.Hint != "is turnout serve running? --socket or TURNOUT_SOCKET names another socket" {
		t.Error(asJSON(e))
	}
}

// Another program's socket must not look like a door that refuses.
func TestClient_KnowsAnAnswerThatIsNotADoors(t *testing.T) {
	socket := shortDir(t) + "/s"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = client.Dial(socket).Status(t.Context(), "")
	if e := refused(t, err, api.CodeFailed); !strings.HasPrefix(e.Message, "the answer is not a door's: 404 Not Found") {
		t.Error(e)
	}
}

func TestClose_EndsWaitsAndStreamsAndRemovesTheSocket(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		_, _ = d.Swap(context.WithoutCancel(t.Context()), "api", api.SwapRequest{})
	}()
	eventually(t, "the swap is in force", func() bool { return d.sw.Current().Revision == 2 })
	stream, following := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stream)
		for range d.Events(context.WithoutCancel(t.Context()), func() { close(following) }) {
		}
	}()
	<-following
	if err := d.server.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-waiting
	<-stream
	_, err := d.Status(t.Context(), "")
	refused(t, err, api.CodeUnreachable)
}

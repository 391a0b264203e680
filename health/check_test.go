package health

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func must(t testing.TB, s Spec) *Check {
	t.Helper()
	c, err := NewCheck(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t testing.TB, s Spec, address string) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return must(t, s).Run(ctx, Target{Name: "s1", Address: address})
}

func wantReason(t testing.TB, a Answer, want string) {
	t.Helper()
	if a.Reason != want || a.OK != (want == "") {
		t.Errorf("ok %v, reason %q, want %q", a.OK, a.Reason, want)
	}
}

// raw is a server of bytes: it does with each connection as it is told, and closes it.
func raw(t testing.TB, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); do(c) }()
		}
	}()
	return l.Addr().String()
}

func saying(t testing.TB, text string) string {
	return raw(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); _, _ = io.WriteString(c, text) })
}

func hangs(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func flood(head string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, head)
		for b := bytes.Repeat([]byte("x"), 64<<10); err == nil; {
			_, err = c.Write(b)
		}
	}
}

func TestNewCheck_TellsAllMistakesWithTheirPlace(t *testing.T) {
	for want, s := range map[string]Spec{
		"check: says nothing to do: want one of tcp, http, redis, postgres, exec, grpc": {},
		"http: a second kind beside tcp: want one":                                      {TCP: &TCP{}, HTTP: &HTTP{}},
		"expect:1:16: unknown name row: known here are status, headers, body, text, server": {
			HTTP: &HTTP{}, Expect: "status==200 && row.x == 1"},
		"expect:1:1: is int, want true or false":                                          {HTTP: &HTTP{}, Expect: "status"},
		"must: advance: needs a value":                                                    {HTTP: &HTTP{}, Must: "advance", Within: 1},
		"http.path: \"x\": want a path that begins with /\nwithin: without must: advance": {HTTP: &HTTP{Path: "x"}, Within: 1},
		"redis.role: \"boss\": want master or replica":                                    {Redis: &Redis{Role: "boss"}},
	} {
		_, err := NewCheck(s)
		var place *SpecError
		if err == nil || err.Error() != want || !errors.As(err, &place) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if _, err := NewCheck(Spec{Postgres: &Postgres{DSN: "postgres://u:hunter/2@h:x/"}}); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Error(err)
	}
}

func TestHTTP_SaysWhatIsWrong(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Role", "replica")
		switch r.URL.Path {
		case "/not":
			w.WriteHeader(503)
			fmt.Fprint(w, `{"ready":false,"lag":{"s":9}}`)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/rpc":
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"result":"0x1b4","method":%q,"host":%q,"type":%q,"echo":%s}`, r.Method, r.Host, r.Header.Get("Content-Type"), b)
		case "/secret":
			w.WriteHeader(403)
			fmt.Fprint(w, "no: "+r.Header.Get("Authorization"))
		default:
			fmt.Fprint(w, `{"ready":true,"items":[1]}`)
		}
	}))
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	for _, c := range []struct {
		path, expect, want string
	}{
		{"/ok", "", ""},
		{"/ok", "status == 200 && body.ready == true && headers[\"x-role\"] == \"replica\" && server.name == \"s1\"", ""},
		{"/not", "", "503 Service Unavailable"},
		{"/not", "status == 200 && body.ready == true", "503 Service Unavailable: ready=false"},
		{"/not", "body.lag.s < 3 && body.ready", "503 Service Unavailable: s=9, ready=false"},
		{"/not", "body.last.height > 3", "503 Service Unavailable: expect: body has no last"},
		{"/not", "body.lag", "503 Service Unavailable: expect: is map[s:9], want true or false"},
		{"/ok", "body.items[3] == 1", "200 OK: expect: body.items has no 3"},
		{"/moved", "", "302 Found"},
		{"/ok", "body.ready > 3", "200 OK: expect:1:12: invalid operation: bool > int"},
	} {
		a := run(t, Spec{HTTP: &HTTP{Path: c.path}, Expect: c.expect}, address)
		if c.want != a.Reason && !(strings.Contains(c.want, "invalid operation") && strings.Contains(a.Reason, "expect:1:")) {
			wantReason(t, a, c.want)
		}
	}
	a := run(t, Spec{HTTP: &HTTP{Path: "/rpc", Host: "node", Body: `{"id":1}`},
		Expect: `body.method == "POST" && body.host == "node" && body.type == "application/json" && body.echo.id == 1`, Value: "number(body.result)"}, address)
	if wantReason(t, a, ""); a.Value != 436.0 || a.Status != "200 OK" || !strings.HasPrefix(a.Body, `{"result"`) {
		t.Errorf("%+v", a)
	}
	a = run(t, Spec{HTTP: &HTTP{Path: "/secret", Headers: map[string]string{"Authorization": "Bearer hunter2"}}, Expect: "status == 200", Value: "text"}, address)
	if strings.Contains(fmt.Sprint(a), "hunter2") || a.Value != "no: ***" {
		t.Errorf("%+v", a)
	}
}

func TestHTTP_SpeaksTLSAndUnixSockets(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") })
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := s.Listener.Addr().String()
	wantReason(t, run(t, Spec{HTTP: &HTTP{TLS: &TLS{CAFile: ca}}}, address), "")
	wantReason(t, run(t, Spec{HTTP: &HTTP{TLS: &TLS{Insecure: true}}}, address), "")
	wantReason(t, run(t, Spec{HTTP: &HTTP{TLS: &TLS{}}}, address), "tls: failed to verify certificate: x509: certificate signed by unknown authority")
	wantReason(t, run(t, Spec{HTTP: &HTTP{TLS: &TLS{}}}, saying(t, "SSH-2.0\r\n\r\n")), "tls: the server does not speak TLS")
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	u := &http.Server{Handler: h}
	go u.Serve(l) //nolint:errcheck // ends with the test
	t.Cleanup(func() { _ = u.Close() })
	wantReason(t, run(t, Spec{HTTP: &HTTP{}, Expect: `text == "fine"`}, "unix:"+path), "")
}

func TestChecks_BadServersGiveAClearStateAndLeaveNothing(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	short := 200 * time.Millisecond
	t.Run("each", func(t *testing.T) {
		silent, ends := raw(t, hangs), raw(t, func(net.Conn) {})
		for _, c := range []struct {
			spec    Spec
			address string
			want    string
		}{
			{Spec{TCP: &TCP{}}, silent, ""},
			{Spec{TCP: &TCP{Send: "x"}}, silent, "no answer within 200ms"},
			{Spec{TCP: &TCP{Send: "PING\r\n", Receive: "PONG"}}, saying(t, "+PONG\r\n"), ""},
			{Spec{TCP: &TCP{Send: "PING\r\n", Receive: "PONG"}}, saying(t, "-ERR\r\n"), `the answer does not contain "PONG"`},
			{Spec{TCP: &TCP{Send: "x", Receive: "PONG"}}, raw(t, flood("")), "the answer is larger than 1 MiB"},
			{Spec{TCP: &TCP{Send: "x"}, Expect: `text startsWith "SSH"`}, saying(t, "SSH-2\n"), ""},
			{Spec{HTTP: &HTTP{}}, silent, "no answer within 200ms"},
			{Spec{Redis: &Redis{}}, silent, "no answer within 200ms"},
			{Spec{GRPC: &GRPC{}}, silent, "no answer within 200ms"},
			{Spec{Postgres: &Postgres{DSN: "user=u dbname=d sslmode=disable"}}, silent, "no answer within 200ms"},
			{Spec{Postgres: &Postgres{DSN: "postgres:///d?sslmode=disable"}}, ends, "the connection was closed before an answer"},
			{Spec{HTTP: &HTTP{}}, saying(t, "hello\r\n\r\n"), "the answer is not HTTP"},
			{Spec{HTTP: &HTTP{}, Expect: "body.ready"}, saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"), "200 OK: the answer is not JSON"},
			{Spec{HTTP: &HTTP{}, Expect: "body.ready"}, saying(t, "HTTP/1.1 200 OK\r\n\r\n{\"ready\":\"yes\"}"), "200 OK: expect: is yes, want true or false"},
			{Spec{HTTP: &HTTP{}}, saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nyes"), "200 OK: the answer ends too early"},
			{Spec{HTTP: &HTTP{}}, raw(t, flood("HTTP/1.1 200 OK\r\n\r\n")), "200 OK: the answer is larger than 1 MiB"},
			{Spec{HTTP: &HTTP{}}, raw(t, flood("HTTP/1.1 200 OK\r\nX: ")), "the answer is larger than 1 MiB"},
			{Spec{HTTP: &HTTP{}}, raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nand"); hangs(c) }), "no end of the answer within 200ms"},
			{Spec{HTTP: &HTTP{}}, saying(t, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 9)), "the answer is only interim responses"},
			{Spec{Redis: &Redis{}}, saying(t, "HTTP/1.1 400 Bad\r\n\r\n"), "PING: the answer is not Redis"},
			{Spec{Redis: &Redis{}}, saying(t, "$999999999\r\nx"), "PING: the connection was closed before an answer"},
			{Spec{Redis: &Redis{}}, saying(t, "-LOADING wait\a\r\n"), "PING: LOADING wait"},
			{Spec{GRPC: &GRPC{}}, saying(t, "hello\r\n\r\n"), "the server does not speak gRPC"},
		} {
			c.spec.Timeout = max(c.spec.Timeout, short)
			if strings.Contains(c.want, "larger") {
				c.spec.Timeout = 5 * time.Second
			}
			a := run(t, c.spec, c.address)
			if a.Reason != c.want {
				t.Errorf("%s", must(t, c.spec).Kind())
			}
			wantReason(t, a, c.want)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		wantReason(t, must(t, Spec{TCP: &TCP{}}).Run(gone, Target{Address: silent}), "given up")
		for range 100 {
			run(t, Spec{HTTP: &HTTP{}, Timeout: 5 * time.Millisecond}, silent)
		}
	})
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines || descriptors(t) > files; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			all := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d descriptors left\n%s", runtime.NumGoroutine()-goroutines, descriptors(t)-files, all[:runtime.Stack(all, true)])
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestExec_SaysTheLastLineAndKillsTheWholeGroup(t *testing.T) {
	sh := func(script string) *Exec { return &Exec{Command: []string{"/bin/sh", "-c", script}} }
	wantReason(t, run(t, Spec{Exec: sh("echo $TURNOUT_SERVER_NAME"), Expect: `output == "s1\n" && exit == 0`}, "a:1"), "")
	wantReason(t, run(t, Spec{Exec: sh("echo one; echo disk full >&2; exit 3")}, "a:1"), "exit 3: disk full")
	wantReason(t, run(t, Spec{Exec: sh(`echo '{"lag":4}'`), Expect: "body.lag < 3"}, "a:1"), "exit 0: lag=4")
	wantReason(t, run(t, Spec{Exec: &Exec{Command: []string{"/nowhere/x"}}}, "a:1"), "start /nowhere/x: no such file or directory")
	if a := run(t, Spec{Exec: sh("head -c 3000000 /dev/zero; exit 1")}, "a:1"); len(a.Body) > maxBody || !strings.HasPrefix(a.Reason, "exit 1") {
		t.Errorf("%d %s", len(a.Body), a.Reason)
	}
	pids := filepath.Join(t.TempDir(), "pids")
	for script, want := range map[string]string{
		"sleep 600 & echo $! >" + pids + "; wait":   "no answer within 300ms",
		"sleep 600 & echo $! >" + pids + "; exit 0": "",
	} {
		wantReason(t, run(t, Spec{Exec: sh(script), Timeout: 300 * time.Millisecond}, "a:1"), want)
		b, _ := os.ReadFile(pids)
		var pid int
		if _, err := fmt.Sscan(string(b), &pid); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d lives on", pid)
			}
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z ")) && syscall.Kill(pid, 0) == nil
}

func TestGRPC_AsksTheHealthService(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		switch string(b[5:]) {
		case "\n\x04down":
			_, _ = w.Write([]byte("\x00\x00\x00\x00\x02\x08\x02"))
		case "\n\x02no":
			w.Header().Set("Grpc-Status", "5")
			return
		default:
			_, _ = w.Write([]byte("\x00\x00\x00\x00\x02\x08\x01"))
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	wantReason(t, run(t, Spec{GRPC: &GRPC{}}, address), "")
	wantReason(t, run(t, Spec{GRPC: &GRPC{Service: "down"}}, address), "NOT_SERVING")
	wantReason(t, run(t, Spec{GRPC: &GRPC{Service: "no"}}, address), "the server knows no such service")
	wantReason(t, run(t, Spec{GRPC: &GRPC{Service: "down"}, Expect: `status != "SERVING"`}, address), "")
}

func FuzzReply_EndsAndKeepsWithinItsBounds(f *testing.F) {
	f.Add([]byte("*3\r\n$6\r\nmaster\r\n:12\r\n*0\r\n"))
	f.Add([]byte("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"))
	f.Add([]byte("$-5\r\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if v, err := reply(bufio.NewReader(bytes.NewReader(b))); err == nil {
			roleOf(v)
		}
	})
}

func FuzzStatusField_NeverPanics(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = statusField(b) })
}

package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpctls "google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// inTLS is a target that is spoken to as its service speaks TLS.
func inTLS(address string, c *tls.Config) Target {
	return Target{Name: "s1", Address: address, TLS: func() *tls.Config { return c }}
}

// greets is a TLS server of bytes.
func greets(t testing.TB, c *tls.Config, do func(*tls.Conn)) string {
	return raw(t, func(conn net.Conn) {
		s := tls.Server(conn, c)
		if s.Handshake() == nil {
			do(s)
		}
	})
}

func TestMeet_TellsWhetherAServerTakesTheCertificateItIsShown(t *testing.T) {
	ca, other := certstest.New(t), certstest.New(t)
	dir := t.TempDir()
	asks := func(version uint16, noTickets bool) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(dir, "s", "127.0.0.1"))}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool,
			MinVersion: version, MaxVersion: version, SessionTicketsDisabled: noTickets}
	}
	right, wrong := ca.Load(ca.Pair(dir, "door", "door.test")), other.Load(other.Pair(dir, "foreign", "door.test"))
	silent := func(c *tls.Conn) { hangs(c) }
	for name, c := range map[string]struct {
		server *tls.Config
		own    []tls.Certificate
		do     func(*tls.Conn)
		want   string
	}{
		"1.2, the right one":                      {asks(tls.VersionTLS12, false), []tls.Certificate{right}, silent, ""},
		"1.2, none":                               {asks(tls.VersionTLS12, false), nil, silent, "tls: the server says: handshake failure"},
		"1.3, the right one":                      {asks(tls.VersionTLS13, false), []tls.Certificate{right}, silent, ""},
		"1.3, the right one, and no tickets":      {asks(tls.VersionTLS13, true), []tls.Certificate{right}, silent, ""},
		"1.3, the right one, and the server ends": {asks(tls.VersionTLS13, true), []tls.Certificate{right}, func(*tls.Conn) {}, "tls: the server asked for a certificate and closed the connection"},
		"1.3, none":                               {asks(tls.VersionTLS13, false), nil, silent, "tls: the server says: certificate required"},
		"1.3, another authority's":                {asks(tls.VersionTLS13, false), []tls.Certificate{wrong}, silent, "tls: the server says: unknown certificate authority"},
	} {
		address := greets(t, c.server, c.do)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := Meet(ctx, inTLS(address, ca.Client("", c.own...)))
		cancel()
		if got := message(err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		wantReason(t, must(t, Spec{TCP: &TCP{}, Timeout: 20 * time.Second}).Run(t.Context(), inTLS(address, ca.Client("", c.own...))), c.want)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestMeet_AServerThatSaysNothingCostsTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Meet(ctx, inTLS(raw(t, hangs), &tls.Config{MinVersion: tls.VersionTLS12})); message(err) != "tls: no answer in time" {
		t.Error(err)
	}
}

// A check goes by what its target's service says, unless it says something of TLS itself or asks somebody else.
func TestChecks_SpeakTLSAsTheirTargetDoes(t *testing.T) {
	ca := certstest.New(t)
	c := &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))}, NextProtos: []string{"http/1.1"}}
	secure := greets(t, c, func(s *tls.Conn) {
		b := make([]byte, 4096)
		if n, _ := s.Read(b); string(b[:n]) == "*1\r\n$4\r\nPING\r\n" {
			_, _ = s.Write([]byte("+PONG\r\n"))
			return
		}
		_, _ = s.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	})
	plain := saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	config := ca.Client("")
	config.NextProtos = []string{"http/1.1"}
	for _, row := range []struct {
		spec    Spec
		address string
		want    string
	}{
		{Spec{HTTP: &HTTP{}}, secure, ""},
		{Spec{TCP: &TCP{Send: "x", Receive: "hello"}}, secure, ""},
		{Spec{Redis: &Redis{}}, secure, ""},
		{Spec{TCP: &TCP{}}, secure, ""},
		{Spec{HTTP: &HTTP{TLS: &TLS{CAFile: ca.File}}}, secure, ""},
		{Spec{HTTP: &HTTP{TLS: &TLS{}}}, secure, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		{Spec{HTTP: &HTTP{TLS: &TLS{CAFile: ca.File, ServerName: "other.test"}}}, secure, "tls: failed to verify certificate: x509: certificate is not valid for any names, but wanted to match other.test"},
		{Spec{HTTP: &HTTP{TLS: &TLS{Off: true}}}, plain, ""},
		{Spec{HTTP: &HTTP{}}, plain, "tls: the server does not speak TLS"},
		{Spec{HTTP: &HTTP{}, Address: plain}, secure, ""},
		{Spec{TCP: &TCP{}, Address: plain}, secure, ""},
		{Spec{GRPC: &GRPC{}}, secure, "tls: the server does not speak h2 (ALPN)"},
	} {
		row.spec.Timeout = 20 * time.Second
		wantReason(t, must(t, row.spec).Run(t.Context(), inTLS(row.address, config)), row.want)
	}
}

func TestGRPC_AsksAServerThatSpeaksTLS(t *testing.T) {
	ca := certstest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(grpctls.NewTLS(&tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))}})))
	states := grpchealth.NewServer()
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(s, states)
	go func() { _ = s.Serve(l) }() // ends with the test
	t.Cleanup(s.Stop)
	for service, want := range map[string]string{"": "", "down": "NOT_SERVING", "none": "the server knows no such service"} {
		check := must(t, Spec{GRPC: &GRPC{Service: service}, Timeout: 20 * time.Second})
		wantReason(t, check.Run(t.Context(), inTLS(l.Addr().String(), ca.Client(""))), want)
		wantReason(t, must(t, Spec{GRPC: &GRPC{Service: service, TLS: &TLS{CAFile: ca.File}}, Timeout: 20 * time.Second}).Run(t.Context(), Target{Address: l.Addr().String()}), want)
	}
}

// A check whose files have been replaced is not the one from before, though it names the same.
func TestSame_AlsoComparesWhatTheFilesHold(t *testing.T) {
	old, next := certstest.New(t), certstest.New(t)
	file := t.TempDir() + "/ca.pem"
	holds := func(a *certstest.Authority) *Check {
		b, err := os.ReadFile(a.File)
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return must(t, Spec{HTTP: &HTTP{TLS: &TLS{CAFile: file}}})
	}
	one, same, other := holds(old), holds(old), holds(next)
	if !one.Same(same) || one.Same(other) {
		t.Errorf("same %v, other %v", one.Same(same), one.Same(other))
	}
}

// server_tls that comes with a reload is spoken from the next run on, also by checks that one thread has asked until then.
func TestMonitor_ATargetIsSpokenToAnewWhenItsTLSComesOrGoes(t *testing.T) {
	ca := certstest.New(t)
	address := greets(t, &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))}}, func(s *tls.Conn) {
		_, _ = s.Read(make([]byte, 4096))
		_, _ = s.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	})
	m := NewMonitor(nil)
	defer m.Close()
	p := Plan{Target: Target{Name: "s1", Address: address}, Checks: []*Check{must(t, Spec{HTTP: &HTTP{}})}, Interval: 50 * time.Millisecond, Timeout: 20 * time.Second, Rise: 1, Fall: 1}
	becomes := func(want State) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if r, _ := m.Get("a"); r.State == want {
				return
			} else if time.Now().After(end) {
				t.Fatalf("%v, want %v", r, want)
			}
		}
	}
	m.Put("a", p)
	becomes(Waiting)
	p.Target = inTLS(address, ca.Client(""))
	m.Put("a", p)
	becomes(Ready)
	p.Target.TLS = nil
	m.Put("a", p)
	becomes(Failing)
}

func TestHTTP_AsksAServerThatSpeaksHTTP2AlonePerItsTarget(t *testing.T) {
	ca := certstest.New(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, `{"proto": %d}`, r.ProtoMajor) })
	secure := httptest.NewUnstartedServer(h)
	secure.EnableHTTP2 = true
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))}, NextProtos: []string{"h2"}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewUnstartedServer(h)
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	t.Cleanup(plain.Close)
	spec := Spec{HTTP: &HTTP{}, Expect: "status == 200 && body.proto == 2", Timeout: 20 * time.Second}
	for _, row := range []struct {
		target Target
		spec   Spec
		want   string
	}{
		{Target{Address: secure.Listener.Addr().String(), TLS: func() *tls.Config { return ca.Client("") }, H2: true}, spec, ""},
		{Target{Address: secure.Listener.Addr().String(), TLS: func() *tls.Config { return ca.Client("") }, H2: true}, Spec{TCP: &TCP{}, Timeout: spec.Timeout}, ""},
		{Target{Address: plain.Listener.Addr().String(), H2: true}, spec, ""},
		{Target{Address: plain.Listener.Addr().String(), H2: true}, Spec{TCP: &TCP{}, Timeout: spec.Timeout}, ""},
		{Target{Address: saying(t, "HTTP/1.1 200 OK\r\n\r\n"), H2: true}, spec, "the server does not speak HTTP/2"},
	} {
		wantReason(t, must(t, row.spec).Run(t.Context(), row.target), row.want)
	}
}

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// shakesHands asks at an address in TLS, and says what came of it.
func shakesHands(address string, config *tls.Config) (string, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // only read from
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: door.test\r\nConnection: close\r\n\r\n")
	if err == nil {
		err = c.CloseWrite()
	}
	if err != nil {
		// What the door said before it went is to be read all the same.
		_, readErr := c.Read(make([]byte, 1))
		return "", errors.Join(err, readErr)
	}
	all, err := io.ReadAll(c)
	return string(all), err
}

func TestClientTLS_WhoIsRefusedIsToldAndTheOperatorIsToldWhy(t *testing.T) {
	t.Parallel()
	ca, other := certstest.New(t), certstest.New(t)
	dir := t.TempDir()
	cert, key := ca.Pair(dir, "door", "door.test")
	toy := startSide(t, 'a')
	site := httpSide(t, 'b')
	web, raw := freePort(t), freePort(t)
	keys := fmt.Sprintf("tls: {cert: %s, key: %s, client_cert: {mode: required, ca: %s}}", cert, key, ca.File)
	d := newDoor(t, fmt.Sprintf("services:\n  web: {mode: http, listen: %q, pools: {p: [%q]}, %s}\n  raw: {listen: %q, pools: {p: [%q]}, %[3]s}\n", web, site.addr, keys, raw, toy.addr)).start()
	good := ca.Load(ca.Pair(dir, "good", "good.test"))
	expired := ca.Load(ca.PairUntil(time.Now().Add(-time.Minute), dir, "expired", "expired.test"))
	foreign := other.Load(other.Pair(dir, "foreign", "foreign.test"))
	for service, address := range map[string]string{"web": web, "raw": raw} {
		failed := uint64(0)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, c := range []struct {
				what   string
				shown  *tls.Certificate
				hears  string // by 1.2 and 1.3
				status string
			}{
				{"none", &tls.Certificate{}, "handshake failure|certificate required", "tls: the client showed no certificate"},
				{"expired", &expired, "expired certificate", "tls: the client's certificate: certificate has expired or is not yet valid"},
				{"foreign", &foreign, "unknown certificate authority", "tls: the client's certificate: certificate signed by unknown authority"},
			} {
				config := ca.Client("door.test")
				config.MaxVersion = version
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.shown, nil }
				said, err := shakesHands(address, config)
				before, after, _ := strings.Cut(c.hears, "|")
				if err == nil || said != "" || !strings.Contains(err.Error(), before) && (after == "" || !strings.Contains(err.Error(), after)) {
					t.Errorf("%s, %s, %s: the client got %q, %v", service, tls.VersionName(version), c.what, said, err)
				}
				failed++
				eventually(t, "the refusal is told", func() bool {
					s := d.service(service).TLS
					return s.Failed == failed && strings.HasPrefix(s.Error, c.status) && strings.HasPrefix(s.Client, "127.0.0.1:") && s.At != nil
				})
			}
			config := ca.Client("door.test", good)
			config.MaxVersion = version
			if said, err := shakesHands(address, config); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || said == "" {
				t.Errorf("%s, %s: a good client got %q, %v", service, tls.VersionName(version), said, err)
			}
		}
		d.must("status", service).wants(t, 0, "6 of 8 TLS handshakes failed, last at ", ", 127.0.0.1:", ": tls: the client's certificate: certificate signed by unknown authority")
		if log := d.process.err.String(); !strings.Contains(log, "a client had no TLS handshake") || !strings.Contains(log, "the client showed no certificate") {
			t.Errorf("the log does not say why:\n%s", log)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: door.test\r\n\r\n")
		eventually(t, "what is no TLS is told", func() bool { return d.service(service).TLS.Error == "tls: the client does not speak TLS" })
		_ = c.Close()
	}
}

// The door has no client's certificate to show, so that its own requests would be refused like any stranger's.
func TestClientTLS_AProbeSaysThatItHasNoCertificateAndWhatToDoInstead(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	dir := t.TempDir()
	cert, key := ca.Pair(dir, "door", "door.test")
	blue, green := httpSide(t, 'a'), httpSide(t, 'b')
	open, shut := freePort(t), freePort(t)
	text := "  %s: {mode: http, listen: %q, pools: {blue: [%q], green: [{name: g0, address: %q}]}, %s tls: {cert: %s, key: %s, client_cert: {mode: %s, ca: %s}}}\n"
	d := newDoor(t, "services:\n"+fmt.Sprintf(text, "shut", shut, blue.addr, green.addr, "preview: {token: secret1},", cert, key, "required", ca.File)+
		fmt.Sprintf(text, "bare", freePort(t), blue.addr, green.addr, "", cert, key, "required", ca.File)+
		fmt.Sprintf(text, "open", open, blue.addr, green.addr, "", cert, key, "optional", ca.File)).start()
	d.cli("probe", "shut/green/g0").wants(t, 1, "turnout: shut/green/g0 not asked: listeners of shut want a client's certificate (tls.client_cert), and the door has none to show",
		"nothing was sent, nothing has changed", "`turnout probe shut/green/g0 --checks` asks the servers themselves", "-H 'X-Turnout-Pool: green/g0' -H 'X-Turnout-Token: TOKEN'")
	d.cli("probe", "bare").wants(t, 1, "bare/blue not asked", "`preview.token`, which the service has not")
	d.must("probe", "shut/green", "--checks").wants(t, 0, "connect", "yes")
	d.must("probe", "open/green").wants(t, 0, "1 answered, 0 failed")
	if n := d.service("shut").TLS; n.Failed != 0 {
		t.Errorf("%d handshakes failed", n.Failed)
	}
	// What the hint says does go the whole way.
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client("door.test", ca.Load(ca.Pair(dir, "good", "good.test")))}}
	defer h.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+shut+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Turnout-Pool", "green/g0")
	r.Header.Set("X-Turnout-Token", "secret1")
	answer, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read from
	if answer.StatusCode != 200 || answer.Header.Get("X-Turnout-Server") != "g0" {
		t.Errorf("got %s of %q", answer.Status, answer.Header.Get("X-Turnout-Server"))
	}
}

// stall opens n connections and sends so much of a greeting on each; the rest never comes.
func stall(t *testing.T, address string, n int, greeting []byte) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(greeting); err != nil {
			t.Fatal(err)
		}
	}
}

// greets is what a client says first.
func greets(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() { _ = tls.Client(near, config).Handshake() }() // ends with Close
	defer near.Close()                                       //nolint:errcheck // it was read
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b[:n])
}

// As many greetings are begun as one likes, and more handshakes than there are goroutines for: 1,024 a loop.
func TestClientTLS_ThousandsWhoStallInTheHandshakeCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	cert, key := ca.Pair(t.TempDir(), "door", "door.test")
	a, b := httpSide(t, 'a'), httpSide(t, 'b')
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {blue: [%q], green: [%q]}, tls: {cert: %s, key: %s, handshake_timeout: 30m}}\n", listen, a.addr, b.addr, cert, key)).start()
	config := ca.Client("door.test")
	hello := greets(t, config)
	served := func(pool string) {
		t.Helper()
		for range 20 {
			if said, err := shakesHands(listen, config); err != nil || !strings.HasPrefix(said, "HTTP/1.1 200") {
				t.Fatalf("%s: got %q, %v", pool, said, err)
			}
		}
	}
	served("blue")
	before := d.resident()
	const begun, whole = 1000, 2500
	stall(t, listen, begun, hello[:100])
	served("blue")
	half := d.resident()
	stall(t, listen, whole, hello)
	served("blue")
	all := d.resident()
	d.must("swap", "svc", "green")
	served("green")
	t.Logf("resident: %.0f MiB, %.0f with %d greetings begun, %.0f with %d handshakes", before, half, begun, all, whole)
	if raced {
		return // its memory is another
	}
	if half-before > 8 || all-half > 120 {
		t.Errorf("%.0f MiB, with %d stalled greetings %.0f, and with %d handshakes %.0f", before, begun, half, whole, all)
	}
}

func TestClientTLS_ACertificateIsRenewedUnderLoadAndABadOneRefused(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	dir := t.TempDir()
	cert, key := ca.Pair(dir, "door", "door.test")
	toy := httpSide(t, 'a')
	listen := freePort(t)
	text := fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {p: [%q]}, tls: {cert: %s, key: %s}}\n", listen, toy.addr, cert, key)
	d := newDoor(t, text).start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type met struct {
		serial string
		err    error
	}
	seen := make(chan met)
	for range 4 {
		go func() { // ends with ctx
			for ctx.Err() == nil {
				c, err := tls.Dial("tcp", listen, ca.Client("door.test"))
				m := met{err: err}
				if err == nil {
					m.serial = c.ConnectionState().PeerCertificates[0].SerialNumber.String()
					_ = c.Close()
				}
				select {
				case seen <- m:
				case <-ctx.Done():
				}
			}
		}()
	}
	n := 0
	known := map[string]bool{}
	// meets waits until a certificate is shown that was not before; nobody may be refused meanwhile.
	meets := func() string {
		t.Helper()
		for end := time.After(patience); ; {
			select {
			case m := <-seen:
				if n++; m.err != nil {
					t.Fatalf("handshake %d: %v", n, m.err)
				}
				if !known[m.serial] {
					known[m.serial] = true
					return m.serial
				}
			case <-end:
				t.Fatal("the new certificate is not shown")
			}
		}
	}
	serial := meets()
	for range 3 {
		ca.Pair(dir, "door", "door.test")
		serial = meets()
	}
	// A key that is another's: what was there stays, and a reload is refused.
	wrong, _ := ca.Pair(t.TempDir(), "other", "door.test")
	other := strings.ReplaceAll(text, cert, wrong)
	d.write(other)
	d.cli("reload").wants(t, 1, "not reloaded: ", wrong, key, "private key does not match public key", "the file read last stays in force, revision 1")
	for range 4 { // what each has met before
		<-seen
	}
	for range 50 {
		if m := <-seen; m.err != nil || m.serial != serial {
			t.Fatalf("after a refused reload: %+v", m)
		}
	}
	var refused *api.Error
	if _, err := d.Client.Reload(ctx, api.ReloadRequest{}); !errors.As(err, &refused) || refused.Holds == "" {
		t.Errorf("got %v, which does not say what holds", err)
	}
	t.Logf("%d handshakes, 0 failed", n)
}

// wssSide is wsSide behind TLS.
func wssSide(t testing.TB, ca *certstest.Authority, name string) string {
	t.Helper()
	s := httptest.NewUnstartedServer(wsEcho(name))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), name, "127.0.0.1"))}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestClientTLS_WebSocketsWithTLSOnBothSidesThroughASwapAndItsDrain(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	cert, key := ca.Pair(t.TempDir(), "door", "door.test")
	blue, green := wssSide(t, ca, "b"), wssSide(t, ca, "g")
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  svc: {mode: http, listen: %q, pools: {blue: [%q], green: [%q]}, drain: {timeout: 1m}, tls: {cert: %s, key: %s}, server_tls: {ca: %s}}\n", listen, blue, green, cert, key, ca.File)).start()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client("door.test")}}
	defer h.CloseIdleConnections()
	open := func() *websocket.Conn {
		t.Helper()
		c, _, err := websocket.Dial(ctx, "wss://"+listen+"/chat", &websocket.DialOptions{HTTPClient: h})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(1 << 20)
		return c
	}
	says := func(c *websocket.Conn, side string) {
		t.Helper()
		for size := 1; size < 200_000; size *= 7 {
			message := bytes.Repeat([]byte{byte(size)}, size)
			if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.Read(ctx); err != nil || string(b[:1]) != side || !bytes.Equal(b[1:], message) {
				t.Fatalf("%d bytes came back as %d, %v; want them from %s", size, len(b), err, side)
			}
		}
	}
	var old [8]*websocket.Conn
	for i := range old {
		old[i] = open()
		says(old[i], "b")
	}
	d.swapTo("svc", "green")
	young := open()
	says(young, "g")
	for _, c := range old { // they are drained, and go on meanwhile
		says(c, "b")
	}
	d.cli("drain", "svc/blue", "--drain", "10ms").wants(t, 6, "cut")
	for _, c := range old {
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("at the deadline: got %v, want 1012", err)
		}
	}
	says(young, "g")
	if err := young.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

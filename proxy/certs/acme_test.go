package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// authority is pebble, the test server of Let's Encrypt, in this process. Every name leads to 127.0.0.1.
type authority struct {
	directory string
	root      string         // file: what its own HTTPS is checked by
	pool      *x509.CertPool // what it issues is checked by
	broken    atomic.Bool    // it answers 500
	orders    atomic.Int64
}

// authorityFor validates at the ports given; its certificates last for some seconds.
func authorityFor(t *testing.T, httpPort, tlsPort int, seconds uint64) *authority {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"} {
		t.Setenv(name, value)
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "short", ValidityPeriod: seconds}})
	validator := va.New(quiet, httpPort, tlsPort, false, nameServer(t), store)
	front := wfe.New(quiet, store, validator, issuer, []string{"example.org"}, false, false, 1, 1)
	a := &authority{pool: x509.NewCertPool()}
	handler := front.Handler()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.broken.Load():
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		case strings.Contains(r.URL.Path, "order-plz"):
			a.orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.directory, a.root = server.URL+"/dir", filepath.Join(t.TempDir(), "root.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	write(t, a.root, string(text))
	a.pool.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	return a
}

// nameServer answers every question with 127.0.0.1.
func nameServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }() // ends with the test
	t.Cleanup(func() { _ = s.Shutdown() })
	return l.Addr().String()
}

func (a *authority) client(host string) *tls.Config {
	return &tls.Config{RootCAs: a.pool, ServerName: host}
}

// spec asks the authority for hosts, by the one challenge.
func (a *authority) spec(by proxy.Challenge, hosts ...string) *proxy.TLSSpec {
	return &proxy.TLSSpec{ACME: proxy.ACMESpec{Hosts: hosts, Email: "ops@example.org", Directory: a.directory, Root: a.root, Challenges: []proxy.Challenge{by}}}
}

// free is a port that nobody listens on now.
func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	return l.Addr().(*net.TCPAddr).Port
}

func TestACME_ObtainsByHandshakeKeepsAndRenews(t *testing.T) {
	port, folder := free(t), t.TempDir()
	a := authorityFor(t, 1, port, 9) // renewed when a third of the nine seconds is left
	m := manage(t, a.spec(proxy.ChallengeALPN, "a.example.org", "b.example.org"), folder)
	m.serve(fmt.Sprint("127.0.0.1:", port))
	var first *x509.Certificate
	waitFor(t, "both certificates", func() bool {
		var errs [2]error
		first, errs[0] = m.shown(a.client("a.example.org"))
		_, errs[1] = m.shown(a.client("b.example.org"))
		return errs[0] == nil && errs[1] == nil
	})
	if got := m.mustShow(&tls.Config{InsecureSkipVerify: true}); !got.Equal(first) {
		t.Errorf("a client that names no host got %v", got.DNSNames)
	}
	if _, err := m.shown(a.client("c.example.org")); err == nil {
		t.Error("a host of nobody's was shown a certificate")
	}
	if _, err := m.shown(&tls.Config{RootCAs: a.pool, ServerName: "a.example.org", NextProtos: []string{"postgresql"}}); err != nil {
		t.Errorf("a protocol was offered to a service that negotiates none: %v", err)
	}
	if c := m.Certificates(); len(c) != 2 || c[0].NotAfter.IsZero() || c[0].Err != "" {
		t.Errorf("got %+v", c)
	}
	var renewed *x509.Certificate
	waitFor(t, "a renewal", func() bool {
		var err error
		renewed, err = m.shown(a.client("a.example.org"))
		return err == nil && !renewed.Equal(first)
	})

	// The next door over the same folder has it at once, also when the authority is out of order.
	a.broken.Store(true)
	m.Close()
	orders := a.orders.Load()
	again := manage(t, a.spec(proxy.ChallengeALPN, "a.example.org"), folder)
	config := a.client("a.example.org")
	config.Time = func() time.Time { return renewed.NotAfter.Add(-time.Second) } // however slow this machine is
	again.mustShow(config)
	if a.orders.Load() != orders {
		t.Error("it was ordered anew")
	}
}

func TestACME_ObtainsByHTTP(t *testing.T) {
	port := free(t)
	a := authorityFor(t, port, 1, 3600)
	m := manage(t, a.spec(proxy.ChallengeHTTP, "a.example.org"), t.TempDir())
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		if body, ok := m.Challenge(host, r.URL.Path); ok && strings.HasPrefix(r.URL.Path, certs.ChallengePrefix) {
			_, _ = io.WriteString(w, body)
			return
		}
		http.NotFound(w, r)
	})}
	go func() { _ = s.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = s.Close() })
	waitFor(t, "the certificate", func() bool { _, err := m.shown(a.client("a.example.org")); return err == nil })
	if _, ok := m.Challenge("a.example.org", certs.ChallengePrefix+"x"); ok {
		t.Error("a challenge that nobody made was answered")
	}
}

func TestACME_OnDemandObtainsForAllowedHostsOnly(t *testing.T) {
	port := free(t)
	a := authorityFor(t, 1, port, 3600)
	spec := a.spec(proxy.ChallengeALPN)
	spec.ACME.OnDemand = []string{"*.shop.example.org"}
	m := manage(t, spec, t.TempDir())
	m.serve(fmt.Sprint("127.0.0.1:", port))
	for _, host := range []string{"shop.example.org", "a.b.shop.example.org", "example.org"} {
		if _, err := m.shown(a.client(host)); err == nil || a.orders.Load() != 0 {
			t.Errorf("%s: got %v and %d orders", host, err, a.orders.Load())
		}
	}
	waitFor(t, "the certificate", func() bool { _, err := m.shown(a.client("a.shop.example.org")); return err == nil })
	if c := m.Certificates(); len(c) != 1 || c[0].Name != certs.OnDemandName || c[0].NotAfter.IsZero() {
		t.Errorf("got %+v", c)
	}
}

func TestACME_AnAuthorityThatFailsTakesNothingAway(t *testing.T) {
	own, dir := certstest.New(t), t.TempDir()
	a := authorityFor(t, 1, 1, 3600)
	a.broken.Store(true)
	spec := a.spec(proxy.ChallengeALPN, "new.example.org")
	spec.Certs = []proxy.CertSpec{pair(own.Pair(dir, "site", "old.example.org"))}
	m := manage(t, spec, t.TempDir())
	m.mustShow(own.Client("old.example.org"))
	waitFor(t, "the log", func() bool { return m.logs.FilterMessageSnippet("certificate not obtained").Len() > 0 })
	for _, c := range m.Certificates() {
		if obtained := c.Name == "new.example.org"; obtained != (c.Err != "") || obtained != c.NotAfter.IsZero() {
			t.Errorf("got %+v", c)
		}
	}
	if m.Failures("svc") == 0 {
		t.Error("no failure was counted")
	}
	entry := m.logs.FilterMessageSnippet("certificate not obtained").All()[0].ContextMap()
	if entry["host"] != "new.example.org" || !strings.Contains(fmt.Sprint(entry["holds"]), "there is none") {
		t.Errorf("got %v", entry)
	}
	m.mustShow(own.Client("old.example.org"))
	// An authority that cannot be reached at all, at a start: the same.
	spec.ACME.Directory = "https://127.0.0.1:1/dir"
	if err := m.put(spec); err != nil {
		t.Fatal(err)
	}
	m.mustShow(own.Client("old.example.org"))
}

func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} { // nothing here may leave this machine
		_ = os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

package certs_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

func pair(cert, key string) proxy.CertSpec { return proxy.CertSpec{Cert: cert, Key: key} }

func TestFiles_EachHostGetsTheCertificateThatFits(t *testing.T) {
	ca, dir := certstest.New(t), t.TempDir()
	m := manage(t, &proxy.TLSSpec{MinVersion: tls.VersionTLS12, Certs: []proxy.CertSpec{
		pair(ca.Pair(dir, "first", "a.example.org")), pair(ca.Pair(dir, "wild", "*.example.org")), pair(ca.Pair(dir, "ip", "127.0.0.1"))}}, "")
	for host, want := range map[string]string{"a.example.org": "first", "A.Example.Org": "first", "b.example.org": "wild", "": "first", "a.b.example.org": "first", "example.org": "first", "else.net": "first"} {
		config := ca.Client(host)
		config.InsecureSkipVerify = true // who names a host that nobody knows is shown the first
		if got := m.mustShow(config).Subject.CommonName; got != want {
			t.Errorf("%q: got %s, want %s", host, got, want)
		}
	}
	if _, err := m.shown(&tls.Config{RootCAs: ca.Pool, ServerName: "a.example.org", MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if _, err := m.shown(&tls.Config{RootCAs: ca.Pool, ServerName: "a.example.org", NextProtos: []string{"postgresql"}}); err != nil {
		t.Errorf("a protocol was offered to a service that negotiates none: %v", err)
	}
}

func TestFiles_AreReadAgainWhenTheyChange(t *testing.T) {
	ca, dir := certstest.New(t), t.TempDir()
	cert, key := ca.Pair(dir, "site", "a.example.org")
	m := manageLooking(t, &proxy.TLSSpec{Certs: []proxy.CertSpec{pair(cert, key)}}, "", time.Hour)
	old := m.mustShow(ca.Client("a.example.org"))
	newCert, newKey := ca.Pair(t.TempDir(), "site", "a.example.org")
	copyFile(t, newCert, cert)
	m.Look() // the moment between the two files
	if !m.mustShow(ca.Client("a.example.org")).Equal(old) {
		t.Error("half a pair is shown")
	}
	copyFile(t, newKey, key)
	m.Look()
	if m.mustShow(ca.Client("a.example.org")).Equal(old) {
		t.Error("the old certificate is still shown")
	}
	if n := m.logs.FilterMessageSnippet("cannot be used").Len(); n != 0 {
		t.Errorf("the moment between the two files was told %d times", n)
	}
}

func TestFiles_ABadNewOneKeepsTheOldAndSaysSo(t *testing.T) {
	ca, dir := certstest.New(t), t.TempDir()
	cert, key := ca.Pair(dir, "site", "a.example.org")
	spec := &proxy.TLSSpec{Certs: []proxy.CertSpec{pair(cert, key)}}
	m := manageLooking(t, spec, "", time.Hour) // else a look might meet a file that is half written
	old := m.mustShow(ca.Client("a.example.org"))
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}

	write(t, key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IG9mIHRoZSBkb29y\n-----END PRIVATE KEY-----\n")
	m.Look()
	m.Look()
	if n := m.logs.FilterMessageSnippet("what was read before stays in use").Len(); n != 1 {
		t.Errorf("after two looks it was told %d times", n)
	}
	if !m.mustShow(ca.Client("a.example.org")).Equal(old) {
		t.Error("the old certificate is gone")
	}
	if c := m.Certificates(); len(c) != 1 || c[0].Err == "" || c[0].NotAfter.IsZero() {
		t.Errorf("got %+v", c)
	}
	err = m.put(spec)
	if err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("a reload with a bad key: got %v", err)
	}
	for _, entry := range m.logs.All() {
		if text := entry.Message + entry.ContextMap()["service"].(string); strings.Contains(text, "c2Vj") {
			t.Errorf("the key is in the log: %s", text)
		}
	}

	write(t, key, string(good))
	m.Look()
	if got := m.Certificates()[0].Err; got != "" {
		t.Errorf("a good one is back, and still there is %s", got)
	}
	if n := m.logs.FilterMessageSnippet("stays in use").Len(); n != 1 {
		t.Errorf("one mistake was told %d times", n)
	}
}

func TestPrepare_TellsEachBadFileAndChangesNothing(t *testing.T) {
	ca, dir := certstest.New(t), t.TempDir()
	cert, key := ca.Pair(dir, "site", "a.example.org")
	_, other := ca.Pair(dir, "other", "b.example.org")
	m := manage(t, &proxy.TLSSpec{Certs: []proxy.CertSpec{pair(cert, key)}}, "")
	missing, empty := filepath.Join(dir, "missing.pem"), filepath.Join(dir, "empty.pem")
	write(t, empty, "")
	bad := &proxy.TLSSpec{
		Certs:      []proxy.CertSpec{pair(missing, key), pair(cert, missing), pair(cert, other), pair(empty, key), pair(key, cert)},
		ClientCert: proxy.ClientCertSpec{Mode: proxy.ClientCertRequired, CA: empty},
		ACME:       proxy.ACMESpec{Root: missing},
	}
	err := m.put(bad)
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"certificate not read: open " + missing, "key of the certificate " + cert + " not read", cert + " with the key " + other + ": tls: private key does not match",
		"certificate " + empty + " with the key", "certificate " + key + " with the key " + cert, "authorities " + empty + ": no certificate in it", "authorities not read: open " + missing} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if errs := certs.Check(&proxy.Spec{Services: []proxy.ServiceSpec{{TLS: bad}, {}}}); len(errs) != 7 {
		t.Errorf("Check: got %d: %v", len(errs), errs)
	}
	m.mustShow(ca.Client("a.example.org"))
	if err := m.put(nil); err != nil || m.Server("svc") != nil || len(m.Certificates()) != 0 {
		t.Errorf("without tls: got %v", err)
	}
}

func TestClientCert_IsAskedForAsTheFileSays(t *testing.T) {
	ca, stranger, dir := certstest.New(t), certstest.New(t), t.TempDir()
	site := pair(ca.Pair(dir, "site", "a.example.org"))
	good, bad := ca.Load(ca.Pair(dir, "good")), stranger.Load(stranger.Pair(dir, "bad"))
	spec := func(mode proxy.ClientAuth, file string) *proxy.TLSSpec {
		return &proxy.TLSSpec{Certs: []proxy.CertSpec{site}, ClientCert: proxy.ClientCertSpec{Mode: mode, CA: file}}
	}
	m := manage(t, spec(proxy.ClientCertRequired, ca.File), "")
	// A client of its own accord shows none that the server's authorities did not issue; this one insists.
	insisting := ca.Client("a.example.org")
	insisting.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &bad, nil }
	for _, c := range []struct {
		what   string
		mode   proxy.ClientAuth
		config *tls.Config
		taken  bool
	}{
		{"none", proxy.ClientCertRequired, ca.Client("a.example.org"), false},
		{"good", proxy.ClientCertRequired, ca.Client("a.example.org", good), true},
		{"a stranger's", proxy.ClientCertRequired, insisting, false},
		{"none", proxy.ClientCertOptional, ca.Client("a.example.org"), true},
		{"good", proxy.ClientCertOptional, ca.Client("a.example.org", good), true},
		{"a stranger's", proxy.ClientCertOptional, insisting, false},
		{"a stranger's", proxy.ClientCertOff, insisting, true},
	} {
		if err := m.put(spec(c.mode, ca.File)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.shown(c.config); (err == nil) != c.taken {
			t.Errorf("%s, %s: got %v", c.mode, c.what, err)
		}
	}
	// Other authorities in the same file hold from the next handshake on, also for those who have a ticket.
	own := filepath.Join(dir, "own.pem")
	move := func(from string) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, own, string(text))
	}
	move(ca.File)
	if err := m.put(spec(proxy.ClientCertRequired, own)); err != nil {
		t.Fatal(err)
	}
	config := ca.Client("a.example.org", good)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	m.mustShow(config)
	move(stranger.File)
	waitFor(t, "the new authorities", func() bool { _, err := m.shown(config); return err != nil })
}

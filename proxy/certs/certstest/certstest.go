// Package certstest makes certificates for tests: an authority of the test's own, and what it issues.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates.
type Authority struct {
	Pool *x509.CertPool // trusts it
	File string         // its own certificate, in PEM

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority whose files go with the test.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, File: filepath.Join(t.TempDir(), "ca.pem"), Pool: x509.NewCertPool()}
	der, key := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(24 * time.Hour)})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	a.Pool.AddCert(cert)
	a.write(a.File, "CERTIFICATE", der)
	return a
}

// issue signs a certificate with the authority's key, or, for its own, with the new one.
func (a *Authority) issue(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// Pair issues a certificate for hosts (names or IP addresses), for servers and clients alike, and writes it and its
// key to name.pem and name.key in folder. Both files are replaced by a rename each, the certificate first.
func (a *Authority) Pair(folder, name string, hosts ...string) (cert, key string) {
	a.t.Helper()
	return a.PairUntil(time.Now().Add(12*time.Hour), folder, name, hosts...)
}

// PairUntil is Pair with an end of the certificate's time, which may be past.
func (a *Authority) PairUntil(end time.Time, folder, name string, hosts ...string) (cert, key string) {
	a.t.Helper()
	return a.PairBetween(time.Time{}, end, folder, name, hosts...)
}

// PairBetween is PairUntil with a begin of the certificate's time, which may be to come; zero: an hour ago.
func (a *Authority) PairBetween(begin, end time.Time, folder, name string, hosts ...string) (cert, key string) {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, private := a.issue(template)
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(folder, name+".pem"), filepath.Join(folder, name+".key")
	a.write(cert, "CERTIFICATE", der)
	a.write(key, "PRIVATE KEY", text)
	return cert, key
}

func (a *Authority) write(path, kind string, der []byte) {
	a.t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatal(err)
	}
}

// Client is a configuration that trusts the authority and asks for a host. Of the certificates given, it shows the
// first.
func (a *Authority) Client(host string, own ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: a.Pool, ServerName: host, Certificates: own}
}

// Load reads what Pair wrote.
func (a *Authority) Load(cert, key string) tls.Certificate {
	a.t.Helper()
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

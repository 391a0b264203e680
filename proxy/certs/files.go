package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// files is what the files of one service hold.
type files struct {
	stamp  stamp // taken before they were read
	certs  []*tls.Certificate
	byName map[string][]*tls.Certificate // lower case; *.name for one label
	client *x509.CertPool                // nil: clients are not asked
	ca     []byte                        // what client was made of
	roots  *x509.CertPool                // of the authority's own server; nil: the system's
}

// stamp tells whether files have changed since, without reading them.
type stamp string

func stampOf(spec *proxy.TLSSpec) stamp {
	var b strings.Builder
	for _, path := range paths(spec) {
		info, err := os.Stat(path) // of what a link leads to
		if err != nil {
			fmt.Fprintf(&b, "%v|", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d|", info.ModTime().UnixNano(), info.Size())
	}
	return stamp(b.String())
}

func paths(spec *proxy.TLSSpec) []string {
	var all []string
	for _, c := range spec.Certs {
		all = append(all, c.Cert, c.Key)
	}
	for _, path := range []string{spec.ClientCert.CA, spec.ACME.Root} {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}

// readFiles reads all files of a service, or says what is wrong with each. No error repeats anything of a key.
func readFiles(spec *proxy.TLSSpec) (*files, []error) {
	f := &files{stamp: stampOf(spec), byName: map[string][]*tls.Certificate{}}
	var errs []error
	for _, c := range spec.Certs {
		cert, err := readPair(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.certs = append(f.certs, cert)
		for _, name := range namesOf(cert.Leaf) {
			f.byName[name] = append(f.byName[name], cert)
		}
	}
	var err error
	if spec.ClientCert.Mode != proxy.ClientCertOff && spec.ClientCert.CA != "" {
		if f.client, f.ca, err = readPool(spec.ClientCert.CA); err != nil {
			errs = append(errs, err)
		}
	}
	if spec.ACME.Root != "" {
		if f.roots, _, err = readPool(spec.ACME.Root); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return f, nil
}

func readPair(c proxy.CertSpec) (*tls.Certificate, error) {
	chain, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("certificate not read: %w", err)
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("key of the certificate %s not read: %w", c.Cert, err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with the key %s: %w", c.Cert, c.Key, err)
	}
	return &cert, nil
}

func readPool(path string) (*x509.CertPool, []byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("authorities not read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("authorities %s: no certificate in it: want one or more, in PEM", path)
	}
	return pool, text, nil
}

// namesOf gives the hosts that a certificate is for.
func namesOf(leaf *x509.Certificate) []string {
	var names []string
	for _, name := range leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// sameAs tells whether both hold the same.
func (f *files) sameAs(g *files) bool {
	if len(f.certs) != len(g.certs) || !bytes.Equal(f.ca, g.ca) {
		return false
	}
	for i := range f.certs {
		if !f.certs[i].Leaf.Equal(g.certs[i].Leaf) {
			return false
		}
	}
	return true
}

// fit finds a certificate for a host; nil: there is none.
func (f *files) fit(host string, hello *tls.ClientHelloInfo) *tls.Certificate {
	list := f.byName[host]
	if len(list) == 0 {
		if _, rest, ok := strings.Cut(host, "."); ok {
			list = f.byName["*."+rest]
		}
	}
	for _, cert := range list {
		if len(list) == 1 || hello.SupportsCertificate(cert) == nil { // of an RSA and an ECDSA one, what the client can use
			return cert
		}
	}
	if len(list) > 0 {
		return list[0]
	}
	return nil
}

// first is the certificate for clients that name no host, or one that nobody knows.
func (f *files) first() *tls.Certificate {
	if len(f.certs) == 0 {
		return nil
	}
	return f.certs[0]
}

// expiry of each certificate by its first name.
func (f *files) expiry(spec *proxy.TLSSpec, each func(name string, notAfter time.Time)) {
	for i, cert := range f.certs {
		name := spec.Certs[i].Cert
		if names := namesOf(cert.Leaf); len(names) > 0 {
			name = names[0]
		}
		each(name, cert.Leaf.NotAfter)
	}
}

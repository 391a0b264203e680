package certs

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
)

// identity is what one service shows its clients. It lives as long as the service's TLSSpec stays the same.
type identity struct {
	service string
	spec    *proxy.TLSSpec
	log     *zap.Logger
	acme    *acme // nil: certificates from files only

	// files and config are replaced whole. Invariant: config was made for files.client; a change of the other files
	// needs no new config, so that clients' session tickets stay good.
	files  atomic.Pointer[files]
	config atomic.Pointer[tls.Config]

	mu     sync.Mutex
	failed int    // looks in a row at which changed files could not be read
	err    string // what was told about it; empty: they are good
}

func (m *Manager) newIdentity(service string, spec *proxy.TLSSpec, f *files) *identity {
	id := &identity{service: service, spec: spec, log: m.opt.Log.With(zap.String("service", service))}
	id.files.Store(f)
	if len(spec.ACME.Hosts)+len(spec.ACME.OnDemand) > 0 {
		id.acme = m.newACME(id, f.roots)
	}
	id.config.Store(id.newConfig(f))
	for _, cert := range f.certs {
		if until := time.Until(cert.Leaf.NotAfter); until < 0 {
			id.log.Warn("certificate has expired", zap.Strings("hosts", cert.Leaf.DNSNames), zap.Time("not_after", cert.Leaf.NotAfter))
		}
	}
	return id
}

func (id *identity) newConfig(f *files) *tls.Config {
	c := &tls.Config{
		MinVersion:     id.spec.MinVersion,
		NextProtos:     id.spec.ALPN,
		GetCertificate: id.certificate,
		ClientCAs:      f.client,
		// A record of one packet at first would cost a third of the throughput, for a gain that only a browser sees.
		DynamicRecordSizingDisabled: true,
	}
	if f.client != nil {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if id.spec.ClientCert.Mode == proxy.ClientCertOptional {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	if id.acme != nil && slices.Contains(id.spec.ACME.Challenges, proxy.ChallengeALPN) {
		// The authority offers this protocol and no other, and shows no certificate (RFC 8737 3). Other clients must
		// not meet it: with it in their configuration, those that offer anything else would be refused.
		challenge := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acmez.ACMETLS1Protocol}, GetCertificate: id.acme.challenge}
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if isChallenge(hello) {
				return challenge, nil
			}
			return nil, nil
		}
	}
	return c
}

func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol
}

// certificate chooses for one handshake.
func (id *identity) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	f := id.files.Load()
	if cert := f.fit(host, hello); cert != nil {
		return cert, nil
	}
	err := fmt.Errorf("no certificate for %q", host)
	if id.acme != nil {
		var cert *tls.Certificate
		if cert, err = id.acme.certificate(host, hello); err == nil {
			return cert, nil
		}
	}
	if cert := f.first(); cert != nil {
		return cert, nil
	}
	return nil, err
}

// has tells whether there is, or may be, a certificate for the host.
func (id *identity) has(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	f := id.files.Load()
	if len(f.byName[host]) > 0 {
		return true
	}
	if _, rest, ok := strings.Cut(host, "."); ok && len(f.byName["*."+rest]) > 0 {
		return true
	}
	return slices.Contains(id.spec.ACME.Hosts, host) || allowed(id.spec.ACME.OnDemand, host)
}

// use puts files in force that were read.
func (id *identity) use(f *files) {
	id.mu.Lock()
	defer id.mu.Unlock()
	old := id.files.Swap(f)
	if string(old.ca) != string(f.ca) {
		id.config.Store(id.newConfig(f))
	}
	if !old.sameAs(f) {
		f.expiry(id.spec, func(name string, notAfter time.Time) {
			id.log.Info("certificate read", zap.String("host", name), zap.Time("not_after", notAfter))
		})
	}
	if id.err != "" {
		id.log.Info("certificate files are good again")
	}
	id.failed, id.err = 0, ""
}

// look reads the files again if they have changed. What is bad at two looks in a row is told: at one look, a new
// certificate may be there and its key be still to come.
func (id *identity) look() {
	if stampOf(id.spec) == id.files.Load().stamp {
		id.mu.Lock()
		id.failed, id.err = 0, "" // the old ones were put back
		id.mu.Unlock()
		return
	}
	f, errs := readFiles(id.spec)
	if errs == nil {
		id.use(f)
		return
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.failed++
	if err := errs[0].Error(); id.failed >= 2 && err != id.err {
		id.err = err
		id.log.Error("changed certificate files cannot be used; what was read before stays in use", zap.Errors("errors", errs))
	}
}

func (id *identity) certificates() []Certificate {
	id.mu.Lock()
	failure := id.err
	id.mu.Unlock()
	var all []Certificate
	id.files.Load().expiry(id.spec, func(name string, notAfter time.Time) {
		all = append(all, Certificate{id.service, name, notAfter, failure})
	})
	if id.acme != nil {
		all = append(all, id.acme.certificates()...)
	}
	return all
}

// manage begins to obtain and renew.
func (id *identity) manage() {
	if id.acme != nil {
		id.acme.manage()
	}
}

func (id *identity) close() {
	if id.acme != nil {
		id.acme.close()
	}
}

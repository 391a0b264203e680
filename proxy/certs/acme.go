package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/turnout-proxy/turnout/proxy"
)

// acme obtains and renews the certificates of one service.
type acme struct {
	id       *identity
	cache    *certmagic.Cache
	eager    *certmagic.Config // for the hosts of the file
	lazy     *certmagic.Config // for those that are allowed on demand; certmagic has one or the other in a Config
	ctx      context.Context   // done when the identity is no longer in use
	cancel   context.CancelFunc
	closed   sync.Once
	failures atomic.Uint64

	mu     sync.Mutex
	errs   map[string]string // host → why its latest attempt failed
	demand map[string]bool   // hosts that were obtained on demand
}

func (m *Manager) newACME(id *identity, roots *x509.CertPool) *acme {
	a := &acme{id: id, errs: map[string]string{}, demand: map[string]bool{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	log := id.log.Named("acme")
	if !log.Core().Enabled(zapcore.DebugLevel) {
		log = zap.NewNop() // what an operator needs of it, event tells
	}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(c certmagic.Certificate) (*certmagic.Config, error) {
			if len(c.Names) > 0 && !slices.Contains(id.spec.ACME.Hosts, c.Names[0]) {
				return a.lazy, nil
			}
			return a.eager, nil
		},
		RenewCheckInterval: m.opt.RenewEvery, Logger: log, Capacity: 10_000,
	})
	a.eager = m.newConfig(a, log, roots, nil)
	a.lazy = m.newConfig(a, log, roots, &certmagic.OnDemandConfig{DecisionFunc: func(_ context.Context, name string) error {
		if !allowed(id.spec.ACME.OnDemand, name) {
			return fmt.Errorf("%s is not among on_demand", name)
		}
		return nil
	}})
	for _, host := range id.spec.ACME.Hosts { // what is there is used from the first handshake on
		_, _ = a.eager.CacheManagedCertificate(a.ctx, host) // what is not there, manage obtains
	}
	return a
}

func (m *Manager) newConfig(a *acme, log *zap.Logger, roots *x509.CertPool, demand *certmagic.OnDemandConfig) *certmagic.Config {
	spec := a.id.spec.ACME
	c := certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: m.opt.Folder}, OnDemand: demand, OnEvent: a.event, Logger: log,
	})
	parked := m.parking.port(a.id.log)
	c.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(c, certmagic.ACMEIssuer{
		CA: spec.Directory, Email: spec.Email, Agreed: true, TrustedRoots: roots, Logger: log,
		DisableHTTPChallenge:    !slices.Contains(spec.Challenges, proxy.ChallengeHTTP),
		DisableTLSALPNChallenge: !slices.Contains(spec.Challenges, proxy.ChallengeALPN),
		// Our listeners answer, from memory: see parking.
		DisableDistributedSolvers: true, ListenHost: parkingHost, AltHTTPPort: parked, AltTLSALPNPort: parked,
	})}
	return c
}

// allowed tells whether a list has the name, or *.rest for its last labels.
func allowed(list []string, name string) bool {
	if slices.Contains(list, name) {
		return true
	}
	_, rest, ok := strings.Cut(name, ".")
	return ok && slices.Contains(list, "*."+rest)
}

// manage begins to obtain what is not there and to renew what is, and returns at once.
func (a *acme) manage() {
	if len(a.id.spec.ACME.Hosts) == 0 {
		return
	}
	if err := a.eager.ManageAsync(a.ctx, a.id.spec.ACME.Hosts); err != nil {
		a.failed(strings.Join(a.id.spec.ACME.Hosts, ", "), err.Error())
	}
}

func (a *acme) close() {
	a.closed.Do(func() {
		a.cancel()
		go a.cache.Stop() // ends when its maintenance has, which may be talking to an authority
	})
}

// certificate gives the one for a host. It is in memory or in the folder; only for a host that is allowed on
// demand it may have to be obtained first.
func (a *acme) certificate(host string, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	hosts := a.id.spec.ACME.Hosts
	if host == "" && len(hosts) > 0 {
		named := *hello
		named.ServerName, host = hosts[0], hosts[0]
		hello = &named
	}
	switch {
	case slices.Contains(hosts, host):
		return a.eager.GetCertificate(hello)
	case allowed(a.id.spec.ACME.OnDemand, host):
		if c, ok := hello.Conn.(interface{ Pause() (resume func()) }); ok { // it may take as long as the authority does
			defer c.Pause()()
		}
		return a.lazy.GetCertificate(hello)
	}
	return nil, fmt.Errorf("no certificate for %q", host)
}

// challenge answers an authority's handshake (RFC 8737).
func (a *acme) challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.eager.GetCertificate(hello)
}

// event is told by certmagic what happens.
func (a *acme) event(_ context.Context, event string, data map[string]any) error {
	host, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtained":
		a.mu.Lock()
		delete(a.errs, host)
		if !slices.Contains(a.id.spec.ACME.Hosts, host) {
			a.demand[host] = true
		}
		a.mu.Unlock()
		a.id.log.Info("certificate obtained", zap.String("host", host), zap.Bool("renewal", renewal))
	case "cert_failed":
		err, _ := data["error"].(error)
		a.failed(host, fmt.Sprint(err))
	}
	return nil
}

func (a *acme) failed(host, why string) {
	a.failures.Add(1)
	a.mu.Lock()
	a.errs[host] = why
	a.mu.Unlock()
	holds := "there is none, and handshakes for this host fail"
	if until := a.notAfter(host); !until.IsZero() {
		holds = "the one from before stays in use until " + until.Format(time.RFC3339)
	}
	a.id.log.Error("certificate not obtained; it will be tried again", zap.String("host", host), zap.String("error", why), zap.String("holds", holds))
}

// notAfter is the end of the certificate for a host; zero: there is none.
func (a *acme) notAfter(host string) time.Time {
	var last time.Time
	for _, c := range a.cache.AllMatchingCertificates(host) {
		if c.Leaf != nil && c.Leaf.NotAfter.After(last) {
			last = c.Leaf.NotAfter
		}
	}
	return last
}

func (a *acme) certificates() []Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Certificate
	for _, host := range a.id.spec.ACME.Hosts {
		all = append(all, Certificate{a.id.service, host, a.notAfter(host), a.errs[host]})
	}
	if len(a.id.spec.ACME.OnDemand) == 0 {
		return all
	}
	demand := Certificate{Service: a.id.service, Name: OnDemandName}
	for host := range a.demand {
		if until := a.notAfter(host); !until.IsZero() && (demand.NotAfter.IsZero() || until.Before(demand.NotAfter)) {
			demand.NotAfter = until
		}
	}
	return append(all, demand)
}

// Challenge answers an authority that asks, at http://host/path, whether the host is ours (RFC 8555 8.3). The body is
// text/plain. It need only be asked for paths that begin with ChallengePrefix.
func (m *Manager) Challenge(host, path string) (body string, ok bool) {
	c, ok := certmagic.GetACMEChallenge(strings.ToLower(host))
	if !ok || path != c.HTTP01ResourcePath() {
		return "", false
	}
	return c.KeyAuthorization, true
}

// ChallengePrefix is where authorities ask.
const ChallengePrefix = "/.well-known/acme-challenge/"

// parking is a listener that serves nobody. certmagic opens a listener for each challenge, unless somebody listens
// at that address already: then it trusts that the challenge is answered there. Ours are answered at the service's own
// listeners, whose addresses may be no port (unix:, systemd:); so what it finds taken is this.
type parking struct {
	mu sync.Mutex
	l  net.Listener
}

const parkingHost = "127.0.0.1"

func (p *parking) port(log *zap.Logger) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l == nil {
		l, err := net.Listen("tcp", net.JoinHostPort(parkingHost, "0"))
		if err != nil {
			log.Error("no certificate can be obtained: no port free on "+parkingHost, zap.Error(err))
			return 1 // cannot be listened on either: each attempt fails and says so
		}
		p.l = l
		go func() { // ends with close
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
	}
	return p.l.Addr().(*net.TCPAddr).Port
}

func (p *parking) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l != nil {
		_ = p.l.Close()
	}
}

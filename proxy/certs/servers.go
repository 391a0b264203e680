package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
)

// resumable is how many sessions with servers are kept for a quicker handshake, of each service.
const resumable = 256

// toServers is how the door meets the servers of one service. It lives as long as the service's ServerTLSSpec and mode
// stay the same.
type toServers struct {
	service string
	spec    *proxy.ServerTLSSpec
	mode    proxy.Mode
	log     *zap.Logger
	config  atomic.Pointer[tls.Config] // without ServerName

	mu     sync.Mutex
	stamp  stamp // of the files that config was made of
	failed int   // looks in a row at which changed files could not be read
	told   bool
}

// readServers reads the files of a service, and makes of them what its servers are met with.
func readServers(spec *proxy.ServerTLSSpec, mode proxy.Mode) (*tls.Config, stamp, error) {
	at := stampOfServers(spec)
	c := &tls.Config{MinVersion: spec.MinVersion, InsecureSkipVerify: spec.Insecure, ClientSessionCache: tls.NewLRUClientSessionCache(resumable), DynamicRecordSizingDisabled: true} //nolint:gosec // asked for
	if mode == proxy.HTTP {
		c.NextProtos = []string{"http/1.1"}
	}
	if spec.CA != "" {
		var pool *x509.CertPool
		pool, _, err := readPool(spec.CA)
		if err != nil {
			return nil, at, fmt.Errorf("server_tls: %w", err)
		}
		c.RootCAs = pool
	}
	if spec.Cert != "" {
		pair, err := readPair(proxy.CertSpec{Cert: spec.Cert, Key: spec.Key})
		if err != nil {
			return nil, at, fmt.Errorf("server_tls: %w", err)
		}
		c.Certificates = []tls.Certificate{*pair}
	}
	return c, at, nil
}

func stampOfServers(spec *proxy.ServerTLSSpec) stamp {
	var b strings.Builder
	for _, path := range []string{spec.CA, spec.Cert, spec.Key} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%v|", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d|", info.ModTime().UnixNano(), info.Size())
	}
	return stamp(b.String())
}

// use puts in force what was read. Sessions from before are not resumed: they were proven otherwise.
func (t *toServers) use(c *tls.Config, at stamp) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stamp != at || t.config.Load() == nil {
		t.config.Store(c)
	}
	t.stamp, t.failed, t.told = at, 0, false
}

// look reads the files again if they have changed; see identity.look.
func (t *toServers) look() {
	t.mu.Lock()
	same := stampOfServers(t.spec) == t.stamp
	t.mu.Unlock()
	if same {
		return
	}
	c, at, err := readServers(t.spec, t.mode)
	if err == nil {
		t.use(c, at)
		t.log.Info("files of server_tls read")
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed++; t.failed >= 2 && !t.told {
		t.told = true
		t.log.Error("changed files of server_tls cannot be used; what was read before stays in use", zap.Error(err))
	}
}

// sessionsWith are a service's sessions with one server. crypto/tls knows servers by the name that they prove, which all
// of a service may have in common: then each would be offered the session of whichever was met last.
type sessionsWith struct {
	all     tls.ClientSessionCache
	address string
}

func (s sessionsWith) Get(name string) (*tls.ClientSessionState, bool) {
	return s.all.Get(s.address + " " + name)
}

func (s sessionsWith) Put(name string, state *tls.ClientSessionState) {
	s.all.Put(s.address+" "+name, state)
}

// ToServer is the TLS configuration for a server of a service, by its address; nil: it is spoken to without.
func (m *Manager) ToServer(service, address string) *tls.Config {
	t := (*m.servers.Load())[service]
	if t == nil {
		return nil
	}
	c := t.config.Load().Clone()
	c.ClientSessionCache = sessionsWith{c.ClientSessionCache, address}
	if c.ServerName = t.spec.ServerName; c.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			c.ServerName, _, _ = strings.Cut(host, "%") // without the zone of a link-local address
		}
	}
	return c
}

package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
)

// managed is a Manager whose service "svc" a TLS server shows.
type managed struct {
	*certs.Manager
	t    *testing.T
	logs *observer.ObservedLogs
	addr string
}

func manage(t *testing.T, spec *proxy.TLSSpec, folder string) *managed {
	t.Helper()
	return manageLooking(t, spec, folder, 5*time.Millisecond)
}

// manageLooking is manage with files that are looked at so often.
func manageLooking(t *testing.T, spec *proxy.TLSSpec, folder string, every time.Duration) *managed {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	m := &managed{t: t, logs: logs, Manager: certs.New(certs.Options{Folder: folder, Log: zap.New(core), LookEvery: every, RenewEvery: 50 * time.Millisecond})}
	t.Cleanup(m.Close)
	if err := m.put(spec); err != nil {
		t.Fatal(err)
	}
	m.addr = m.serve("127.0.0.1:0")
	return m
}

// put brings a specification into force, as a reload does.
func (m *managed) put(spec *proxy.TLSSpec) error {
	m.t.Helper()
	p, err := m.Prepare(snapshot(m.t, spec))
	if err != nil {
		return err
	}
	p.Commit()
	return nil
}

// snapshot has one service "svc" with the TLS given.
func snapshot(t *testing.T, spec *proxy.TLSSpec) *proxy.Snapshot {
	t.Helper()
	return proxy.New(&proxy.Spec{Services: []proxy.ServiceSpec{{
		Name: "svc", Mode: proxy.TCP, TLS: spec, Active: "p",
		Pools: []proxy.PoolSpec{{Name: "p", Servers: []proxy.ServerSpec{{Name: "s", Address: "127.0.0.1:1", Weight: 1}}}},
	}}}, &proxy.Memory{}, proxy.Options{Loops: 1}).Current()
}

// serve shows what the Manager has at the moment to each client.
func (m *managed) serve(address string) string {
	m.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the test
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // a test's
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if s := tls.Server(c, m.Server("svc")); s.Handshake() == nil {
					_, _ = s.Write([]byte("hello"))
					_ = s.Close()
				}
			}()
		}
	}()
	return l.Addr().String()
}

// shown is the certificate that a client gets.
func (m *managed) shown(config *tls.Config) (*x509.Certificate, error) {
	m.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", m.addr, config)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // a test's
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 5)); err != nil { // a refused client certificate shows here
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func (m *managed) mustShow(config *tls.Config) *x509.Certificate {
	m.t.Helper()
	cert, err := m.shown(config)
	if err != nil {
		m.t.Fatalf("%s: %v", config.ServerName, err)
	}
	return cert
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

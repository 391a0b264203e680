package certs_test

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// facing makes a snapshot whose one service speaks TLS with its servers.
func facing(t *testing.T, s proxy.ServerTLSSpec) *proxy.Snapshot {
	t.Helper()
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{{Name: "svc", Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: "127.0.0.1:0"}},
		Pools: []proxy.PoolSpec{{Name: "p", Servers: []proxy.ServerSpec{{Name: "s", Address: "127.0.0.1:1", Weight: 1}}}}, Active: "p", ServerTLS: &s}}}
	return proxy.New(spec, &proxy.Memory{}, proxy.Options{Loops: 1}).Current()
}

func TestToServer_FilesAreReadAgainWhenTheyChangeAndBadOnesKeepTheOld(t *testing.T) {
	old, next := certstest.New(t), certstest.New(t)
	folder := t.TempDir()
	cert, key := next.Pair(folder, "s", "127.0.0.1")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).Handshake()
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}()
		}
	}()
	roots := folder + "/roots.pem"
	copyFile(t, old.File, roots)
	m := certs.New(certs.Options{Folder: t.TempDir(), Log: zap.NewNop(), LookEvery: time.Hour})
	defer m.Close()
	snap := facing(t, proxy.ServerTLSSpec{CA: roots, MinVersion: tls.VersionTLS12})
	p, err := m.Prepare(snap)
	if err != nil {
		t.Fatal(err)
	}
	p.Commit()
	meets := func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // a test's
		return tls.Client(c, m.ToServer("svc", l.Addr().String())).Handshake()
	}
	if err := meets(); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("before: %v", err)
	}
	copyFile(t, next.File, roots)
	m.Look()
	if err := meets(); err != nil {
		t.Errorf("after: %v", err)
	}
	write(t, roots, "nonsense")
	m.Look()
	m.Look()
	if err := meets(); err != nil {
		t.Errorf("with a bad file: %v", err)
	}
	if _, err := m.Prepare(snap); err == nil || !strings.Contains(err.Error(), "service svc: server_tls: authorities "+roots) {
		t.Errorf("a reload with a bad file: %v", err)
	}
}

// copyFile replaces to by a rename.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to+".new", string(text))
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

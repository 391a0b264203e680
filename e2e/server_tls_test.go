package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// secured is an HTTPS server whose configuration a test may replace while it runs. It answers with its name.
type secured struct {
	addr string
	how  atomic.Pointer[tls.Config]
}

func (s *secured) speaks(c *tls.Config) { s.how.Store(c) }

func startSecured(t testing.TB, name string, c *tls.Config) *secured {
	t.Helper()
	s := &secured{}
	s.speaks(c)
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
	h.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.how.Load(), nil }}
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	s.addr = h.Listener.Addr().String()
	return s
}

// badServers are servers that the door must not take for its own, each with what an operator is told of it.
func badServers(t testing.TB, ca *certstest.Authority) (good *secured, bad map[string]string, why map[string]string, shows func(cert, key string) *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	shows = func(cert, key string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Load(cert, key)}, NextProtos: []string{"http/1.1"}}
	}
	other := certstest.New(t)
	good = startSecured(t, "good", shows(ca.Pair(dir, "good", "127.0.0.1")))
	asks := shows(ca.Pair(dir, "asks", "127.0.0.1"))
	asks.ClientAuth, asks.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	bad = map[string]string{
		"expired": startSecured(t, "expired", shows(ca.PairUntil(time.Now().Add(-time.Minute), dir, "expired", "127.0.0.1"))).addr,
		"foreign": startSecured(t, "foreign", shows(other.Pair(dir, "foreign", "127.0.0.1"))).addr,
		"named":   startSecured(t, "named", shows(ca.Pair(dir, "named", "10.1.2.3"))).addr,
		"asks":    startSecured(t, "asks", asks).addr,
		"plain":   plain.Listener.Addr().String(),
	}
	why = map[string]string{
		"expired": "tls: failed to verify certificate: x509: certificate has expired",
		"foreign": "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"named":   "tls: failed to verify certificate: x509: certificate is valid for 10.1.2.3, not 127.0.0.1",
		"asks":    "tls: the server says: certificate required",
		"plain":   "tls: the server does not speak TLS",
	}
	return good, bad, why, shows
}

func TestServerTLS_ASwapToServersThatCannotProveWhoTheyAreIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	good, bad, why, shows := badServers(t, ca)
	var pools, services strings.Builder
	fmt.Fprintf(&pools, "{good: [%q]", good.addr)
	for name, addr := range bad {
		fmt.Fprintf(&pools, ", %s: [%q]", name, addr)
	}
	pools.WriteString("}")
	address := freePort(t)
	fmt.Fprintf(&services, "checks:\n  page: {http: {path: /}}\n  open: {tcp: {}}\nservices:\n")
	for name, more := range map[string]string{
		"plain":   fmt.Sprintf("mode: http, listen: %q", address),
		"bytes":   fmt.Sprintf("listen: %q", freePort(t)),
		"watched": fmt.Sprintf("mode: http, listen: %q, health: {checks: [page], interval: 500ms, timeout: 20s}", freePort(t)),
		"opened":  fmt.Sprintf("listen: %q, health: {checks: [open], interval: 500ms, timeout: 20s}", freePort(t)),
		"gated":   fmt.Sprintf("mode: http, listen: %q, gates: [page]", freePort(t)),
	} {
		fmt.Fprintf(&services, "  %s: {%s, pools: %s, active: good, server_tls: {ca: %s}}\n", name, more, &pools, ca.File)
	}
	d := newDoor(t, services.String()).start()
	for _, service := range []string{"plain", "bytes", "watched", "opened", "gated"} {
		before := d.look().Revision
		for name := range bad {
			var refused *api.Error
			_, err := d.Client.Swap(context.Background(), service, api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: &no}, To: name})
			if !errors.As(err, &refused) || refused.Code != api.CodeGate || !strings.Contains(refused.Message, why[name]) || !strings.HasPrefix(refused.Holds, "still serving good") {
				t.Errorf("%s to %s: %v", service, name, err)
			}
			probe, err := d.Client.Probe(context.Background(), service, name, "")
			if err != nil || probe.Servers[bad[name]].OK || !strings.Contains(probe.Servers[bad[name]].Answers[0].Reason, why[name]) {
				t.Errorf("%s/%s: %+v, %v", service, name, probe, err)
			}
		}
		if after := d.look().Revision; after != before || d.service(service).Active != "good" {
			t.Errorf("%s: revision %d became %d, active %s", service, before, after, d.service(service).Active)
		}
		if probe, err := d.Client.Probe(context.Background(), service, "good", ""); err != nil || !probe.Servers[good.addr].OK {
			t.Errorf("%s/good: %+v, %v", service, probe, err)
		}
	}
	d.cli("swap", "bytes", "expired").wants(t, 4, "bytes not swapped to expired: 0 of 1 server ready", why["expired"], "still serving good, revision 1", "--force")
	d.cli("swap", "bytes", "expired", "--plan").wants(t, 0, "be refused as it is now", why["expired"])
	if got := asked(address); got != "good" {
		t.Errorf("got %q", got)
	}
	d.cli("probe", "plain/expired").wants(t, 4, "502", "certificate has expired")
	d.must("swap", "plain", "expired", "--force").wants(t, 0, "plain: good -> expired")
	d.must("swap", "plain", "good")

	// What is mended is taken at once, and what stops proving itself is noticed by those who watch.
	eventually(t, "the good server is ready", func() bool { return d.service("watched").Pools["good"].Servers[good.addr].State == "ready" })
	good.speaks(shows(ca.PairUntil(time.Now().Add(-time.Minute), t.TempDir(), "late", "127.0.0.1")))
	eventually(t, "a certificate that has expired is a failure", func() bool {
		h := d.service("watched").Pools["good"].Servers[good.addr].Health
		return h != nil && h.State == "failing" && strings.Contains(h.Reason, why["expired"])
	})
	eventually(t, "and for a check that only connects", func() bool { return d.service("opened").Pools["good"].Servers[good.addr].State == "failing" })
	d.must("swap", "plain", "plain", "--force")
	d.cli("swap", "plain", "good").wants(t, 4, why["expired"])
	good.speaks(shows(ca.Pair(t.TempDir(), "anew", "127.0.0.1")))
	d.must("swap", "plain", "good").wants(t, 0, "plain: plain -> good")
	eventually(t, "the good server is ready again", func() bool { return d.service("watched").Pools["good"].Servers[good.addr].State == "ready" })
}

// Servers at h2:// are asked as they are spoken to: in TLS that agrees upon h2.
func TestServerTLS_ServersOfHTTP2AreCheckedAndGatedInHTTP2(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t)
	c := &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))}}
	speaks := func(name string, h2 bool) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "%s %d", name, r.ProtoMajor) }))
		s.TLS, s.EnableHTTP2 = c.Clone(), h2
		if h2 {
			s.TLS.NextProtos = []string{"h2"}
		}
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	blue, green, old := speaks("blue", true), speaks("green", true), speaks("old", false)
	address := freePort(t)
	pools := fmt.Sprintf("pools: {blue: [%q], green: [%q], old: [%q]}, server_tls: {ca: %s}", "h2://"+blue, "h2://"+green, "h2://"+old, ca.File)
	d := newDoor(t, fmt.Sprintf("checks: {page: {http: {path: /}}}\nservices:\n  calls: {mode: http, listen: %q, %s}\n  watched: {mode: http, listen: %q, %[2]s, health: {checks: [page], interval: 500ms, timeout: 20s}}\n",
		address, pools, freePort(t))).start()
	const why = "tls: the server does not speak h2 (ALPN)"
	eventually(t, "the servers are asked", func() bool {
		p := d.service("watched").Pools
		h := p["old"].Servers[old].Health
		return p["blue"].Servers[blue].State == "ready" && p["green"].Servers[green].State == "ready" && h != nil && strings.Contains(h.Reason, why)
	})
	for _, service := range []string{"calls", "watched"} {
		d.cli("swap", service, "old").wants(t, 4, why, "still serving blue")
		d.must("swap", service, "green")
	}
	if got := asked(address); got != "green 2" {
		t.Errorf("got %q", got)
	}
	d.must("probe", "calls/blue").wants(t, 0, "1 answered, 0 failed")
	d.cli("probe", "calls/old").wants(t, 4, "no server could be reached; "+old+": "+why)
}

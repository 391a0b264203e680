package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	browserSwaps = 50
	atOnce       = 4 // assets under way at each swap
	assets       = browserSwaps * atOnce
)

// page loads its assets as scripts, one after the other in several rows, and then reports.
const page = `<!doctype html><title>assets</title><body><script>
let next = 0, loaded = 0, failed = [], n = %d;
function one() {
  if (next == n) return;
  const s = document.createElement('script'), src = '/asset/' + next++;
  s.src = src;
  s.onload = () => { loaded++; ended(); };
  s.onerror = () => { failed.push(src); ended(); };
  document.body.append(s);
}
function ended() {
  if (loaded + failed.length < n) return one();
  const by = [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')].map(e => e.nextHopProtocol);
  fetch('/report', {method: 'POST', body: 'loaded ' + loaded + ', failed ' + failed + ', by ' + [...new Set(by)]});
}
for (let i = 0; i < %d; i++) one();
</script>`

// gallery is the page's servers. The page asks for atOnce assets, then a swap is made, then these are answered, and so on:
// every swap finds requests under way, and the next ones are to find the other side.
type gallery struct {
	mu      sync.Mutex
	changed sync.Cond
	asked   int
	swaps   int
	late    int // asked of the side that a swap had led away from
	report  chan string
}

func (g *gallery) serve(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/":
			_, _ = fmt.Fprintf(w, page, assets, atOnce)
		case r.URL.Path == "/report":
			said, _ := io.ReadAll(r.Body)
			g.report <- string(said)
		case strings.HasPrefix(r.URL.Path, "/asset/"):
			g.asset(name)
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.WriteString(w, "/* "+strings.Repeat("turnout ", 4000)+" */")
		default:
			http.NotFound(w, r) // the icon
		}
	})
}

func (g *gallery) asset(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name != []string{"a", "b"}[g.swaps%2] {
		g.late++
	}
	g.asked++
	g.changed.Broadcast()
	for due := (g.asked + atOnce - 1) / atOnce; g.swaps < due; {
		g.changed.Wait()
	}
}

// awaitAsked returns when the page has asked for enough for the next swap.
func (g *gallery) awaitAsked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.asked < (g.swaps+1)*atOnce {
		g.changed.Wait()
	}
}

func (g *gallery) swapped() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.swaps++
	g.changed.Broadcast()
}

func TestBrowser_LoadsAPageOverHTTP2ThroughFiftySwaps(t *testing.T) {
	needs(t, "chromium")
	g := &gallery{report: make(chan string, 1)}
	g.changed.L = &g.mu
	addrs := map[string]string{}
	for _, name := range []string{"a", "b"} {
		s := httptest.NewServer(g.serve(name))
		t.Cleanup(s.Close)
		addrs[name] = s.Listener.Addr().String()
	}
	dir, address := room(t), freePort(t)
	certificate(t, dir)
	d := newDoor(t, fmt.Sprintf("services:\n  svc:\n    mode: http\n    listen: %q\n    tls: {mode: terminate, cert: %q, key: %q}\n    pools: {a: [%q], b: [%q]}\n    drain: {timeout: 1h}\n",
		address, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), addrs["a"], addrs["b"])).start()

	browser := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions", "--ignore-certificate-errors", "--remote-debugging-port=0",
		"--user-data-dir="+filepath.Join(dir, "profile"), "https://"+address+"/")
	browser.Env = append(os.Environ(), "HOME="+dir)
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := launch(t, browser)
	defer func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL)
		<-p.ended
	}()

	stop := time.AfterFunc(slower(time.Minute), func() { // the browser does not come: let those that wait for it go on
		g.mu.Lock()
		g.asked = assets
		g.changed.Broadcast()
		g.mu.Unlock()
	})
	for i := range browserSwaps {
		g.awaitAsked()
		d.swapTo("svc", []string{"b", "a"}[i%2])
		g.swapped()
	}
	if !stop.Stop() {
		t.Fatalf("the browser has not loaded the page: %s", p.err.String())
	}
	select {
	case said := <-g.report:
		if want := fmt.Sprintf("loaded %d, failed , by h2", assets); said != want {
			t.Errorf("the page reports %q, want %q", said, want)
		}
	case <-time.After(slower(time.Minute)):
		t.Errorf("the page does not report: %s", p.err.String())
	}
	if g.late > 0 {
		t.Errorf("%d of %d assets were asked of the side that a swap had led away from", g.late, assets)
	}
	if n := d.metric(`turnout_tls_handshakes_total{result="done",service="svc"}`); n > 4 {
		t.Errorf("%v connections for one page", n)
	}
}

// certificate writes one for 127.0.0.1 that nobody trusts.
func certificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "door"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

package web_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

// httpsToy is an HTTPS server with a certificate for hosts.
func httpsToy(t testing.TB, ca *certstest.Authority, handle http.HandlerFunc, hosts ...string) (addr string, conns *atomic.Int64) {
	t.Helper()
	conns = &atomic.Int64{}
	pair := ca.Load(ca.Pair(t.TempDir(), "s", hosts...))
	return httpsWith(t, &tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		conns.Add(1)
		return nil, nil
	}}, handle), conns
}

// httpsWith is an HTTPS server that is configured so.
func httpsWith(t testing.TB, config *tls.Config, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handle)
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// farmed is one of several HTTPS servers that have the name and the keys of their session tickets in common, as a farm's
// have: each takes the others' sessions, and tells them from its own.
type farmed struct {
	addr                   string
	full, resumed, foreign atomic.Int64 // handshakes; tickets of another server
}

func farm(t testing.TB, ca *certstest.Authority, version uint16, names ...string) []*farmed {
	t.Helper()
	pair := ca.Load(ca.Pair(t.TempDir(), "farm", "farm.test"))
	var all []*farmed
	for _, name := range names {
		f := &farmed{}
		c := &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version, ClientAuth: tls.RequestClientCert}
		c.SetSessionTicketKeys([][32]byte{{1}})
		c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
			ss.Extra = [][]byte{[]byte(name)}
			return c.EncryptTicket(cs, ss)
		}
		c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
			ss, err := c.DecryptTicket(identity, cs)
			if ss != nil && string(ss.Extra[0]) != name {
				f.foreign.Add(1)
			}
			return ss, err
		}
		f.addr = httpsWith(t, c, func(w http.ResponseWriter, r *http.Request) {
			if r.TLS.DidResume {
				f.resumed.Add(1)
			} else {
				f.full.Add(1)
			}
			w.Header().Set("Connection", "close")
			for _, shown := range r.TLS.PeerCertificates {
				_, _ = io.WriteString(w, shown.Subject.CommonName)
			}
		})
		all = append(all, f)
	}
	return all
}

func TestServerTLS_SessionsAreResumedThroughSwapsWithTheServerThatGaveThemAlone(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := certstest.New(t)
			all := farm(t, ca, version, "one", "two", "three")
			spec := proxytest.ToServers(pools([]string{"blue", all[0].addr, all[1].addr}, []string{"green", all[2].addr}), proxy.ServerTLSSpec{CA: ca.File, ServerName: "farm.test"})
			d := openDoor(t, spec)
			asks := func(n int, shown string) {
				t.Helper()
				for range n {
					c := d.dial()
					c.send(get)
					if status, body := c.answer(); !strings.Contains(status, " 200 ") || body != shown {
						t.Errorf("got %s, and the server was shown %q", status, body)
					}
				}
			}
			met := func(full, resumed [3]int64) {
				t.Helper()
				for i, f := range all {
					if f.full.Load() != full[i] || f.resumed.Load() != resumed[i] || f.foreign.Load() != 0 {
						t.Errorf("server %d: %d whole handshakes, %d resumed, %d tickets of another server; want %d, %d and none", i+1, f.full.Load(), f.resumed.Load(), f.foreign.Load(), full[i], resumed[i])
					}
				}
			}
			asks(8, "")
			met([3]int64{1, 1, 0}, [3]int64{3, 3, 0})
			d.swap("green")
			asks(4, "")
			d.swap("blue")
			asks(4, "")
			met([3]int64{1, 1, 1}, [3]int64{5, 5, 3})

			// Who the door is proven to be to a server is what the session was made with: another configuration, another session.
			next := *spec
			next.Services = []proxy.ServiceSpec{spec.Services[0]}
			shows := *spec.Services[0].ServerTLS
			shows.Cert, shows.Key = ca.Pair(t.TempDir(), "door", "door.test")
			next.Services[0].ServerTLS = &shows
			d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
			asks(4, "door")
			met([3]int64{2, 2, 1}, [3]int64{6, 6, 3})
		})
	}
}

func TestServerTLS_CarriesRequestsOfAllSizesAndKeepsConnections(t *testing.T) {
	ca := certstest.New(t)
	addr, conns := httpsToy(t, ca, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/huge" {
			_, _ = io.Copy(w, io.LimitReader(nothings{}, 20<<20))
			return
		}
		all, _ := io.ReadAll(r.Body)
		_, _ = w.Write(all)
	}, "127.0.0.1")
	d := openDoor(t, proxytest.ToServers(pools([]string{"p", addr}), proxy.ServerTLSSpec{CA: ca.File}))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, size := range []int{0, 1, 1000, 100_000, 5 << 20} {
		for _, chunked := range []bool{false, true} {
			text := strings.Repeat("x", size)
			var body io.Reader = strings.NewReader(text)
			if chunked {
				body = io.MultiReader(body)
			}
			res, err := client.Post("http://"+d.addr("svc")+"/", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(got) != text {
				t.Errorf("%d bytes, chunked %v: %d came back, %v", size, chunked, len(got), err)
			}
		}
	}
	res, err := client.Get("http://" + d.addr("svc") + "/huge")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != 20<<20 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	_ = res.Body.Close()
	if n := conns.Load(); n > 2*testLoops {
		t.Errorf("%d connections to the server for 11 requests one after the other", n)
	}
}

// nothings never ends.
type nothings struct{}

func (nothings) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestServerTLS_AServerThatCannotProveWhoItIsIsPassedOver(t *testing.T) {
	ca, other := certstest.New(t), certstest.New(t)
	says := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
	}
	good, _ := httpsToy(t, ca, says("good"), "127.0.0.1")
	foreign, _ := httpsToy(t, other, says("bad"), "127.0.0.1")
	named, _ := httpsToy(t, ca, says("bad"), "127.0.0.2")
	between := func(name string, begin, end time.Duration) string {
		return httpsWith(t, &tls.Config{Certificates: []tls.Certificate{ca.Load(ca.PairBetween(time.Now().Add(begin), time.Now().Add(end), t.TempDir(), name, "127.0.0.1"))}}, says("bad"))
	}
	past, future := between("past", -2*time.Hour, -time.Hour), between("future", time.Hour, 2*time.Hour)
	plain := toy(t, func(c *net.TCPConn, _ *bufio.Reader) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	})
	for bad, why := range map[string]string{foreign: "unknown authority", named: "127.0.0.2, not 127.0.0.1", plain: "does not speak TLS", past: "has expired or is not yet valid: current time", future: "is before"} {
		d := openDoor(t, proxytest.ToServers(pools([]string{"p", bad, good}), proxy.ServerTLSSpec{CA: ca.File}))
		for range 3 {
			c := d.dial()
			c.send(get)
			if status, body := c.answer(); body != "good" {
				t.Errorf("%s: got %s %q", why, status, body)
			}
		}
		n := d.Current().Service("svc").Pools[0].Members[0].Counts()
		if n.Failures == 0 || !strings.Contains(n.LastError, "tls: ") || !strings.Contains(n.LastError, why) {
			t.Errorf("got %d failures, %q; want %q", n.Failures, n.LastError, why)
		}
		alone := openDoor(t, proxytest.ToServers(pools([]string{"p", bad}), proxy.ServerTLSSpec{CA: ca.File}))
		c := alone.dial()
		c.send(get)
		if status, _ := c.answer(); !strings.Contains(status, " 502 ") {
			t.Errorf("alone: got %s", status)
		}
		if n := alone.Current().Service("svc").Pools[0].Members[0].Counts(); !strings.Contains(n.LastError, why) {
			t.Errorf("alone: got %q, want %q", n.LastError, why)
		}
	}
}

func TestServerTLS_AnAnswerCutShortDoesNotLookWhole(t *testing.T) {
	ca := certstest.New(t)
	pair, err := tls.LoadX509KeyPair(ca.Pair(t.TempDir(), "s", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{true, false} {
		addr := toy(t, func(raw *net.TCPConn, _ *bufio.Reader) {
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
			b := make([]byte, 4096)
			_, _ = c.Read(b)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhalf") // as long as the connection
			if whole {
				_ = c.CloseWrite()
			} else {
				_ = raw.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, raw)
		})
		d := openDoor(t, proxytest.ToServers(pools([]string{"p", addr}), proxy.ServerTLSSpec{CA: ca.File}))
		res, err := http.Get("http://" + d.addr("svc") + "/")
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if whole != (err == nil) {
			t.Errorf("whole %v: got %q, %v", whole, all, err)
		}
	}
}

func TestServerTLS_SwapsUnderLoadLoseNothing(t *testing.T) {
	ca := certstest.New(t)
	side := func(name string) string {
		addr, _ := httpsToy(t, ca, func(w http.ResponseWriter, r *http.Request) {
			all, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Name", name)
			_, _ = fmt.Fprintf(w, "%d", len(all))
		}, "127.0.0.1")
		return addr
	}
	d := openDoor(t, proxytest.ToServers(pools([]string{"blue", side("blue")}, []string{"green", side("green")}), proxy.ServerTLSSpec{CA: ca.File}))
	url := "http://" + d.addr("svc") + "/"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	defer client.CloseIdleConnections()
	proxytest.Storm{Swaps: 30, Between: 10, Clients: 6, Swap: func(to string) { d.swap(to) }, Ask: func(int) (string, error) {
		return named(client.Post(url, "text/plain", strings.NewReader("hello")))
	}}.Run(t, "blue", "green")
}

// named reads an answer of a server that says its pool in X-Name, and how many bytes of body it got, five, or sends a hundred.
func named(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // a test's
	all, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(all) != "5" && len(all) != 100) {
		err = fmt.Errorf("%s %q", res.Status, all)
	}
	return res.Header.Get("X-Name"), err
}

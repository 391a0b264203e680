package web_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// fetch sends one request with these lines on a new connection, and returns the head and body of the answer.
func (d *door) fetch(target, host string, lines ...string) (head, body string) {
	d.t.Helper()
	c := d.dial()
	c.send("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n")
	all := c.tail()
	head, body, _ = strings.Cut(all, "\r\n\r\n")
	return head + "\r\n", body
}

func TestRequestsAreRoutedByHostAndPathOverOneListener(t *testing.T) {
	spec := pools([]string{"p", says(t, "api")})
	base := spec.Services[0]
	base.Listen = []proxy.ListenSpec{{Network: proxy.NetTCP, Address: freeAddress(t)}}
	add := func(name string, routes ...proxy.RouteSpec) {
		s := base
		s.Name, s.Routes = name, routes
		s.Pools = []proxy.PoolSpec{{Name: "p", Servers: []proxy.ServerSpec{{Name: "s", Address: says(t, name), Weight: 1}}}}
		spec.Services = append(spec.Services, s)
	}
	spec.Services = nil
	add("svc", proxy.RouteSpec{Host: "api.example.org", Path: "/v1/"})
	add("v2", proxy.RouteSpec{Host: "api.example.org", Path: "/v1/users"}, proxy.RouteSpec{Host: "api.example.org", Path: "/v2"})
	add("wild", proxy.RouteSpec{Host: "*.example.org"})
	add("deep", proxy.RouteSpec{Host: "*.deep.example.org"})
	add("static", proxy.RouteSpec{Path: "/static/"})
	d := openDoor(t, spec)
	for _, x := range []struct{ host, target, want string }{
		{"api.example.org", "/v1/", "svc"},
		{"API.Example.ORG.:80", "/v1/x?y", "svc"},
		{"api.example.org", "/v1/users", "v2"},
		{"api.example.org", "/v1/users/1", "v2"},
		{"api.example.org", "/v1/users2", "svc"}, // whole segments
		{"api.example.org", "/v2", "v2"},
		{"api.example.org", "/v22", "wild"}, // the exact host has none that takes it
		{"www.example.org", "/", "wild"},
		{"a.b.example.org", "/", "wild"},
		{"x.deep.example.org", "/static/x", "deep"}, // a host's own before those of all
		{"example.org", "/static/x", "static"},
		{"other", "/static/", "static"},
		{"other", "/static", "404"},
		{"example.org", "/", "404"},
		{"x", "http://api.example.org/v1/", "svc"},
		{"api.example.org", "/v2/../v1/x", "svc"}, // by what it means
		{"api.example.org", "/%76%31/%75sers", "v2"},
		{"api.example.org", "/v1/%2e%2E/v2", "v2"},
		{"api.example.org", "//v1/", "wild"},
		{"api.example.org", "/v1%2Fusers", "wild"},
		{"api.example.org", "http://other/v1/", "404"},
	} {
		head, body := d.fetch(x.target, x.host)
		if x.want == "404" {
			if !strings.HasPrefix(head, "HTTP/1.1 404 Not Found\r\n") || !strings.Contains(head, "\r\nX-Turnout-Reason: ") {
				t.Errorf("%s%s: %s", x.host, x.target, head)
			}
		} else if body != x.want {
			t.Errorf("%s%s: %q, want %s", x.host, x.target, body, x.want)
		}
	}
	// Services on one listener are switched by themselves, also for a kept-alive client.
	c := d.dial()
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "wild", On: true})
	c.send("GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\nGET /v1/ HTTP/1.1\r\nHost: api.example.org\r\n\r\n")
	if status, _ := c.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error(status)
	}
	if status, body := c.answer(); body != "svc" {
		t.Error(status, body)
	}
	// A reload may lead a path elsewhere, and the very next request goes there.
	next := *spec
	next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
	next.Services[0].Routes = []proxy.RouteSpec{{Host: "api.example.org", Path: "/v0/"}}
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
	c.send("GET /v1/ HTTP/1.1\r\nHost: api.example.org\r\n\r\n")
	if status, _ := c.answer(); status != "HTTP/1.1 503 Service Unavailable" { // wild's
		t.Error(status)
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMaintenanceIsAnsweredAsTheClientWantsAndOperatorsPass(t *testing.T) {
	spec := pools([]string{"blue", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			said := fmt.Sprint(strings.Contains(h, "s3cret"), strings.Contains(h, "\r\nCookie: a=b\r\n"))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
		}
	})})
	m := &spec.Services[0].Maintenance
	*m = proxy.MaintenanceSpec{Status: 503, RetryAfter: 10 * time.Minute, Page: "<h1>soon</h1>", Token: "s3cret"}
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true})
	for _, x := range []struct{ line, kind, body string }{
		{"Accept: text/html,application/json", "text/html; charset=utf-8", "<h1>soon</h1>"},
		{"Accept: application/json, text/html;q=0.1", "application/json", `{"status":503,"reason":"maintenance","retry_after":600}` + "\n"},
		{"A: b", "text/html; charset=utf-8", "<h1>soon</h1>"},
	} {
		head, body := d.fetch("/", "h", x.line)
		if !strings.HasPrefix(head, "HTTP/1.1 503 Service Unavailable\r\n") || !strings.Contains(head, "\r\nRetry-After: 600\r\n") ||
			!strings.Contains(head, "\r\nX-Turnout-Reason: maintenance\r\n") || !strings.Contains(head, "\r\nContent-Type: "+x.kind+"\r\n") || body != x.body {
			t.Errorf("%s:\n%s\n%s", x.line, head, body)
		}
	}
	for _, line := range []string{"X-Turnout-Bypass: s3cret", "x-turnout-bypass:s3cret"} {
		if _, body := d.fetch("/", "h", line); body != "false false" { // and the server does not see the token
			t.Errorf("%s: %q", line, body)
		}
	}
	if _, body := d.fetch("/", "h", "Cookie: a=b; turnout_bypass=s3cret"); body != "false true" { // nor the cookie, but all others
		t.Errorf("by cookie: %q", body)
	}
	for _, line := range []string{"X-Turnout-Bypass: s3cre", "Cookie: turnout_bypass=s3cret2", "Cookie: xturnout_bypass=s3cret"} {
		if head, _ := d.fetch("/", "h", line); !strings.HasPrefix(head, "HTTP/1.1 503 ") {
			t.Errorf("%s: %s", line, head)
		}
	}
	next := *spec
	next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
	next.Services[0].Maintenance.Addresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
	if _, body := d.fetch("/", "h"); body != "false false" {
		t.Errorf("by address: %q", body)
	}
	// A request with a body is answered without it.
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: spec})
	c := d.dial()
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
	if status, _ := c.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error(status)
	}
}

func TestSoftMaintenanceLetsKnownClientsGoOn(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")})
	spec.Services[0].Maintenance = proxy.MaintenanceSpec{Status: 503, RetryAfter: time.Minute, KnownKey: "k", KnownFor: time.Hour}
	d := openDoor(t, spec)
	old := d.dial()
	old.send(get)
	h, err := head(old.r)
	if err != nil {
		t.Fatal(err)
	}
	_, cookie, _ := strings.Cut(h, "\r\nSet-Cookie: ")
	cookie, _, _ = strings.Cut(cookie, ";")
	if _, err := old.r.Discard(len("blue")); err != nil || !strings.HasPrefix(cookie, "turnout_known=") {
		t.Fatalf("%v in %s", err, h)
	}
	if head, _ := d.fetch("/", "h", "Cookie: "+cookie); strings.Contains(head, "Set-Cookie") {
		t.Errorf("a known client was made known once more: %s", head)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: true})
	old.send(get)
	if _, body := old.answer(); body != "blue" {
		t.Error("a client that was there before was turned away")
	}
	if _, body := d.fetch("/", "h", "Cookie: "+cookie); body != "blue" {
		t.Errorf("a client with the cookie was turned away: %s", body)
	}
	for _, forged := range []string{"turnout_known=" + strings.Repeat("A", 54), cookie[:len(cookie)-2] + "AA", "turnout_known="} {
		if head, _ := d.fetch("/", "h", "Cookie: "+forged); !strings.HasPrefix(head, "HTTP/1.1 503 ") {
			t.Errorf("%s: %s", forged, head)
		}
	}
	late := d.dial()
	for range 2 { // the second time after a change of the maintenance
		late.send(get)
		if status, _ := late.answer(); status != "HTTP/1.1 503 Service Unavailable" {
			t.Error("a client that was turned away before counts as known:", status)
		}
		d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: true, For: time.Hour})
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true})
	old.send(get)
	if status, _ := old.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error("a hard maintenance lets nobody go on:", status)
	}
}

func TestHeldRequestsWaitUnreadAndAreToldWhenItIsTooMuch(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")})
	spec.Services[0].Hold = proxy.HoldSpec{Timeout: 300 * time.Millisecond, Max: 2}
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"})
	a, b := d.dial(), d.dial()
	a.send(get)
	b.send(get)
	waitFor(t, "two are held", func() bool { return d.Current().Service("svc").Held() == 2 })
	head, _ := d.fetch("/", "h")
	if !strings.HasPrefix(head, "HTTP/1.1 503 ") || !strings.Contains(head, "\r\nRetry-After: ") || !strings.Contains(head, "too many") {
		t.Errorf("overflow: %s", head)
	}
	for _, c := range []*conn{a, b} {
		if status, body := c.answer(); status != "HTTP/1.1 503 Service Unavailable" || !strings.Contains(body, "too long") {
			t.Errorf("%s %s", status, body)
		}
	}
	a.send(get) // the connection goes on, and the request waits
	waitFor(t, "one is held", func() bool { return d.Current().Service("svc").Held() == 1 })
	d.swap("green")
	d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"})
	if status, body := a.answer(); body != "green" {
		t.Errorf("after the release: %s %s", status, body)
	}
}

// What is kept of a request, so that it can be sent once more, must not be taken for the client's next one when the door
// answers in the server's place: that answer would be taken for another request's.
func TestARequestThatTheDoorAnswersInTheServersPlaceLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(c *net.TCPConn, cut func())
		status string
	}{
		"too late": {func(*net.TCPConn, func()) {}, "HTTP/1.1 504 Gateway Timeout"},
		"cut":      {func(_ *net.TCPConn, cut func()) { cut() }, "HTTP/1.1 503 Service Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			cut := make(chan struct{}, 1)
			var mu sync.Mutex
			var asked []string
			address := toy(t, func(tc *net.TCPConn, r *bufio.Reader) {
				for {
					h, err := head(r)
					if err != nil {
						return
					}
					path := strings.Fields(h)[1]
					mu.Lock()
					asked = append(asked, path)
					mu.Unlock()
					if path == "/mute" {
						c.end(tc, func() { cut <- struct{}{} })
						_, _ = r.ReadByte() // until the door ends it
						return
					}
					fmt.Fprintf(tc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
				}
			})
			spec := pools([]string{"blue", address})
			spec.Services[0].Timeouts.Response = 300 * time.Millisecond
			d := openDoor(t, spec)
			conn := d.dial()
			for _, path := range []string{"/first", "/mute", "/last"} {
				conn.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
				if path == "/mute" && name == "cut" {
					<-cut
					d.Cut(d.Current().Service("svc").Pools[0].Servers()[0])
				}
				switch status, body := conn.answer(); {
				case path == "/mute" && status != c.status, path != "/mute" && body != path:
					t.Fatalf("%s: %s %s", path, status, body)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(asked, " "); got != "/first /mute /last" {
				t.Errorf("the server was asked %s", got)
			}
		})
	}
}

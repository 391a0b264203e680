package web_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// seen is what servers got.
type seen struct {
	mu   sync.Mutex
	last map[string]http.Header // by server
}

// server answers with its name, and notes what it was sent.
func (s *seen) server(t testing.TB, name string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.last[name] = r.Header.Clone()
		s.mu.Unlock()
		_, _ = io.WriteString(rw, name)
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func (s *seen) of(name string) http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[name]
}

func newSeen() *seen { return &seen{last: map[string]http.Header{}} }

// ask makes a request; fields are "Name: value".
func ask(t testing.TB, client *http.Client, address string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a, string(b)
}

// browser keeps cookies.
func browser(t testing.TB) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func (d *door) split(shares ...proxy.Share) {
	d.must(proxy.Change{Verb: proxy.VerbSplit, Target: "svc", Shares: shares})
}

func TestASplitKeepsEachClientOnItsSideAndAGrowingShareKeepsWhomItHad(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")}))
	d.split(proxy.Share{Pool: "green", Percent: 25_00})
	const n = 40
	var clients [n]*http.Client
	var side [n]string
	green := 0
	for i := range clients {
		clients[i] = browser(t)
		if _, side[i] = ask(t, clients[i], d.addr("svc")); side[i] == "green" {
			green++
		}
	}
	if green < 8 || green > 12 { // exact on each of the two loops
		t.Errorf("%d of %d clients on green for 25%%", green, n)
	}
	check := func(when string, may func(was, is string) bool) (green int) {
		t.Helper()
		for i, c := range clients {
			for range 3 {
				a, is := ask(t, c, d.addr("svc"))
				if !may(side[i], is) {
					t.Fatalf("%s: client %d was on %s and is on %s", when, i, side[i], is)
				}
				if a.Header.Get("Set-Cookie") != "" {
					t.Fatalf("%s: client %d is given a cookie again: %v", when, i, a.Header)
				}
				if side[i] = is; is == "green" {
					green++
				}
			}
		}
		return green / 3
	}
	check("with the same shares", func(was, is string) bool { return was == is })
	d.split(proxy.Share{Pool: "green", Percent: 60_00})
	if g := check("with a larger share", func(was, is string) bool { return was != "green" || is == "green" }); g < 18 || g > 30 {
		t.Errorf("%d of %d clients on green for 60%%", g, n)
	}
	d.split()
	check("without a split", func(_, is string) bool { return is == "blue" })

	// A cookie that makes no sense is none.
	d.split(proxy.Share{Pool: "green", Percent: 50_00})
	for _, value := range []string{"0", "10001", "x", "-1", "70000"} {
		if a, _ := ask(t, browser(t), d.addr("svc"), "Cookie: turnout_split="+value); a.Header.Get("Set-Cookie") == "" {
			t.Errorf("turnout_split=%s was taken for a place", value)
		}
	}
}

func TestWithoutCookiesASplitGivesEachPoolItsExactShareOfRequests(t *testing.T) {
	d := openDoor(t, pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")}))
	d.split(proxy.Share{Pool: "green", Percent: 5_00})
	c := d.dial() // one connection is on one loop
	green := 0
	for range 200 {
		c.send(get)
		if _, body := c.answer(); body == "green" {
			green++
		}
	}
	if green != 10 {
		t.Errorf("%d of 200 requests went to green for 5%%", green)
	}
	d.split()
	for range 50 {
		c.send(get)
		if _, body := c.answer(); body != "blue" {
			t.Fatalf("%s after the split's end was answered", body)
		}
	}
}

// previewed has a pool of its own for each case.
func previewed(t testing.TB, s *seen, own bool) *proxy.Spec {
	spec := pools([]string{"blue", s.server(t, "blue")}, []string{"green", s.server(t, "green0"), s.server(t, "green1")})
	svc := &spec.Services[0]
	for i := range svc.Pools[1].Servers {
		svc.Pools[1].Servers[i].Name = fmt.Sprintf("g%d", i)
	}
	svc.Preview = &proxy.PreviewSpec{Header: "x-pool", TokenHeader: "x-pass", Cookie: "pool", TokenHash: sha256.Sum256([]byte("s3cret"))}
	if own {
		svc.Preview.Listen = &proxy.ListenSpec{Network: proxy.NetTCP, Address: "127.0.0.1:0"}
	}
	return spec
}

func TestAPreviewLeadsOnlyWhoIsEntitledAndItsFieldsReachNoServer(t *testing.T) {
	s := newSeen()
	d := openDoor(t, previewed(t, s, false))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	for _, tt := range []struct {
		fields []string
		want   string
	}{
		{nil, "blue"},
		{[]string{"X-Pool: green", "X-Pass: s3cret"}, "green"},
		{[]string{"x-pool: green/g1", "x-pass: s3cret"}, "green1"},
		{[]string{"X-Pool: blue", "X-Pass: s3cret"}, "blue"},
		{[]string{"X-Pool: green"}, "blue"},
		{[]string{"X-Pool: green", "X-Pass: s3cres"}, "blue"},
		{[]string{"X-Pool: green", "X-Pass: s3cret2"}, "blue"},
		{[]string{"X-Pool: green", "X-Pass: "}, "blue"},
		{[]string{"X-Pass: s3cret"}, "blue"},
		{[]string{"Cookie: a=1; pool=green:s3cret; b=2"}, "green"},
		{[]string{"Cookie: a=1; pool=green:wrong; b=2"}, "blue"},
		{[]string{"Cookie: pool=green"}, "blue"},
		{[]string{"X-Turnout-Pool: green", "X-Turnout-Token: s3cret"}, "blue"}, // other names are configured
		{[]string{"X-Turnout-Pool: green", "X-Turnout-Token: " + d.plane.Token().Text}, "green"},
	} {
		a, body := ask(t, client, d.addr("svc"), tt.fields...)
		if !strings.HasPrefix(body, tt.want) {
			t.Errorf("%v: answered by %s, want %s", tt.fields, body, tt.want)
		}
		got := s.of(body)
		for name := range got {
			if l := strings.ToLower(name); l == "x-pool" || l == "x-pass" || strings.HasPrefix(l, "x-turnout") {
				t.Errorf("%v: the server was sent %s", tt.fields, name)
			}
		}
		if c := got.Get("Cookie"); strings.Contains(c, "pool=") || len(tt.fields) > 0 && strings.HasPrefix(tt.fields[0], "Cookie: a=1") && c != "a=1; b=2" {
			t.Errorf("%v: the server was sent the cookies %q", tt.fields, c)
		}
		if is := a.Header.Get("X-Turnout-Pool"); is != "" && is != strings.TrimRight(body, "01") || is == "" && tt.want != "blue" {
			t.Errorf("%v: X-Turnout-Pool is %q", tt.fields, is)
		}
	}
	if a, _ := ask(t, client, d.addr("svc"), "X-Pool: red", "X-Pass: s3cret"); a.StatusCode != 404 {
		t.Errorf("a pool that is not there: %s", a.Status)
	}
}

func TestAPreviewGoesOnInAHoldAndInMaintenanceAndChangesNothingForOthers(t *testing.T) {
	s := newSeen()
	d := openDoor(t, previewed(t, s, false))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	entitled := []string{"X-Pool: green", "X-Pass: s3cret"}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: true})
	if a, _ := ask(t, client, d.addr("svc")); a.StatusCode != 503 {
		t.Errorf("in maintenance: %s", a.Status)
	}
	if _, body := ask(t, client, d.addr("svc"), entitled...); !strings.HasPrefix(body, "green") {
		t.Errorf("a preview in maintenance is answered by %q", body)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"})
	waiting := make(chan string, 1)
	go func() {
		_, body := ask(t, client, d.addr("svc"))
		waiting <- body
	}()
	waitFor(t, "a held request", func() bool { return d.Current().Service("svc").Held() == 1 })
	if _, body := ask(t, client, d.addr("svc"), entitled...); !strings.HasPrefix(body, "green") {
		t.Errorf("a preview in a hold is answered by %q", body)
	}
	d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"})
	if body := <-waiting; body != "blue" {
		t.Errorf("the held request is answered by %s", body)
	}

	// While previews go to green, a swap away from it is as exact as ever for others.
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, body := ask(t, client, d.addr("svc"), entitled...); !strings.HasPrefix(body, "green") {
					t.Errorf("a preview of green is answered by %s", body)
					return
				}
			}
		})
	}
	for i := range 20 {
		to := []string{"green", "blue"}[i%2]
		d.swap(to)
		for range 5 {
			if _, body := ask(t, client, d.addr("svc")); !strings.HasPrefix(body, to) {
				t.Fatalf("after the swap to %s: %s", to, body)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestThePreviewsOwnListenerLeadsToThePoolThatIsNotActive(t *testing.T) {
	s := newSeen()
	d := openDoor(t, previewed(t, s, true))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	own, public := "", ""
	d.Current().Listeners(func(slot int, _ proxy.ListenSpec, _ *proxy.Service) {
		if d.Current().Previews(slot) {
			own = d.front.Addr(slot)
		} else {
			public = d.front.Addr(slot)
		}
	})
	for _, active := range []string{"blue", "green", "blue"} {
		if active != d.Current().Service("svc").Active.Name {
			d.swap(active)
		}
		if _, body := ask(t, client, public); !strings.HasPrefix(body, active) {
			t.Errorf("%s is active: the public listener leads to %s", active, body)
		}
		if _, body := ask(t, client, own); strings.HasPrefix(body, active) {
			t.Errorf("%s is active: the preview's listener leads to %s", active, body)
		}
		if _, body := ask(t, client, own, "X-Pool: blue"); body != "blue" {
			t.Errorf("%s is active: the preview's listener, told blue, leads to %s", active, body)
		}
	}
}

func TestAStickyClientStaysOnItsServerAsLongAsThatTakesNewWork(t *testing.T) {
	s := newSeen()
	spec := pools([]string{"blue", s.server(t, "b0"), s.server(t, "b1"), s.server(t, "b2")}, []string{"green", s.server(t, "g0")})
	for i := range spec.Services[0].Pools[0].Servers {
		spec.Services[0].Pools[0].Servers[i].Name = fmt.Sprintf("b%d", i)
	}
	spec.Services[0].Sticky = &proxy.StickySpec{Cookie: "sid"}
	d := openDoor(t, spec)
	on := map[string]int{}
	var clients []*http.Client
	var server []string
	for range 12 {
		c := browser(t)
		a, is := ask(t, c, d.addr("svc"))
		if !strings.HasPrefix(a.Header.Get("Set-Cookie"), "sid=") {
			t.Fatalf("no cookie: %v", a.Header)
		}
		clients, server = append(clients, c), append(server, is)
		on[is]++
	}
	if len(on) != 3 {
		t.Errorf("12 clients are on %v", on)
	}
	for range 3 {
		for i, c := range clients {
			if a, is := ask(t, c, d.addr("svc")); is != server[i] || a.Header.Get("Set-Cookie") != "" {
				t.Fatalf("client %d was on %s and is on %s (%q)", i, server[i], is, a.Header.Get("Set-Cookie"))
			}
		}
	}
	d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "blue", Server: "b1"})
	for i, c := range clients {
		_, is := ask(t, c, d.addr("svc"))
		if is == "b1" || server[i] != "b1" && is != server[i] {
			t.Fatalf("b1 is drained: client %d was on %s and is on %s", i, server[i], is)
		}
		if _, again := ask(t, c, d.addr("svc")); again != is {
			t.Fatalf("client %d moved from %s to %s and then to %s", i, server[i], is, again)
		}
	}
	d.swap("green")
	for _, c := range clients {
		if _, is := ask(t, c, d.addr("svc")); is != "g0" {
			t.Fatalf("after the swap a client is on %s", is)
		}
	}
	if op, err := d.Apply(context.Background(), proxy.Change{Verb: proxy.VerbBack, Target: "svc"}); err != nil || op == nil {
		t.Fatal(err)
	}
}

// A client whose session is on a server that is gone, with all others: it is told so at once, after one dial of each.
func TestAStickyClientIsToldWhenNoServerIsThere(t *testing.T) {
	s := newSeen()
	file := func(addresses ...string) *proxy.Spec {
		spec := pools(append([]string{"blue"}, addresses...))
		for i := range addresses {
			spec.Services[0].Pools[0].Servers[i].Name = fmt.Sprintf("b%d", i)
		}
		spec.Services[0].Sticky = &proxy.StickySpec{Cookie: "sid"}
		return spec
	}
	d := openDoor(t, file(s.server(t, "b0"), s.server(t, "b1")))
	client := browser(t)
	ask(t, client, d.addr("svc"))
	spec := file("127.0.0.1:1", "127.0.0.1:2")
	spec.Services[0].Listen = d.Current().Services[0].Spec.Listen
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: spec})
	if a, _ := ask(t, client, d.addr("svc")); a.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d", a.StatusCode)
	}
	for _, srv := range d.Current().Service("svc").Pool("blue").Servers() {
		if n := srv.Counts().Failures; n != 1 {
			t.Errorf("%s was dialled %d times", srv.Address, n)
		}
	}
}

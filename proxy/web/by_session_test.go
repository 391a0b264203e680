package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// stickyBySession is pools whose drains are by session and last an hour.
func stickyBySession(list ...[]string) *proxy.Spec {
	spec := pools(list...)
	spec.Services[0].Sticky = &proxy.StickySpec{Cookie: "sid"}
	spec.Services[0].Drain = proxy.DrainSpec{Timeout: time.Hour, Then: proxy.ThenClose, BySession: true}
	return spec
}

// visit asks with the cookie of a session, or none, and returns who answered, and the session's cookie then.
func (c *conn) visit(cookie string) (name, next string) {
	c.t.Helper()
	field := ""
	if cookie != "" {
		field = "Cookie: a=b; " + cookie + "\r\n"
	}
	c.send("GET / HTTP/1.1\r\nHost: h\r\n" + field + "\r\n")
	h, err := head(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	if next = cookie; strings.Contains(h, "\r\nSet-Cookie: sid=") {
		_, next, _ = strings.Cut(h, "\r\nSet-Cookie: ")
		next, _, _ = strings.Cut(next, ";")
	}
	n := 0
	_, rest, _ := strings.Cut(h, "Content-Length: ")
	fmt.Sscanf(rest, "%d", &n)
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatal(err)
	}
	return string(b), next
}

func TestDrainBySession_AKnownClientStaysOnItsServerAndOthersGoToTheNewSide(t *testing.T) {
	var came atomic.Int64
	one := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		came.Add(1)
		for {
			if _, err := head(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
		}
	})
	d := openDoor(t, stickyBySession([]string{"blue", one, says(t, "two")}, []string{"green", says(t, "green")}))
	known := d.dial()
	name, cookie := known.visit("")
	for name != "one" {
		name, cookie = known.visit("")
	}
	before := came.Load()
	d.swap("green")
	for range 3 {
		if name, next := known.visit(cookie); name != "one" || next != cookie {
			t.Fatalf("the known client was led to %s, and got %q after %q", name, next, cookie)
		}
		d.front.Quiet(nil) // whatever else changes, its server's connections stay of use
	}
	if n := came.Load(); n > before+2 { // one for each loop
		t.Errorf("%d connections to the server after the swap", n-before)
	}
	if name, _ := d.dial().visit(cookie); name != "one" {
		t.Errorf("on another connection it was led to %s", name)
	}
	stranger := d.dial()
	name, other := stranger.visit("")
	if name != "green" || other == "" || other == cookie {
		t.Errorf("a new client was led to %s, and got %q", name, other)
	}
	if name, _ := d.dial().visit("sid=0123456789abcdef"); name != "green" {
		t.Errorf("one with a cookie of no server was led to %s", name)
	}
	op := d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "blue", Drain: time.Millisecond})
	waitFor(t, "the drain to end", func() bool { return op.View().State == proxy.StateDone })
	if name, next := known.visit(cookie); name != "green" || next != other {
		t.Errorf("after the drain the known client was led to %s, and got %q, not %q", name, next, other)
	}
	for _, s := range d.Current().Service("svc").Pool("blue").Servers() {
		if s.Counts().Cut != 0 {
			t.Errorf("%d cut on %s", s.Counts().Cut, s.Name)
		}
	}
}

func TestDrainBySession_SwapsUnderLoadLoseNothingAndOnlySessionsComeToTheOldSide(t *testing.T) {
	type stamp struct {
		at      int64
		session bool
	}
	var stamps [2]sync.Map
	side := func(i int) string {
		return toy(t, func(c *net.TCPConn, r *bufio.Reader) {
			for {
				h, err := head(r)
				if err != nil {
					return
				}
				_, id, _ := strings.Cut(h, "x-n: ")
				id, _, _ = strings.Cut(id, "\r\n")
				stamps[i].Store(id, stamp{proxy.Clock(), strings.Contains(h, "sid=")})
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
	}
	spec := stickyBySession([]string{"blue", side(0)}, []string{"green", side(1)})
	d := openDoor(t, spec)
	var stop atomic.Bool
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	for k := range 6 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: k%3 == 0}}
			defer client.CloseIdleConnections()
			cookie := ""
			for !stop.Load() {
				req, _ := http.NewRequest("GET", "http://"+d.addr("svc")+"/", nil)
				req.Header.Set("x-n", fmt.Sprint(n.Add(1)))
				if k%2 == 0 && cookie != "" {
					req.Header.Set("Cookie", cookie)
				}
				res, err := client.Do(req)
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != 200 {
					failed.Add(1)
					t.Error(res.Status, err)
					return
				}
				for _, c := range res.Cookies() {
					cookie = c.Name + "=" + c.Value
				}
			}
		})
	}
	for i := range 20 {
		old := i % 2
		before := n.Load()
		waitFor(t, "some requests", func() bool { return n.Load() > before+10 || failed.Load() > 0 })
		d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: []string{"green", "blue"}[old], Drain: time.Duration(1+i) * time.Millisecond})
		answered, last := proxy.Clock(), n.Load()
		waitFor(t, "some requests", func() bool { return n.Load() > last+20 || failed.Load() > 0 })
		for id := last + 1; id <= last+20; id++ { // begun after the answer
			if at, ok := stamps[old].Load(fmt.Sprint(id)); ok && at.(stamp).at > answered && !at.(stamp).session {
				t.Errorf("request %d without a session began after the swap and came to the old side", id)
			}
		}
		waitFor(t, "the drain to end", func() bool { return len(d.Drains()) == 0 })
		ended, last := proxy.Clock(), n.Load()
		waitFor(t, "some requests", func() bool { return n.Load() > last+20 || failed.Load() > 0 })
		for id := last + 1; id <= last+20; id++ {
			if at, ok := stamps[old].Load(fmt.Sprint(id)); ok && at.(stamp).at > ended {
				t.Errorf("request %d began after the drain and came to the old side", id)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed", failed.Load(), n.Load())
	}
}

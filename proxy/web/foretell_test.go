package web_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

var dateLine = regexp.MustCompile(`\r\nDate: [^\r]*`)

// An announcement is on every answer of its service, also on those of a door that passes its servers' answers through, and
// before it and after its cancellation each answer is byte for byte what it was.
func TestAnnouncedMaintenanceIsToldInEveryAnswer(t *testing.T) {
	blue := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			switch {
			case strings.Contains(h, "Upgrade: "):
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
				return
			case strings.Contains(h, "/chunks"):
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
			case strings.HasPrefix(h, "HEAD"):
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			default:
				_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nLink: </y>\r\n\r\nhi")
			}
		}
	})
	spec := pools([]string{"blue", blue})
	spec.Services[0].StatePath = "/state"
	other := pools([]string{"p", says(t, "p")}).Services[0]
	other.Name = "other"
	spec.Services = append(spec.Services, other)
	d := openDoor(t, spec)
	requests := map[string]string{
		"passed through":   "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"of chunks":        "GET /chunks HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"to HTTP/1.0":      "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
		"to HEAD":          "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"of the state URL": "GET /state HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"of the last hop":  "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
		"a tunnel's":       "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
	}
	ask := func() map[string]string {
		out := map[string]string{}
		for what, text := range requests {
			c := d.dial()
			c.send(text)
			all := dateLine.ReplaceAllString(c.tail(), "")
			if what == "of the state URL" {
				all, _, _ = strings.Cut(all, "Content-Length: ") // it tells of the announcement itself
			}
			out[what] = all
		}
		return out
	}
	before := ask()
	at := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, At: at, For: time.Hour, Reason: "secret", Message: "bigger disks"})
	want := "\r\nX-Turnout-Maintenance: " + at.Format(time.RFC3339) + "; until=" + at.Add(time.Hour).Format(time.RFC3339) + "\r\nLink: </state>; rel=\"status\"\r\n"
	for what, got := range ask() {
		if what == "of the state URL" {
			continue
		}
		if strings.Count(got, want) != 1 || strings.Replace(got, strings.TrimPrefix(want, "\r\n"), "", 1) != before[what] {
			t.Errorf("%s: got\n%s\nbefore\n%s", what, got, before[what])
		}
	}
	if res, body := d.state("GET", "/state"); res.StatusCode != 200 || res.Header.Get("X-Turnout-Maintenance") == "" ||
		!strings.Contains(body, `"next_maintenance":{"from":"`+at.Format(time.RFC3339)+`","until":"`+at.Add(time.Hour).Format(time.RFC3339)+`","message":"bigger disks"}`) || strings.Contains(body, "secret") {
		t.Errorf("%v %s", res.Header, body)
	}
	c := d.dialTo("other")
	c.send(requests["passed through"])
	if got := c.tail(); strings.Contains(got, "X-Turnout-Maintenance") || !strings.HasSuffix(got, "\r\n\r\np") {
		t.Errorf("another service tells of it: %s", got)
	}
	d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "blue", Force: true})
	if h, _ := d.fetch("/", "h"); !strings.HasPrefix(h, "HTTP/1.1 503 ") || !strings.Contains(h, want) {
		t.Errorf("nobody serves: %s", h)
	}
	d.must(proxy.Change{Verb: proxy.VerbReady, Target: "svc", Pool: "blue"})
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: true})
	if h, _ := d.fetch("/", "h"); !strings.Contains(h, "\r\nX-Turnout-Reason: maintenance\r\n") || !strings.Contains(h, want) {
		t.Errorf("in maintenance by hand: %s", h)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", Cancel: true})
	for what, got := range ask() {
		if got != before[what] {
			t.Errorf("after the cancellation, %s: got\n%s\nwant\n%s", what, got, before[what])
		}
	}
}

// The head of an answer tells what is announced as it is written, not what was when its request came.
func TestAnnouncedMaintenanceIsToldToWhoWaitsForAnAnswer(t *testing.T) {
	answer := make(chan struct{})
	d := openDoor(t, pools([]string{"p", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			if _, err := head(r); err != nil {
				return
			}
			<-answer
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})}))
	c := d.dial()
	at := time.Now().Add(time.Hour)
	for _, announced := range []bool{true, false} {
		c.send(get)
		waitFor(t, "the request to be under way", func() bool { return d.Current().Service("svc").Pools[0].Connections() == 1 })
		d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: announced, At: map[bool]time.Time{true: at}[announced], Cancel: !announced})
		answer <- struct{}{}
		h, err := head(c.r)
		if err != nil || strings.Contains(h, "\r\nX-Turnout-Maintenance: ") != announced || strings.Contains(h, "Link:") {
			t.Errorf("announced %v: %s, %v", announced, h, err)
		}
	}
}

func TestAnnouncedMaintenanceIsToldNoLongerOnceItHasBegun(t *testing.T) {
	spec := pools([]string{"p", says(t, "p")})
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, At: time.Now().Add(10 * time.Millisecond), For: time.Hour, Message: "now"})
	waitFor(t, "its begin", func() bool { return d.Current().Service("svc").Maintenance != nil })
	if h, body := d.fetch("/", "h"); !strings.Contains(h, " 503 ") || strings.Contains(h, "X-Turnout-Maintenance") || !strings.Contains(body, "maintenance: now; try again after") {
		t.Errorf("%s\n%s", h, body)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
	if h, body := d.fetch("/", "h"); body != "p" || strings.Contains(h, "X-Turnout") {
		t.Errorf("%s\n%s", h, body)
	}
}

// Beside the cookies of a split and a sticky service, over HTTP/2 as over HTTP/1.
func TestAnnouncedMaintenanceIsToldBesideCookiesAndOverHTTP2(t *testing.T) {
	spec, config := secured2(t, pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")}))
	spec.Services[0].Sticky = &proxy.StickySpec{Cookie: "sid"}
	spec.Services[0].StatePath = "/state"
	spec.Services[0].Maintenance.KnownKey, spec.Services[0].Maintenance.KnownFor = "key", time.Hour
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbSplit, Target: "svc", Shares: []proxy.Share{{Pool: "green", Percent: 50_00}}})
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, announced := range []bool{true, false} {
		d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: announced, At: map[bool]time.Time{true: at}[announced], Cancel: !announced})
		for major, client := range map[int]*http.Client{1: d.https(config), 2: d.http2(config)} {
			for path, cookies := range map[string]int{"/": 3, "/state": 0} {
				res, err := client.Get("https://door.test" + path)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				tells, link := res.Header.Get("X-Turnout-Maintenance"), res.Header.Get("Link")
				if want := at.Format(time.RFC3339); res.StatusCode != 200 || res.ProtoMajor != major || len(res.Cookies()) != cookies ||
					announced && (tells != want || link != `</state>; rel="status"`) || !announced && tells+link != "" {
					t.Errorf("HTTP/%d %s, announced %v: %s %v", major, path, announced, res.Proto, res.Header)
				}
			}
		}
	}
}

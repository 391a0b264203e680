package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// state asks the service's state URL by the given method and target.
func (d *door) state(method, target string) (*http.Response, string) {
	d.t.Helper()
	c := d.dial()
	c.send(method + " " + target + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	req, _ := http.NewRequest(method, "/", nil)
	res, err := http.ReadResponse(c.r, req)
	if err != nil {
		d.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res, string(body)
}

// withinTheHour tells whether the answer says to come again when something ends that was to last an hour and has just begun:
// how long ago, the machine decides.
func withinTheHour(res *http.Response) bool {
	n, err := strconv.Atoi(res.Header.Get("Retry-After"))
	return err == nil && n > 3000 && n <= 3600
}

func TestStateURLTellsThePublicHowTheServiceIs(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")})
	spec.Services[0].StatePath = "/.well-known/turnout"
	d := openDoor(t, spec)
	look := func(status int, accepting bool, words string) {
		t.Helper()
		for _, method := range []string{"GET", "HEAD"} {
			res, body := d.state(method, "/.well-known/turnout?x=y")
			if res.StatusCode != status || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" ||
				(status == 503) != (res.Header.Get("Retry-After") != "") {
				t.Errorf("%s: %d %v", method, res.StatusCode, res.Header)
			}
			if method == "HEAD" {
				if body != "" || res.ContentLength <= 0 {
					t.Errorf("HEAD: %d bytes, %q", res.ContentLength, body)
				}
				continue
			}
			var p proxy.Public
			if err := json.Unmarshal([]byte(body), &p); err != nil || p.Service != "svc" || p.Accepting != accepting {
				t.Errorf("%s: %v", body, err)
			}
			if got := strings.Join([]string{string(p.State), p.Active, p.Message}, " "); got != words {
				t.Errorf("%s, want %s", got, words)
			}
			if strings.Contains(body, "127.0.0.1") || strings.Contains(body, "10.0.0.9") {
				t.Errorf("the public sees an address: %s", body)
			}
		}
	}
	look(200, true, "serving blue ")
	d.swap("green")
	look(200, true, "serving green ")
	secret := "the disk of 10.0.0.9"
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc", On: true, Reason: secret, Message: "orders come back soon"})
	look(200, true, "read-only green orders come back soon")
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc", Reason: secret})
	look(200, true, "held green ")
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Soft: true, Reason: secret})
	look(503, false, "soft-maintenance green ")
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, For: time.Hour, Reason: secret, Message: `"bigger" disks`})
	look(503, false, `maintenance green "bigger" disks`)
	if res, body := d.state("GET", "/.well-known/turnout"); !withinTheHour(res) || !strings.Contains(body, `"until":"2`) {
		t.Errorf("%v %s", res.Header, body)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "green", Force: true})
	look(503, false, "unavailable green ")
	d.must(proxy.Change{Verb: proxy.VerbReady, Target: "svc", Pool: "green"})
	look(200, true, "serving green ")
}

func TestStateURLIsDrainingWhileThoseWhoAreThereFinish(t *testing.T) {
	answer := make(chan struct{})
	spec := pools([]string{"blue", toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			<-answer
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})})
	spec.Services[0].StatePath = "/state"
	d := openDoor(t, spec)
	c := d.dial()
	c.send(get)
	waitFor(t, "the request to be under way", func() bool { return d.Current().Service("svc").Connections() == 1 })
	d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "blue", Force: true, Drain: time.Hour})
	if res, body := d.state("GET", "/state"); res.StatusCode != 503 || !strings.Contains(body, `"state":"draining","accepting":false`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	close(answer)
	c.answer()
	waitFor(t, "the drain to end", func() bool {
		_, body := d.state("GET", "/state")
		return strings.Contains(body, `"state":"unavailable"`)
	})
}

func TestStateURLIsThatPathAndNoOther(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")})
	spec.Services[0].StatePath = "/state"
	d := openDoor(t, spec)
	for target, door := range map[string]bool{"/state": true, "/%73tate": true, "/a/../state": true, "http://h/state?q": true, "/state/": false, "/states": false, "/State": false, "//state": false, "/": false} {
		if _, body := d.state("GET", target); strings.Contains(body, `"service":"svc"`) != door {
			t.Errorf("%s: %s", target, body)
		}
	}
	c := d.dial()
	c.send("POST /state HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%v %v", res, err)
	}
	c = d.dial()
	c.send("GET /state HTTP/1.1\r\nHost: h\r\n\r\n" + get) // the connection goes on
	if _, body := c.answer(); !strings.Contains(body, `"state":"serving"`) {
		t.Error(body)
	}
	if _, body := c.answer(); body != "blue" {
		t.Error(body)
	}
}

func TestStateURLIsThereForHTTP2(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
	spec.Services[0].StatePath = "/state"
	d := openDoor(t, spec)
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, For: time.Hour})
	res, err := d.http2(config).Get("https://door.test/state")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 503 || res.ProtoMajor != 2 || !withinTheHour(res) || !strings.Contains(string(body), `"state":"maintenance"`) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
}

func TestMaintenancePageSaysUntilWhenAndWhatTheOperatorSaysToThePublic(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")})
	d := openDoor(t, spec)
	on := func() { // and at what time it ends
		d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, For: time.Hour, Reason: "secret", Message: `Fish & "<b>" chips`})
	}
	on()
	until := d.Current().Service("svc").Maintenance.Until.UTC()
	words := until.Format("15:04 MST on 2 January 2006")
	for accept, want := range map[string][]string{
		"text/html":        {"<p>Fish &amp; &#34;&lt;b&gt;&#34; chips</p>", "try again after " + words + "."},
		"application/json": {`"until":"` + until.Format(time.RFC3339) + `","message":"Fish & \"<b>\" chips"}`},
		"text/plain":       {"503 maintenance: Fish & \"<b>\" chips; try again after " + words + "\n"},
	} {
		_, body := d.fetch("/", "h", "Accept: "+accept)
		for _, w := range want {
			if !strings.Contains(body, w) || strings.Contains(body, "secret") {
				t.Errorf("%s: %s, want %s", accept, body, w)
			}
		}
	}
	next := *spec
	next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
	m := &next.Services[0].Maintenance
	m.Page = "{{{message}} until {{until}}{{{ {{x}} {{message"
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
	if _, body := d.fetch("/", "h"); body != "{Fish &amp; &#34;&lt;b&gt;&#34; chips until "+words+"{{{ {{x}} {{message" {
		t.Error(body)
	}
	big := next
	big.Services = append([]proxy.ServiceSpec(nil), next.Services...)
	big.Services[0].Maintenance.Page = strings.Repeat("{{message}}", 48<<10/len("{{message}}"))
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &big})
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Message: strings.Repeat(`"`, proxy.MaxMessage)})
	if head, body := d.fetch("/", "h"); !strings.HasPrefix(head, "HTTP/1.1 503 ") || len(body) < 20<<10 || len(body) > 60<<10 {
		t.Errorf("a page that grows without end: %d bytes, %s", len(body), head)
	}
}

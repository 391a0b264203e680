package web_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestReadOnlyAnswersUnsafeRequestsAndLetsOthersThrough(t *testing.T) {
	spec := pools([]string{"blue", says(t, "blue")}, []string{"green", says(t, "green")})
	spec.Services[0].Maintenance = proxy.MaintenanceSpec{Status: 200, RetryAfter: 10 * time.Minute, Page: "<h1>soon</h1>", Token: "s3cret"}
	d := openDoor(t, spec)
	c := d.dial()
	ask := func(method, line string) (head, body string) {
		t.Helper()
		c := d.dial()
		c.send(method + " / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + line + "\r\n\r\n")
		head, body, _ = strings.Cut(c.tail(), "\r\n\r\n")
		return head + "\r\n", body
	}
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc", On: true})
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		if head, _ := ask(method, "A: b"); !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(head, "X-Turnout-Reason") {
			t.Errorf("%s: %s", method, head)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PROPFIND"} {
		head, _ := ask(method, "Content-Length: 0")
		if !strings.HasPrefix(head, "HTTP/1.1 503 Service Unavailable\r\n") || !strings.Contains(head, "\r\nRetry-After: 600\r\n") || !strings.Contains(head, "\r\nX-Turnout-Reason: read-only\r\n") {
			t.Errorf("%s: %s", method, head)
		}
	}
	for accept, want := range map[string]string{
		"application/json": `{"status":503,"reason":"read-only","retry_after":600}`,
		"text/html":        "<h1>Read only",
		"text/plain":       "503 read-only: try again later\n",
	} {
		if head, body := ask("POST", "Content-Length: 0\r\nAccept: "+accept); !strings.Contains(body, want) || !strings.Contains(head, "\r\nContent-Type: "+accept) {
			t.Errorf("%s: %s\n%s", accept, head, body)
		}
	}
	if _, body := ask("DELETE", "X-Turnout-Bypass: s3cret"); body != "blue" {
		t.Errorf("an operator was turned away: %s", body)
	}
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" + get) // the connection goes on
	if status, _ := c.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error(status)
	}
	if status, body := c.answer(); body != "blue" {
		t.Error(status, body)
	}
	d.swap("green") // it stays, wherever the service is
	c.send("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n" + get)
	if status, _ := c.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error(status)
	}
	if _, body := c.answer(); body != "green" {
		t.Error(body)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true})
	if head, body := ask("POST", "Content-Length: 0"); !strings.HasPrefix(head, "HTTP/1.1 200 ") || body != "<h1>soon</h1>" {
		t.Errorf("in maintenance, too: %s\n%s", head, body)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc"})
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc"})
	if _, body := ask("DELETE", "A: b"); body != "green" {
		t.Errorf("after the end: %s", body)
	}
}

func TestReadOnlyHoldsForHTTP2(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", says(t, "p")}))
	d := openDoor(t, spec)
	c := d.http2(config)
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc", On: true, For: time.Hour})
	for method, want := range map[string]int{"GET": 200, "POST": 503, "DELETE": 503} {
		q, err := http.NewRequestWithContext(t.Context(), method, "https://door.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want || res.ProtoMajor != 2 || want == 503 && (!withinTheHour(res) || res.Header.Get("X-Turnout-Reason") != "read-only") {
			t.Errorf("%s: %d, %v", method, res.StatusCode, res.Header)
		}
	}
}

// deaf is a listener that never accepts, and whose backlog is full: dials to it hang.
func deaf(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	for { // until one hangs
		c, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestReadOnlyTakesBackUnsafeRequestsThatAreDialledFor(t *testing.T) {
	spec := pools([]string{"p", deaf(t)})
	spec.Services[0].Timeouts.Connect = time.Hour
	d := openDoor(t, spec)
	reads, writes := d.dial(), d.dial()
	reads.send(get)
	writes.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	server := d.Current().Service("svc").Pool("p").Servers()[0]
	waitFor(t, "both to be dialled for", func() bool { return server.Counts().Dialing == 2 })
	d.must(proxy.Change{Verb: proxy.VerbReadOnly, Target: "svc", On: true})
	if n := server.Counts().Dialing; n != 1 {
		t.Errorf("%d are dialled for when the change has been answered", n)
	}
	if status, _ := writes.answer(); status != "HTTP/1.1 503 Service Unavailable" {
		t.Error(status)
	}
}

func TestReadOnlyIsRefusedWhereNobodyKnowsWhatWrites(t *testing.T) {
	spec := pools([]string{"p", says(t, "p")})
	bytes := spec.Services[0]
	bytes.Name, bytes.Mode = "bytes", proxy.TCP
	spec.Services = append(spec.Services, bytes)
	d := openDoor(t, spec)
	for _, target := range []string{"bytes", proxy.All} {
		_, err := d.Apply(t.Context(), proxy.Change{Verb: proxy.VerbReadOnly, Target: target, On: true})
		if err == nil || !strings.Contains(err.Error(), "bytes is of mode tcp") || d.Current().Service("svc").ReadOnly != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

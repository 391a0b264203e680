package web_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

// http2 is a client that speaks HTTP/2 with the door.
func (d *door) http2(config *tls.Config) *http.Client {
	c := config.Clone()
	c.NextProtos = []string{"h2"}
	return d.https(c)
}

func secured2(t testing.TB, spec *proxy.Spec) (*proxy.Spec, *tls.Config) {
	t.Helper()
	spec, config := secured(t, spec)
	spec.Services[0].TLS.ALPN = []string{"h2", "http/1.1"}
	return spec, config
}

func TestHTTP2_CarriesRequestsAndAnswersOfAllSizes(t *testing.T) {
	spec, config := secured2(t, pools([]string{"p", digester(t, "s")}))
	d := openDoor(t, spec)
	c := d.http2(config)
	if res, err := c.Get("https://door.test/"); err != nil { // a transport without a connection makes several at first
		t.Fatal(err)
	} else {
		_ = res.Body.Close()
	}
	var wg sync.WaitGroup
	for i := range 40 { // side by side on one connection
		wg.Go(func() {
			size := []int{0, 1, 1000, 70_000, 1 << 20}[i%5]
			body := bytes.Repeat([]byte{byte(i)}, size)
			var r io.Reader = bytes.NewReader(body)
			if i%2 == 0 {
				r = io.MultiReader(r) // of unknown length
			}
			res, err := c.Post(fmt.Sprintf("https://door.test/?n=%d", size), "text/plain", r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close() //nolint:errcheck // a test's
			got, err := io.ReadAll(res.Body)
			want := sha256.Sum256(body)
			if err != nil || res.ProtoMajor != 2 || len(got) != size || res.Header.Get("X-Digest") != hex.EncodeToString(want[:]) || res.Header.Get("X-Proto") != "https" {
				t.Errorf("%d bytes: got %d by %s, %v, %v", size, len(got), res.Proto, err, res.Header)
			}
		})
	}
	wg.Wait()
	if n := d.Current().Service("svc").Counts(); n.Secured != 1 {
		t.Errorf("%d handshakes for one connection", n.Secured)
	}
}

func TestHTTP2_TrailersStatusAndHeadGoThrough(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "%d %s", len(all), r.Header.Get("Cookie"))
		w.Header().Set("X-Sum", "42")
	}))
	t.Cleanup(s.Close)
	spec, config := secured2(t, pools([]string{"p", strings.TrimPrefix(s.URL, "http://")}))
	d := openDoor(t, spec)
	c := d.http2(config)
	req, _ := http.NewRequest("POST", "https://door.test/", strings.NewReader("abc"))
	req.Header.Set("Cookie", "a=b")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusTeapot || string(all) != "3 a=b" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("got %d %q %v, %v", res.StatusCode, all, res.Trailer, err)
	}
	if res, err := c.Head("https://door.test/"); err != nil || res.StatusCode != http.StatusTeapot {
		t.Errorf("HEAD: got %v, %v", res, err)
	}
}

func TestHTTP2_AnAnswerCutShortResetsItsStreamAndNoOther(t *testing.T) {
	s := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			if strings.Contains(h, "GET /whole") {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				continue
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			return
		}
	})
	spec, config := secured2(t, pools([]string{"p", s}))
	d := openDoor(t, spec)
	c := d.http2(config)
	for _, path := range []string{"/half", "/whole", "/half"} {
		res, err := c.Get("https://door.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(res.Body)
		if cut := path == "/half"; cut != (err != nil) {
			t.Errorf("%s: got %q, %v", path, all, err)
		}
		_ = res.Body.Close()
	}
	if n := d.Current().Service("svc").Counts(); n.Secured != 1 {
		t.Errorf("%d connections for three requests", n.Secured)
	}
}

func TestHTTP2_SwapsUnderLoadLoseNothing(t *testing.T) {
	spec, config := secured2(t, pools([]string{"blue", digester(t, "blue")}, []string{"green", digester(t, "green")}))
	d := openDoor(t, spec)
	c := d.http2(config)
	proxytest.Storm{Swaps: 20, Between: 10, Clients: 6, Swap: func(to string) { d.swap(to) }, Ask: func(int) (string, error) {
		return named(c.Post("https://door.test/?n=100", "text/plain", strings.NewReader("hello")))
	}}.Run(t, "blue", "green")
}

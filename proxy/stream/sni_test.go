package stream_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// speaksTLS is a server with a certificate of its own, which says its name in a line and then echoes.
func speaksTLS(t testing.TB, ca *certstest.Authority, name string, hosts ...string) *toy {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(ca.Pair(t.TempDir(), name, hosts...))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, name, func(raw *net.TCPConn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
		defer c.Close()
		fmt.Fprintln(c, name)
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
}

// ownAddress is one that several services can listen on, and that nobody else does: it is of no port that the kernel gives.
func ownAddress() proxy.ListenSpec {
	return proxy.ListenSpec{Network: proxy.NetTCP, Address: fmt.Sprintf("127.%d.%d.%d:20443", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))}
}

// through makes a service that passes TLS through for hosts.
func through(name string, listen proxy.ListenSpec, hosts []string, list ...[]string) proxy.ServiceSpec {
	s := pools(list...).Services[0]
	s.Name, s.Listen = name, []proxy.ListenSpec{listen}
	s.TLS = &proxy.TLSSpec{Mode: proxy.Passthrough, SNI: hosts, Handshake: 20 * time.Second}
	return s
}

// says shakes hands with whoever is behind the door and returns the line it says.
func says(t testing.TB, addr string, config *tls.Config) (string, error) {
	t.Helper()
	c := tls.Client(dialAddr(t, addr), config)
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return "", err
	}
	return readLine(t, c), nil
}

func TestSNI_LeadsEachHostToItsServiceTheExactOneFirst(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	var spec proxy.Spec
	for name, hosts := range map[string][]string{"exact": {"a.test", "b.x.test"}, "wild": {"*.test"}, "deep": {"*.x.test"}, "rest": nil} {
		srv := speaksTLS(t, ca, name, "a.test", "b.x.test", "c.x.test", "d.test", "e.other", "d.e.test", "x.test")
		spec.Services = append(spec.Services, through(name, at, hosts, []string{"p", srv.address()}))
	}
	ended := through("ended", at, []string{"end.test"}, []string{"p", echo(t, "ended").address()})
	cert, key := ca.Pair(t.TempDir(), "door", "end.test")
	ended.TLS = &proxy.TLSSpec{Mode: proxy.Terminate, SNI: []string{"end.test"}, MinVersion: tls.VersionTLS12, Handshake: 20 * time.Second, Certs: []proxy.CertSpec{{Cert: cert, Key: key}}}
	spec.Services = append(spec.Services, ended)
	d := openDoor(t, &spec)
	accepted := map[string]uint64{}
	for host, want := range map[string]string{
		"a.test": "exact", "A.Test": "exact", "b.x.test": "exact", "c.x.test": "deep", "d.test": "wild", "d.e.test": "wild", "x.test": "wild", "e.other": "rest", "end.test": "ended", "": "rest",
	} {
		config := &tls.Config{RootCAs: ca.Pool, ServerName: host}
		if host == "" {
			config = &tls.Config{InsecureSkipVerify: true}
		}
		if got, err := says(t, at.Address, config); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %s", host, got, err, want)
		}
		accepted[want]++
	}
	for name, want := range accepted {
		if got := d.Current().Service(name).Counts().Accepted; got != want {
			t.Errorf("%s: %d accepted, want %d", name, got, want)
		}
	}
}

// caughtHello is what crypto/tls sends first.
func caughtHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_ = tls.Client(theirs, config).Handshake()
		_ = theirs.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// inRecords cuts a greeting's message into records of n bytes.
func inRecords(hello []byte, n int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), body[:k]...)
		body = body[k:]
	}
	return out
}

func TestSNI_TheServerGetsEveryByteHoweverTheGreetingCame(t *testing.T) {
	got := make(chan []byte, 1)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, _ := io.ReadAll(c)
		got <- all
	})
	at := ownAddress()
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{through("a", at, []string{"a.test"}, []string{"p", srv.address()}), through("b", at, []string{"b.test"}, []string{"p", "127.0.0.1:1"})}}
	openDoor(t, spec)
	hello := caughtHello(t, &tls.Config{ServerName: "a.test"})
	for _, size := range []int{1, 3, 100, 1 << 14} {
		for _, segment := range []int{1, 7, 1 << 14} {
			sent := append(inRecords(hello, size), bytes.Repeat([]byte("and what follows "), 1000)...)
			c := dialAddr(t, at.Address).(*net.TCPConn) // each write is a segment: Go sets TCP_NODELAY
			for head := sent[:len(inRecords(hello, size))]; len(head) > 0; {
				n := min(segment, len(head))
				if _, err := c.Write(head[:n]); err != nil {
					t.Fatal(err)
				}
				head = head[n:]
			}
			_, _ = c.Write(sent[len(inRecords(hello, size)):])
			_ = c.CloseWrite()
			if all := <-got; !bytes.Equal(all, sent) {
				t.Errorf("records of %d in segments of %d: %d bytes arrived, of %d", size, segment, len(all), len(sent))
			}
			_ = c.Close()
		}
	}
}

func TestSNI_WhoIsNobodysClientIsToldSoAndCounted(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{through("a", at, []string{"a.test"}, []string{"p", "127.0.0.1:1"}), through("b", at, []string{"b.test"}, []string{"p", "127.0.0.1:1"})}}
	d := openDoor(t, spec)
	for config, want := range map[*tls.Config]string{ca.Client("c.test"): "unrecognized name", {InsecureSkipVerify: true}: "missing extension"} {
		_, err := says(t, at.Address, config)
		var alert tls.AlertError
		if !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v; want %s", err, want)
		}
	}
	waitFor(t, "both are counted", func() bool {
		n := d.Current().Service("a").Counts()
		return n.Refused == 2 && n.Insecure == 0 && n.Accepted == 2
	})
	huge := append([]byte{22, 3, 1, 64, 0, 1, 0, 63, 0}, make([]byte, 17<<10)...) // one that says 16128 bytes, and has more records to come
	for what, text := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "half a greeting": string(caughtHello(t, ca.Client("a.test"))[:50]), "nothing": "", "nonsense": strings.Repeat("\xff", 30000), "too much": string(huge),
	} {
		before := d.Current().Service("a").Counts().Insecure
		c := dialAddr(t, at.Address).(*net.TCPConn)
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
		if all, err := io.ReadAll(c); len(all) > 0 || err != nil && what != "nonsense" && what != "too much" { // what came after 16 KiB was left unread: a reset
			t.Errorf("%s: got %q, %v; want the end", what, all, err)
		}
		waitFor(t, "it is counted", func() bool { return d.Current().Service("a").Counts().Insecure == before+1 })
	}
}

func TestSNI_WhoDoesNotEndItsGreetingIsClosedAtTheDeadline(t *testing.T) {
	s := through("svc", proxy.ListenSpec{Network: proxy.NetTCP, Address: "127.0.0.1:0"}, nil, []string{"p", "127.0.0.1:1"})
	s.TLS.Handshake = 50 * time.Millisecond
	d := openDoor(t, &proxy.Spec{Services: []proxy.ServiceSpec{s}})
	hello := caughtHello(t, &tls.Config{ServerName: "a.test"})
	for i, text := range []string{"", string(hello[:50])} {
		c := d.dial("svc")
		_, _ = io.WriteString(c, text)
		if all, err := io.ReadAll(c); len(all) > 0 || err != nil {
			t.Errorf("%d bytes: got %q, %v; want the end", len(text), all, err)
		}
		waitFor(t, "it is counted", func() bool { return d.Current().Service("svc").Counts().Insecure == uint64(i+1) })
	}
}

func TestSNI_SwapsUnderLoadLoseNothingAndMoveAllThatComesAfter(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	blue, green, other := speaksTLS(t, ca, "blue", "a.test"), speaksTLS(t, ca, "green", "a.test"), speaksTLS(t, ca, "other", "b.test")
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{
		through("b", at, []string{"b.test"}, []string{"p", other.address()}),
		through("svc", at, []string{"a.test"}, []string{"blue", blue.address()}, []string{"green", green.address()}),
	}}
	d := openDoor(t, spec)
	var epoch atomic.Uint64 // odd: a swap is under way
	var total, failed, late atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 6 {
		config, b := ca.Client("a.test"), i == 5
		if b {
			config = ca.Client("b.test")
		}
		wg.Go(func() {
			for !stop.Load() {
				before := epoch.Load()
				raw, err := net.Dial("tcp", at.Address)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = raw.SetDeadline(time.Now().Add(2 * time.Minute))
				c := tls.Client(raw, config)
				buf := make([]byte, 6)
				n, err := io.ReadAtLeast(c, buf, 5)
				after := epoch.Load()
				_ = raw.(*net.TCPConn).SetLinger(0)
				_ = raw.Close()
				isBlue := bytes.HasPrefix(buf[:n], []byte("blue"))
				switch total.Add(1); {
				case err != nil, b && string(buf[:n]) != "other\n"[:n]:
					t.Logf("got %q, %v", buf[:n], err)
					failed.Add(1)
				case !b && before == after && before%2 == 0 && isBlue != (before/2%2 == 0):
					late.Add(1)
				}
			}
		})
	}
	for i := range 30 {
		waitFor(t, "traffic between two swaps", func() bool { return total.Load() >= int64(8*i) })
		epoch.Add(1)
		op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: []string{"green", "blue"}[i%2]})
		epoch.Add(1)
		if v := op.View(); v.Proofs[0].Overlap != 0 {
			t.Errorf("overlap %v", v.Proofs[0].Overlap)
		}
	}
	stop.Store(true)
	wg.Wait()
	if failed.Load() != 0 || late.Load() != 0 {
		t.Errorf("of %d: %d failed, %d late", total.Load(), failed.Load(), late.Load())
	}
}

func TestSNI_AHoldIsOfOneServiceAndWhoLeavesIsForgotten(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	a, b := speaksTLS(t, ca, "a", "a.test"), speaksTLS(t, ca, "b", "b.test")
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{through("b", at, nil, []string{"p", b.address()}), through("svc", at, []string{"a.test"}, []string{"p", a.address()})}}
	d := openDoor(t, spec)
	d.hold()
	got := make(chan error, 1)
	go func() {
		line, err := says(t, at.Address, ca.Client("a.test"))
		if err == nil && line != "a" {
			err = fmt.Errorf("led to %s", line)
		}
		got <- err
	}()
	waitFor(t, "it waits", func() bool { return d.held() == 1 })
	if line, err := says(t, at.Address, ca.Client("b.test")); err != nil || line != "b" {
		t.Errorf("another service's client: %q, %v", line, err)
	}
	leaver := dialAddr(t, at.Address)
	_, _ = leaver.Write(caughtHello(t, ca.Client("a.test")))
	waitFor(t, "both wait", func() bool { return d.held() == 2 })
	_ = leaver.Close()
	waitFor(t, "one has left", func() bool { return d.held() == 1 })
	d.release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestSNI_ThePROXYHeaderComesBeforeTheGreetingAndGoesOn(t *testing.T) {
	got := make(chan string, 1)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, _ := io.ReadAll(c)
		got <- string(all)
	})
	at := ownAddress()
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{through("a", at, nil, []string{"p", "127.0.0.1:1"}), through("b", at, []string{"b.test"}, []string{"p", srv.address()})}}
	for i := range spec.Services {
		spec.Services[i].ProxyProtocol = proxy.ProxyProtocolSpec{Accept: true, Send: proxy.ProxyV1}
	}
	openDoor(t, spec)
	c := dialAddr(t, at.Address).(*net.TCPConn)
	sent := "PROXY TCP4 10.1.2.3 10.4.5.6 1000 443\r\n" + string(caughtHello(t, &tls.Config{ServerName: "b.test"}))
	_, _ = io.WriteString(c, sent)
	_ = c.CloseWrite()
	if all := <-got; all != sent {
		t.Errorf("got %q, want %q", all, sent)
	}
}

func TestSNI_CarriesMuchBothWaysByteForByte(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	srv := speaksTLS(t, ca, "s", "a.test")
	openDoor(t, &proxy.Spec{Services: []proxy.ServiceSpec{through("svc", at, []string{"a.test"}, []string{"p", srv.address()})}})
	c := tls.Client(dialAddr(t, at.Address), ca.Client("a.test"))
	sent := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(sent)
	go func() {
		pieces(c, sent)
		_ = c.CloseWrite()
	}()
	if readLine(t, c) != "s" {
		t.Fatal("another name")
	}
	if all, err := io.ReadAll(c); err != nil || !bytes.Equal(all, sent) {
		t.Errorf("%d bytes came back, %v", len(all), err)
	}
}

func TestSNI_AReloadMovesAHostAndLeavesThoseThatAreThere(t *testing.T) {
	ca, at := certstest.New(t), ownAddress()
	a, b := speaksTLS(t, ca, "a", "x.test"), speaksTLS(t, ca, "b", "x.test")
	spec := func(ofA, ofB []string) *proxy.Spec {
		return &proxy.Spec{Services: []proxy.ServiceSpec{through("a", at, ofA, []string{"p", a.address()}), through("b", at, ofB, []string{"p", b.address()})}}
	}
	d := openDoor(t, spec([]string{"x.test"}, []string{"y.test"}))
	old := tls.Client(dialAddr(t, at.Address), ca.Client("x.test"))
	if got := readLine(t, old); got != "a" {
		t.Fatal(got)
	}
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: spec([]string{"y.test"}, []string{"x.test"})})
	if got, err := says(t, at.Address, ca.Client("x.test")); err != nil || got != "b" {
		t.Errorf("a new client: %q, %v", got, err)
	}
	fmt.Fprintln(old, "still here")
	if got := readLine(t, old); got != "still here" {
		t.Error(got)
	}
}

package stream_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

const v2sig = "\r\n\r\n\x00\r\nQUIT\n"

// v2 makes a header: version and command, family and transport, and the body.
func v2(verCmd, fam byte, body string) string {
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(body)))
	return v2sig + string([]byte{verCmd, fam}) + string(n[:]) + body
}

const (
	v4pair = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x00\x50" // 192.0.2.1:4660, 192.0.2.2:80
	tlv    = "\x04\x00\x05noop!"
)

var v6pair = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x02" + "\x12\x34\x00\x50"

// saysBack answers with all it got, once the client has ended.
func saysBack(t testing.TB) *toy {
	return serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, _ := readAll(c)
		_, _ = io.WriteString(c, all)
	})
}

// withHeaders makes a spec whose clients must say by a header who they are, and whose servers are told by a header.
func withHeaders(server string, accept bool, send proxy.ProxyVersion) *proxy.Spec {
	spec := pools([]string{"a", server})
	spec.Services[0].ProxyProtocol = proxy.ProxyProtocolSpec{Accept: accept, Send: send}
	return spec
}

// The header in, and what the server is told of it by version 1. SELF stands for the connection's own addresses.
var goodHeaders = map[string][2]string{
	"v1 TCP4":              {"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n"},
	"v1 TCP6":              {"PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n", "PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n"},
	"v1 UNKNOWN":           {"PROXY UNKNOWN\r\n", "SELF"},
	"v1 UNKNOWN with more": {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "SELF"},
	"v2 TCP4":              {v2(0x21, 0x11, v4pair), "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n"},
	"v2 TCP4 with TLVs":    {v2(0x21, 0x11, v4pair+tlv+tlv), "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n"},
	"v2 TCP4 with 4 KiB":   {v2(0x21, 0x11, v4pair+"\x04\x0f\xe1"+strings.Repeat("x", 4096-16-12-3)), "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n"},
	"v2 TCP6":              {v2(0x21, 0x21, v6pair), "PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n"},
	"v2 LOCAL":             {v2(0x20, 0x00, ""), "SELF"},
	"v2 LOCAL with body":   {v2(0x20, 0x11, v4pair), "SELF"},
	"v2 UNSPEC":            {v2(0x21, 0x00, tlv), "SELF"},
	"v2 UNIX":              {v2(0x21, 0x31, strings.Repeat("x", 216)), "SELF"},
}

func TestProxyProtocol_AcceptsWhatIsValidHoweverItComes(t *testing.T) {
	srv := saysBack(t)
	d := openDoor(t, withHeaders(srv.address(), true, proxy.ProxyV1))
	for name, h := range goodHeaders {
		for _, how := range []string{"at once", "byte by byte", "with the rest behind it", "with the rest and the end behind it"} {
			if len(h[0]) > 1000 && how == "byte by byte" {
				continue
			}
			t.Run(name+" "+how, func(t *testing.T) {
				c := d.dial("svc").(*net.TCPConn)
				const payload = "PROXY TCP4 is not a header here\r\n" + v2sig
				switch how {
				case "at once":
					fmt.Fprint(c, h[0])
					waitFor(t, "header taken", func() bool { return d.counts(srv.address()).Connections == 1 })
					fmt.Fprint(c, payload)
				case "byte by byte":
					for i := range len(h[0]) {
						fmt.Fprint(c, h[0][i:i+1])
					}
					fmt.Fprint(c, payload)
				case "with the rest behind it":
					fmt.Fprint(c, h[0]+payload)
				default: // the loop sees the end together with the rest
					thaw := d.plane.Freeze()
					fmt.Fprint(c, h[0]+payload)
					_ = c.CloseWrite()
					thaw()
				}
				_ = c.CloseWrite()
				want := strings.Replace(h[1], "SELF", v1Of(c), 1) + payload
				if got, err := readAll(c); got != want || err != nil {
					t.Errorf("got  %q, %v\nwant %q", got, err, want)
				}
				c.Close()
				d.gone()
			})
		}
	}
	if n := d.Current().Service("svc").Counts(); n.Malformed != 0 {
		t.Errorf("%+v", n)
	}
}

// v1Of is the header that tells a client's own addresses.
func v1Of(c net.Conn) string {
	l, r := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	family := "TCP4"
	if l.Addr().Is6() {
		family = "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, l.Addr(), r.Addr(), l.Port(), r.Port())
}

func TestProxyProtocol_ClosesAndCountsWhatIsNot(t *testing.T) {
	reached := make(chan bool, 100)
	srv := serve(t, "s", func(c *net.TCPConn) { reached <- true; c.Close() })
	d := openDoor(t, withHeaders(srv.address(), true, proxy.ProxyOff))
	bad := []string{
		"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "PROXY", // the last: and then the end
		"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\n", "PROXY  TCP4 192.0.2.1 192.0.2.2 4660 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80 \r\n",
		"PROXY UNKNOWN \n\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n", "PROXY TCP4 2001:db8::1 192.0.2.2 4660 80\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 4660 80\r\n",
		"PROXY TCP4 192.0.2.256 192.0.2.2 4660 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 04660 80\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"PROXY UDP4 192.0.2.1 192.0.2.2 4660 80\r\n", "proxy TCP4 192.0.2.1 192.0.2.2 4660 80\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", "PROXY TCP4 " + strings.Repeat("1", 200),
		v2(0x11, 0x11, v4pair), v2(0x22, 0x11, v4pair), v2(0x21, 0x41, v4pair), v2(0x21, 0x13, v4pair), v2(0x21, 0x11, v4pair[:11]),
		v2(0x21, 0x21, v4pair), v2sig + "\x21\x11\xff\xff", v2(0x21, 0x11, v4pair+strings.Repeat("x", 4096-16-12+1)),
		v2sig[:11] + "X", v2(0x21, 0x11, v4pair)[:20], "",
	}
	for i, h := range bad {
		c := d.dial("svc").(*net.TCPConn)
		fmt.Fprint(c, h)
		if len(h) < 28 { // what may yet become a header ends here
			_ = c.CloseWrite()
		}
		if s, err := readAll(c); s != "" || err != nil && !isReset(err) {
			t.Errorf("%q: %q, %v", h, s, err)
		}
		waitFor(t, "counted", func() bool { return d.Current().Service("svc").Counts().Malformed == uint64(i+1) })
		c.Close()
	}
	if len(reached) > 0 {
		t.Error("a server was reached")
	}
}

func TestProxyProtocol_WhoseHeaderComesTooSlowlyIsClosedAtTheDeadline(t *testing.T) {
	spec := withHeaders(saysBack(t).address(), true, proxy.ProxyOff)
	spec.Services[0].Timeouts.Connect = 300 * time.Millisecond
	d := openDoor(t, spec)
	begun := time.Now()
	silent, slow := d.dial("svc"), d.dial("svc")
	go func() { // something comes all the time; that does not defer the deadline
		for _, b := range []byte("PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n") {
			if _, err := slow.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(30 * time.Millisecond)
		}
	}()
	for _, c := range []net.Conn{silent, slow} {
		if s, err := readAll(c); s != "" || err != nil && !isReset(err) {
			t.Errorf("%q, %v", s, err)
		}
	}
	if took := time.Since(begun); took < 280*time.Millisecond || took > 10*time.Second {
		t.Errorf("after %v", took)
	}
	waitFor(t, "counted", func() bool { return d.Current().Service("svc").Counts().Malformed == 2 })
}

func TestProxyProtocol_SourceHashAndHoldGoByTheHeadersClient(t *testing.T) {
	a, b := echo(t, "a"), echo(t, "b")
	spec := withHeaders(a.address(), true, proxy.ProxyOff)
	spec.Services[0].Balance = proxy.SourceHash
	spec.Services[0].Pools[0].Servers = append(spec.Services[0].Pools[0].Servers, proxy.ServerSpec{Name: "b", Address: b.address(), Weight: 1})
	d := openDoor(t, spec)
	d.hold()
	where := map[int]string{}
	for round := range 2 {
		conns := map[int]net.Conn{}
		for i := range 30 {
			c := d.dial("svc")
			fmt.Fprintf(c, "PROXY TCP4 192.0.2.%d 192.0.2.200 %d 80\r\n", i, 1000+round)
			conns[i] = c
		}
		if round == 0 {
			waitFor(t, "held", func() bool { return d.held() == 30 })
			d.release()
		}
		for i, c := range conns {
			got := readLine(t, c)
			if round == 0 {
				where[i] = got
			} else if where[i] != got {
				t.Errorf("client %d: %s, then %s", i, where[i], got)
			}
		}
	}
	seen := map[string]int{}
	for _, s := range where {
		seen[s]++
	}
	if seen["a"] < 5 || seen["b"] < 5 {
		t.Error(seen)
	}
}

func TestProxyProtocol_SendsExactlyWhoTheClientIs(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", ":0", "unix"} {
		for _, version := range []proxy.ProxyVersion{proxy.ProxyV1, proxy.ProxyV2} {
			for _, server := range []string{"tcp", "unix"} {
				t.Run(fmt.Sprint(listen, " ", version, " to ", server), func(t *testing.T) {
					say := func(c net.Conn) {
						defer c.Close()
						all, _ := readAll(c)
						_, _ = io.WriteString(c, all)
					}
					address := ""
					if server == "tcp" {
						address = serve(t, "s", func(c *net.TCPConn) { say(c) }).address()
					} else {
						path := unixPath(t)
						l, err := net.Listen("unix", path)
						if err != nil {
							t.Fatal(err)
						}
						serveOn(t, l, "s", say)
						address = "unix:" + path
					}
					spec := withHeaders(address, false, version)
					spec.Services[0].Listen[0].Address = listen
					if listen == "unix" {
						spec.Services[0].Listen[0] = proxy.ListenSpec{Network: proxy.NetUnix, Address: unixPath(t)}
					}
					d := openDoor(t, spec)
					addr := d.addr("svc")
					if listen == ":0" { // an IPv4 client of a listener for both
						_, port, _ := net.SplitHostPort(addr)
						addr = "127.0.0.1:" + port
					}
					c := dialAddr(t, addr)
					fmt.Fprint(c, "hello")
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
					want := headerOf(c, version) + "hello"
					if got, err := readAll(c); got != want || err != nil {
						t.Errorf("got  %q, %v\nwant %q", got, err, want)
					}
				})
			}
		}
	}
}

// headerOf is what a server must be told of a client.
func headerOf(c net.Conn, version proxy.ProxyVersion) string {
	if c.LocalAddr().Network() == "unix" {
		if version == proxy.ProxyV1 {
			return "PROXY UNKNOWN\r\n"
		}
		return v2(0x21, 0x00, "")
	}
	if version == proxy.ProxyV1 {
		return v1Of(c)
	}
	var l, r netip.AddrPort = c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	fam := byte(0x11)
	if l.Addr().Is6() {
		fam = 0x21
	}
	b := append(l.Addr().AsSlice(), r.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, l.Port())
	b = binary.BigEndian.AppendUint16(b, r.Port())
	return v2(0x21, fam, string(b))
}

func TestProxyProtocol_ChainedV1InBecomesV2Out(t *testing.T) {
	d := openDoor(t, withHeaders(saysBack(t).address(), true, proxy.ProxyV2))
	c := d.dial("svc").(*net.TCPConn)
	fmt.Fprint(c, "PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\nhello")
	_ = c.CloseWrite()
	want := v2(0x21, 0x11, v4pair) + "hello"
	if got, err := readAll(c); got != want || err != nil {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}

// A server that waits for the client to speak first must get the header all the same, and at once.
func TestProxyProtocol_TheHeaderIsSentBeforeTheClientSpeaks(t *testing.T) {
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		fmt.Fprintln(c, readLine(t, c))
	})
	d := openDoor(t, withHeaders(srv.address(), false, proxy.ProxyV1))
	c := d.dial("svc")
	if got := readLine(t, c); got+"\n" != v1Of(c) {
		t.Errorf("%q", got)
	}
}

package proxyproto

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Whatever a client sends: no panic, no header longer than the bound, the same verdict for the same bytes with more
// behind them, "more is needed" for each beginning of a good header; and what was learnt can be said again.
func FuzzParseProxyHeader(f *testing.F) {
	a, _ := loop.ParseAddr("192.0.2.1:1")
	b, _ := loop.ParseAddr("[2001:db8::1]:65535")
	for _, pair := range [][2]loop.Addr{{a, a}, {b, b}, {a, b}, {}} {
		f.Add(AppendV1(nil, pair[0], pair[1]))
		f.Add(AppendV2(nil, pair[0], pair[1]))
	}
	for _, s := range []string{
		"PROXY UNKNOWN\r\n", "PROXY UNKNOWN a b c d\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET", "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
		"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "PROXY \n", "PROX", "PROXY UNKNOWN \n", "PROXY UNKNOWN \n\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0f\x01\x02\x03\x04\x01\x02\x03\x04\x00\x01\x00\x02\x04\x00\x00",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c", "", "GET / HTTP/1.1\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := Parse(in)
		if err != nil {
			if err == ErrShort && len(in) >= MaxHeader {
				t.Fatalf("%d bytes and still not enough", len(in))
			}
			if err == errBad {
				if _, more := Parse(append(bytes.Clone(in), "\r\n"...)); more == nil {
					t.Fatal("a verdict that was final became another one")
				}
			}
			return
		}
		if h.Length > len(in) || h.Length > MaxHeader || h.Length < 15 {
			t.Fatalf("a header of %d bytes in %d", h.Length, len(in))
		}
		if again, err := Parse(append(bytes.Clone(in[:h.Length]), 'x')); err != nil || again != h {
			t.Fatalf("%+v, %v; alone: %+v", h, err, again)
		}
		for n := range h.Length {
			if _, err := Parse(in[:n]); err != ErrShort {
				t.Fatalf("the first %d bytes of %d: %v", n, h.Length, err)
			}
		}
		if !h.Src.IsValid() {
			return
		}
		for v, b := range [][]byte{AppendV1(nil, h.Src, h.Dst), AppendV2(nil, h.Src, h.Dst)} {
			back, err := Parse(b)
			if err != nil || back.Length != len(b) || back.Src != h.Src || back.Dst != h.Dst {
				t.Fatalf("v%d: %q became %+v, %v; was %+v", v+1, b, back, err, h)
			}
		}
	})
}

// Each pair of addresses that can be said is understood again.
func FuzzProxyHeaderRoundTrip(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint16(1), []byte{127, 0, 0, 1}, uint16(2))
	f.Add(make([]byte, 16), uint16(0), []byte{255, 255, 255, 255}, uint16(65535))
	f.Fuzz(func(t *testing.T, src []byte, sport uint16, dst []byte, dport uint16) {
		s, ok1 := netip.AddrFromSlice(src)
		d, ok2 := netip.AddrFromSlice(dst)
		if !ok1 || !ok2 {
			return
		}
		sa, _ := loop.AddrFrom(netip.AddrPortFrom(s, sport))
		da, _ := loop.AddrFrom(netip.AddrPortFrom(d, dport))
		for v, b := range [][]byte{AppendV1(nil, sa, da), AppendV2(nil, sa, da)} {
			h, err := Parse(b)
			if err != nil || h.Src != sa || h.Dst != da || h.Length != len(b) {
				t.Fatalf("v%d: %q: %+v, %v", v+1, b, h, err)
			}
		}
	})
}

package loop

import (
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

func TestAddr_IsSmallAndComparable(t *testing.T) {
	if size := unsafe.Sizeof(Addr{}); size != 24 {
		t.Errorf("Addr has %d bytes", size)
	}
	a, _ := ParseAddr("192.0.2.1:80")
	b, _ := ParseAddr("[::ffff:192.0.2.1]:80")
	if a != b {
		t.Errorf("%v and its mapped form %v differ", a, b)
	}
	if (Addr{}).IsValid() || (Addr{}).String() != "" {
		t.Error("the zero Addr is an address")
	}
}

func TestAddr_ComesBackFromTheKernelsForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ip netip.Addr
		if rapid.Bool().Draw(t, "v4") {
			ip = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip")))
		} else {
			ip = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")))
			if rapid.Bool().Draw(t, "zone") && !ip.Is4In6() {
				ip = ip.WithZone("7")
			}
		}
		want := netip.AddrPortFrom(ip, rapid.Uint16().Draw(t, "port"))
		a, err := AddrFrom(want)
		if err != nil {
			t.Fatal(err)
		}
		sa := a.Sockaddr()
		back := sa.Addr()
		if back != a || back.AddrPort() != netip.AddrPortFrom(ip.Unmap(), want.Port()) || back.IP() != ip.Unmap() {
			t.Fatalf("%v became %v", want, back)
		}
		if a.As16() != ip.As16() {
			t.Fatalf("As16 of %v is %v", want, a.As16())
		}
		if again, err := ParseSockaddr(sa.Bytes()); err != nil || again != sa {
			t.Fatalf("%v: %v", again, err)
		}
	})
}

func TestParseAddr_SaysWhatItWants(t *testing.T) {
	for _, s := range []string{"", "localhost:80", "1.2.3.4", "[fe80::1%eth0]:80"} {
		if _, err := ParseAddr(s); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestUnixSockaddr_KeepsThePath(t *testing.T) {
	for _, path := range []string{"/run/x.sock", "rel.sock", "@abstract", strings.Repeat("p", maxUnixPath)} {
		sa, err := UnixSockaddr(path)
		if err != nil || sa.Path() != path || sa.Addr().String() != "unix" || sa.Addr().Family() != AFUnix {
			t.Errorf("%q: %q %v %v", path, sa.Path(), sa.Addr(), err)
		}
	}
	for _, path := range []string{"", strings.Repeat("p", maxUnixPath+1)} {
		if _, err := UnixSockaddr(path); err == nil {
			t.Errorf("%q passed", path)
		}
	}
}

func FuzzParseSockaddr(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 80, 1, 2, 3, 4})
	f.Add([]byte{10, 0, 0, 80, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		sa, err := ParseSockaddr(b)
		if err != nil {
			return
		}
		_, _, _ = sa.Addr().String(), sa.Path(), sa.Family()
	})
}

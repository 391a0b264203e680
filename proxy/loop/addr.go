package loop

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// Address families, with Linux's values.
const (
	AFUnix  = 1
	AFInet  = 2
	AFInet6 = 10
)

// Addr is the address of a peer, kept by value: 24 bytes without pointers, comparable. Of a Unix socket it
// only says that it is one; the path stays with whoever needs it. The zero Addr is no address.
type Addr struct {
	ip   [16]byte // an IPv4 address is in the first four
	zone uint32   // scope id of a link-local IPv6 address
	port uint16
	fam  uint8 // 0, AFUnix, AFInet, AFInet6
}

// ParseAddr reads "192.0.2.1:80" or "[2001:db8::1]:80". Names are not resolved; a zone must be a number.
func ParseAddr(s string) (Addr, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return Addr{}, fmt.Errorf("address %q: want IP:port: %w", s, err)
	}
	return AddrFrom(ap)
}

// AddrFrom converts. An IPv4 address that is mapped into IPv6 becomes plain IPv4, which is what it is on
// the wire. The only error is a zone that is not a number.
func AddrFrom(ap netip.AddrPort) (Addr, error) {
	ip := ap.Addr().Unmap()
	a := Addr{port: ap.Port()}
	switch {
	case ip.Is4():
		a.fam = AFInet
		v4 := ip.As4()
		copy(a.ip[:], v4[:])
	case ip.Is6():
		a.fam = AFInet6
		a.ip = ip.As16()
		if zone := ip.Zone(); zone != "" {
			n, err := strconv.ParseUint(zone, 10, 32)
			if err != nil {
				return Addr{}, fmt.Errorf("address %v: zone %q: want the number of the interface", ap, zone)
			}
			a.zone = uint32(n)
		}
	default:
		return Addr{}, nil
	}
	return a, nil
}

// IsValid is false for the zero Addr only.
func (a Addr) IsValid() bool { return a.fam != 0 }

// Family is AFInet, AFInet6, AFUnix, or 0.
func (a Addr) Family() int { return int(a.fam) }

// Port is 0 for a Unix socket.
func (a Addr) Port() uint16 { return a.port }

// As16 is the address as IPv6 bytes, an IPv4 one mapped (::ffff:a.b.c.d); zeros for a Unix socket. It is
// what hashing by source wants.
func (a Addr) As16() [16]byte {
	if a.fam != AFInet {
		return a.ip
	}
	return [16]byte{10: 0xff, 11: 0xff, 12: a.ip[0], 13: a.ip[1], 14: a.ip[2], 15: a.ip[3]}
}

// IP is invalid for a Unix socket.
func (a Addr) IP() netip.Addr {
	switch a.fam {
	case AFInet:
		return netip.AddrFrom4([4]byte(a.ip[:4]))
	case AFInet6:
		ip := netip.AddrFrom16(a.ip)
		if a.zone != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(a.zone), 10))
		}
		return ip
	}
	return netip.Addr{}
}

// AddrPort is invalid for a Unix socket.
func (a Addr) AddrPort() netip.AddrPort {
	if a.fam != AFInet && a.fam != AFInet6 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.IP(), a.port)
}

// String is IP:port, "unix" or "".
func (a Addr) String() string {
	switch a.fam {
	case AFInet, AFInet6:
		return a.AddrPort().String()
	case AFUnix:
		return "unix"
	}
	return ""
}

// Sockaddr returns a as the kernel wants it; of a Unix socket and of the zero Addr an empty one.
func (a Addr) Sockaddr() Sockaddr {
	var sa Sockaddr
	switch a.fam {
	case AFInet:
		sa.n = 16
		binary.NativeEndian.PutUint16(sa.b[0:], AFInet)
		binary.BigEndian.PutUint16(sa.b[2:], a.port)
		copy(sa.b[4:8], a.ip[:4])
	case AFInet6:
		sa.n = 28
		binary.NativeEndian.PutUint16(sa.b[0:], AFInet6)
		binary.BigEndian.PutUint16(sa.b[2:], a.port)
		copy(sa.b[8:24], a.ip[:])
		binary.NativeEndian.PutUint32(sa.b[24:], a.zone)
	}
	return sa
}

// maxUnixPath is sizeof(sun_path) less the closing NUL.
const maxUnixPath = 107

// Sockaddr is a socket address as the kernel reads and writes it (Linux's layout): the target of a
// connect, made once per server, or the room for an accepted peer's. It has no pointers.
type Sockaddr struct {
	b [112]byte
	n uint32 // bytes of b that count; the kernel writes it through AcceptAddr and the like
}

// UnixSockaddr is the address of the Unix socket at path; a leading @ means the abstract name space.
func UnixSockaddr(path string) (Sockaddr, error) {
	var sa Sockaddr
	if path == "" || len(path) > maxUnixPath {
		return sa, fmt.Errorf("unix socket path %q: want 1 to %d bytes, has %d", path, maxUnixPath, len(path))
	}
	binary.NativeEndian.PutUint16(sa.b[0:], AFUnix)
	sa.n = uint32(2 + copy(sa.b[2:], path))
	if path[0] == '@' {
		sa.b[2] = 0
	} else {
		sa.n++ // the NUL
	}
	return sa, nil
}

// ParseSockaddr takes a socket address from its bytes.
func ParseSockaddr(b []byte) (Sockaddr, error) {
	var sa Sockaddr
	if len(b) > len(sa.b) {
		return sa, fmt.Errorf("socket address of %d bytes: want at most %d", len(b), len(sa.b))
	}
	sa.n = uint32(copy(sa.b[:], b))
	return sa, nil
}

// Bytes are the ones the kernel sees.
func (sa *Sockaddr) Bytes() []byte { return sa.b[:min(int(sa.n), len(sa.b))] }

// Family is AFInet, AFInet6, AFUnix, or 0 for an empty one.
func (sa *Sockaddr) Family() int {
	if sa.n < 2 {
		return 0
	}
	return int(binary.NativeEndian.Uint16(sa.b[:]))
}

// Addr takes what an Addr can hold; IPv4 mapped into IPv6, as a dual-stack listener sees it, becomes IPv4.
func (sa *Sockaddr) Addr() Addr {
	a := Addr{}
	switch {
	case sa.Family() == AFInet && sa.n >= 8:
		a.fam = AFInet
		a.port = binary.BigEndian.Uint16(sa.b[2:])
		copy(a.ip[:4], sa.b[4:8])
	case sa.Family() == AFInet6 && sa.n >= 24:
		a.port = binary.BigEndian.Uint16(sa.b[2:])
		if mapped := [12]byte{10: 0xff, 11: 0xff}; [12]byte(sa.b[8:20]) == mapped {
			a.fam = AFInet
			copy(a.ip[:4], sa.b[20:24])
			break
		}
		a.fam = AFInet6
		copy(a.ip[:], sa.b[8:24])
		if sa.n >= 28 {
			a.zone = binary.NativeEndian.Uint32(sa.b[24:])
		}
	case sa.Family() == AFUnix:
		a.fam = AFUnix
	}
	return a
}

// Path is a Unix socket's, "@name" for an abstract one, "" for one without a name and for the others.
func (sa *Sockaddr) Path() string {
	if sa.Family() != AFUnix || sa.n <= 2 {
		return ""
	}
	b := sa.b[2:min(int(sa.n), len(sa.b))]
	if b[0] == 0 {
		return "@" + string(b[1:])
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

package listen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is more than any kernel grants: it becomes net.core.somaxconn.
const backlog = math.MaxInt32

// lookupTimeout bounds how long the name of a listen address may take to resolve.
const lookupTimeout = 5 * time.Second

// newSocket is unix.Socket, but for the test that takes IPv6 away.
var newSocket = unix.Socket

func (s *Socket) openTCP() error {
	host, port, err := splitHostPort(s.spec.Address)
	if err != nil {
		return err
	}
	if host == "" {
		// One socket for both: an IPv4 client comes in as ::ffff:a.b.c.d.
		err = s.bindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
			err = s.bindTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), port), false)
		}
		return err
	}
	ip, err := resolve(host)
	if err != nil {
		return err
	}
	return s.bindTCP(netip.AddrPortFrom(ip, port), true)
}

func splitHostPort(address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%w: want host:port, such as 127.0.0.1:8080, [::1]:8080 or :8080", err)
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		p, lookupErr := net.LookupPort("tcp", service)
		if lookupErr != nil || service == "" {
			return "", 0, fmt.Errorf("port %q: want 0 to 65535 or the name of a TCP service", service)
		}
		n = uint64(p)
	}
	return host, uint16(n), nil
}

// resolve prefers IPv4, as everything that listens at "localhost" does.
func resolve(host string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			return ip, nil
		}
	}
	return ips[0], nil // LookupNetIP without an error found one
}

// bindTCP listens at one address. only6: an IPv6 wildcard leaves IPv4 alone, so that 0.0.0.0:80 and [::]:80
// can be listed side by side.
func (s *Socket) bindTCP(at netip.AddrPort, only6 bool) error {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	sa, err := sockaddr(at)
	if err != nil {
		return err
	}
	fd, err := newSocket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		v := 0
		if only6 {
			v = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v); err != nil {
			unix.Close(fd)
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	// Connections of a door that just ended are in TIME_WAIT and must not keep its successor out.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	if err := inherited(fd); err != nil {
		unix.Close(fd)
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return bindError(at, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return bindError(at, err) // two sockets may bind one address; the second to listen hears EADDRINUSE
	}
	addr, err := localAddr(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.addr = fd, addr
	return nil
}

// inherited sets what accepted connections take over from their listener, so that accepting one costs no
// further system call: small writes leave at once, and a peer that vanished is noticed after two minutes
// (60 s of silence, then 4 probes 15 s apart).
func inherited(fd int) error {
	for _, o := range []struct {
		level, opt, value int
		name              string
	}{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60, "TCP_KEEPIDLE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15, "TCP_KEEPINTVL"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4, "TCP_KEEPCNT"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	return nil
}

func sockaddr(at netip.AddrPort) (unix.Sockaddr, error) {
	ip := at.Addr()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			sa.ZoneId = uint32(n)
		} else {
			ifi, err := net.InterfaceByName(zone)
			if err != nil {
				return nil, fmt.Errorf("zone %q: %w", zone, err)
			}
			sa.ZoneId = uint32(ifi.Index)
		}
	}
	return sa, nil
}

func bindError(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("bind %v: %w: another process listens there; `ss -ltnp 'sport = :%d'` shows which", at, err, at.Port())
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("bind %v: %w: ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)", at, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("bind %v: %w: no interface of this machine has that address; `ip address` shows those there are", at, err)
	}
	return fmt.Errorf("bind %v: %w", at, err)
}

// localAddr is where fd is bound.
func localAddr(fd int) (string, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			zone := strconv.FormatUint(uint64(sa.ZoneId), 10)
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				zone = ifi.Name
			}
			ip = ip.WithZone(zone)
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port)).String(), nil
	case *unix.SockaddrUnix:
		return sa.Name, nil
	}
	return "", fmt.Errorf("a socket of an address family that the door does not know (%T)", sa)
}

func closeFD(fd int) error { return unix.Close(fd) }

package health

import (
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Glance tells whether a connection to the address (ip:port or unix:/path) can be made, if that shows within limit, as
// on this machine and beside it it does. False means nothing: Dial finds out, and says why. Unlike Dial it stays on
// the calling thread, which it blocks for limit at most: no hand-over to Go's poller and back, each of which waits for
// a core where all are busy.
func Glance(address string, limit time.Duration) bool {
	family, to := sockaddr(address)
	if to == nil {
		return false
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd) //nolint:errcheck // the answer was that it is there
	if err := syscall.Connect(fd, to); err == nil || err != syscall.EINPROGRESS {
		return err == nil
	}
	// poll(2), connect(2): writable says that the connection was made or has failed; SO_ERROR which.
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, int(limit.Milliseconds())); n != 1 || err != nil {
		return false
	}
	failed, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	return err == nil && failed == 0
}

// sockaddr is the address as the kernel takes it; nil for one that must be looked up first.
func sockaddr(address string) (family int, to syscall.Sockaddr) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return syscall.AF_UNIX, &syscall.SockaddrUnix{Name: path}
	}
	ap, err := netip.ParseAddrPort(address)
	switch ip := ap.Addr().Unmap(); {
	case err != nil || ip.Zone() != "":
		return 0, nil
	case ip.Is4():
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ip.As4()}
	default:
		return syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(ap.Port()), Addr: ip.As16()}
	}
}

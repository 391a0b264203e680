package health

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// Glance tells whether a connection to the address (ip:port or unix:/path) can be made, if that shows within limit, as
// on this machine and beside it it does. False means nothing: Dial finds out, and says why. Unlike Dial it stays on
// the calling thread, which it blocks for limit at most: no hand-over to Go's poller and back, each of which waits for
// a core where all are busy.
func Glance(address string, limit time.Duration) bool {
	var to loop.Sockaddr
	network, address := split(address)
	if network == "unix" {
		var err error
		if to, err = loop.UnixSockaddr(address); err != nil {
			return false
		}
	} else {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || ap.Addr().Zone() != "" {
			return false // a name, or a mistake
		}
		addr, err := loop.AddrFrom(ap)
		if err != nil {
			return false
		}
		to = addr.Sockaddr()
	}
	fd, errno := loop.Socket(to.Family(), unix.SOCK_STREAM, 0)
	if errno != 0 {
		return false
	}
	defer unix.Close(fd) //nolint:errcheck // the answer was that it is there
	switch errno := loop.Connect(fd, &to); errno {
	case 0:
		return true
	case unix.EINPROGRESS:
	default:
		return false
	}
	// poll(2), connect(2): writable says that the connection was made or has failed; SO_ERROR which. One to this machine
	// that is its own other end was given the very port at which nobody listens.
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, int(limit.Milliseconds())); n != 1 || err != nil {
		return false
	}
	var own loop.Sockaddr
	return loop.GetsockErr(fd) == 0 && loop.Getsockname(fd, &own) == 0 && own.Addr() != to.Addr()
}

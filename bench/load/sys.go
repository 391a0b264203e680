//go:build linux

package load

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the hot loops are raw: they bypass the Go scheduler, even where they block in epoll. That is
// safe here because these processes collect no garbage and have more Ps than loops (see RunChild).

var clockBase, clockStart = clockInit()

func clockInit() (int64, time.Time) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano(), time.Now()
}

// Mono is CLOCK_MONOTONIC in nanoseconds, the same in all processes, read without a system call.
func Mono() int64 { return clockBase + int64(time.Since(clockStart)) }

func read(fd int, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), e
}

// write never raises SIGPIPE: the Go runtime ignores it for descriptors other than 1 and 2.
func write(fd int, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), e
}

func writeString(fd int, s string) (int, syscall.Errno) {
	return write(fd, unsafe.Slice(unsafe.StringData(s), len(s)))
}

// discard reads up to n bytes without copying them anywhere. tcp(7): MSG_TRUNC.
func discard(fd, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	return int(r), e
}

func closeFD(fd int) { syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

func accept(fd int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), e
}

func socket() (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	return int(n), e
}

func setInt(fd, level, option int, value int32) {
	syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&value)), 4, 0)
}

func bind(fd int, a *unix.RawSockaddrInet4) syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(a)), unix.SizeofSockaddrInet4)
	return e
}

func connect(fd int, a *unix.RawSockaddrInet4) syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(a)), unix.SizeofSockaddrInet4)
	return e
}

// socketError is the pending error of a socket, such as that of a connect.
func socketError(fd int) syscall.Errno {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return syscall.EBADF
	}
	return syscall.Errno(v)
}

// address parses an IPv4 host:port. The bench stays on loopback, where IPv4 has as many addresses as it needs.
func address(s string) (unix.RawSockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil || !ap.Addr().Is4() {
		return unix.RawSockaddrInet4{}, fmt.Errorf("address %q: want an IPv4 address and a port", s)
	}
	return sockaddr(ap.Addr().As4(), ap.Port()), nil
}

func sockaddr(ip [4]byte, port uint16) unix.RawSockaddrInet4 {
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port<<8 | port>>8&0xff, Addr: ip}
}

func listen(addr string) (int, error) {
	a, err := address(addr)
	if err != nil {
		return 0, err
	}
	fd, e := socket()
	if e != 0 {
		return 0, fmt.Errorf("listen %s: %w", addr, e)
	}
	setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // inherited by what it accepts
	if e := bind(fd, &a); e != 0 {
		closeFD(fd)
		return 0, fmt.Errorf("listen %s: %w", addr, e)
	}
	if err := unix.Listen(fd, 16384); err != nil {
		closeFD(fd)
		return 0, fmt.Errorf("listen %s: %w", addr, err)
	}
	return fd, nil
}

// Epoll interest of most sockets: edge-triggered, registered once.
const edgeIn = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// poller is an epoll instance with its events. Events carry a number of the caller's, not the descriptor.
type poller struct {
	fd     int
	events []unix.EpollEvent
	coarse bool // the kernel lacks epoll_pwait2 (before 5.11): waits are whole milliseconds
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &poller{fd: fd, events: make([]unix.EpollEvent, 512)}, nil
}

func (p *poller) add(fd int, events uint32, number int) syscall.Errno {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, number)
}

func (p *poller) change(fd int, events uint32, number int) syscall.Errno {
	return p.control(unix.EPOLL_CTL_MOD, fd, events, number)
}

func (p *poller) control(op, fd int, events uint32, number int) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: int32(number)}
	_, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return e
}

// wait returns the events of at most ns nanoseconds from now. An interruption is no event.
func (p *poller) wait(ns int64) []unix.EpollEvent {
	ns = max(ns, 0)
	if !p.coarse {
		ts := unix.NsecToTimespec(ns)
		n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
		if e == 0 {
			return p.events[:n]
		}
		if e != unix.ENOSYS {
			return nil
		}
		p.coarse = true
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr((ns+999_999)/1_000_000), 0, 0)
	if e != 0 {
		return nil
	}
	return p.events[:n]
}

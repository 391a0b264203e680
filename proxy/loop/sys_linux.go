package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file never block: descriptors are non-blocking and the Go scheduler is not told
// (RawSyscall). They answer 0 for success, try again when interrupted, and allocate nothing. A pointer
// stays alive through its call because it is converted in the argument list (package unsafe, pattern 4).

const sendRecvFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// Recv reads from a socket; 0 bytes without an error (and b not empty) are the peer's end of stream.
func Recv(fd int, b []byte) (n int, err syscall.Errno) { return recv(fd, b, unix.MSG_DONTWAIT) }

// Peek is Recv that leaves the bytes where they are.
func Peek(fd int, b []byte) (n int, err syscall.Errno) {
	return recv(fd, b, unix.MSG_DONTWAIT|unix.MSG_PEEK)
}

func recv(fd int, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// Send writes to a socket, perhaps less than all. A peer that is gone is EPIPE, never a signal.
func Send(fd int, b []byte) (n int, err syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), sendRecvFlags, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// Sendv is Send of a and then b in one call.
func Sendv(fd int, a, b []byte) (n int, err syscall.Errno) {
	var iov [2]syscall.Iovec
	iov[0].Base = unsafe.SliceData(a)
	iov[0].SetLen(len(a))
	iov[1].Base = unsafe.SliceData(b)
	iov[1].SetLen(len(b))
	msg := syscall.Msghdr{Iov: &iov[0], Iovlen: uint64(len(iov))}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), sendRecvFlags)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// Splice moves up to max bytes between two descriptors, one of which must be a pipe. flags: SpliceMove,
// SpliceNonblock, SpliceMore. 0 bytes without an error are the end of rfd's stream. EAGAIN means that rfd
// has nothing or that wfd is full; which of them, the caller knows by what is in the pipe.
func Splice(rfd, wfd int, max int, flags int) (n int, err syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(rfd), 0, uintptr(wfd), 0, uintptr(max), uintptr(flags))
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// Accept4 takes a connection, non-blocking and close-on-exec.
func Accept4(fd int) (nfd int, err syscall.Errno) { return accept(fd, nil, nil) }

// AcceptAddr is Accept4 that puts the peer's address into from.
func AcceptAddr(fd int, from *Sockaddr) (nfd int, err syscall.Errno) {
	from.n = uint32(len(from.b))
	return accept(fd, unsafe.Pointer(&from.b), &from.n)
}

func accept(fd int, addr unsafe.Pointer, n *uint32) (int, syscall.Errno) {
	for {
		nfd, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), uintptr(addr), uintptr(unsafe.Pointer(n)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno == 0 {
			return int(nfd), 0
		}
		if errno != syscall.EINTR {
			return -1, errno
		}
	}
}

// Socket makes one, non-blocking and close-on-exec: Socket(AFInet, SockStream, 0).
func Socket(domain, typ, proto int) (fd int, err syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_SOCKET, uintptr(domain), uintptr(typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), uintptr(proto))
	if errno != 0 {
		return -1, errno
	}
	return int(n), 0
}

func dup(fd int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return int(n), errno
}

// Connect begins to connect. EINPROGRESS: an Out event will tell, and GetsockErr how it went. A Unix
// socket answers at once; EAGAIN there means that its backlog is full.
func Connect(fd int, to *Sockaddr) syscall.Errno {
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to.b)), uintptr(to.n))
		if errno != syscall.EINTR {
			return errno
		}
	}
}

// Close closes fd. It is not repeated when interrupted: Linux has closed fd by then.
func Close(fd int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

// Shutdown ends one or both directions: ShutRead, ShutWrite, ShutBoth.
func Shutdown(fd, how int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	return errno
}

// SetsockoptInt sets an option that is an int.
func SetsockoptInt(fd, level, opt, value int) syscall.Errno {
	v := int32(value)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&v)), 4, 0)
	return errno
}

// GetsockoptInt reads an option that is an int.
func GetsockoptInt(fd, level, opt int) (value int, err syscall.Errno) {
	var v int32
	size := uint32(4)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	return int(v), errno
}

// SetNodelay has small writes leave at once.
func SetNodelay(fd int) syscall.Errno {
	return SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// SetLinger0 makes Close send a reset and throw away what was not sent yet.
func SetLinger0(fd int) syscall.Errno {
	v := unix.Linger{Onoff: 1}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return errno
}

// GetsockErr takes the pending error of a socket (SO_ERROR); 0 if there is none.
func GetsockErr(fd int) syscall.Errno {
	v, errno := GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if errno != 0 {
		return errno
	}
	return syscall.Errno(v)
}

// OutQueue is how many bytes of a TCP socket the peer has not acknowledged yet.
func OutQueue(fd int) (n int, err syscall.Errno) { return ioctlInt(fd, unix.SIOCOUTQ) }

// InQueue is how many bytes are there to be read.
func InQueue(fd int) (n int, err syscall.Errno) { return ioctlInt(fd, unix.SIOCINQ) }

func ioctlInt(fd int, req uintptr) (int, syscall.Errno) {
	var v int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&v)))
	return int(v), errno
}

// Getsockname puts fd's own address into sa.
func Getsockname(fd int, sa *Sockaddr) syscall.Errno { return getname(syscall.SYS_GETSOCKNAME, fd, sa) }

// Getpeername puts the peer's address into sa.
func Getpeername(fd int, sa *Sockaddr) syscall.Errno { return getname(syscall.SYS_GETPEERNAME, fd, sa) }

func getname(call uintptr, fd int, sa *Sockaddr) syscall.Errno {
	sa.n = uint32(len(sa.b))
	_, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&sa.b)), uintptr(unsafe.Pointer(&sa.n)))
	if errno != 0 {
		sa.n = 0
	}
	return errno
}

package loop

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is the seam to the system: one epoll instance and an eventfd that wakes it.
type poller struct {
	epfd    int
	wakefd  int
	noPwait bool // epoll_pwait2 is missing (before Linux 5.11) or forbidden: timeouts in whole milliseconds
	closed  bool
	list    [batch]event
}

// event is one entry that the kernel fills.
type event syscall.EpollEvent

func (e *event) token() Token   { return Token(uint32(e.Fd)) | Token(uint32(e.Pad))<<32 }
func (e *event) events() Events { return Events(e.Events) }

func (p *poller) open() error {
	var err error
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if p.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(p.epfd)
		return fmt.Errorf("eventfd: %w", err)
	}
	// Edge-triggered, each write is an event, and the counter need never be read.
	if err = p.add(p.wakefd, wakeToken, In|ET); err != nil {
		p.close()
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// close must be called with the mailbox's wakeMu held.
func (p *poller) close() {
	if p.closed {
		return
	}
	p.closed = true
	unix.Close(p.epfd)
	unix.Close(p.wakefd)
}

// wake must be called with the mailbox's wakeMu held.
func (p *poller) wake() {
	if p.closed {
		return
	}
	one := [8]byte{1}
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.wakefd), uintptr(unsafe.Pointer(&one)), 8)
}

func (p *poller) add(fd int, t Token, ev Events) error { return p.ctl(unix.EPOLL_CTL_ADD, fd, t, ev) }
func (p *poller) mod(fd int, t Token, ev Events) error { return p.ctl(unix.EPOLL_CTL_MOD, fd, t, ev) }
func (p *poller) del(fd int) error                     { return p.ctl(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (p *poller) ctl(op, fd int, t Token, ev Events) error {
	e := event{Events: uint32(ev), Fd: int32(uint32(t)), Pad: int32(uint32(t >> 32))}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(p.epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// poll looks without waiting.
func (p *poller) poll() []event {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.list)), batch, 0, 0, 0)
	return p.got(n, errno)
}

// nap blocks for up to timeout nanoseconds without telling the Go scheduler.
func (p *poller) nap(timeout int64) []event {
	if p.noPwait {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.list)), batch, milliseconds(timeout), 0, 0)
		return p.got(n, errno)
	}
	ts := unix.Timespec{Sec: timeout / 1e9, Nsec: timeout % 1e9}
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.list)), batch, uintptr(unsafe.Pointer(&ts)), 0, 0)
	if forbidden(errno) {
		p.noPwait = true
		return p.nap(timeout)
	}
	return p.got(n, errno)
}

// wait blocks for up to timeout nanoseconds, without an end if that is negative. It is the one system call
// that the Go scheduler is told of, so that others get the loop's processor meanwhile.
func (p *poller) wait(timeout int64) []event {
	if timeout < 0 || p.noPwait {
		n, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.list)), batch, milliseconds(timeout), 0, 0)
		return p.got(n, errno)
	}
	ts := unix.Timespec{Sec: timeout / 1e9, Nsec: timeout % 1e9}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.list)), batch, uintptr(unsafe.Pointer(&ts)), 0, 0)
	if forbidden(errno) {
		p.noPwait = true
		return p.wait(timeout)
	}
	return p.got(n, errno)
}

// milliseconds is a timeout as epoll_pwait takes it, rounded up.
func milliseconds(timeout int64) uintptr {
	if timeout < 0 {
		return ^uintptr(0)
	}
	return uintptr(min((timeout+999_999)/1_000_000, 1<<31-1))
}

// forbidden: the kernel, or a container's filter (EPERM), does not know the call.
func forbidden(errno syscall.Errno) bool { return errno == syscall.ENOSYS || errno == syscall.EPERM }

func (p *poller) got(n uintptr, errno syscall.Errno) []event {
	switch errno {
	case 0:
		return p.list[:n]
	case syscall.EINTR:
		return nil
	}
	panic("loop: BUG: epoll_wait: " + errno.Error())
}

// yield lets another thread have this core, if one wants it.
func yield() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }

// shortSlice asks for the shortest turn there is, 0.1 ms instead of 3 ms or so, for the calling thread (Linux 6.12
// and later; before, it has no effect, and a refusal costs only speed). A loop works for microseconds at a
// time: with a short turn it is woken sooner beside threads that compute, and a sched_yield, which gives the
// rest of the turn away, gives away little. Its share of the core stays the same.
func shortSlice() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return // whoever chose another policy has chosen its turns too
	}
	attr.Runtime = uint64(slice)
	_ = unix.SchedSetAttr(0, attr, 0)
}

// slice is the turn that shortSlice asks for, in ns.
const slice = 100_000

func threadID() int {
	id, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	return int(id)
}

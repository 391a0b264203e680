package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPipe makes a pipe of want bytes, or of half of that, and so on down to minPipeSize.
func openPipe(want int) (p Pipe, size int, ok bool) {
	var fds [2]int32
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&fds)), unix.O_NONBLOCK|unix.O_CLOEXEC, 0); errno != 0 {
		return Pipe{}, 0, false
	}
	p = Pipe{R: fds[0], W: fds[1]}
	for size = want; size >= minPipeSize; size /= 2 {
		got, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(p.W), unix.F_SETPIPE_SZ, uintptr(size))
		if errno == 0 {
			return p, int(got), true
		}
	}
	Close(int(p.R))
	Close(int(p.W))
	return Pipe{}, 0, false
}

package journal

import (
	"errors"
	"os"
	"syscall"
)

// sync is fdatasync: the data and the size needed to read it, without waiting for time stamps.
func (f osFile) sync() error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); failed != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, os.NewSyscallError("fdatasync", failed))
}

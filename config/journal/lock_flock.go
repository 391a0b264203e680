//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// lockFile takes the lock for as long as the answer is open; the kernel drops it when the process
// dies, however it dies. The file is never removed: two doors could then lock two files of one name.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := flock(f); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		held := &LockedError{Dir: filepath.Dir(path)}
		_, _ = fmt.Fscan(f, &held.PID, &held.Host) // only for the error text; the holder may be about to write it
		return nil, errors.Join(held, f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	// A full disk must not keep a door from starting: without a pid the error text is vaguer, no more.
	if host, err := os.Hostname(); err == nil && f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d %s\n", os.Getpid(), host)
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

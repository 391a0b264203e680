//go:build unix

package runbook

import (
	"os"
	"syscall"
)

// lock keeps a second run of the same file out; the kernel ends it with the process.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

//go:build unix

package main

import (
	"os"
	"syscall"
)

// reopenLogs asks a daemon to open its log files again, after logrotate moved them.
const reopenLogs = syscall.SIGUSR1

var doorSignals = []os.Signal{syscall.SIGHUP, syscall.SIGTERM, os.Interrupt, syscall.SIGQUIT, reopenLogs}

// descriptorLimit is how many descriptors the door may have. The Go runtime has raised the soft limit to the
// hard one before main.
func descriptorLimit() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return uint64(l.Cur) //nolint:unconvert // int64 on FreeBSD
}

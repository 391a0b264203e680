//go:build !unix

package main

import (
	"os"
	"syscall"
)

const reopenLogs = syscall.Signal(-1) // there is none

var doorSignals = []os.Signal{os.Interrupt}

func descriptorLimit() uint64 { return 0 }

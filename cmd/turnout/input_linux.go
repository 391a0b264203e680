package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// forgetTyped throws away what was typed on the terminal so far: an answer is to a question that was read.
func forgetTyped() { _ = unix.IoctlSetInt(int(os.Stdin.Fd()), unix.TCFLSH, unix.TCIFLUSH) }

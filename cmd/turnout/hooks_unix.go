//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup lets the command be killed with all it starts. A Ctrl-C at the terminal then reaches this process
// alone, which takes the swap back and kills the hook in that order.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(c *exec.Cmd) { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }

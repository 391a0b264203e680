package admin

import (
	"net"
	"syscall"
)

// peerOf asks the kernel who connected. unix(7), SO_PEERCRED: the credentials are those at connect, so a
// process that changes its user later, or hands the socket on, is still the one that opened it.
func peerOf(c *net.UnixConn) peer {
	raw, err := c.SyscallConn()
	if err != nil {
		return nobodyKnown
	}
	var cred *syscall.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		cred, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || asked != nil {
		return nobodyKnown
	}
	return peer{uid: int(cred.Uid), gid: int(cred.Gid), pid: int(cred.Pid)}
}

//go:build !linux

package admin

import "net"

// peerOf knows nobody: the door runs on Linux. With roles configured, nobody is let in.
func peerOf(*net.UnixConn) peer { return nobodyKnown }

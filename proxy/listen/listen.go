// Package listen opens the sockets at which clients knock: TCP addresses, Unix sockets, and sockets that
// systemd opened for the door. It gives out descriptors, since the loops accept by themselves, and it sets
// on the listener what every accepted connection shall inherit.
//
// Promises: a descriptor is non-blocking and close-on-exec. A Unix socket that nobody serves any more is
// replaced, one that somebody serves never is, nor any other kind of file; Close removes only the file that
// Open made. An error says what is in the way and what to do about it.
//
// notify.go tells systemd how the door is doing.
package listen

import (
	"fmt"
	"sync"

	"github.com/turnout-proxy/turnout/proxy"
)

// Socket is one listening socket. Its methods may be called from anywhere.
type Socket struct {
	spec proxy.ListenSpec
	addr string
	fd   int

	close   sync.Once
	cleanup func() error // before fd is closed; may be nil
	err     error
}

// FD is the descriptor, which stays the Socket's.
func (s *Socket) FD() int { return s.fd }

// Addr is where the socket really is: "[::]:6688", also when port 0 was asked for, or the path.
func (s *Socket) Addr() string { return s.addr }

// Network is proxy.NetTCP, proxy.NetUnix or proxy.NetSystemd.
func (s *Socket) Network() string { return s.spec.Network }

// Spec is what the socket was opened for.
func (s *Socket) Spec() proxy.ListenSpec { return s.spec }

// Close closes the socket; clients that were not accepted yet are reset. The file of a Unix socket is
// removed if it is still the one that Open made. A socket of systemd's lives on there and can be opened
// again.
func (s *Socket) Close() error {
	s.close.Do(func() {
		if s.cleanup != nil {
			s.err = s.cleanup()
		}
		if err := closeFD(s.fd); err != nil && s.err == nil {
			s.err = err
		}
		if s.err != nil {
			s.err = fmt.Errorf("close listener %s: %w", s.spec, s.err)
		}
	})
	return s.err
}

// Open opens the socket that spec names.
func Open(spec proxy.ListenSpec) (*Socket, error) {
	s := &Socket{spec: spec, fd: -1}
	var err error
	switch spec.Network {
	case proxy.NetTCP:
		err = s.openTCP()
	case proxy.NetUnix:
		err = s.openUnix()
	case proxy.NetSystemd:
		err = s.openSystemd()
	default:
		err = fmt.Errorf("network %q: want %s, %s or %s", spec.Network, proxy.NetTCP, proxy.NetUnix, proxy.NetSystemd)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", spec, err)
	}
	return s, nil
}

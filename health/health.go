package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// Dial tells whether a connection to the address (host:port or unix:/path) can be made before ctx ends. It
// closes the connection at once. The error is in an operator's words, such as "connect: connection refused".
func Dial(ctx context.Context, address string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return inWords(ctx, err)
	}
	_ = c.Close() // the answer was that it is there
	return nil
}

// Meet is Dial, and where the target is spoken to in TLS the handshake too: it tells whether a connection to it would be
// of use. In TLS the error begins with "tls: ".
func Meet(ctx context.Context, t Target) error {
	if t.TLS == nil {
		return Dial(ctx, t.Address)
	}
	c, err := dial(ctx, t)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the answer was that it is there
	return c.accepted()
}

// words is an error that says for people what it wraps for programs.
type words struct {
	text string
	err  error
}

func (w *words) Error() string { return w.text }
func (w *words) Unwrap() error { return w.err }

// inWords leaves out of a dial's error what the caller knows: network, addresses, the name of the dialer.
func inWords(ctx context.Context, err error) error {
	var timeout interface{ Timeout() bool }
	var sys *os.SyscallError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &words{"connect: given up", context.Canceled}
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("lookup %s: no such host", dns.Name)
	case ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout():
		return &words{"connect: no answer in time", context.DeadlineExceeded}
	case errors.As(err, &sys):
		return sys
	case errors.As(err, &op):
		return fmt.Errorf("connect: %w", op.Err)
	}
	return err
}

package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// noApplicationProtocol is the alert of a server that speaks none of our protocols (RFC 7301 3.2).
const noApplicationProtocol = tls.AlertError(120)

// NoProtocol says of a server that it does not speak the protocol that is wanted of it.
func NoProtocol(protocol string) string {
	return "tls: the server does not speak " + protocol + " (ALPN)"
}

// OfClient says for an operator why a handshake with a client did not come about.
func OfClient(err error) string {
	var record tls.RecordHeaderError
	var refused *net.OpError
	switch {
	case errors.As(err, &record):
		return Unspoken
	case errors.As(err, &refused) && refused.Op == "remote error": // so crypto/tls calls an alert
		return "tls: the client says: " + strings.TrimPrefix(refused.Err.Error(), "tls: ")
	case errors.Is(err, errEnd):
		return "tls: the client left in the handshake"
	}
	said := strings.TrimPrefix(err.Error(), "tls: ")
	switch rest, bad := strings.CutPrefix(said, "failed to verify certificate: "); {
	case bad:
		return "tls: the client's certificate: " + strings.TrimPrefix(rest, "x509: ")
	case said == "client didn't provide a certificate":
		return "tls: the client showed no certificate"
	}
	return "tls: " + said
}

// Why a client has no handshake that was not begun, or not ended by crypto/tls.
const (
	Unspoken  = "tls: the client does not speak TLS"
	NotWanted = "tls: the service terminates no TLS any more"
)

// TooLate says that a client's handshake took longer than it may.
func TooLate(limit time.Duration) string {
	return "tls: no handshake within " + limit.String()
}

// Words says for an operator why a handshake with a server has failed. protocol is what was to be agreed upon (ALPN); "": nothing.
func Words(err error, protocol string) string {
	var record tls.RecordHeaderError
	var refused *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &record):
		return "tls: the server does not speak TLS"
	case errors.As(err, &refused) && refused.Op == "remote error": // so crypto/tls calls an alert
		said := strings.TrimPrefix(refused.Err.Error(), "tls: ")
		if protocol != "" && said == strings.TrimPrefix(noApplicationProtocol.Error(), "tls: ") {
			return NoProtocol(protocol)
		}
		return "tls: the server says: " + said
	case errors.Is(err, context.Canceled):
		return "tls: given up"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "tls: no answer in time"
	}
	return "tls: " + strings.TrimPrefix(err.Error(), "tls: ")
}

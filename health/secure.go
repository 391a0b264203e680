package health

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/turnout-proxy/turnout/proxy/secure"
)

// secure makes the line's connection one of TLS. Nothing is resumed: the server proves anew who it is.
func (l *line) secure(ctx context.Context, config *tls.Config, address string, h2 bool) error {
	c := config.Clone()
	j := &judged{}
	c.ClientSessionCache = j
	c.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		l.judged = j
		for i := range config.Certificates {
			if asked.SupportsCertificate(&config.Certificates[i]) == nil {
				return &config.Certificates[i], nil
			}
		}
		return &tls.Certificate{}, nil
	}
	if c.ServerName == "" {
		c.ServerName = "localhost"
		if host, _, err := net.SplitHostPort(address); err == nil {
			c.ServerName = host
		}
	}
	protocol := ""
	if h2 {
		protocol = http2.NextProtoTLS
		c.NextProtos = []string{protocol}
	}
	s := tls.Client(l.Conn, c)
	j.conn = s
	if err := s.HandshakeContext(ctx); err != nil {
		return tlsWords(err, protocol)
	}
	l.Conn = s
	if agreed := s.ConnectionState(); h2 && agreed.NegotiatedProtocol != protocol {
		return errors.New(secure.NoProtocol(protocol))
	} else if agreed.Version < tls.VersionTLS13 {
		l.judged = nil // a refusal would have come within the handshake
	}
	return nil
}

// judged notices that a server has taken the certificate it was shown, or that none was. In TLS 1.3 the client's handshake is over
// before the server has looked at it (RFC 8446 4.4.2.4); then comes a refusal, or most often a ticket for the next session,
// which this keeps none of.
type judged struct {
	conn     *tls.Conn
	awaiting bool // a read waits for nothing else
}

// judgement is how long a server may take for it that sends no tickets.
const judgement = 250 * time.Millisecond

// Get implements tls.ClientSessionCache.
func (j *judged) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache.
func (j *judged) Put(string, *tls.ClientSessionState) {
	if j.awaiting {
		_ = j.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// accepted waits, of a connection on which nothing is awaited, until the server has judged our certificate if it asked for one.
func (l *line) accepted() error {
	if l.judged == nil {
		return nil
	}
	l.judged.awaiting = true
	_ = l.SetReadDeadline(time.Now().Add(judgement))
	_, err := l.Read(make([]byte, 1))
	var timeout net.Error
	switch {
	case err == nil || errors.As(err, &timeout) && timeout.Timeout():
		return nil // it has spoken; or said nothing against it
	case alert(err) != nil:
		return alert(err)
	}
	return errors.New("tls: the server asked for a certificate and closed the connection")
}

// alert is what the other side has said against a connection, in words; nil when err is something else.
func alert(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" { // so crypto/tls calls it
		return errors.New(secure.Words(err, ""))
	}
	return nil
}

// tlsWords says why a handshake failed.
func tlsWords(err error, protocol string) error {
	text := secure.Words(err, protocol)
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return &words{text, end}
		}
	}
	return errors.New(text)
}

package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

var errTooLarge = errors.New("the answer is larger than 1 MiB")

// line is a connection of one run: it ends with the run's context and yields a bounded number of bytes.
type line struct {
	net.Conn
	left   int
	stop   func() bool
	judged *judged // in TLS 1.3, when the server has asked for a certificate; else nil
}

// dial connects, speaks TLS if the target is spoken to so, and binds the connection to ctx. In TLS, a target that is spoken to in
// HTTP/2 has to agree to that (ALPN).
func dial(ctx context.Context, t Target) (*line, error) {
	network, address := split(t.Address)
	d := net.Dialer{KeepAlive: -1} // four calls less: no run lives long enough for it
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, inWords(ctx, err)
	}
	l := bound(ctx, c)
	if t.TLS == nil {
		return l, nil
	}
	if err := l.secure(ctx, t.TLS(), address, t.H2); err != nil {
		_ = l.Close() // the handshake's error says more
		return nil, err
	}
	return l, nil
}

// bound binds a connection to ctx and to what may be read of one answer.
func bound(ctx context.Context, c net.Conn) *line {
	l := &line{Conn: c, left: maxAnswer + 64<<10} // head and framing come on top of the answer
	l.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return l
}

func (l *line) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLarge
	}
	n, err := l.Conn.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

// Write fails with what the server has said against our certificate, if that is why: it may end the connection before it
// is told anything.
func (l *line) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	if err != nil && l.judged != nil {
		_ = l.SetReadDeadline(time.Now().Add(judgement))
		if _, said := l.Conn.Read(make([]byte, 1)); alert(said) != nil {
			err = said
		}
	}
	return n, err
}

func (l *line) Close() error {
	l.stop()
	if s, isTLS := l.Conn.(*tls.Conn); isTLS {
		return s.NetConn().Close() // no close_notify: a peer that does not read must not make us wait
	}
	return l.Conn.Close()
}

func split(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// readWords says what became of a connection that was there.
func readWords(err error) error {
	var sys *os.SyscallError
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge
	case alert(err) != nil:
		return alert(err)
	case errors.As(err, &sys):
		return sys
	}
	return errors.New("the connection was closed before an answer")
}

// speaks takes in what a check says of TLS itself.
func (c *Check) speaks(t *TLS, key string) (err error) {
	if c.plain = t != nil && t.Off; !c.plain {
		c.tls, err = t.config(key)
	}
	return err
}

// config reads the files of TLS options once; nil stays nil.
func (t *TLS) config(key string) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // asked for
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &SpecError{Key: key + ".tls.ca", Text: err.Error()}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &SpecError{Key: key + ".tls.ca", Text: t.CAFile + ": holds no certificate"}
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, &SpecError{Key: key + ".tls.cert", Text: err.Error()}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

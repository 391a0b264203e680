package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

var errTooLarge = errors.New("the answer is larger than 1 MiB")

// line is a connection of one run: it ends with the run's context and yields a bounded number of bytes.
type line struct {
	net.Conn
	left int
	stop func() bool
}

// dial connects, speaks TLS if told to, and binds the connection to ctx.
func dial(ctx context.Context, address string, t *tls.Config) (*line, error) {
	network, address := split(address)
	d := net.Dialer{KeepAlive: -1} // four calls less: no run lives long enough for it
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, inWords(ctx, err)
	}
	l := bound(ctx, c)
	if t == nil {
		return l, nil
	}
	s := tls.Client(l.Conn, named(t, address))
	if err := s.HandshakeContext(ctx); err != nil {
		_ = l.Close() // the handshake's error says more
		return nil, tlsWords(err)
	}
	l.Conn = s
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

func named(t *tls.Config, address string) *tls.Config {
	if t.ServerName != "" {
		return t
	}
	t = t.Clone()
	t.ServerName = "localhost"
	if host, _, err := net.SplitHostPort(address); err == nil {
		t.ServerName = host
	}
	return t
}

func tlsWords(err error) error {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return errors.New("tls: the server does not speak TLS")
	}
	return fmt.Errorf("tls: %s", strings.TrimPrefix(strings.TrimPrefix(err.Error(), "remote error: "), "tls: "))
}

// readWords says what became of a connection that was there.
func readWords(err error) error {
	var sys *os.SyscallError
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge
	case errors.As(err, &sys):
		return sys
	}
	return errors.New("the connection was closed before an answer")
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

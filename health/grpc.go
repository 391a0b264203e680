package health

//lint:file-ignore SA1019 what replaces http2.Transport, http.Transport.NewClientConn, is new in Go 1.26

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/net/http2"
)

// grpcProbe speaks the one call of grpc.health.v1 over x/net's HTTP/2: a request of one text field, an answer
// of one number. The gRPC library for that would weigh more than the rest of this room.
type grpcProbe struct {
	frame []byte
}

func newGRPC(o *GRPC, c *Check) (prober, error) {
	message := append([]byte{1<<3 | 2}, binary.AppendUvarint(nil, uint64(len(o.Service)))...)
	message = append(message, o.Service...)
	if o.Service == "" {
		message = nil
	}
	p := &grpcProbe{frame: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)} //nolint:gosec // short
	return p, c.speaks(o.TLS, "grpc")
}

var serving = map[uint64]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

func (p *grpcProbe) ask(ctx context.Context, t Target) (result, error) {
	t.H2 = true
	c, err := dial(ctx, t)
	if err != nil {
		return result{}, err
	}
	defer c.Close() //nolint:errcheck // ends the transport's goroutines too
	answer, err := p.call(ctx, c, t)
	if err != nil {
		return result{}, err
	}
	code, err := statusField(answer)
	if err != nil {
		return result{}, err
	}
	word, known := serving[code]
	if !known {
		word = fmt.Sprint(code)
	}
	return result{status: word, good: code == 1, why: word, vars: grpcVars{Status: word, Server: about(t)}}, nil
}

func (p *grpcProbe) call(ctx context.Context, c *line, t Target) ([]byte, error) {
	q := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/grpc.health.v1.Health/Check"}, Body: io.NopCloser(bytes.NewReader(p.frame)), ContentLength: int64(len(p.frame)),
		Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"turnout"}}}
	a, err := overH2(ctx, c, t, q)
	if refused := alert(err); refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, errors.New("the server does not speak gRPC")
	}
	defer a.Body.Close() //nolint:errcheck // the line is cut
	body, err := io.ReadAll(io.LimitReader(a.Body, maxBody))
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s: not gRPC", a.StatusCode, http.StatusText(a.StatusCode))
	}
	if err != nil {
		return nil, readWords(err)
	}
	return body, grpcStatus(a)
}

// overH2 sends a request in HTTP/2. What reads of the connection ends with it.
func overH2(ctx context.Context, c *line, t Target, q *http.Request) (*http.Response, error) {
	cc, err := (&http2.Transport{DisableCompression: true, MaxHeaderListSize: 64 << 10, AllowHTTP: true}).NewClientConn(c)
	if err != nil {
		return nil, err
	}
	u := *q.URL
	u.Scheme, u.Host = "http", hostOf(t)
	if t.TLS != nil {
		u.Scheme = "https"
	}
	q = q.WithContext(ctx)
	q.URL = &u
	return cc.RoundTrip(q)
}

// hostOf is who is asked, as a URL names it.
func hostOf(t Target) string {
	network, address := split(t.Address)
	if network == "unix" {
		return "localhost"
	}
	return address
}

func grpcStatus(a *http.Response) error {
	code, message := a.Trailer.Get("Grpc-Status"), a.Trailer.Get("Grpc-Message")
	if code == "" {
		code, message = a.Header.Get("Grpc-Status"), a.Header.Get("Grpc-Message")
	}
	switch code {
	case "0":
		return nil
	case "5":
		return errors.New("the server knows no such service")
	case "12":
		return errors.New("the server has no grpc.health.v1")
	case "":
		return errors.New("the answer is not gRPC")
	}
	return fmt.Errorf("grpc status %s: %s", code, message)
}

var errNotHealth = errors.New("the answer is not of grpc.health.v1")

// statusField reads field 1 of the one message in a gRPC frame; absent is 0.
func statusField(b []byte) (uint64, error) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return 0, errNotHealth
	}
	var status uint64
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errNotHealth
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, errNotHealth
		}
		b = b[n+m:]
		switch {
		case tag == 1<<3:
			status = v
		case tag&7 == 2 && v <= uint64(len(b)): // a field of later versions
			b = b[v:]
		case tag&7 != 0:
			return 0, errNotHealth
		}
	}
	return status, nil
}

package web_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	framing "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2conn is a client that says frames one by one.
type h2conn struct {
	*framing.Framer
	t    testing.TB
	conn net.Conn
	out  bytes.Buffer
	enc  *hpack.Encoder

	ended bool // the stream of the latest HEADERS
}

// dialTLS connects as a client of HTTP/2.
func dialTLS(d *door, config *tls.Config) (*tls.Conn, error) {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", d.addr("svc"), config)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// h2 connects and exchanges settings.
func (d *door) h2(config *tls.Config) *h2conn {
	d.t.Helper()
	conn, err := dialTLS(d, config)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.h2on(conn)
}

// h2on says the preface and exchanges settings.
func (d *door) h2on(conn net.Conn) *h2conn {
	d.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, framing.ClientPreface)
	c := &h2conn{Framer: framing.NewFramer(conn, conn), t: d.t, conn: conn}
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.out)
	c.settings()
	return c
}

// settings and the other words below are not checked for errors: what became of the connection is what until tells.
func (c *h2conn) settings(s ...framing.Setting) { _ = c.WriteSettings(s...) }

func (c *h2conn) block(fields ...string) []byte {
	c.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.out.Bytes())
}

// headers asks for / with more fields.
func (c *h2conn) headers(stream uint32, last bool, fields ...string) {
	method := "POST"
	if last {
		method = "GET"
	}
	b := c.block(append([]string{":method", method, ":scheme", "https", ":authority", "door.test", ":path", "/"}, fields...)...)
	_ = c.WriteHeaders(framing.HeadersFrameParam{StreamID: stream, BlockFragment: b, EndStream: last, EndHeaders: true})
}

// until reads frames up to one of those kinds, and says what it says; "end" is the connection's.
func (c *h2conn) until(kinds ...string) string {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		said := "end"
		switch f := f.(type) {
		case *framing.MetaHeadersFrame:
			said = fmt.Sprintf("HEADERS %d %s", f.StreamID, f.PseudoValue("status"))
			c.ended = f.StreamEnded()
		case *framing.GoAwayFrame:
			said = fmt.Sprintf("GOAWAY %s", f.ErrCode)
		case *framing.RSTStreamFrame:
			said = fmt.Sprintf("RST_STREAM %d %s", f.StreamID, f.ErrCode)
		case *framing.DataFrame:
			said = fmt.Sprintf("DATA %d %d %v", f.StreamID, len(f.Data()), f.StreamEnded())
		case *framing.PingFrame:
			said = "PING"
		default:
			if err == nil {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				said = "nothing"
			}
		}
		kind, _, _ := strings.Cut(said, " ")
		if slices.Contains(kinds, kind) {
			return said
		}
		if err != nil {
			c.t.Errorf("the connection ended: %v; want one of %v", err, kinds)
			return said
		}
	}
}

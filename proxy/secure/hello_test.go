package secure_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy/secure"
)

// greeting is the ClientHello that crypto/tls sends.
func greeting(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	c := &caught{}
	_ = tls.Client(c, config).Handshake()
	if len(c.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	return c.sent
}

// caught keeps what is written first, and has nothing to read.
type caught struct {
	net.Conn
	sent []byte
}

func (c *caught) Write(b []byte) (int, error) {
	c.sent = append(c.sent, b...)
	return len(b), nil
}
func (c *caught) Read([]byte) (int, error)         { return 0, errors.New("nothing") }
func (c *caught) Close() error                     { return nil }
func (c *caught) SetWriteDeadline(time.Time) error { return nil }

// records cuts a greeting's message into records of n bytes.
func records(hello []byte, n int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), body[:k]...)
		body = body[k:]
	}
	return out
}

func TestParseHello_FindsTheHostHoweverItIsCut(t *testing.T) {
	for host, want := range map[string]string{"a.example.org": "a.example.org", "A.Example.ORG": "A.Example.ORG", "127.0.0.1": "", "": "", strings.Repeat("a.", 120) + "org": strings.Repeat("a.", 120) + "org"} {
		hello := greeting(t, &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		for _, size := range []int{1, 2, 3, 4, 5, 17, 100, 1000, 1 << 14} {
			all := records(hello, size)
			if len(all) > secure.MaxHello {
				continue
			}
			got, err := secure.ParseHello(append(all, "what follows"...))
			if err != nil || string(got.ServerName) != want {
				t.Errorf("%q in records of %d: got %q, %v", host, size, got.ServerName, err)
			}
			for n := 0; n < len(all); n += max(1, len(all)/100) {
				if _, err := secure.ParseHello(all[:n]); err != secure.ErrShort {
					t.Fatalf("%q in records of %d, %d bytes of %d: got %v", host, size, n, len(all), err)
				}
			}
		}
	}
}

func TestParseHello_RefusesWhatIsNone(t *testing.T) {
	for what, text := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\n\r\n", "SSH": "SSH-2.0-x\r\n", "an alert": "\x15\x03\x01\x00\x02\x02\x28", "another version": "\x16\x04\x01\x00\x01\x01",
		"an empty record": "\x16\x03\x01\x00\x00", "a record too long": "\x16\x03\x01\x40\x01", "another message": "\x16\x03\x01\x00\x04\x02\x00\x00\x00",
		"a message too long": "\x16\x03\x01\x00\x04\x01\x01\x00\x00", "an empty message": "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "another record between": "\x16\x03\x01\x00\x02\x01\x00\x17\x03\x01\x00\x01a",
		"SSL 2": "\x80\x2e\x01\x03\x01",
	} {
		if _, err := secure.ParseHello([]byte(text)); err == nil || err == secure.ErrShort {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// What crypto/tls takes for a greeting, ParseHello does, and finds the same host in it.
func FuzzParseHello(f *testing.F) {
	for _, host := range []string{"a.example.org", ""} {
		hello := greeting(f, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		f.Add(hello)
		f.Add(records(hello, 100))
		old := greeting(f, &tls.Config{ServerName: host, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
		f.Add(old)
	}
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := secure.ParseHello(b)
		again, err2 := secure.ParseHello(append([]byte(nil), b...))
		if string(got.ServerName) != string(again.ServerName) || !errors.Is(err, err2) {
			t.Fatal("two answers")
		}
		if err == nil {
			for _, n := range []int{0, len(b) / 2} { // less of it is never wrong, only short
				if _, err := secure.ParseHello(b[:n]); err != nil && err != secure.ErrShort {
					t.Fatalf("a greeting, but its first %d bytes are none", n)
				}
			}
		}
		var theirs *tls.ClientHelloInfo
		server := tls.Server(&fed{b: b}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			theirs = h
			return nil, errors.New("enough")
		}})
		_ = server.Handshake()
		if theirs == nil || len(b) > secure.MaxHello {
			return
		}
		if err != nil {
			t.Fatalf("crypto/tls takes it: %v", err)
		}
		if name := strings.TrimSuffix(string(got.ServerName), "."); theirs.ServerName != name && theirs.ServerName != string(got.ServerName) {
			t.Fatalf("got host %q, crypto/tls %q", got.ServerName, theirs.ServerName)
		}
	})
}

// fed has b to read and then an end.
type fed struct {
	net.Conn
	b []byte
}

func (f *fed) Read(p []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, errors.New("no more")
	}
	n := copy(p, f.b)
	f.b = f.b[n:]
	return n, nil
}
func (f *fed) Write(p []byte) (int, error)      { return len(p), nil }
func (f *fed) Close() error                     { return nil }
func (f *fed) SetWriteDeadline(time.Time) error { return nil }
func (f *fed) RemoteAddr() net.Addr             { return nil }
func (f *fed) LocalAddr() net.Addr              { return nil }

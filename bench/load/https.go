//go:build linux

package load

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The modes over TLS leave the loops: each connection is a goroutine on crypto/tls, for what the client spends is not
// measured. They ask and count as the others do.

// secureWork is the closed loop over TLS: one request at a time on a connection of HTTP/1.1, or several streams at a
// time on one of HTTP/2.
type secureWork struct {
	streams int // of each connection; 0: HTTP/1.1
	talks   []talk
	running atomic.Int64
	mu      sync.Mutex // of thread.fail
}

// talk is one connection after its first request was answered.
type talk interface {
	// ask has the next answers come, and says how many did and their bytes.
	ask() (units, bytes uint64, err error)
	close()
}

func (w *secureWork) open(t *thread) error {
	for i := range t.conns {
		talk, err := w.connect(t)
		if err == nil {
			_, _, err = talk.ask()
		}
		if err != nil {
			return t.openError(i, "first request", err)
		}
		w.talks = append(w.talks, talk)
	}
	return nil
}

func (w *secureWork) connect(t *thread) (talk, error) {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "bench.example", NextProtos: []string{"http/1.1"}} //nolint:gosec // it made the certificate itself
	if w.streams > 0 {
		config.NextProtos = []string{"h2"}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", t.Addr, config)
	if err != nil {
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != config.NextProtos[0] {
		return nil, fmt.Errorf("agreed upon %q, not %s", got, config.NextProtos[0])
	}
	if w.streams > 0 {
		return newH2Talk(conn, w.streams)
	}
	return &h1Talk{conn: conn, buf: make([]byte, 64<<10)}, nil
}

func (w *secureWork) begin(t *thread, _ int64) {
	for _, talk := range w.talks {
		w.running.Add(1)
		go func() { // ends with the load
			defer w.running.Add(-1)
			defer talk.close()
			for !t.ending.Load() {
				units, n, err := talk.ask()
				t.units.Add(units)
				t.bytes.Add(n)
				if err != nil {
					w.mu.Lock()
					t.fail(err.Error())
					w.mu.Unlock()
					return
				}
			}
		}()
	}
}

func (w *secureWork) tick(*thread, int64) int64  { return idleTick }
func (w *secureWork) ready(*thread, int, uint32) {}
func (w *secureWork) busy(*thread) bool          { return w.running.Load() > 0 }

type h1Talk struct {
	conn   net.Conn
	buf    []byte
	answer answerReader
}

func (h *h1Talk) ask() (units, bytes uint64, err error) {
	_ = h.conn.SetDeadline(time.Now().Add(patience))
	if _, err := h.conn.Write([]byte(httpRequest)); err != nil {
		return 0, 0, err
	}
	for {
		n, err := h.conn.Read(h.buf)
		if err != nil {
			return 0, bytes, err
		}
		bytes += uint64(n)
		whole, why := h.answer.take(h.buf[:n])
		switch {
		case why != "":
			return 0, bytes, fmt.Errorf("%s", why)
		case whole:
			return 1, bytes, nil
		}
	}
}

func (h *h1Talk) close() { _ = h.conn.Close() }

// h2Talk keeps a number of streams under way.
type h2Talk struct {
	conn     net.Conn
	out      bytes.Buffer // frames to be sent at once
	framer   *http2.Framer
	head     []byte // of each request: static and literal fields only, so that it is always the same
	streams  int
	open     int
	next     uint32
	consumed uint32
}

// h2Window is how much servers may send before they hear of it.
const h2Window = 1 << 30

func newH2Talk(conn net.Conn, streams int) (*h2Talk, error) {
	h := &h2Talk{conn: conn, streams: streams, next: 1}
	h.out.WriteString(http2.ClientPreface)
	h.framer = http2.NewFramer(&h.out, conn)
	h.framer.SetReuseFrames()
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	enc.SetMaxDynamicTableSize(0)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "bench.example"}, {":path", "/bench"}, {"user-agent", "turnout-bench"}, {"accept", "*/*"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	h.head = head.Bytes()
	_ = h.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window}, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = h.framer.WriteWindowUpdate(0, h2Window)
	return h, nil
}

// ask fills up the streams, and takes frames until at least one answer has ended.
func (h *h2Talk) ask() (units, bytes uint64, err error) {
	_ = h.conn.SetDeadline(time.Now().Add(patience))
	for ; h.open < h.streams; h.open++ {
		if err := h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: h.next, BlockFragment: h.head, EndStream: true, EndHeaders: true}); err != nil {
			return 0, 0, err
		}
		h.next += 2
	}
	for units == 0 {
		if h.out.Len() > 0 {
			if _, err := h.conn.Write(h.out.Bytes()); err != nil {
				return units, bytes, err
			}
			h.out.Reset()
		}
		f, err := h.framer.ReadFrame()
		if err != nil {
			return units, bytes, err
		}
		ended, err := h.take(f)
		if err != nil {
			return units, bytes, err
		}
		bytes += uint64(f.Header().Length) + 9
		if ended {
			units++
			h.open--
		}
	}
	return units, bytes, nil
}

func (h *h2Talk) take(f http2.Frame) (ended bool, err error) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = h.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = h.framer.WritePing(true, f.Data)
		}
	case *http2.HeadersFrame:
		// 8 is :status 200 of the static table, before which only a change of the table's size may come.
		if b := f.HeaderBlockFragment(); len(b) == 0 || b[0] != 0x88 && b[0]>>5 != 1 {
			return false, fmt.Errorf("an answer other than 200")
		}
		return f.StreamEnded(), nil
	case *http2.DataFrame:
		if h.consumed += f.Length; h.consumed > h2Window/2 {
			_ = h.framer.WriteWindowUpdate(0, h.consumed)
			h.consumed = 0
		}
		return f.StreamEnded(), nil
	case *http2.RSTStreamFrame:
		return false, fmt.Errorf("a stream reset: %s", f.ErrCode)
	case *http2.GoAwayFrame:
		return false, fmt.Errorf("sent away: %s", f.ErrCode)
	}
	return false, nil
}

func (h *h2Talk) close() { _ = h.conn.Close() }

package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	framing "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
)

// calls is a spec of gRPC servers, without TLS on either side.
func calls(t testing.TB, list ...[]string) *proxy.Spec {
	t.Helper()
	spec, _ := overH2(t, pools(list...))
	spec.Services[0].TLS, spec.Services[0].H2C = nil, true
	return spec
}

// asks calls without end until told to stop, and says how many calls there were; none may fail.
func asks(t *testing.T, c grpc_testing.TestServiceClient, clients, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	var failed, done atomic.Int64
	for range clients {
		all.Go(func() {
			for range n {
				got, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(1000)})
				if done.Add(1); err != nil || len(got.Payload.GetBody()) != 1000 {
					if failed.Add(1) < 5 {
						t.Logf("%v", err)
					}
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), done.Load())
	}
}

func TestGRPC_AServerThatRenewsItsConnectionsCostsNoCall(t *testing.T) {
	old := grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond, MaxConnectionAgeGrace: time.Minute})
	d := openDoor(t, calls(t, []string{"p", speaksGRPC(t, "s", old)}))
	asks(t, d.grpc(nil), 8, 400)
}

func TestGRPC_AServerWithRoomForOneStreamCostsNoCall(t *testing.T) {
	d := openDoor(t, calls(t, []string{"p", speaksGRPC(t, "s", grpc.MaxConcurrentStreams(1))}))
	c := d.grpc(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var streams []grpc_testing.TestService_FullDuplexCallClient
	for range 10 { // each keeps its place
		s, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	for _, s := range streams {
		if err := s.Send(&grpc_testing.StreamingOutputCallRequest{Payload: body(10)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range streams {
		if _, err := s.Recv(); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	asks(t, c, 8, 50)
}

// h2toy is a server of HTTP/2 that does with each connection what its test says; its settings are sent.
func h2toy(t testing.TB, handle func(f *framing.Framer, answer func(stream uint32))) string {
	return toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := io.ReadFull(r, make([]byte, len(framing.ClientPreface))); err != nil {
			return
		}
		f := framing.NewFramer(c, r)
		handle(f, func(stream uint32) {
			var b strings.Builder
			_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = f.WriteHeaders(framing.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(b.String()), EndHeaders: true, EndStream: true})
		})
	})
}

// A stream that the server says it has not looked at is asked for once more on another connection, whatever it asks.
func TestH2C_WhatAServerRefusesUnseenIsSentAgain(t *testing.T) {
	for what, refuse := range map[string]func(f *framing.Framer, stream uint32){
		"REFUSED_STREAM":           func(f *framing.Framer, stream uint32) { _ = f.WriteRSTStream(stream, framing.ErrCodeRefusedStream) },
		"GOAWAY before the stream": func(f *framing.Framer, stream uint32) { _ = f.WriteGoAway(0, framing.ErrCodeNo, nil) },
		"GOAWAY without a last one": func(f *framing.Framer, stream uint32) {
			_ = f.WriteGoAway(1<<31-1, framing.ErrCodeNo, nil)
			_ = f.WriteGoAway(0, framing.ErrCodeNo, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			var seen, refused atomic.Int64
			addr := h2toy(t, func(f *framing.Framer, answer func(uint32)) {
				_ = f.WriteSettings()
				open := map[uint32]bool{}
				for {
					fr, err := f.ReadFrame()
					if err != nil {
						return
					}
					switch fr := fr.(type) {
					case *framing.SettingsFrame:
						if !fr.IsAck() {
							_ = f.WriteSettingsAck()
						}
					case *framing.PingFrame:
						if !fr.IsAck() {
							_ = f.WritePing(true, fr.Data)
						}
					case *framing.HeadersFrame:
						if seen.Add(1)%2 == 1 {
							refused.Add(1)
							refuse(f, fr.StreamID)
							continue
						}
						open[fr.StreamID] = true
						if fr.StreamEnded() {
							answer(fr.StreamID)
						}
					case *framing.DataFrame:
						if open[fr.StreamID] && fr.StreamEnded() {
							answer(fr.StreamID)
						}
					}
				}
			})
			d := openDoor(t, calls(t, []string{"p", addr}))
			c := d.dial()
			for i, request := range []string{get, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
				c.send(request)
				if status, _ := c.answer(); !strings.Contains(status, " 200 ") {
					t.Errorf("request %d: got %s", i+1, status)
				}
			}
			if refused.Load() != 3 {
				t.Errorf("%d were refused", refused.Load())
			}
		})
	}
}

// Who accepts connections and does not speak HTTP/2 is as good as not there: another server is tried, and the operator is told.
func TestH2C_AServerThatDoesNotSpeakHTTP2IsAFailedDial(t *testing.T) {
	good := speaksGRPC(t, "good")
	for what, bad := range map[string]struct{ addr, why string }{
		"says nothing": {toy(t, func(c *net.TCPConn, _ *bufio.Reader) { _, _ = io.Copy(io.Discard, c) }), "the server does not speak HTTP/2: it says nothing"},
		"HTTP/1.1": {toy(t, func(c *net.TCPConn, _ *bufio.Reader) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}), "the server does not speak HTTP/2: "},
		"goes away": {h2toy(t, func(f *framing.Framer, _ func(uint32)) {
			_ = f.WriteSettings()
			_ = f.WriteGoAway(0, framing.ErrCodeNo, nil)
			for fr, err := f.ReadFrame(); err == nil; fr, err = f.ReadFrame() {
				if p, is := fr.(*framing.PingFrame); is && !p.IsAck() {
					_ = f.WritePing(true, p.Data)
				}
			}
		}), "the server ends each connection at once (GOAWAY)"},
		"ends": {toy(t, func(*net.TCPConn, *bufio.Reader) {}), "the server does not speak HTTP/2: "},
	} {
		t.Run(what, func(t *testing.T) {
			spec := calls(t, []string{"p", bad.addr, good})
			spec.Services[0].Timeouts.Connect = 300 * time.Millisecond
			d := openDoor(t, spec)
			asks(t, d.grpc(nil), 1, 4)
			if n := d.Current().Service("svc").Pools[0].Members[0].Counts(); n.Failures == 0 || !strings.Contains(n.LastError, bad.why) {
				t.Errorf("got %d failures, %q; want %q", n.Failures, n.LastError, bad.why)
			}
		})
	}
}

func TestGRPC_SwapsWhileServersRenewTheirConnectionsLoseNoCall(t *testing.T) {
	old := func() grpc.ServerOption {
		return grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 30 * time.Millisecond, MaxConnectionAgeGrace: time.Minute})
	}
	d := openDoor(t, calls(t, []string{"blue", speaksGRPC(t, "blue", old())}, []string{"green", speaksGRPC(t, "green", old())}))
	c := d.grpc(nil)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	proxytest.Storm{Swaps: 50, Between: 20, Clients: 6, Swap: func(to string) { d.swap(to) }, Ask: func(i int) (string, error) {
		got, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(1000)})
		if err != nil {
			err = fmt.Errorf("client %d: %w", i, err)
		}
		return got.GetUsername(), err
	}}.Run(t, "blue", "green")
}

// At a drain's deadline a stream is broken off, which no client takes for its end; what is asked afterwards on the same
// connection is answered by the new side, or by the door in maintenance.
func TestGRPC_AtADrainsDeadlineStreamsAreBrokenOffAndTheConnectionStays(t *testing.T) {
	for what, c := range map[string]struct {
		change proxy.Change
		then   codes.Code
	}{
		"swap":        {proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Drain: 50 * time.Millisecond}, codes.OK},
		"maintenance": {proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true, Drain: 50 * time.Millisecond}, codes.Unavailable},
	} {
		t.Run(what, func(t *testing.T) {
			d := openDoor(t, calls(t, []string{"blue", speaksGRPC(t, "blue")}, []string{"green", speaksGRPC(t, "green")}))
			calls := d.grpc(nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			stream, err := calls.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: body(10)}); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			d.must(c.change)
			if _, err := stream.Recv(); status.Code(err) != codes.Internal {
				t.Errorf("the stream: %v", err)
			}
			if got, err := calls.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(10)}); status.Code(err) != c.then || err == nil && got.Username != "green" {
				t.Errorf("then: %v, %v", got, err)
			}
		})
	}
}

package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turnout-proxy/turnout/proxy"
)

// talker is a gRPC server that says its name.
type talker struct {
	grpc_testing.UnimplementedTestServiceServer
	name string
}

func (s *talker) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if r.ResponseStatus != nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-why", "asked for"))
		return nil, status.Error(codes.Code(r.ResponseStatus.Code), r.ResponseStatus.Message)
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-last", "word"))
	return &grpc_testing.SimpleResponse{Username: s.name, Payload: r.Payload}, nil
}

func (s *talker) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: append([]byte(s.name+" "), r.Payload.GetBody()...)}}); err != nil {
			return err
		}
	}
}

// speaksGRPC starts one, and returns its address as it stands in a file.
func speaksGRPC(t testing.TB, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, &talker{name: name})
	go func() { _ = s.Serve(l) }() // ends with the test
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// overH2C has the door speak HTTP/2 with all servers of a spec, and HTTP/2 over TLS with clients.
func overH2C(t testing.TB, spec *proxy.Spec) (*proxy.Spec, *tls.Config) {
	t.Helper()
	for i := range spec.Services[0].Pools {
		for k := range spec.Services[0].Pools[i].Servers {
			spec.Services[0].Pools[i].Servers[k].H2C = true
		}
	}
	return secured2(t, spec)
}

// grpc is a client that speaks TLS with the door, unless config is nil.
func (d *door) grpc(config *tls.Config) grpc_testing.TestServiceClient {
	d.t.Helper()
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	c, err := grpc.NewClient("passthrough:///"+d.addr("svc"), grpc.WithTransportCredentials(creds), grpc.WithAuthority("door.test"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	return grpc_testing.NewTestServiceClient(c)
}

func body(n int) *grpc_testing.Payload { return &grpc_testing.Payload{Body: make([]byte, n)} }

func TestGRPC_CallsTrailersAndErrorsGoThrough(t *testing.T) {
	spec, config := overH2C(t, pools([]string{"p", speaksGRPC(t, "s")}))
	d := openDoor(t, spec)
	c := d.grpc(config)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, size := range []int{0, 1, 1000, 100_000, 3 << 20} {
		var trailer metadata.MD
		got, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(size)}, grpc.Trailer(&trailer))
		if err != nil || got.Username != "s" || len(got.Payload.GetBody()) != size || len(trailer["x-last"]) != 1 {
			t.Errorf("%d bytes: %v, %v", size, err, trailer)
		}
	}
	var trailer metadata.MD
	_, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.ResourceExhausted), Message: "no more"}}, grpc.Trailer(&trailer))
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != "no more" || len(trailer["x-why"]) != 1 {
		t.Errorf("got %v, %v", err, trailer)
	}
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // each answer comes before the next question is asked
		text := fmt.Sprint("question ", i)
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if got, err := stream.Recv(); err != nil || string(got.Payload.Body) != "s "+text {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

func TestGRPC_SwapsLoseNoCallAndStreamsUnderWayGoOn(t *testing.T) {
	for name, secured := range map[string]bool{"over TLS": true, "without TLS": false} {
		t.Run(name, func(t *testing.T) {
			spec, config := overH2C(t, pools([]string{"blue", speaksGRPC(t, "blue")}, []string{"green", speaksGRPC(t, "green")}))
			if !secured {
				spec.Services[0].TLS, spec.Services[0].H2C, config = nil, true, nil
			}
			swapGRPC(t, spec, config)
		})
	}
}

func swapGRPC(t *testing.T, spec *proxy.Spec, config *tls.Config) {
	d := openDoor(t, spec)
	c := d.grpc(config)
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	long, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(stream grpc_testing.TestService_FullDuplexCallClient) (string, error) {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: body(100)}); err != nil {
			return "", err
		}
		got, err := stream.Recv()
		if err != nil {
			return "", err
		}
		name, _, _ := strings.Cut(string(got.Payload.Body), " ")
		return name, nil
	}
	if name, err := ask(long); err != nil || name != "blue" {
		t.Fatal(name, err)
	}
	var epoch atomic.Uint64 // odd: a swap is under way
	var total, failed, late atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for !stop.Load() {
				before := epoch.Load()
				var name string
				var err error
				if i%2 == 0 {
					var got *grpc_testing.SimpleResponse
					got, err = c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(1000)})
					name = got.GetUsername()
				} else {
					var stream grpc_testing.TestService_FullDuplexCallClient
					if stream, err = c.FullDuplexCall(ctx); err == nil {
						name, err = ask(stream)
						for range 3 {
							if again, err2 := ask(stream); err == nil && (err2 != nil || again != name) {
								err = fmt.Errorf("a stream of %s went on with %q, %v", name, again, err2)
							}
						}
						_ = stream.CloseSend()
						if _, err2 := stream.Recv(); err == nil && !errors.Is(err2, io.EOF) {
							err = err2
						}
					}
				}
				after := epoch.Load()
				total.Add(1)
				if err != nil {
					t.Log(err)
					failed.Add(1)
				} else if before == after && before%2 == 0 && (name == "blue") != (before/2%2 == 0) {
					late.Add(1)
				}
			}
		})
	}
	for i := range 50 {
		waitFor(t, "calls between two swaps", func() bool { return total.Load() >= int64(5*i) })
		epoch.Add(1)
		d.swap([]string{"green", "blue"}[i%2])
		epoch.Add(1)
	}
	stop.Store(true)
	wg.Wait()
	if failed.Load() != 0 || late.Load() != 0 {
		t.Errorf("of %d: %d failed, %d late", total.Load(), failed.Load(), late.Load())
	}
	if name, err := ask(long); err != nil || name != "blue" {
		t.Errorf("the stream from before all swaps: %q, %v", name, err)
	}
	_ = long.CloseSend()
	if _, err := long.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("its end: %v", err)
	}
}

func TestH2C_AnAnswerCutShortDoesNotLookWholeAndADeadServerIsPassedOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go (&http2.Server{}).ServeConn(c, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				if r.URL.Path == "/half" {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})})
		}
	}()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.Addr().String()
	_ = gone.Close()
	spec, config := overH2C(t, pools([]string{"p", dead, l.Addr().String()}))
	d := openDoor(t, spec)
	c := d.http2(config)
	for _, path := range []string{"/half", "/whole", "/half", "/whole"} {
		res, err := c.Get("https://door.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(res.Body)
		if cut := path == "/half"; cut != (err != nil) || !strings.HasPrefix("half", string(all)) || res.StatusCode != 200 {
			t.Errorf("%s: got %d %q, %v", path, res.StatusCode, all, err)
		}
		_ = res.Body.Close()
	}
	if n := d.Current().Service("svc").Pools[0].Members[0].Counts(); n.Failures == 0 || !strings.Contains(n.LastError, "refused") {
		t.Errorf("got %d failures, %q", n.Failures, n.LastError)
	}
	spec.Services[0].TLS = nil // clients of HTTP/1.1 are served, too
	plain := openDoor(t, spec)
	conn := plain.dial()
	conn.send("GET /whole HTTP/1.1\r\nHost: h\r\n\r\n" + "HEAD /whole HTTP/1.1\r\nHost: h\r\n\r\n" + get)
	for range 1 {
		if res, err := http.ReadResponse(bufio.NewReader(conn.r), nil); err != nil || res.StatusCode != 200 {
			t.Errorf("HTTP/1.1: %v, %v", res, err)
		}
	}
}

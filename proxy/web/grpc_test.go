package web_test

//lint:file-ignore SA1019 http2.Server.ServeConn takes one connection, which is what a test wants

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
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
	"github.com/turnout-proxy/turnout/proxy/proxytest"
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

// speaksGRPC starts one, and returns its address.
func speaksGRPC(t testing.TB, name string, opt ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(opt...)
	grpc_testing.RegisterTestServiceServer(s, &talker{name: name})
	go func() { _ = s.Serve(l) }() // ends with the test
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// overH2 has the door speak HTTP/2 with all servers of a spec, and HTTP/2 over TLS with clients.
func overH2(t testing.TB, spec *proxy.Spec) (*proxy.Spec, *tls.Config) {
	t.Helper()
	for i := range spec.Services[0].Pools {
		for k := range spec.Services[0].Pools[i].Servers {
			spec.Services[0].Pools[i].Servers[k].H2 = true
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

// withAndWithout runs a test with gRPC servers that are spoken to in plain text, and with ones that speak nothing but h2 over TLS.
func withAndWithout(t *testing.T, test func(t *testing.T, spec *proxy.Spec, config *tls.Config), names ...string) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS to servers: ", secure), func(t *testing.T) {
			ca := certstest.New(t)
			var list [][]string
			for _, name := range names {
				var opt []grpc.ServerOption
				if secure {
					opt = append(opt, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{ca.Load(ca.Pair(t.TempDir(), name, "127.0.0.1"))}})))
				}
				list = append(list, []string{name, speaksGRPC(t, name, opt...)})
			}
			spec, config := overH2(t, pools(list...))
			if secure {
				spec = proxytest.ToServers(spec, proxy.ServerTLSSpec{CA: ca.File})
			}
			test(t, spec, config)
		})
	}
}

func TestGRPC_CallsTrailersAndErrorsGoThrough(t *testing.T) {
	withAndWithout(t, testGRPCCalls, "s")
}

func testGRPCCalls(t *testing.T, spec *proxy.Spec, config *tls.Config) {
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
	withAndWithout(t, testGRPCSwaps, "blue", "green")
	t.Run("without TLS on either side", func(t *testing.T) {
		spec, _ := overH2(t, pools([]string{"blue", speaksGRPC(t, "blue")}, []string{"green", speaksGRPC(t, "green")}))
		spec.Services[0].TLS, spec.Services[0].H2C = nil, true
		testGRPCSwaps(t, spec, nil)
	})
}

func testGRPCSwaps(t *testing.T, spec *proxy.Spec, config *tls.Config) {
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
	proxytest.Storm{Swaps: 50, Between: 5, Clients: 6, Swap: func(to string) { d.swap(to) }, Ask: func(i int) (string, error) {
		if i%2 == 0 {
			got, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(1000)})
			return got.GetUsername(), err
		}
		stream, err := c.FullDuplexCall(ctx)
		if err != nil {
			return "", err
		}
		name, err := ask(stream)
		for range 3 {
			if again, err2 := ask(stream); err == nil && (err2 != nil || again != name) {
				err = fmt.Errorf("a stream of %s went on with %q, %v", name, again, err2)
			}
		}
		_ = stream.CloseSend()
		if _, err2 := stream.Recv(); err == nil && !errors.Is(err2, io.EOF) {
			err = fmt.Errorf("the end: %w", err2)
		}
		return name, err
	}}.Run(t, "blue", "green")
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
	spec, config := overH2(t, pools([]string{"p", dead, l.Addr().String()}))
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

// A server of h2:// has to prove who it is and to agree upon h2; what keeps it from that is told, and another one is tried.
func TestH2_AServerThatIsNotOneOfOursOrDoesNotSpeakHTTP2IsPassedOver(t *testing.T) {
	ca, other := certstest.New(t), certstest.New(t)
	ours := func(a *certstest.Authority, host string) grpc.ServerOption {
		return grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{a.Load(a.Pair(t.TempDir(), "s", host))}}))
	}
	good := speaksGRPC(t, "good", ours(ca, "127.0.0.1"))
	only1, _ := httpsToy(t, ca, func(http.ResponseWriter, *http.Request) {}, "127.0.0.1")
	silent := greetsWith(t, ca, nil)
	for bad, why := range map[string]string{
		speaksGRPC(t, "foreign", ours(other, "127.0.0.1")): "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		speaksGRPC(t, "named", ours(ca, "127.0.0.2")):      "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.2, not 127.0.0.1",
		speaksGRPC(t, "plain"):                             "tls: the server does not speak TLS",
		only1:                                              "tls: the server does not speak h2 (ALPN)",
		silent:                                             "tls: the server does not speak h2 (ALPN)",
	} {
		spec, config := overH2(t, pools([]string{"p", bad, good}))
		d := openDoor(t, proxytest.ToServers(spec, proxy.ServerTLSSpec{CA: ca.File}))
		c := d.grpc(config)
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		for range 3 {
			if got, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: body(10)}); err != nil || got.Username != "good" {
				t.Errorf("%s: got %v, %v", why, got, err)
			}
		}
		cancel()
		if n := d.Current().Service("svc").Pools[0].Members[0].Counts(); n.Failures == 0 || !strings.HasPrefix(n.LastError, why) {
			t.Errorf("got %d failures, %q; want %q", n.Failures, n.LastError, why)
		}
	}
}

// greetsWith is a server that shakes hands, speaks protocols alone, and says nothing.
func greetsWith(t testing.TB, ca *certstest.Authority, protocols []string) string {
	pair := ca.Load(ca.Pair(t.TempDir(), "s", "127.0.0.1"))
	return toy(t, func(raw *net.TCPConn, _ *bufio.Reader) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protocols})
		_, _ = io.Copy(io.Discard, c)
	})
}

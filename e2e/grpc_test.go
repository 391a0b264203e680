package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// slowCalls is a gRPC server whose unary calls last until they are let go.
type slowCalls struct {
	grpc_testing.UnimplementedTestServiceServer
	came, let chan struct{}
}

func (s *slowCalls) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	s.came <- struct{}{}
	<-s.let
	return &grpc_testing.SimpleResponse{Username: "s"}, nil
}

func (s *slowCalls) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil // the client has ended
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

// Whoever is told to end says GOAWAY: calls and streams that are under way go on to their end, and new ones are made elsewhere.
func TestGRPC_ADoorThatIsToldToEndLetsCallsAndStreamsComeToTheirs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowCalls{came: make(chan struct{}), let: make(chan struct{})}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, s)
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  calls: {mode: http, listen: %q, h2c: true, drain: {timeout: 1m}, pools: {p: [%q]}}\n", listen, "h2c://"+l.Addr().String()))
	d.start()
	c, err := grpc.NewClient("passthrough:///"+listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // a test's
	calls := grpc_testing.NewTestServiceClient(c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := calls.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	talk := func() {
		t.Helper()
		for range 10 {
			if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: []byte("hello")}}); err != nil {
				t.Fatal(err)
			}
			if got, err := stream.Recv(); err != nil || string(got.Payload.Body) != "hello" {
				t.Fatalf("got %v, %v", got, err)
			}
		}
	}
	talk()
	answered := make(chan error, 1)
	go func() {
		_, err := calls.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
		answered <- err
	}()
	<-s.came
	d.signal(syscall.SIGTERM)
	eventually(t, "nobody listens", func() bool {
		probe, err := net.Dial("tcp", listen)
		if err == nil {
			_ = probe.Close()
		}
		return err != nil
	})
	talk()
	close(s.let)
	if err := <-answered; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if _, err := calls.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a new call: %v", err)
	}
	talk()
	if d.over() {
		t.Error("the door has ended before its stream")
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream's end: %v", err)
	}
	if code := d.awaitEnd(t, slower(20*time.Second)); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

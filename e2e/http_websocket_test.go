package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// wsEcho returns each message of a WebSocket with the name before it.
func wsEcho(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // it is over
		c.SetReadLimit(1 << 20)
		for {
			kind, b, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), kind, append([]byte(name), b...)); err != nil {
				return
			}
		}
	}
}

// wsSide is a server of WebSockets that returns each message with its name before it.
func wsSide(t testing.TB, name byte) *side {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: wsEcho(string(name))}
	go server.Serve(l)                   //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // nothing is lost by it
	return &side{t: t, name: name, addr: l.Addr().String()}
}

// wsTalk sends messages and compares their echoes until the connection ends; it returns who answered, and why it ended.
func wsTalk(ctx context.Context, address string, rounds int) (sides string, err error) {
	c, _, err := websocket.Dial(ctx, "ws://"+address+"/chat", nil)
	if err != nil {
		return "", fmt.Errorf("dial: %w", err)
	}
	defer c.CloseNow() //nolint:errcheck // it is over
	c.SetReadLimit(1 << 20)
	for i := range rounds {
		message := bytes.Repeat([]byte{byte(i)}, 1+i*7919%70_000)
		if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
			// What the server said before it went is to be read all the same.
			if _, _, readErr := c.Read(ctx); readErr != nil {
				err = readErr
			}
			return sides, err
		}
		_, b, err := c.Read(ctx)
		if err != nil {
			return sides, err
		}
		if len(b) == 0 || !bytes.Equal(b[1:], message) {
			return sides, fmt.Errorf("message %d of %d bytes came back as %d others", i, len(message), len(b))
		}
		sides += string(b[:1])
	}
	return sides, c.Close(websocket.StatusNormalClosure, "")
}

func TestHTTP_WebSocketsOfARealClientThroughSwaps(t *testing.T) {
	t.Parallel()
	a, b := wsSide(t, 'a'), wsSide(t, 'b')
	listen := freePort(t)
	d := newDoor(t, pairOf(listen, a, b, modeHTTP+longDrain)).start()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()

	// Those that talk for a while are on one side to their end, whatever is swapped meanwhile.
	var talks sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		talks.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n > 0 {
						return
					}
				default:
				}
				sides, err := wsTalk(ctx, listen, 10)
				if err != nil || len(sides) != 10 || sides != string(bytes.Repeat([]byte(sides[:1]), 10)) {
					t.Errorf("answered by %q, then %v", sides, err)
					return
				}
			}
		})
	}
	for i := range lighter(40, 4) {
		d.swapTo("svc", []string{"b", "a"}[i%2])
		pace(10 * time.Millisecond)
	}
	close(stop)
	talks.Wait()

	// Those that stay are told at the drain's deadline: 1012, on the edge of a frame.
	var conns []*websocket.Conn
	for range 10 {
		c, _, err := websocket.Dial(ctx, "ws://"+listen+"/chat", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow() //nolint:errcheck // it is over
		conns = append(conns, c)
		if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got[1:]) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	to := "b"
	if d.service("svc").Active == to {
		to = "a"
	}
	if r := d.cli("swap", "svc", to, "--drain", "200ms", "--then", "close"); r.code != 6 {
		t.Errorf("a swap whose drain cut WebSockets: %s", r)
	}
	for i, c := range conns {
		_, _, err := c.Read(ctx)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusServiceRestart {
			t.Errorf("WebSocket %d ended with %v, want the close frame 1012", i, err)
		}
	}
	if sides, err := wsTalk(ctx, listen, 3); err != nil || len(sides) != 3 {
		t.Errorf("after the swap: %q, %v", sides, err)
	}
}

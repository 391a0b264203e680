//go:build linux

package load

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	RunChild()
	os.Exit(m.Run())
}

// through starts servers in a mode with a forwarder before them, and a client to it.
func through(t *testing.T, mode string, c Client) (*ServerProcess, *ClientProcess) {
	t.Helper()
	return throughBytes(t, mode, 0, c)
}

func throughBytes(t *testing.T, mode string, bytes int64, c Client) (*ServerProcess, *ClientProcess) {
	t.Helper()
	port := 10000 + rand.IntN(4900) // e2e takes its ports from 15000 on, at the same time
	server, door := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)
	s, err := StartServers(Servers{Threads: 2, Listeners: []Listener{{Addr: server, Mode: mode, ID: 'a', Bytes: bytes}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	f, err := StartForward(Forward{Listen: door, To: server}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	c.Addr = door
	p, err := StartClient(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return s, p
}

// load runs a client for a moment and gives the counts at its two marks and the result.
func run(t *testing.T, p *ClientProcess) (a, b Count, r *Result) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Begin())
	var err error
	a, err = p.Mark()
	must(err)
	time.Sleep(100 * time.Millisecond)
	b, err = p.Mark()
	must(err)
	r, err = p.End()
	must(err)
	if r.Failed > 0 {
		t.Errorf("%d failed: %v", r.Failed, r.Errors)
	}
	return a, b, r
}

func TestEcho_GoesRoundAndRound(t *testing.T) {
	_, p := through(t, Echo, Client{Mode: EchoLoop, Threads: 2, Conns: 9})
	if a, b, _ := run(t, p); b.Units <= a.Units || b.At <= a.At {
		t.Errorf("no progress from %+v to %+v", a, b)
	}
}

func TestRate_SendsWhatIsDueAndGetsItAllBack(t *testing.T) {
	_, p := through(t, Echo, Client{Mode: RateLoop, Threads: 2, Conns: 5, Rate: 2000})
	a, b, r := run(t, p)
	// Each thread takes a mark when it comes to it: on a busy machine milliseconds apart, two messages each.
	due := float64(b.At-a.At) / 1e9 * 2000
	if n := float64(r.Latency.N()); n < due*3/4 || n > due*5/4 {
		t.Errorf("%v latencies of messages due between the marks, want about %v", n, due)
	}
	if r.Lag.N() != r.Latency.N() || r.Latency.Max() < r.Lag.Max()/2 {
		t.Errorf("lag of %d, latency of %d", r.Lag.N(), r.Latency.N())
	}
}

func TestBulk_FlowsBothWays(t *testing.T) {
	for _, way := range []struct{ server, client string }{{Source, DrainLoop}, {Sink, FloodLoop}} {
		_, p := through(t, way.server, Client{Mode: way.client, Conns: 3})
		if a, b, _ := run(t, p); b.Bytes <= a.Bytes {
			t.Errorf("%s: no progress", way.client)
		}
	}
}

func TestConnect_CountsWhatTheServerAccepted(t *testing.T) {
	for _, reset := range []bool{false, true} {
		s, p := through(t, Stamp, Client{Mode: ConnectLoop, Threads: 2, Conns: 6, Sources: 7, Reset: reset})
		_, _, r := run(t, p)
		served, err := s.Served()
		if err != nil {
			t.Fatal(err)
		}
		if got := served[0]; got.Messages != r.Units+2 || got.Accepted != r.Units+2 { // each thread tries once before
			t.Errorf("reset %v: server has %+v, client %d", reset, got, r.Units)
		}
	}
}

func TestIdle_StaysOpen(t *testing.T) {
	s, p := through(t, Stamp, Client{Mode: IdleLoop, Conns: 20})
	run(t, p)
	if served, err := s.Served(); err != nil || served[0].Accepted != 20 {
		t.Errorf("%+v, %v", served, err)
	}
}

func TestStorm_WritesDownEachStartInOrder(t *testing.T) {
	_, p := through(t, Stamp, Client{Mode: StormLoop, Conns: 10, Rate: 500, OldRate: 500})
	_, _, r := run(t, p)
	if len(r.New) < 20 || r.Old != 10 || len(r.OldLost) != 0 {
		t.Fatalf("%d new, %d old, lost %v", len(r.New), r.Old, r.OldLost)
	}
	for _, s := range r.New {
		if s.Side != 'a' || s.Begin >= s.Accept || s.Accept >= s.Reply {
			t.Fatalf("out of order: %+v", s)
		}
	}
}

func TestClient_SaysWhyItCannotConnect(t *testing.T) {
	_, err := StartClient(Client{Mode: EchoLoop, Conns: 1, Addr: "127.0.0.1:1"}, nil)
	want := "client: connection 1 of 1 to 127.0.0.1:1: connect: connection refused"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestClient_CountsALostServerOnceForEachConnection(t *testing.T) {
	s, p := through(t, Echo, Client{Mode: EchoLoop, Conns: 4})
	if err := p.Begin(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	time.Sleep(50 * time.Millisecond)
	r, err := p.End()
	if err != nil || r.Failed != 4 {
		t.Errorf("%d failed, %v, %v; want 4", r.Failed, r.Errors, err)
	}
}

package stream_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/stream"
)

// memory is a journal without a disk.
type memory struct {
	mu      sync.Mutex
	records [][]byte
	fail    error
}

func (m *memory) Append(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.records = append(m.records, b)
	return nil
}
func (m *memory) AppendLazy(b []byte) error { return m.Append(b) }
func (m *memory) NeedsCompaction() bool     { return false }
func (m *memory) Compact([]byte) error      { return nil }

// door is a Switch with a real plane.
type door struct {
	*proxy.Switch
	plane   plane
	journal *memory
	t       testing.TB
}

// plane is the TCP plane and the front that it is behind.
type plane struct {
	*stream.Plane
	*front.Front
}

const testLoops = 2

func openDoor(t testing.TB, spec *proxy.Spec) *door {
	t.Helper()
	return openDoorWith(t, spec, testLoops, nil)
}

// openDoorWith is openDoor with so many loops and an access log. Its end checks that nothing was left lent.
func openDoorWith(t testing.TB, spec *proxy.Spec, loops int, access *zap.Logger) *door {
	t.Helper()
	d := &door{journal: &memory{}, t: t}
	d.Switch = proxy.New(spec, &proxy.Memory{}, proxy.Options{Loops: loops, Journal: d.journal, Probe: func(ctx context.Context, s *proxy.Server) error {
		network, address := "tcp", s.Address
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, address = "unix", path
		}
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			_ = c.Close()
		}
		return err
	}})
	var log *zap.Logger = zap.NewNop()
	if tt, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(tt, zaptest.Level(zap.ErrorLevel))
	}
	keys := certs.New(certs.Options{Folder: t.TempDir(), Log: log})
	f, err := front.New(front.Options{Switch: d.Switch, Loops: loops, Log: log, Certs: keys})
	if err != nil {
		t.Fatal(err)
	}
	d.plane = plane{stream.New(stream.Options{Switch: d.Switch, Front: f, Access: access}), f}
	t.Cleanup(func() {
		d.plane.ThawAll()
		d.nothingLeft()
		f.Stop()
		keys.Close()
	})
	if err := d.Start(f, "test"); err != nil {
		t.Fatal(err)
	}
	return d
}

// nothingLeft ends all connections and looks for what was not given back.
func (d *door) nothingLeft() {
	d.t.Helper()
	d.plane.CloseListeners()
	d.plane.EndAll()
	if lent := d.plane.Lent(); lent != (stream.Lent{}) {
		d.t.Errorf("without a client there is still %+v", lent)
	}
	for _, svc := range d.Current().Services {
		if n := svc.Held(); n != 0 {
			d.t.Errorf("%s: %d held without a client", svc.Spec.Name, n)
		}
		for _, p := range svc.Pools {
			for _, srv := range p.Servers() {
				if n := srv.Counts(); n.Connections != 0 || n.Dialing != 0 {
					d.t.Errorf("%s/%s: %d connections and %d dials counted without a client", p.Name, srv.Name, n.Connections, n.Dialing)
				}
			}
		}
	}
}

// addr is the address of the first listener of a service.
func (d *door) addr(service string) string {
	d.t.Helper()
	addr := ""
	d.Current().Listeners(func(slot int, _ proxy.ListenSpec, svc *proxy.Service) {
		if svc.Spec.Name == service && addr == "" {
			addr = d.plane.Addr(slot)
		}
	})
	if addr == "" {
		d.t.Fatalf("service %s has no listener", service)
	}
	return addr
}

func (d *door) dial(service string) net.Conn {
	d.t.Helper()
	return dialAddr(d.t, d.addr(service))
}

func dialAddr(t testing.TB, addr string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c
}

// must applies a change that has to succeed.
func (d *door) must(ch proxy.Change) *proxy.Operation {
	d.t.Helper()
	ch.Who = proxy.Who{Name: "test"}
	op, err := d.Apply(context.Background(), ch)
	if err != nil {
		d.t.Fatalf("%s %s: %v", ch.Verb, ch.Target, err)
	}
	return op
}

func (d *door) swap(service, to string) proxy.OperationView {
	d.t.Helper()
	op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: service, To: to})
	d.Refresh(op)
	return op.View()
}

// waitFor waits until cond holds; a condition that never does fails the test.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// toy is a server that does with each connection what its test says.
type toy struct {
	net.Listener
	name string
}

func serve(t testing.TB, name string, handle func(c *net.TCPConn)) *toy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c.(*net.TCPConn))
		}
	}()
	return &toy{l, name}
}

func (s *toy) address() string { return s.Addr().String() }

// echo says its name in a line and then echoes.
func echo(t testing.TB, name string) *toy {
	return serve(t, name, func(c *net.TCPConn) {
		defer c.Close()
		fmt.Fprintln(c, name)
		_, _ = io.Copy(c, c)
	})
}

// pools makes a spec of one service "svc" on a free port; each pool is its name and servers.
func pools(list ...[]string) *proxy.Spec {
	sp := proxy.ServiceSpec{
		Name: "svc", Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: "127.0.0.1:0"}},
		Balance: proxy.RoundRobin, Drain: proxy.DrainSpec{Timeout: 30 * time.Second, Then: proxy.ThenClose},
		Hold: proxy.HoldSpec{Timeout: 30 * time.Second, Max: 10000}, ProxyProtocol: proxy.ProxyProtocolSpec{Send: proxy.ProxyOff},
		Timeouts: proxy.TimeoutSpec{Connect: 3 * time.Second, Idle: time.Hour},
	}
	for _, p := range list {
		ps := proxy.PoolSpec{Name: p[0]}
		for _, a := range p[1:] {
			ps.Servers = append(ps.Servers, proxy.ServerSpec{Name: a, Address: a, Weight: 1})
		}
		sp.Pools = append(sp.Pools, ps)
	}
	sp.Active = sp.Pools[0].Name
	return &proxy.Spec{Services: []proxy.ServiceSpec{sp}}
}

func readLine(t testing.TB, c net.Conn) string {
	t.Helper()
	var b []byte
	one := make([]byte, 1)
	for {
		if _, err := c.Read(one); err != nil {
			t.Fatalf("reading a line: %v (so far %q)", err, b)
		}
		if one[0] == '\n' {
			return string(b)
		}
		b = append(b, one[0])
	}
}

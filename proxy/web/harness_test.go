package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/web"
	"github.com/turnout-proxy/turnout/proxy/web/h2"
)

// memory is a journal without a disk.
type memory struct{}

func (m *memory) Append([]byte) error     { return nil }
func (m *memory) AppendLazy([]byte) error { return nil }
func (m *memory) NeedsCompaction() bool   { return false }
func (m *memory) Compact([]byte) error    { return nil }

const testLoops = 2

// door is a Switch with a real plane.
type door struct {
	*proxy.Switch
	front *front.Front
	plane *web.Plane
	t     testing.TB
}

func openDoor(t testing.TB, spec *proxy.Spec) *door {
	t.Helper()
	return openDoorWith(t, spec, zap.NewNop())
}

// openDoorWith is openDoor with an access log. Its end checks that nothing was left lent.
func openDoorWith(t testing.TB, spec *proxy.Spec, access *zap.Logger) *door {
	t.Helper()
	d := &door{t: t}
	d.Switch = proxy.New(spec, &proxy.Memory{}, proxy.Options{Loops: testLoops, Journal: &memory{}, Probe: func(ctx context.Context, s *proxy.Server) error {
		return nil
	}})
	log := zap.NewNop()
	if tt, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(tt, zaptest.Level(zap.ErrorLevel))
	}
	keys := certs.New(certs.Options{Folder: t.TempDir(), Log: log})
	var err error
	if d.front, err = front.New(front.Options{Switch: d.Switch, Loops: testLoops, Log: log, Certs: keys}); err != nil {
		t.Fatal(err)
	}
	d.plane = web.New(web.Options{Switch: d.Switch, Front: d.front, Access: access})
	h2.New(d.plane)
	t.Cleanup(func() {
		d.nothingLeft()
		d.front.Stop()
		keys.Close()
	})
	if err := d.Start(d.front, "test"); err != nil {
		t.Fatal(err)
	}
	return d
}

// nothingLeft ends all connections and looks for what was not given back.
func (d *door) nothingLeft() {
	d.t.Helper()
	d.front.CloseListeners()
	d.plane.EndAll()
	if lent := d.plane.Lent(); lent != (web.Lent{}) {
		d.t.Errorf("without a client there is still %+v", lent)
	}
	for _, svc := range d.Current().Services {
		if n := svc.Held(); n != 0 {
			d.t.Errorf("%s: %d held without a client", svc.Spec.Name, n)
		}
		for _, p := range svc.Pools {
			for _, srv := range p.Servers() {
				if n := srv.Counts(); n.Connections != 0 || n.Dialing != 0 {
					d.t.Errorf("%s/%s: %d requests and %d dials counted without a client", p.Name, srv.Name, n.Connections, n.Dialing)
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
			addr = d.front.Addr(slot)
		}
	})
	return addr
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

func (d *door) swap(to string) proxy.OperationView {
	d.t.Helper()
	op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: to})
	d.Refresh(op)
	return op.View()
}

// waitFor waits until cond holds; a condition that never does fails the test.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// toy is a server that does with each connection what its test says.
func toy(t testing.TB, handle func(c *net.TCPConn, r *bufio.Reader)) string {
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
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn), bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// head reads a message's head, up to its empty line.
func head(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// says is a server that answers every request without a body with its name.
func says(t testing.TB, name string) string {
	return toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		for {
			if _, err := head(r); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
		}
	})
}

// pools makes a spec of one service "svc" on a free port; each pool is its name and servers.
func pools(list ...[]string) *proxy.Spec {
	sp := proxy.ServiceSpec{
		Name: "svc", Mode: proxy.HTTP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: "127.0.0.1:0"}},
		Balance: proxy.RoundRobin, Drain: proxy.DrainSpec{Timeout: 30 * time.Second, Then: proxy.ThenClose},
		Hold: proxy.HoldSpec{Timeout: 30 * time.Second, Max: 10000}, ProxyProtocol: proxy.ProxyProtocolSpec{Send: proxy.ProxyOff},
		Maintenance: proxy.MaintenanceSpec{Status: 503, RetryAfter: time.Minute},
		Timeouts:    proxy.TimeoutSpec{Connect: 3 * time.Second, Idle: time.Hour, RequestHeader: 10 * time.Second, RequestBody: time.Minute, Response: time.Minute},
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

// conn is a client's connection.
type conn struct {
	*net.TCPConn
	r *bufio.Reader
	t testing.TB
}

func (d *door) dial() *conn {
	d.t.Helper()
	return d.dialTo("svc")
}

func (d *door) dialTo(service string) *conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr(service))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &conn{c.(*net.TCPConn), bufio.NewReader(c), d.t}
}

func (c *conn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a head, and as many bytes of body as its Content-Length says.
func (c *conn) answer() (status, body string) {
	c.t.Helper()
	h, err := head(c.r)
	if err != nil {
		c.t.Fatalf("reading a head: %v (so far %q)", err, h)
	}
	status, _, _ = strings.Cut(h, "\r\n")
	n := 0
	if _, rest, ok := strings.Cut(h, "Content-Length: "); ok {
		fmt.Sscanf(rest, "%d", &n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatalf("reading a body of %d: %v", n, err)
	}
	return status, string(b)
}

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/proxy"
)

// plane is a Plane of one loop whose connections are made by tests. Its lock stands for the loop.
type plane struct {
	mu      sync.Mutex
	sw      *proxy.Switch
	claimer *proxy.Claimer
	open    map[*proxy.Server]int
	busy    error // of Prepare
}

type prepared struct{}

func (prepared) Commit() {}
func (prepared) Abort()  {}

func (p *plane) Prepare(*proxy.Snapshot) (proxy.Prepared, error) { return prepared{}, p.busy }

func (p *plane) Quiet(services []string) map[string]proxy.Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]proxy.Tally{}
	for _, name := range services {
		if svc := p.sw.Current().Service(name); svc != nil {
			out[name] = p.claimer.Tally(svc)
		}
	}
	return out
}

func (p *plane) Cut(servers []*proxy.Server, cuts proxy.Cuts) <-chan struct{} {
	for _, s := range servers {
		if cuts.Of(0, 0) != proxy.CutNot {
			p.end(s, true)
		}
	}
	carried := make(chan struct{})
	close(carried)
	return carried
}

// connect makes one connection of a client of the service.
func (p *plane) connect(t *testing.T, service string) *proxy.Server {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := p.sw.Current()
	svc, slot := snap.Service(service), -1
	snap.Listeners(func(n int, _ proxy.ListenSpec, s *proxy.Service) {
		if s == svc {
			slot = n
		}
	})
	p.claimer.Accepted(svc)
	got, verdict := p.claimer.Claim(svc, 0, 0)
	if verdict != proxy.Dial || !p.claimer.Start(slot, got.Server, snap.Revision) {
		t.Fatalf("a client of %s got verdict %d", service, verdict)
	}
	p.claimer.Carried(got.Server, 10, 20)
	p.open[got.Server]++
	return got.Server
}

// end ends all connections of a server.
func (p *plane) end(s *proxy.Server, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; p.open[s] > 0; p.open[s]-- {
		p.claimer.End(s, cut)
	}
}

// journal is in memory.
type journal struct {
	mu      sync.Mutex
	records [][]byte
	full    error
}

func (j *journal) Append(b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full == nil {
		j.records = append(j.records, b)
	}
	return j.full
}

func (j *journal) AppendLazy(b []byte) error { return j.Append(b) }
func (j *journal) NeedsCompaction() bool     { return false }
func (j *journal) Compact([]byte) error      { return nil }

func (j *journal) setFull(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.full = err
}

func (j *journal) History(f func([]byte) error) error {
	j.mu.Lock()
	records := j.records[:len(j.records):len(j.records)]
	j.mu.Unlock()
	for _, r := range records {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// door is all of a door but its traffic.
type door struct {
	*client.Client
	t       *testing.T
	sw      *proxy.Switch
	plane   *plane
	journal *journal
	server  *Server
	socket  string
	logs    *observer.ObservedLogs

	mu    sync.Mutex
	down  map[string]error // addresses that cannot be reached
	next  *Reloading       // what the file says now
	wrong error            // about the file
}

func pool(name string, servers ...string) proxy.PoolSpec {
	p := proxy.PoolSpec{Name: name}
	for _, s := range servers {
		p.Servers = append(p.Servers, proxy.ServerSpec{Name: s, Address: s + ".test:1", Weight: 1})
	}
	return p
}

func service(name, listen string, pools ...proxy.PoolSpec) proxy.ServiceSpec {
	return proxy.ServiceSpec{
		Name: name, Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: listen}}, Pools: pools, Active: pools[0].Name,
		Balance: proxy.RoundRobin, Drain: proxy.DrainSpec{Timeout: time.Minute, Then: proxy.ThenClose}, Hold: proxy.HoldSpec{Timeout: time.Minute, Max: 10},
		Timeouts: proxy.TimeoutSpec{Connect: time.Second, Idle: time.Hour},
	}
}

func spec() *proxy.Spec {
	return &proxy.Spec{
		Services: []proxy.ServiceSpec{
			service("api", ":8080", pool("blue", "b1", "b2"), pool("green", "g1")),
			service("db", ":0", pool("primary", "p1"), pool("standby", "s1")),
		},
		Groups: map[string][]string{"all": {"api", "db"}},
	}
}

// shortDir is t.TempDir with a path that is short enough for a socket in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "door")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// open runs a door until the test ends; change may alter its options and limits.
func open(t *testing.T, change ...func(*Server)) *door {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	d := &door{t: t, journal: &journal{}, socket: filepath.Join(shortDir(t), "admin.sock"), logs: logs, down: map[string]error{}}
	d.plane = &plane{open: map[*proxy.Server]int{}}
	d.sw = proxy.New(spec(), &proxy.Memory{}, proxy.Options{Loops: 1, Journal: d.journal, Plane: d.plane, Probe: d.probe})
	d.plane.sw, d.plane.claimer = d.sw, d.sw.Claimer(0)
	if err := d.sw.Start(nil, "test"); err != nil {
		t.Fatal(err)
	}
	d.server = New(Options{
		Switch: d.sw, History: d.journal.History, Reload: d.read, Started: time.Now(), ConfigPath: "turnout.yaml", Log: zap.New(core),
		Version: api.Version{Version: "1.2.3", Commit: "abc", Go: "go1.26", OS: "linux"},
		ListenAddrs: func(slot int) string {
			if slot == 1 {
				return "127.0.0.1:4321"
			}
			return ""
		},
	})
	for _, f := range change {
		f(d.server)
	}
	if err := d.server.Open(d.socket); err != nil {
		t.Fatal(err)
	}
	d.Client = client.Dial(d.socket)
	t.Cleanup(func() {
		d.Client.Close()
		d.sw.Stop("the test ends")
		if err := d.server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *door) probe(_ context.Context, s *proxy.Server) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down[s.Name]
}

func (d *door) setDown(server string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down[server] = err
}

func (d *door) read(bool) (*Reloading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next, d.wrong
}

func (d *door) setFile(next *Reloading, wrong error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next, d.wrong = next, wrong
}

// status of the door; the test ends if there is none.
func (d *door) status() *api.Status {
	d.t.Helper()
	st, err := d.Status(d.t.Context(), "")
	if err != nil {
		d.t.Fatal(err)
	}
	return st
}

// done fails the test unless a change was made.
func (d *door) done(op *api.Operation, err error) *api.Operation {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	return op
}

// refused gives the error of a call that must have one of that code.
func refused(t *testing.T, err error, code string) *api.Error {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got error %#v, want one of code %s", err, code)
	}
	return e
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// eventually waits until a condition that others bring about holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		<-time.After(time.Millisecond)
	}
}

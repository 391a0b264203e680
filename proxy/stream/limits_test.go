package stream_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestListen_IPv4IPv6BothAndUnix(t *testing.T) {
	srv := saysBack(t)
	path := unixPath(t)
	spec := pools([]string{"a", srv.address()})
	spec.Services[0].Listen = []proxy.ListenSpec{
		{Network: proxy.NetTCP, Address: "127.0.0.1:0"}, {Network: proxy.NetTCP, Address: "[::1]:0"}, {Network: proxy.NetTCP, Address: ":0"},
		{Network: proxy.NetUnix, Address: path},
	}
	d := openDoor(t, spec)
	var addrs []string
	d.Current().Listeners(func(slot int, l proxy.ListenSpec, _ *proxy.Service) {
		addr := d.plane.Addr(slot)
		if l.Address == ":0" {
			_, port, _ := net.SplitHostPort(addr)
			addrs = append(addrs, "127.0.0.1:"+port, "[::1]:"+port)
			return
		}
		addrs = append(addrs, addr)
	})
	for _, addr := range addrs {
		c := dialAddr(t, addr)
		_, _ = c.Write(bytesOf(1, 100_000))
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		if n, err := verify(c, 1); n != 100_000 || err != nil {
			t.Errorf("%s: %d bytes, %v", addr, n, err)
		}
		c.Close()
		d.gone()
	}
	d.plane.CloseListeners()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket's file is still there")
	}
}

// A client on a Unix socket that closes has left, whatever it said: there is no half-close in that.
func TestListen_AUnixClientThatClosesIsGone(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Listen = []proxy.ListenSpec{{Network: proxy.NetUnix, Address: unixPath(t)}}
	d := openDoor(t, spec)
	relayed := d.dial("svc")
	readLine(t, relayed)
	d.hold()
	heldOne, heldTwo := d.dial("svc"), d.dial("svc")
	fmt.Fprint(heldTwo, "question")
	waitFor(t, "held", func() bool { return d.held() == 2 })
	for _, c := range []net.Conn{relayed, heldOne, heldTwo} {
		c.Close()
	}
	d.gone()
}

// Descriptors are used up, in a process of its own: the limit is one of a process.
func TestLimits_DescriptorsUsedUp(t *testing.T) {
	if os.Getenv("TURNOUT_CHILD") == "" {
		t.Run("odd", func(t *testing.T) { usedUp(t, "41") })
		t.Run("even", func(t *testing.T) { usedUp(t, "40") })
		return
	}
	spec := pools([]string{"a", os.Getenv("TURNOUT_CHILD")})
	spec.Services[0].Timeouts.Connect = 30 * time.Second
	d := openDoor(t, spec)
	open, _ := os.ReadDir("/proc/self/fd")
	more, _ := strconv.ParseUint(os.Getenv("TURNOUT_MORE"), 10, 64)
	limit := uint64(len(open)-1) + more // the reading of the directory took one
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nADDR %s\n", d.addr("svc"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	d.gone()
}

// usedUp runs a door that may open so many descriptors more: two are a connection, so an odd number leaves a client
// without a server.
func usedUp(t *testing.T, more string) {
	// The child is the door; this process has the clients and the server.
	srv := serve(t, "a", func(c *net.TCPConn) { _, _ = io.Copy(c, c); c.Close() })
	cmd := exec.Command(os.Args[0], "-test.run=^TestLimits_DescriptorsUsedUp$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "TURNOUT_CHILD="+srv.address(), "TURNOUT_MORE="+more)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	clientsOfTheUsedUpDoor(t, out)
	in.Close() // the end for the child
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the door: %v\n%s", err, rest)
	}
}

func clientsOfTheUsedUpDoor(t *testing.T, out io.Reader) {
	var text strings.Builder
	buf := make([]byte, 1)
	addr := ""
	for addr == "" {
		if _, err := out.Read(buf); err != nil {
			t.Fatalf("the child said %q", text.String())
		}
		text.Write(buf)
		if _, rest, ok := strings.Cut(text.String(), "\nADDR "); ok && strings.HasSuffix(rest, "\n") {
			addr = strings.TrimSpace(rest)
		}
	}
	const clients = 80
	var conns []net.Conn
	answered := make(chan int, clients)
	for i := range clients {
		c := dialAddr(t, addr) // the kernel accepts, whatever the door does
		conns = append(conns, c)
		go func() {
			fmt.Fprintf(c, "client %d\n", i)
			line := make([]byte, len(fmt.Sprintf("client %d\n", i)))
			if _, err := io.ReadFull(c, line); err != nil || string(line) != fmt.Sprintf("client %d\n", i) {
				t.Errorf("client %d: %q, %v", i, line, err)
			}
			answered <- i
		}()
	}
	// Some are served and the others wait; each that ends lets in more, until all were served.
	for served := range clients {
		select {
		case i := <-answered:
			if served == 0 { // bulk, with no descriptor left for a pipe
				c := conns[i]
				want := bytesOf(3, 4<<20)
				go func() { _, _ = c.Write(want) }()
				got := make([]byte, len(want))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
					t.Errorf("bulk without pipes: %v", err)
				}
			}
			conns[i].Close()
		case <-time.After(15 * time.Second):
			t.Fatalf("%d of %d were served, then none", served, clients)
		}
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func descriptors() int {
	open, _ := os.ReadDir("/proc/self/fd")
	return len(open)
}

// Many connections, a reload and a swap among them, and then none: nothing is left of them.
func TestLimits_ManyConnectionsLeaveNothingBehind(t *testing.T) {
	// Four descriptors a connection, all in this process.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	most := 10_000
	if want := uint64(4*most + 1000); limit.Cur < want {
		raised := syscall.Rlimit{Cur: want, Max: max(want, limit.Max)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) }()
		} else {
			most = int(limit.Cur-1000) / 4
		}
	}
	var accepted [2]chan net.Conn
	var addresses [2]string
	for i := range accepted {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		accepted[i], addresses[i] = make(chan net.Conn, most), l.Addr().String()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted[i] <- c
			}
		}()
	}
	spec := pools([]string{"blue", addresses[0]}, []string{"green", addresses[1]})
	d := openDoor(t, spec)
	cycle := func(n int) {
		addr := d.addr("svc")
		conns := make([]net.Conn, n)
		var wg sync.WaitGroup
		var failed atomic.Int64
		for k := range 16 {
			wg.Go(func() {
				for i := k; i < n; i += 16 {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						failed.Add(1)
						continue
					}
					_, _ = c.Write([]byte("some bytes"))
					conns[i] = c
				}
			})
			if k == 7 {
				d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", Then: proxy.ThenKeep})
				next := *spec
				next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
				next.Services[0].Timeouts.Idle += time.Minute
				spec = &next
				d.must(proxy.Change{Verb: proxy.VerbReload, Spec: spec})
			}
		}
		wg.Wait()
		if failed.Load() > 0 {
			t.Fatalf("%d of %d failed", failed.Load(), n)
		}
		waitFor(t, "all are there", func() bool { return d.Current().Service("svc").Connections() == n })
		for i, c := range conns {
			switch i % 4 {
			case 0:
				reset(c)
			default:
				c.Close()
			}
		}
		// Servers close what they have, dials that were taken back among them.
		waitFor(t, "no client left", func() bool {
			for range len(accepted[0]) {
				(<-accepted[0]).Close()
			}
			for range len(accepted[1]) {
				(<-accepted[1]).Close()
			}
			return d.plane.Connections() == 0 && len(accepted[0])+len(accepted[1]) == 0
		})
	}
	cycle(200) // what is kept for the next ones is there now
	fds, goroutines, before := descriptors(), runtime.NumGoroutine(), heap()
	begun := time.Now()
	cycle(most)
	t.Logf("%d connections in %v", most, time.Since(begun))
	waitFor(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
	waitFor(t, "no descriptor left", func() bool { return descriptors() <= fds })
	// Idle blocks, list heads and the chunks that slabs keep: some hundred KiB, whatever the number was.
	waitFor(t, "no memory left", func() bool { return heap() < before+1<<20 })
	cycle(200)
}

func TestAccessLog_OneLineForEachConnection(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		all, _ := readAll(c)
		fmt.Fprint(c, all, all)
	})
	spec := pools([]string{"blue", srv.address()}, []string{"dead", refused(t)})
	spec.Services[0].AccessLog = true
	spec.Services[0].Hold.Timeout = 50 * time.Millisecond
	quiet := pools([]string{"a", srv.address()}).Services[0]
	quiet.Name = "unlogged"
	spec.Services = append(spec.Services, quiet)
	d := openDoorWith(t, spec, 2, zap.New(core))
	line := func(n int) map[string]any {
		t.Helper()
		waitFor(t, "the line is there", func() bool { return logs.Len() >= n })
		if logs.Len() != n {
			t.Fatalf("%d lines, not %d", logs.Len(), n)
		}
		return logs.All()[n-1].ContextMap()
	}
	c := d.dial("svc").(*net.TCPConn)
	fmt.Fprint(c, "12345")
	_ = c.CloseWrite()
	_, _ = readAll(c)
	c.Close()
	got := line(1)
	want := map[string]any{"service": "svc", "pool": "blue", "server": srv.address(), "client": c.LocalAddr().String(), "bytes_to_server": uint64(5), "bytes_to_client": uint64(10), "end": "done"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %v, want %v", k, got[k], v)
		}
	}
	if took := got["took"].(time.Duration); took <= 0 || took > 10*time.Second {
		t.Error(took)
	}
	if began := got["began"].(time.Time); time.Since(began) > 10*time.Second || time.Since(began) < 0 {
		t.Error(began)
	}
	c = d.dial("unlogged").(*net.TCPConn)
	_ = c.CloseWrite()
	_, _ = readAll(c)
	d.gone()

	d.hold()
	_, _ = readAll(d.dial("svc"))
	if got := line(2); got["end"] != "waited too long" || got["server"] != "" {
		t.Errorf("%v", got)
	}
	c = d.dial("svc").(*net.TCPConn)
	waitFor(t, "held", func() bool { return d.held() == 1 })
	c.Close()
	if got := line(3); got["end"] != "left" {
		t.Errorf("%v", got)
	}
	d.release()
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "dead", Force: true})
	d.turnedAway("svc")
	if got := line(4); got["end"] != "no server" {
		t.Errorf("%v", got)
	}
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "blue"})
	c = d.dial("svc").(*net.TCPConn)
	waitFor(t, "started", func() bool { return d.counts(srv.address()).Connections == 1 })
	reset(c)
	if got := line(5); got["end"] != "reset" || got["pool"] != "blue" {
		t.Errorf("%v", got)
	}
	d.must(proxy.Change{Verb: proxy.VerbMaintenance, Target: "svc", On: true})
	_, _ = readAll(d.dial("svc"))
	if got := line(6); got["end"] != "maintenance" {
		t.Errorf("%v", got)
	}
}

// Swaps, holds, releases and reloads as fast as they go, with servers that refuse, reset and hang, and clients that
// leave at any time: nothing is lost count of, and no client that behaves is failed.
func TestStorm_ChangesWhileClientsComeAndGo(t *testing.T) {
	length := time.Second
	if soak() {
		length = 30 * time.Second
	}
	nowhere, _ := deaf(t)
	upath := unixPath(t)
	ul, err := net.Listen("unix", upath)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ul, "u", func(c net.Conn) { defer c.Close(); fmt.Fprintln(c, "x"); _, _ = io.Copy(c, c) })
	one, two := echo(t, "x"), echo(t, "x")
	spec := pools([]string{"blue", one.address(), refused(t)}, []string{"green", refused(t), two.address(), "unix:" + upath}, []string{"red", nowhere, one.address()})
	spec.Services[0].Timeouts.Connect = 5 * time.Second
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 25
	d := openDoorWith(t, spec, 3, nil)
	before := descriptors()
	addr := d.addr("svc")
	var stop atomic.Bool
	var ok, failed, rude atomic.Int64
	var wg sync.WaitGroup
	for k := range 24 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
				if k%3 == 0 { // leaves at some point
					rude.Add(1)
					if i%2 == 0 {
						_, _ = c.Write(bytesOf(1, i%5*10_000))
					}
					time.Sleep(time.Duration(i%7) * 100 * time.Microsecond)
					if i%3 == 0 {
						c.Close()
					} else {
						reset(c)
					}
					continue
				}
				msg := string(bytesOf(byte(i), 1+i%3*50_000))
				go func() { _, _ = io.WriteString(c, msg); _ = c.(*net.TCPConn).CloseWrite() }()
				if got, err := readAll(c); err != nil || got != "x\n"+msg {
					failed.Add(1)
					t.Errorf("%d of %d bytes, %v", len(got), len(msg)+2, err)
				}
				ok.Add(1)
				reset(c)
			}
		})
	}
	names := []string{"blue", "green", "red"}
	changes := 0
	// A machine that is busy with other things may take longer until there is something to judge.
	for end, most := time.Now().Add(length), time.Now().Add(length+time.Minute); time.Now().Before(end) || ok.Load() < 100 && time.Now().Before(most); changes++ {
		d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: names[changes%3], Force: true, Drain: 20 * time.Second})
		switch changes % 5 {
		case 0:
			d.hold()
			time.Sleep(time.Millisecond)
			d.release()
		case 1:
			next := *spec
			next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
			next.Services[0].Timeouts.Idle += time.Second
			spec = &next
			d.must(proxy.Change{Verb: proxy.VerbReload, Spec: spec})
		}
		time.Sleep(time.Duration(changes%4) * 500 * time.Microsecond)
	}
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Force: true})
	stop.Store(true)
	wg.Wait()
	d.gone()
	t.Logf("%d changes, %d clients served, %d left in the middle, %d failed", changes, ok.Load(), rude.Load(), failed.Load())
	if ok.Load() < 100 || failed.Load() > 0 {
		t.Error("see above")
	}
	// Idle pipes stay: 32 a loop at most.
	waitFor(t, "no descriptor left", func() bool { return descriptors() <= before+3*32*2 })
	if lent := d.plane.Lent(); lent.Conns+lent.Bufs+lent.Pipes+lent.Counted+lent.Dials+lent.Queued+lent.Pouring+lent.Timers != 0 {
		t.Errorf("%+v", lent)
	}
}

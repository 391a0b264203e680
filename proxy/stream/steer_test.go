package stream_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestDial_AServerThatRefusesIsPassedOverUnseen(t *testing.T) {
	dead := refused(t)
	d := openDoor(t, pools([]string{"a", dead, echo(t, "good").address()}))
	for range 20 {
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Fatal(got)
		}
	}
	if n := d.counts(dead); n.Failures < 5 || n.Dialing != 0 || n.Connections != 0 {
		t.Fatalf("%+v", n)
	}
}

func TestDial_AServerThatHangsIsPassedOverAtTheConnectDeadline(t *testing.T) {
	nowhere, _ := deaf(t)
	spec := pools([]string{"a", nowhere, echo(t, "good").address()})
	spec.Services[0].Timeouts.Connect = 200 * time.Millisecond
	d := openDoorWith(t, spec, 1, nil)
	slowest := time.Duration(0)
	for range 4 { // round robin: some of them meet the one that hangs first
		begun := time.Now()
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Fatal(got)
		}
		slowest = max(slowest, time.Since(begun))
	}
	if slowest < 150*time.Millisecond || slowest > 10*time.Second {
		t.Errorf("served after %v", slowest)
	}
	if n := d.counts(nowhere); n.Failures < 2 || n.Dialing != 0 {
		t.Errorf("%+v", n)
	}
}

func TestDial_WhenAllRefuseTheClientIsResetAtOnce(t *testing.T) {
	d := openDoor(t, pools([]string{"a", refused(t), refused(t), refused(t)}))
	begun := time.Now()
	d.turnedAway("svc")
	if took := time.Since(begun); took > 10*time.Second {
		t.Fatalf("after %v", took)
	}
	if n := d.Current().Service("svc").Counts(); n.Refused != 1 {
		t.Fatalf("%+v", n)
	}
}

// A server that was reached is the one, whatever it does then: another one is not tried, and the client gets what
// this one did. It must not depend on how quick the door is to look.
func TestDial_AServerThatAcceptsAndBreaksOffWasReached(t *testing.T) {
	for _, how := range []string{"resets", "half-closes", "closes", "speaks and resets"} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(how, " late=", late), func(t *testing.T) {
				done := make(chan bool, 10)
				srv := serve(t, "s", func(c *net.TCPConn) {
					defer func() { done <- true }()
					switch how {
					case "resets":
						reset(c)
					case "half-closes":
						_ = c.CloseWrite()
						_, _ = io.Copy(io.Discard, c)
						c.Close()
					case "closes":
						c.Close()
					default:
						fmt.Fprint(c, "busy")
						waitAcked(t, c)
						reset(c)
					}
				})
				spec := pools([]string{"a", srv.address()}, []string{"b", echo(t, "never").address()})
				spec.Services[0].Pools[0].Servers = append(spec.Services[0].Pools[0].Servers, proxy.ServerSpec{Name: "drained", Address: refused(t), Weight: 1})
				d := openDoorWith(t, spec, 1, nil)
				d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "a", Server: "drained"})
				if late { // the loop sees the connect and what followed in one look
					accepted, seen := make(chan bool), make(chan bool)
					var once sync.Once
					d.plane.AfterAccept(func() {
						once.Do(func() {
							close(accepted)
							select {
							case <-seen:
							case <-time.After(5 * time.Second): // the test has failed
							}
						})
					})
					go func() {
						<-accepted
						if how != "half-closes" {
							<-done
						} else {
							time.Sleep(10 * time.Millisecond) // nothing tells when the end of stream has come
						}
						close(seen)
					}()
				}
				c := d.dialPatiently("svc")
				want := ""
				if how == "speaks and resets" {
					want = "busy"
				}
				got, err := readAll(c)
				if got != want || (err != nil) != (how != "half-closes" && how != "closes") {
					t.Errorf("%q, %v", got, err)
				}
				if n := d.counts(srv.address()); n.Failures != 0 || n.Total != 1 {
					t.Errorf("%+v", n)
				}
				c.Close()
				d.gone()
			})
		}
	}
}

// A host name may lead to several addresses, of which not all are served: localhost is ::1 and 127.0.0.1.
func TestDial_EachAddressOfANameIsTriedBeforeTheServerCountsAsFailed(t *testing.T) {
	good := echo(t, "good").address()
	nowhere, _ := deaf(t)
	spec := pools([]string{"a", "name:1"})
	spec.Services[0].Timeouts.Connect = 300 * time.Millisecond
	d := openDoor(t, spec)
	for _, to := range [][]string{
		{refused(t), good}, {good, refused(t)}, {refused(t), refused(t), good}, {nowhere, good}, {"[::1]:1", good},
	} {
		d.plane.SetAddresses("name:1", to...)
		var wg sync.WaitGroup
		for range 20 {
			c := d.dial("svc")
			wg.Go(func() {
				line := make([]byte, 5)
				if _, err := io.ReadFull(c, line); err != nil || string(line) != "good\n" {
					t.Errorf("%v: %q, %v", to, line, err)
				}
				c.Close()
			})
		}
		wg.Wait()
	}
	if n := d.counts("name:1"); n.Failures != 0 {
		t.Errorf("%+v", n)
	}
	d.plane.SetAddresses("name:1", refused(t), refused(t))
	d.turnedAway("svc")
	if n := d.counts("name:1"); n.Failures != 1 {
		t.Errorf("%+v", n)
	}
}

func TestDial_AServerByHostName(t *testing.T) {
	srv := echo(t, "good")
	_, port, _ := net.SplitHostPort(srv.address())
	d := openDoor(t, pools([]string{"a", "localhost:" + port}))
	for range 4 {
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Fatal(got)
		}
	}
}

func TestDial_AServerWhoseNameDoesNotResolveIsPassedOver(t *testing.T) {
	d := openDoor(t, pools([]string{"a", "no-such-host.invalid:1", echo(t, "good").address()}))
	for range 4 {
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Fatal(got)
		}
	}
}

func TestDial_AServerOnAUnixSocket(t *testing.T) {
	path := unixPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, "s", func(c net.Conn) {
		defer c.Close()
		n, err := verify(c, 1)
		fmt.Fprintln(c, n, err)
		_, _ = c.Write(bytesOf(2, 3<<20))
	})
	d := openDoor(t, pools([]string{"a", "unix:" + path}))
	c := d.dial("svc").(*net.TCPConn)
	_, _ = c.Write(bytesOf(1, 3<<20))
	_ = c.CloseWrite()
	if got := readLine(t, c); got != fmt.Sprint(3<<20, " <nil>") {
		t.Fatal(got)
	}
	if n, err := verify(c, 2); n != 3<<20 || err != nil {
		t.Fatal(n, err)
	}
	d.gone()
}

// A Unix socket whose backlog is full answers EAGAIN and tells nobody when there is room again.
func TestDial_AUnixServerWithAFullBacklogIsAskedAgain(t *testing.T) {
	path := unixPath(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	f := fileOf(fd)
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	d := openDoor(t, pools([]string{"a", "unix:" + path}))
	const clients = 20
	var conns []net.Conn
	for range clients {
		conns = append(conns, d.dial("svc"))
	}
	waitFor(t, "some are still dialing", func() bool {
		n := d.counts("unix:" + path)
		return n.Dialing > clients/2 && n.Connections > 0 && n.Dialing+n.Connections == clients
	})
	for _, c := range conns {
		fmt.Fprintln(c, "ping") // before the dial has succeeded
	}
	serveOn(t, l, "s", func(c net.Conn) { _, _ = io.Copy(c, c); c.Close() })
	for _, c := range conns {
		if got := readLine(t, c); got != "ping" {
			t.Fatal(got)
		}
	}
}

func TestDial_AUnixServerWithAFullBacklogIsPassedOverAtTheDeadline(t *testing.T) {
	path := unixPath(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	fill, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	spec := pools([]string{"a", "unix:" + path, echo(t, "good").address()})
	spec.Services[0].Timeouts.Connect = 100 * time.Millisecond
	d := openDoor(t, spec)
	for range 4 {
		if got := readLine(t, d.dial("svc")); got != "good" {
			t.Fatal(got)
		}
	}
}

// P1: a dial that hangs when the switch is thrown is taken back, and the client is served by the new side at once.
func TestSwap_DialsUnderWayAreTakenBackAndSteeredAnew(t *testing.T) {
	nowhere, revive := deaf(t)
	spec := pools([]string{"blue", nowhere}, []string{"green", echo(t, "green").address()})
	spec.Services[0].Timeouts.Connect = 15 * time.Second
	d := openDoor(t, spec)
	c := d.dial("svc")
	fmt.Fprintln(c, "said before the swap")
	waitFor(t, "the dial hangs", func() bool { return d.counts(nowhere).Dialing == 1 })
	begun := time.Now()
	v := d.swap("svc", "green")
	if got := readLine(t, c); got != "green" {
		t.Fatal(got)
	}
	if got := readLine(t, c); got != "said before the swap" {
		t.Fatal(got)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("served after %v", took)
	}
	if p := v.Proofs[0]; p.Resteered != 1 || p.Remaining != 0 {
		t.Errorf("%+v", p)
	}
	if n := d.counts(nowhere); n.Resteered != 1 || n.Total != 0 || n.Failures != 0 || n.Dialing != 0 {
		t.Errorf("%+v", n)
	}
	// What the server sees of it is at most a connection without a byte.
	l := revive()
	defer l.Close()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		s, err := l.Accept()
		if err != nil {
			break
		}
		_ = s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if b, _ := io.ReadAll(s); len(b) > 0 {
			t.Errorf("the old side got %q", b)
		}
		s.Close()
	}
}

// The story of a race: the kernel has told the loop, in one batch, that somebody knocks and that a dial to blue is
// done. While the loop welcomes the one, the switch is thrown: the dial to blue is taken back, the client is
// dialled for on green. Now comes blue's event, and must not pass for green's.
func TestSwap_AnEventOfADialTakenBackDoesNotCountForTheNext(t *testing.T) {
	for _, kind := range []string{"connected", "refused", "held"} {
		t.Run(kind, func(t *testing.T) {
			nowhere, _ := deaf(t)
			blue := echo(t, "blue").address()
			if kind != "connected" {
				blue = refused(t)
			}
			spec := pools([]string{"blue", blue}, []string{"green", nowhere})
			spec.Services[0].Timeouts.Connect = 15 * time.Second
			d := openDoorWith(t, spec, 1, nil)
			welcome, goOn := make(chan bool, 10), make(chan bool)
			defer close(goOn)
			d.plane.AfterAccept(func() { welcome <- true; <-goOn })
			first := d.dial("svc")
			<-welcome // its dial is done or refused, and the loop does not know yet
			second := d.dial("svc")
			goOn <- true
			<-welcome // second's event was before first's in the batch
			changed := make(chan bool)
			go func() {
				defer close(changed)
				if kind == "held" {
					d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"})
				} else {
					d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Force: true})
				}
			}()
			waitFor(t, "the change is stored", func() bool {
				svc := d.Current().Service("svc")
				return svc.Hold != nil || svc.Active.Name == "green"
			})
			time.Sleep(5 * time.Millisecond) // its quiet point is posted right after, nothing shows when
			goOn <- true
			<-changed
			d.plane.Lent() // the batch is over
			if kind == "held" {
				if n := d.Current().Service("svc").Held(); n != 2 {
					t.Errorf("%d of 2 clients are held: %+v %+v %+v", n, d.plane.Lent(), d.counts(blue), d.Current().Service("svc").Counts())
				}
			} else if n := d.counts(nowhere); n.Connections != 0 || n.Total != 0 || n.Dialing != 2 {
				t.Errorf("green, which never accepted: %+v", n)
			}
			_, _ = first, second
		})
	}
}

func TestBalance_MaxConnectionsLetsInWhoWaitedLongest(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(loops, " loops"), func(t *testing.T) {
			served := make(chan string, 100)
			srv := serve(t, "s", func(c *net.TCPConn) {
				served <- c.RemoteAddr().String()
				fmt.Fprintln(c, "hello")
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			})
			spec := pools([]string{"a", srv.address()})
			spec.Services[0].Timeouts.Connect = 15 * time.Second
			spec.Services[0].Pools[0].Servers[0].MaxConnections = 2
			d := openDoorWith(t, spec, loops, nil)
			var conns []net.Conn
			for i := range 12 { // on one loop after the other
				thaw := d.plane.FreezeBut(i % loops)
				conns = append(conns, d.dial("svc"))
				if i < 2 {
					readLine(t, conns[i])
				} else {
					waitFor(t, "held", func() bool { return d.held() == i-1 })
				}
				thaw()
			}
			var order atomic.Int64
			var wg sync.WaitGroup
			for i, c := range conns[2:] {
				wg.Go(func() {
					line := make([]byte, 6)
					if _, err := io.ReadFull(c, line); err != nil {
						t.Error(err)
					}
					// Only one gets in at a time, and only the next one after that was seen.
					if n := order.Add(1); n != int64(i+1) {
						t.Errorf("client %d was let in as number %d", i+1, n)
					}
				})
			}
			for i := range 10 {
				conns[i].Close()
				waitFor(t, "the next is let in", func() bool { return order.Load() == int64(i+1) })
				if n := d.counts(srv.address()); n.Connections+n.Dialing > 2 {
					t.Errorf("%+v", n)
				}
			}
			wg.Wait()
		})
	}
}

func TestBalance_WhoWaitsForMaxConnectionsIsClosedAtTheConnectDeadline(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Timeouts.Connect = 300 * time.Millisecond
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 1
	d := openDoor(t, spec)
	readLine(t, d.dial("svc"))
	var wg sync.WaitGroup
	for range 4 {
		begun, c := time.Now(), d.dial("svc")
		wg.Go(func() {
			if s, err := readAll(c); s != "" || err != nil {
				t.Errorf("%q, %v", s, err)
			}
			if took := time.Since(begun); took < 250*time.Millisecond || took > 10*time.Second {
				t.Errorf("after %v", took)
			}
		})
	}
	wg.Wait()
	if n := d.Current().Service("svc").Counts(); n.Expired != 4 {
		t.Errorf("%+v", n)
	}
}

// The first of the queue leaves, and then another loop's connection ends: the next one must hear of it.
func TestBalance_TheNextIsLetInThoughTheFirstOfTheQueueLeft(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Timeouts.Connect = 2 * time.Second
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 1
	d := openDoor(t, spec)
	for range 6 { // so that the loops differ now and then
		one := d.dial("svc")
		readLine(t, one)
		first, second := d.dial("svc"), d.dial("svc")
		waitFor(t, "two wait", func() bool { return d.Current().Service("svc").Held() == 2 })
		first.Close()
		waitFor(t, "one waits", func() bool { return d.Current().Service("svc").Held() == 1 })
		one.Close()
		if got := readLine(t, second); got != "a" {
			t.Fatal(got)
		}
		second.Close()
		d.gone()
	}
}

// Nobody who waits hears of room that a dial makes by failing; he has to look himself.
func TestBalance_TheNextIsLetInWhenADialHasFailed(t *testing.T) {
	nowhere, revive := deaf(t)
	spec := pools([]string{"a", nowhere})
	spec.Services[0].Timeouts.Connect = 700 * time.Millisecond
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 1
	d := openDoor(t, spec)
	dialing := d.dial("svc")
	waitFor(t, "one dials", func() bool { return d.counts(nowhere).Dialing == 1 })
	time.Sleep(300 * time.Millisecond)
	first := d.dial("svc")
	waitFor(t, "one waits", func() bool { return d.held() == 1 })
	second := d.dial("svc")
	waitFor(t, "two wait", func() bool { return d.held() == 2 })
	first.Close()
	waitFor(t, "one waits", func() bool { return d.held() == 1 })
	serveOn(t, revive(), "s", func(c net.Conn) { defer c.Close(); fmt.Fprintln(c, "late"); _, _ = io.Copy(io.Discard, c) })
	if _, err := readAll(dialing); !isReset(err) { // too early for its SYN to be sent again
		t.Errorf("%v", err)
	}
	if got := readLine(t, second); got != "late" {
		t.Error(got)
	}
}

// Whose turn it is does not depend on which loop looks first.
func TestBalance_WhoWaitsLongestIsNextWhicheverLoopLooksFirst(t *testing.T) {
	nowhere, revive := deaf(t)
	spec := pools([]string{"a", nowhere})
	spec.Services[0].Timeouts.Connect = 900 * time.Millisecond
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 1
	d := openDoor(t, spec)
	thaw := d.plane.FreezeBut(1)
	dialing := d.dial("svc")
	waitFor(t, "one dials", func() bool { return d.counts(nowhere).Dialing == 1 })
	thaw()
	time.Sleep(500 * time.Millisecond) // so that they wait for longer than the dial lasts
	thaw = d.plane.FreezeBut(0)
	elder := d.dial("svc")
	waitFor(t, "one waits", func() bool { return d.held() == 1 })
	thaw()
	thaw = d.plane.FreezeBut(1)
	younger := d.dial("svc")
	waitFor(t, "two wait", func() bool { return d.held() == 2 })
	serveOn(t, revive(), "s", func(c net.Conn) { defer c.Close(); fmt.Fprintln(c, "late"); _, _ = io.Copy(io.Discard, c) })
	if _, err := readAll(dialing); !isReset(err) { // too early for its SYN to be sent again
		t.Errorf("%v", err)
	}
	time.Sleep(40 * time.Millisecond) // in which the younger one's loop looks some times
	thaw()
	if got := readLine(t, elder); got != "late" {
		t.Error(got)
	}
	if d.held() != 1 {
		t.Error("the younger one was let in first")
	}
	elder.Close()
	if got := readLine(t, younger); got != "late" {
		t.Error(got)
	}
}

// One who comes later, to a loop where room has just been made, does not get in before one who waits on another.
func TestBalance_ANewClientDoesNotGetInBeforeOneWhoWaits(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	spec.Services[0].Timeouts.Connect = 10 * time.Second
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 1
	d := openDoor(t, spec)
	for range 5 {
		thaw := d.plane.FreezeBut(0)
		holder := d.dial("svc")
		readLine(t, holder)
		thaw()
		thaw = d.plane.FreezeBut(1)
		waiting := d.dial("svc")
		waitFor(t, "one waits", func() bool { return d.held() == 1 })
		thaw()
		// Now the other loop is slow to hear that there is room.
		thaw = d.plane.FreezeBut(0)
		holder.Close()
		waitFor(t, "room", func() bool { return d.Current().Service("svc").Connections() == 0 })
		late := d.dial("svc")
		waitFor(t, "the late one waits or is let in", func() bool { return d.held() == 2 || d.Current().Service("svc").Connections() == 1 })
		thaw()
		if got := readLine(t, waiting); got != "a" {
			t.Fatal(got)
		}
		waiting.Close()
		if got := readLine(t, late); got != "a" {
			t.Fatal(got)
		}
		late.Close()
		d.gone()
		if n := d.Current().Service("svc").Counts(); n.HeldTotal%2 != 0 {
			t.Fatal("the late one was let in at once")
		}
	}
}

// Under a full load, with clients on all loops, nobody waits for ever while others are let in after him.
func TestBalance_NobodyStarvesBehindMaxConnections(t *testing.T) {
	srv := serve(t, "s", func(c *net.TCPConn) {
		defer c.Close()
		line := make([]byte, 1)
		_, _ = io.ReadFull(c, line)
		_, _ = c.Write(line)
	})
	spec := pools([]string{"a", srv.address()})
	spec.Services[0].Timeouts.Connect = 10 * time.Second
	spec.Services[0].Pools[0].Servers[0].MaxConnections = 3
	d := openDoorWith(t, spec, 4, nil)
	addr := d.addr("svc")
	var worst atomic.Int64
	var total atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(500 * time.Millisecond)
	for range 40 {
		wg.Go(func() {
			for time.Now().Before(end) {
				begun := time.Now()
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(15 * time.Second))
				_, _ = c.Write([]byte("x"))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				reset(c)
				total.Add(1)
				worst.Store(max(worst.Load(), int64(time.Since(begun))))
			}
		})
	}
	wg.Wait()
	mean := time.Duration(40 * int64(500*time.Millisecond) / total.Load())
	t.Logf("%d served, %v each, the worst waited %v", total.Load(), mean, time.Duration(worst.Load()))
	if time.Duration(worst.Load()) > 20*mean+500*time.Millisecond {
		t.Error("somebody starved")
	}
}

// distribution opens n connections and counts where they went.
func (d *door) distribution(t *testing.T, n int, from func(i int) string) (map[string]int, []string) {
	t.Helper()
	got := map[string]int{}
	var each []string
	for i := range n {
		c := d.dialFrom("svc", from(i))
		name := readLine(t, c)
		got[name]++
		each = append(each, name)
		c.Close()
	}
	return got, each
}

func localhost(int) string { return "127.0.0.1" }

func TestBalance_WeightsShareConnections(t *testing.T) {
	a, b, zero := echo(t, "a"), echo(t, "b"), echo(t, "zero")
	spec := pools([]string{"p", a.address(), b.address(), zero.address()})
	spec.Services[0].Pools[0].Servers[0].Weight = 3
	spec.Services[0].Pools[0].Servers[2].Weight = 0
	d := openDoor(t, spec)
	got, _ := d.distribution(t, 200, localhost)
	if got["zero"] != 0 || got["a"] < 148 || got["a"] > 152 || got["a"]+got["b"] != 200 {
		t.Fatalf("3:1:0 became %v", got)
	}
	d.must(proxy.Change{Verb: proxy.VerbWeight, Target: "svc", Pool: "p", Server: a.address(), Weight: 0})
	d.must(proxy.Change{Verb: proxy.VerbWeight, Target: "svc", Pool: "p", Server: zero.address(), Weight: 1})
	if got, _ = d.distribution(t, 100, localhost); got["a"] != 0 || got["b"] < 48 || got["b"] > 52 {
		t.Fatalf("0:1:1 became %v", got)
	}
}

func TestBalance_LeastConnectionsLevelsOut(t *testing.T) {
	a, b, c := echo(t, "a"), echo(t, "b"), echo(t, "c")
	spec := pools([]string{"p", a.address(), b.address(), c.address()})
	spec.Services[0].Balance = proxy.LeastConnections
	spec.Services[0].Pools[0].Servers[2].Weight = 2
	d := openDoor(t, spec)
	held := map[string][]net.Conn{}
	open := func() {
		conn := d.dial("svc")
		name := readLine(t, conn)
		held[name] = append(held[name], conn)
	}
	for range 40 {
		open()
	}
	if len(held["a"]) != 10 || len(held["b"]) != 10 || len(held["c"]) != 20 {
		t.Fatalf("1:1:2 became %d, %d, %d", len(held["a"]), len(held["b"]), len(held["c"]))
	}
	for _, conn := range held["a"] {
		conn.Close()
	}
	waitFor(t, "a is empty", func() bool { return d.counts(a.address()).Connections == 0 })
	held["a"] = nil
	for range 8 {
		open()
	}
	if len(held["a"]) != 8 {
		t.Fatalf("%d of 8 went to the empty one", len(held["a"]))
	}
}

func TestBalance_SourceHashKeepsClientsAndMovesOnlyAMissingServersShare(t *testing.T) {
	a, b, c := echo(t, "a"), echo(t, "b"), echo(t, "c")
	spec := pools([]string{"p", a.address(), b.address(), c.address()})
	spec.Services[0].Balance = proxy.SourceHash
	d := openDoor(t, spec)
	const clients = 150
	from := func(i int) string { return fmt.Sprintf("127.0.%d.%d", i/100, i%100+1) }
	got, before := d.distribution(t, clients, from)
	for name, n := range got {
		if n < clients/6 || n > clients/2 {
			t.Errorf("%s has %d of %d", name, n, clients)
		}
	}
	_, again := d.distribution(t, clients, from)
	d.must(proxy.Change{Verb: proxy.VerbDrain, Target: "svc", Pool: "p", Server: b.address()})
	after, moved := d.distribution(t, clients, from)
	if after["b"] != 0 || after["a"] <= got["a"] || after["c"] <= got["c"] {
		t.Errorf("without b: %v", after)
	}
	d.must(proxy.Change{Verb: proxy.VerbReady, Target: "svc", Pool: "p", Server: b.address()})
	_, back := d.distribution(t, clients, from)
	for i := range clients {
		if again[i] != before[i] || back[i] != before[i] || before[i] != "b" && moved[i] != before[i] {
			t.Errorf("client %d: %s, then %s; %s without b, %s with it again", i, before[i], again[i], moved[i], back[i])
		}
	}
}

func TestReload_AddsAndRemovesListenersAndLeavesOthersAlone(t *testing.T) {
	a, b := echo(t, "a"), echo(t, "b")
	with := func(name string, srv *toy) proxy.ServiceSpec {
		s := pools([]string{"p", srv.address()}).Services[0]
		s.Name = name
		return s
	}
	spec := &proxy.Spec{Services: []proxy.ServiceSpec{with("one", a), with("two", b)}}
	d := openDoor(t, spec)
	addrOne, addrTwo := d.addr("one"), d.addr("two")
	one, two := d.dial("one"), d.dial("two")
	readLine(t, one)
	readLine(t, two)

	next := &proxy.Spec{Services: []proxy.ServiceSpec{with("one", a), with("three", b)}}
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: next})
	if got := d.addr("one"); got != addrOne {
		t.Fatalf("the listener of one moved from %s to %s", addrOne, got)
	}
	if got := ask(t, one, "still here"); got != "still here" {
		t.Fatal(got)
	}
	if got := ask(t, two, "drains"); got != "drains" { // removed servers drain
		t.Fatal(got)
	}
	if got := readLine(t, d.dial("three")); got != "b" {
		t.Fatal(got)
	}
	if c, err := net.Dial("tcp", addrTwo); err == nil {
		c.Close()
		t.Fatal("the listener of two still accepts")
	}
	// A listener that cannot be had changes nothing.
	taken := with("four", a)
	taken.Listen[0].Address = a.address()
	bad := &proxy.Spec{Services: []proxy.ServiceSpec{with("one", a), with("five", b), taken}}
	if _, err := d.Apply(context.Background(), proxy.Change{Verb: proxy.VerbReload, Spec: bad, Who: proxy.Who{Name: "test"}}); err == nil {
		t.Fatal("a reload with an address in use was made")
	}
	if got := readLine(t, d.dial("three")); got != "b" {
		t.Fatal(got)
	}
	if got := ask(t, one, "still here"); got != "still here" {
		t.Fatal(got)
	}
}

func TestReload_AShorterIdleDeadlineCountsForConnectionsThereAre(t *testing.T) {
	spec := pools([]string{"a", echo(t, "a").address()})
	d := openDoor(t, spec)
	c := d.dial("svc")
	readLine(t, c)
	next := *spec
	next.Services = append([]proxy.ServiceSpec(nil), spec.Services...)
	next.Services[0].Timeouts.Idle = 50 * time.Millisecond
	d.must(proxy.Change{Verb: proxy.VerbReload, Spec: &next})
	if s, err := readAll(c); s != "" || err != nil {
		t.Fatalf("%q, %v", s, err)
	}
}

func TestReload_IsRefusedWhenTheDoorStops(t *testing.T) {
	d := openDoor(t, pools([]string{"a", echo(t, "a").address()}))
	d.plane.CloseListeners()
	next := pools([]string{"a", echo(t, "a").address()})
	next.Services[0].Name = "other"
	if _, err := d.Apply(context.Background(), proxy.Change{Verb: proxy.VerbReload, Spec: next, Who: proxy.Who{Name: "test"}}); err == nil {
		t.Fatal("listeners were opened after CloseListeners")
	}
}

package stream_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy"
)

// Local ports are used up, in a network of its own that has but four: clients wait until one is free again, and a
// server at another address, which has ports of its own, is taken meanwhile.
func TestLimits_LocalPortsUsedUp(t *testing.T) {
	if os.Getenv("TURNOUT_CHILD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLimits_LocalPortsUsedUp$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "TURNOUT_CHILD=ports")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		if _, started := err.(*exec.ExitError); err != nil && !started {
			t.Skipf("no network of its own is to be had: %v", err)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	loopbackUp(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40003"), 0o644); err != nil {
		t.Skip(err)
	}
	handle := func(name string) func(c net.Conn) {
		return func(c net.Conn) {
			fmt.Fprintln(c, name)
			_, _ = io.Copy(io.Discard, c)
			reset(c) // so that no port has to rest
		}
	}
	var addresses []string
	for i, at := range []string{"127.0.0.1:1000", "127.0.0.2:1000"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, at, handle([]string{"one", "two"}[i]))
		addresses = append(addresses, at)
	}
	spec := pools([]string{"a", addresses[0]}, []string{"b", addresses[0], addresses[1]})
	spec.Services[0].Listen = []proxy.ListenSpec{{Network: proxy.NetUnix, Address: unixPath(t)}}
	spec.Services[0].Timeouts.Connect = 5 * time.Second
	d := openDoor(t, spec)
	var conns []net.Conn
	for range 4 {
		c := d.dial("svc")
		readLine(t, c)
		conns = append(conns, c)
	}
	late := d.dial("svc")
	waitFor(t, "a dial found no port", func() bool { return d.plane.Connections() == 5 && d.counts(addresses[0]).Failures > 0 })
	conns[0].Close()
	if got := readLine(t, late); got != "one" {
		t.Fatal(got)
	}
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "b", Then: proxy.ThenKeep})
	for range 4 {
		if got := readLine(t, d.dial("svc")); got != "two" {
			t.Fatal(got)
		}
	}
}

// loopbackUp makes 127.0.0.1 work in a new network.
func loopbackUp(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Skip(err)
	}
}

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echoes fails unless the connection still carries a message to and fro.
func echoes(t testing.TB, c net.Conn) {
	t.Helper()
	msg, back := []byte("are you there"), make([]byte, 13)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(msg); err != nil {
		t.Error(err)
		return
	}
	if _, err := io.ReadFull(c, back); err != nil || string(back) != string(msg) {
		t.Errorf("echo %q, %v", back, err)
	}
}

func mustGreet(t testing.TB, address string) net.Conn {
	t.Helper()
	a, c := greet(address)
	if c == nil {
		t.Fatal(a.err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSIGTERM_DrainsThenEnds(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	c := mustGreet(t, address)
	d.signal(syscall.SIGTERM)
	eventually(t, "new clients are refused", func() bool {
		n, err := net.Dial("tcp", address)
		if err == nil {
			_ = n.Close()
		}
		return err != nil
	})
	echoes(t, c)
	d.cli("swap", "svc", "b").wants(t, 1, "stopping")
	if d.over() {
		t.Fatal("the door ended while a client was there")
	}
	_ = c.Close()
	if code := d.awaitEnd(t, slower(5*time.Second)); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSIGTERM_EndsAtTheDrainsDeadline(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, "    drain: {timeout: 600ms}\n")
	mustGreet(t, address)
	began := time.Now()
	d.signal(syscall.SIGTERM)
	code := d.awaitEnd(t, slower(5*time.Second))
	if took := time.Since(began); code != 0 || took < 500*time.Millisecond {
		t.Errorf("exit code %d after %s", code, took)
	}
}

func TestSIGTERM_ASecondOneEndsAtOnceAndSoDoesSIGQUIT(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		d, address, _, _ := pair(t, longDrain)
		c := mustGreet(t, address)
		if second != syscall.SIGQUIT {
			d.signal(syscall.SIGTERM)
			eventually(t, "it stops", func() bool { return strings.Contains(d.process.err.String(), "stopping") })
		}
		echoes(t, c)
		began := time.Now()
		d.signal(second)
		code := d.awaitEnd(t, slower(5*time.Second))
		if took := time.Since(began); code != 0 || took > slower(2*time.Second) {
			t.Errorf("%s: exit code %d after %s", second, code, took)
		}
	}
}

// P3 for reloads: a storm of them under load costs no client anything.
func TestSIGHUP_AStormOfThemDuringLoadCostsNoError(t *testing.T) {
	d, address, a, b := pair(t, longDrain)
	stay := startRegulars(t, address, 50, 10*time.Millisecond)
	l := startLoad(address, lighter(1500, 6), 48)
	second := freePort(t)
	for i := range 60 {
		more := fmt.Sprintf("    balance: %s\n    drain: {timeout: %dm}\n", []string{"round_robin", "least_connections", "source_hash"}[i%3], i+1)
		file := pairOf(address, a, b, more)
		if i%2 == 0 {
			file += fmt.Sprintf("  second: {listen: %q, pools: {b: [%q]}}\n", second, b.addr)
		}
		d.write(file)
		before := d.look().Reloads
		d.signal(syscall.SIGHUP)
		if i%5 == 0 {
			eventually(t, "the reload is in force", func() bool {
				st := d.look()
				_, there := st.Services["second"]
				return st.Reloads > before && there == (i%2 == 0)
			})
			if i%2 == 0 {
				leads(t, second, 'b')
			}
		}
		pace(3 * time.Millisecond)
	}
	noFailures(t, l.stop())
	for _, err := range stay.rest() {
		t.Error(err)
	}
	st := d.look()
	if st.LastReloadError != "" || st.Reloads < 12 {
		t.Errorf("%d reloads, last error %q", st.Reloads, st.LastReloadError)
	}
	eventually(t, "only the 50 that stayed are left", func() bool { return d.service("svc").Connections == 50 })
	t.Logf("60 SIGHUPs, %d reloads made, %d connections, 0 failed", st.Reloads, len(l.attempts))
}

// P7: a typo is told with its place and changes nothing.
func TestReload_ATypoChangesNothingAndSaysWhere(t *testing.T) {
	t.Parallel()
	d, address, a, b := pair(t, longDrain)
	c := mustGreet(t, address)
	before := d.look()
	good := `turnout_config_last_reload_successful`
	if v := d.metric(good); v != 1 {
		t.Errorf("%s is %v at the start", good, v)
	}
	bad := pairOf(address, a, b, "    drian: {timeout: 10s}\n    hold: {timeout: 10}\n")
	d.write(bad)
	at := func(word string) string {
		for i, line := range strings.Split(d.text(bad), "\n") {
			if k := strings.Index(line, word); k >= 0 {
				return fmt.Sprintf("%s:%d:%d", d.file, i+1, k+1)
			}
		}
		return "nowhere"
	}
	d.cli("reload").wants(t, 1, at("drian"), "drain", at("10}"), "unit", "stays in force")
	d.cli("check", "-c", d.file).wants(t, 1, at("drian"), at("10}"))
	if v := d.metric(good); v != 0 {
		t.Errorf("%s is %v after a bad reload", good, v)
	}
	st := d.look()
	if st.Revision != before.Revision || st.Reloads != 0 || !strings.Contains(st.LastReloadError, "drian") {
		t.Errorf("status after a bad reload: revision %d, %d reloads, %q", st.Revision, st.Reloads, st.LastReloadError)
	}
	echoes(t, c)
	leads(t, address, 'a')
	if err := os.Remove(d.file); err != nil {
		t.Fatal(err)
	}
	d.cli("reload").wants(t, 1, d.file, "no such file")
	d.write(pairOf(address, a, b, "    drain: {timeout: 10s}\n"))
	d.must("reload")
	if v := d.metric(good); v != 1 {
		t.Errorf("%s is %v after a good reload", good, v)
	}
	if st := d.look(); st.LastReloadError != "" || st.Reloads != 1 {
		t.Errorf("after a good reload: %d reloads, %q", st.Reloads, st.LastReloadError)
	}
	echoes(t, c)
}

// A file that takes the active pool away, or an address that is taken, is refused whole.
func TestReload_WhatCannotBeInForceIsRefusedWhole(t *testing.T) {
	t.Parallel()
	d, address, a, b := pair(t, longDrain)
	d.write(fmt.Sprintf("services:\n  svc: {listen: %q, pools: {b: [%q]}}\n", address, b.addr))
	d.cli("reload").wants(t, 1, "active pool", "swap")
	d.write(pairOf(address, a, b, longDrain) + fmt.Sprintf("  x: {listen: %q, pools: {p: [%q]}}\n  y: {listen: %q, pools: {p: [%q]}}\n", freePort(t), a.addr, b.addr, a.addr))
	d.cli("reload").wants(t, 1, b.addr, "in use")
	if st := d.look(); len(st.Services) != 1 || st.Revision != 1 {
		t.Errorf("after refused reloads: revision %d, %d services", st.Revision, len(st.Services))
	}
	leads(t, address, 'a')
	d.write(pairOf(address, a, b, longDrain))
	d.must("reload")
}

func TestWatchConfig_SeesEditorsAndKubernetes(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	file := func(minutes int) string {
		return pairOf(address, a, b, fmt.Sprintf("    drain: {timeout: %dm}\n", minutes))
	}

	t.Run("a write in place and a rename over the file", func(t *testing.T) {
		d := newDoor(t, file(1))
		d.args = []string{"--watch-config"}
		d.start()
		if err := os.WriteFile(d.file, []byte(d.text(file(2))), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a write is seen", func() bool { return d.look().Reloads == 1 })
		for i := range 2 { // vim and others: twice, since the first one takes away what was watched
			if err := os.WriteFile(d.file+"~", []byte(d.text(file(3+i))), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(d.file+"~", d.file); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a rename over the file is seen", func() bool { return int(d.look().Reloads) == 2+i })
		}
		d.write("services: [")
		eventually(t, "a bad file is told", func() bool { return d.look().LastReloadError != "" })
		leads(t, address, 'a')
		d.write(file(9))
		eventually(t, "a good one heals it", func() bool { st := d.look(); return st.LastReloadError == "" && st.Reloads == 4 })
	})
	t.Run("a symbolic link swapped as Kubernetes does", func(t *testing.T) {
		d := newDoor(t, file(1))
		d.args = []string{"--watch-config"}
		mount := filepath.Join(d.dir, "config")
		put := func(version string, minutes int) {
			t.Helper()
			dir := filepath.Join(mount, version)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "turnout.yaml"), []byte(d.text(file(minutes))), 0o644); err != nil {
				t.Fatal(err)
			}
			next := filepath.Join(mount, "..data_tmp")
			if err := os.Symlink(version, next); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(next, filepath.Join(mount, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		put("..2026_1", 1)
		d.file = filepath.Join(mount, "turnout.yaml")
		if err := os.Symlink("..data/turnout.yaml", d.file); err != nil {
			t.Fatal(err)
		}
		d.start()
		for i := range 2 {
			put(fmt.Sprintf("..2026_%d", i+2), i+2)
			_ = os.RemoveAll(filepath.Join(mount, fmt.Sprintf("..2026_%d", i+1)))
			eventually(t, "the other target is seen", func() bool { return int(d.look().Reloads) == i+1 })
		}
		leads(t, address, 'a')
	})
}

func TestListen_OnIPv6AndUnixSocketsBeforeServersOnBoth(t *testing.T) {
	t.Parallel()
	dir := room(t)
	path := filepath.Join(dir, "in.sock")
	behind := startSideAt(t, 'u', "unix:"+filepath.Join(dir, "server.sock"))
	port := strings.TrimPrefix(freePort(t), "127.0.0.1:")
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		missing(t, "IPv6 on the loopback device ("+err.Error()+")")
	}
	_ = l.Close()
	six := startSideAt(t, '6', "[::1]:"+strings.TrimPrefix(freePort(t), "127.0.0.1:"))
	d := newDoor(t, fmt.Sprintf("services:\n  svc:\n    listen: [%q, %q]\n    pools: {u: [%q], six: [%q]}\n", "[::1]:"+port, "unix:"+path, behind.addr, six.addr)).start()
	overUnix := func() byte {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		a := attempt{id: ids.Add(1)}
		if err := a.introduce(c); err != nil {
			t.Error(err)
		}
		echoes(t, c)
		return a.side
	}
	leads(t, "[::1]:"+port, 'u')
	if got := overUnix(); got != 'u' {
		t.Errorf("over the Unix socket: %c", got)
	}
	d.must("drain", "svc/six/"+six.addr)
	d.must("ready", "svc/six/"+six.addr)
	d.cli("drain", "svc/u/"+behind.addr).wants(t, 4, "active pool") // a name with slashes in it
	d.must("swap", "svc", "six")
	leads(t, "[::1]:"+port, '6')
	if got := overUnix(); got != '6' {
		t.Errorf("over the Unix socket: %c", got)
	}
	d.kill9() // leaves a stale socket, which the next one replaces
	d.start()
	if got := overUnix(); got != '6' {
		t.Errorf("over the Unix socket after a restart: %c", got)
	}
}

// systemd's protocol: sockets from descriptor 3 on, their names, and a datagram when ready.
func TestListen_TakesSocketsThatSystemdPassesAndTellsItWhenReady(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	early := make(chan attempt, 1)
	go func() { early <- once(address) }() // ends when the door has come up: systemd's socket keeps it waiting
	d := newDoor(t, pairOf("systemd:web", a, b, longDrain))
	ready := filepath.Join(d.dir, "notify")
	n, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	d.extra = []*os.File{f}
	d.env = []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=web", "NOTIFY_SOCKET=" + ready}
	d.start()
	_ = l.Close()
	_ = f.Close()
	buf := make([]byte, 1024)
	_ = n.SetDeadline(time.Now().Add(patience))
	if k, err := n.Read(buf); err != nil || !strings.Contains(string(buf[:k]), "READY=1") {
		t.Errorf("told systemd %q, %v", buf[:k], err)
	}
	if got := <-early; got.err != nil || got.side != 'a' {
		t.Errorf("the client that came before the door: %+v", got)
	}
	leads(t, address, 'a')
	d.must("swap", "svc", "b")
	leads(t, address, 'b')
	d.must("reload")
	leads(t, address, 'b')
	// Without systemd there is no such socket, and the door says so.
	d.kill9()
	d.extra, d.env = nil, nil
	ended(t, d.serve()).wants(t, 1, "systemd")
}

func TestHistory_SaysWhoWhenWhatAndWhy(t *testing.T) {
	t.Parallel()
	d, _, _, _ := pair(t, "")
	d.must("swap", "svc", "b", "--reason", "image 2.9.1")
	d.must("history", "svc").wants(t, 0, "a -> b", "image 2.9.1", "done", "swap")
	d.must("history", "--long").wants(t, 0, fmt.Sprintf("uid %d", os.Geteuid()), "proof", "overlap 0s")
	d.kill9()
	d.cli("history", "--state-dir", d.state).wants(t, 0, "a -> b", "image 2.9.1")
	d.cli("history").wants(t, 3, "--state-dir")
}

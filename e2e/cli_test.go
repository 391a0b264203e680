package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCLI_CtrlCInADrainLeavesTheSwapInForceAndSaysSo(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	c := mustGreet(t, address)
	p := d.begin("swap", "svc", "b")
	eventually(t, "the swap is told", func() bool { return strings.Contains(p.out.String(), "svc: a -> b") })
	if p.over() {
		t.Fatalf("the command did not wait for the drain: %s", ended(t, p))
	}
	_ = p.Process.Signal(os.Interrupt)
	ended(t, p).wants(t, 1, "swapped; the drain goes on in the door, 1 connection left", "--wait drained")
	leads(t, address, 'b')
	echoes(t, c)
	waits := d.begin("status", "svc", "--wait", "drained")
	eventually(t, "it is told what is waited for", func() bool { return strings.Contains(waits.err.String(), "svc/a still has 1 connection") })
	_ = c.Close()
	ended(t, waits).wants(t, 0)
	d.must("history").wants(t, 0, "done")
}

func TestCLI_ATimeoutInADrainIsExit5AndTheDrainGoesOn(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, "    drain: {timeout: 5s}\n")
	c := mustGreet(t, address)
	d.cli("swap", "svc", "b", "--timeout", "300ms").wants(t, 5, "the drain goes on")
	echoes(t, c)
	d.must("status", "svc", "--wait", "drained") // cut in the end
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the drain's deadline")
	}
	d.must("history").wants(t, 0, "cut")
}

func TestCLI_ADrainThatCutsIsExit6(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, "")
	mustGreet(t, address)
	d.cli("swap", "svc", "b", "--drain", "200ms").wants(t, 6, "1 connection was cut", "cut 1")
}

// hook is a command that says its pid and sleeps; whoever is left of it is killed at the end.
func hook(t *testing.T) (command string, pid func() int) {
	t.Helper()
	file := filepath.Join(room(t), "pid")
	read := func() int {
		b, _ := os.ReadFile(file)
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	t.Cleanup(func() {
		if n := read(); n > 0 {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	})
	return fmt.Sprintf("echo $$ >%s.new; mv %[1]s.new %[1]s; exec sleep 60", file), read
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestCLI_CtrlCInAHandOverGoesBackAndKillsTheHook(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	command, pid := hook(t)
	p := d.begin("swap", "svc", "b", "--hold", "50s", "--stop-old", command)
	eventually(t, "the hook runs", func() bool { return pid() > 0 })
	waiting := make(chan attempt, 1)
	go func() { waiting <- once(address) }() // ends when it is let in
	eventually(t, "a client waits", func() bool { sv := d.service("svc"); return sv.Held == 1 && sv.State == "handover" })
	_ = p.Process.Signal(os.Interrupt)
	r := ended(t, p)
	r.wants(t, 1, "not swapped", "still serving a")
	if got := <-waiting; got.err != nil || got.side != 'a' {
		t.Errorf("the client that waited: %+v", got)
	}
	eventually(t, "the hook is gone", func() bool { return !alive(pid()) })
	if sv := d.service("svc"); sv.State != "serving" || sv.Active != "a" || sv.Operation != "" {
		t.Errorf("afterwards: %+v", sv)
	}
	d.must("history", "svc").wants(t, 0, "failed")
	d.must("swap", "svc", "b", "--no-wait")
}

// P8: when the CLI dies in a hand-over the door lets the waiting in, where they would have gone, at the hold's deadline.
func TestCLI_Kill9InAHandOverReleasesAtTheHoldsDeadline(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	command, pid := hook(t)
	began := time.Now()
	p := d.begin("swap", "svc", "b", "--hold", "2s", "--stop-old", command)
	eventually(t, "the hook runs", func() bool { return pid() > 0 })
	_ = p.Process.Kill()
	got := once(address)
	if took := time.Since(began); got.err != nil || got.side != 'a' || took < 2*time.Second {
		t.Errorf("the client that waited: %+v after %s", got, took)
	}
	eventually(t, "the door serves on as before", func() bool {
		sv := d.service("svc")
		return sv.State == "serving" && sv.Active == "a" && sv.Held == 0 && sv.HeldUntil == nil
	})
	d.must("swap", "svc", "b", "--no-wait")
	leads(t, address, 'b')
}

// A door that is killed in a hand-over comes back holding, and releases at the same deadline.
func TestCrash_InAHandOverTheHoldsDeadlineHoldsAfterTheRestart(t *testing.T) {
	t.Parallel()
	d, address, _, _ := pair(t, longDrain)
	command, pid := hook(t)
	began := time.Now()
	p := d.begin("swap", "svc", "b", "--hold", "3s", "--stop-old", command)
	eventually(t, "the hook runs", func() bool { return pid() > 0 })
	d.kill9()
	d.start()
	if sv := d.service("svc"); time.Since(began) < 3*time.Second && (sv.HeldUntil == nil || sv.State != "held" || sv.Active != "a") {
		t.Errorf("after the restart: %+v", sv)
	}
	got := once(address)
	if took := time.Since(began); got.err != nil || got.side != 'a' || took < 3*time.Second {
		t.Errorf("the client that waited: %+v after %s", got, took)
	}
	_ = syscall.Kill(pid(), syscall.SIGKILL) // as if the hook ended now: the CLI has nobody to tell
	if r := ended(t, p); r.code == 0 {
		t.Errorf("the CLI of a swap that was not done: %s", r)
	}
}

// Roles by the peer's uid, with accounts of their own.
func TestRoles_AreAskedOfTheSocketsPeer(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	const shared, reader, operator, stranger = 65533, 20001, 20002, 20003
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, "")
	sockets := filepath.Join(d.dir, "run") // new files in it belong to the shared group
	if err := os.Mkdir(sockets, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(sockets, 0, shared); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(sockets, 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	d.Client.Close()
	d.moveSocket(filepath.Join(sockets, "admin.sock"))
	d.setHead(fmt.Sprintf(", roles: {operate: {users: [%d]}, read: {users: [%d]}}", operator, reader))
	d.write(pairOf(address, a, b, ""))
	d.start()
	as := func(uid, gid uint32, args ...string) result {
		t.Helper()
		cmd := d.command(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		cmd.Dir = "/"
		return ended(t, launch(t, cmd))
	}
	as(reader, shared, "status").wants(t, 0, "svc")
	as(reader, shared, "swap", "svc", "b").wants(t, 9, fmt.Sprint(reader), "operate")
	as(reader, shared, "reload").wants(t, 9, "operate")
	as(stranger, shared, "status").wants(t, 9, fmt.Sprint(stranger), "read")
	as(stranger, stranger, "status").wants(t, 9, "permission denied")
	leads(t, address, 'a')
	as(operator, shared, "swap", "svc", "b", "--reason", "second uid").wants(t, 0, "a -> b")
	leads(t, address, 'b')
	d.must("history", "--long").wants(t, 0, fmt.Sprintf("uid %d", operator), "second uid")
	d.must("swap", "svc", "a") // root may
	// A reload gives and takes roles.
	d.setHead(fmt.Sprintf(", roles: {operate: {groups: [%d]}}", shared))
	d.write(pairOf(address, a, b, ""))
	d.must("reload")
	as(reader, shared, "swap", "svc", "b").wants(t, 0, "a -> b")
}

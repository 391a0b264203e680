package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// transcript keeps what a process writes, and lets a test wait for a text in it.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// process is a started command.
type process struct {
	*exec.Cmd
	out, err transcript
	ended    chan struct{} // closed when it has been waited for
}

// launch starts a command that dies with this one. The thread that starts it lives as long as the tests do.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = 2 * time.Second // a killed CLI's hook still holds its pipes
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	go func() { _ = cmd.Wait(); close(p.ended) }() // ends with the process
	return p
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitEnd returns the exit code; -1 is a signal. It is called by others than the test's goroutine too, so it does
// not end the one that calls it.
func (p *process) awaitEnd(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		_ = p.Process.Kill()
		<-p.ended
		t.Errorf("%s has not ended within %s\n%s%s", p.Cmd, limit, p.out.String(), p.err.String())
	}
	return p.ProcessState.ExitCode()
}

// door is a turnout serve with a state of its own.
type door struct {
	t                   testing.TB
	dir, file           string
	state, socket, head string
	args, env           []string
	extra               []*os.File
	nofile              int
	*process
	*client.Client
}

// newDoor writes a configuration and starts nothing yet. services is the file from the key services on.
func newDoor(t testing.TB, services string) *door {
	t.Helper()
	dir := room(t)
	d := &door{t: t, dir: dir, file: filepath.Join(dir, "turnout.yaml"), state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "admin.sock")}
	d.setHead("")
	d.write(services)
	d.Client = client.Dial(d.socket)
	t.Cleanup(d.finish)
	return d
}

// setHead writes what comes before the services; more is added to admin.
func (d *door) setHead(more string) {
	d.head = fmt.Sprintf("state_dir: %s\nadmin: {socket: %s%s}\n", d.state, d.socket, more)
}

func (d *door) text(services string) string { return d.head + services }

// write replaces the file in one step, so that no reload reads half of it.
func (d *door) write(services string) {
	d.t.Helper()
	err := os.WriteFile(d.file+".new", []byte(d.text(services)), 0o644)
	if err == nil {
		err = os.Rename(d.file+".new", d.file)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// serve starts the process and does not wait until it is ready.
func (d *door) serve() *process {
	d.t.Helper()
	command := append([]string{turnout, "serve", "-c", d.file}, d.args...)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = os.Environ()
	if d.nofile > 0 || len(d.extra) > 0 {
		cmd = exec.Command(os.Args[0], command...)
		cmd.Env = append(os.Environ(), asChild+"=1")
		if d.nofile > 0 {
			cmd.Env = append(cmd.Env, "E2E_NOFILE="+strconv.Itoa(d.nofile))
		}
	}
	cmd.Env = append(cmd.Env, d.env...)
	cmd.ExtraFiles = d.extra
	return launch(d.t, cmd)
}

// start returns when the door answers.
func (d *door) start() *door {
	d.t.Helper()
	d.process = d.serve()
	eventually(d.t, "the door is ready", func() bool {
		if d.over() {
			d.t.Fatalf("the door ended: %s\n%s", d.ProcessState, d.process.err.String())
		}
		_, err := d.Client.Version(context.Background())
		return err == nil
	})
	return d
}

// kill9 ends the door as a power cut would.
func (d *door) kill9() {
	d.t.Helper()
	_ = d.Process.Kill()
	d.awaitEnd(d.t, slower(10*time.Second))
	d.inspect()
	d.Client.Close()
}

// finish ends the door and looks for what must never be in its log.
func (d *door) finish() {
	d.Client.Close()
	if d.process == nil {
		return
	}
	if !d.over() {
		_ = d.Process.Signal(syscall.SIGQUIT)
		d.awaitEnd(d.t, slower(10*time.Second))
	}
	d.inspect()
	if d.t.Failed() {
		d.t.Logf("the door's log, without each change:\n%s", d.logged())
	}
}

// logged is the end of the door's log.
func (d *door) logged() string {
	var lines []string
	for line := range strings.Lines(d.process.err.String()) {
		if !strings.Contains(line, "  admin  change") && !strings.Contains(line, "  reloaded  ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

func (d *door) inspect() {
	log := d.process.err.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "BUG"} {
		if i := strings.Index(log, bad); i >= 0 {
			d.t.Errorf("the door's log has %q:\n%s", bad, log[max(0, i-200):min(len(log), i+6000)])
			return
		}
	}
}

func (d *door) signal(sig syscall.Signal) {
	d.t.Helper()
	if err := d.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
}

// look is the status, which has to be there.
func (d *door) look() *api.Status {
	d.t.Helper()
	st, err := d.Client.Status(context.Background(), "")
	if err != nil {
		d.t.Fatalf("status: %v", err)
	}
	return st
}

func (d *door) service(name string) api.Service { d.t.Helper(); return d.look().Services[name] }

var no = false

// swapTo is `swap --no-wait` on the admin socket.
func (d *door) swapTo(service, to string) *api.Operation {
	d.t.Helper()
	op, err := d.Client.Swap(context.Background(), service, api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: &no}, To: to})
	if err != nil {
		d.t.Fatalf("swap %s %s: %v", service, to, err)
	}
	return op
}

// result is what a CLI command did.
type result struct {
	code     int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("exit %d\n%s%s", r.code, r.out, r.err) }

// command is the CLI on this door.
func (d *door) command(args ...string) *exec.Cmd {
	cmd := exec.Command(turnout, args...)
	cmd.Env = append(os.Environ(), "TURNOUT_SOCKET="+d.socket)
	return cmd
}

// cli runs a command to its end.
func (d *door) cli(args ...string) result {
	d.t.Helper()
	return ended(d.t, d.begin(args...))
}

func (d *door) begin(args ...string) *process { d.t.Helper(); return launch(d.t, d.command(args...)) }

func ended(t testing.TB, p *process) result {
	t.Helper()
	code := p.awaitEnd(t, slower(60*time.Second))
	if strings.Contains(p.err.String(), "DATA RACE") {
		t.Errorf("%s: %s", p.Cmd, p.err.String())
	}
	return result{code, p.out.String(), p.err.String()}
}

// must runs a command that has to succeed.
func (d *door) must(args ...string) result {
	d.t.Helper()
	r := d.cli(args...)
	if r.code != 0 {
		d.t.Fatalf("turnout %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// metric is one sample of the exposition; series is the name with its labels, as it is written there.
func (d *door) metric(series string) float64 {
	d.t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}}
	resp, err := h.Get("http://turnout/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return v
		}
	}
	d.t.Fatalf("the exposition has no %s", series)
	return 0
}

// descriptors counts what the door has open.
func (d *door) descriptors() int {
	d.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(names)
}

// resident is the door's memory in MiB.
func (d *door) resident() float64 {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		d.t.Fatal(err)
	}
	return float64(kib) / 1024
}

// cpu is the processor time that the door has used.
func (d *door) cpu() time.Duration {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // from field 3 on; utime and stime are 14 and 15, in ticks of 10 ms. proc(5)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// code is the Code of an *api.Error; "" of nil.
func code(err error) string {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// eventually waits until cond holds; a condition that never does fails the test.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(slower(15 * time.Second)); !cond(); pace(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// pace spreads load over time, and looks of eventually. It never stands for "by now it will have happened".
func pace(d time.Duration) { <-time.After(d) }

// freePort is one that nothing listens on, outside of the range that the system takes ports from for clients, so
// that it is still free when a door or server has been restarted.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(17000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if free(address) {
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// free tells whether nothing listens there. Until its exec, a process that another test starts has a copy of every socket
// that is open: none is started meanwhile.
func free(address string) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

// listenAgain listens where something may just have been closed, of which a process that is being started has a copy.
func listenAgain(network, address string) (net.Listener, error) {
	for end := time.Now().Add(slower(15 * time.Second)); ; pace(2 * time.Millisecond) {
		l, err := net.Listen(network, address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return l, err
		}
	}
}

var given sync.Map // ports of this run

var heard atomic.Value

// ask sends a line of bytes and returns what comes until the other side ends.
func ask(t testing.TB, network, address, send string) (string, error) {
	t.Helper()
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // the answer was read
	_ = c.SetDeadline(time.Now().Add(slower(20 * time.Second)))
	if _, err := io.WriteString(c, send); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// decode reads the JSON that a command wrote.
func decode[T any](t testing.TB, out string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return v
}

// moveSocket gives the door another admin socket, before it starts.
func (d *door) moveSocket(path string) {
	d.socket = path
	d.Client = client.Dial(path)
	d.setHead("")
}

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/admin/client"
)

func TestMain(m *testing.M) {
	// Scripts wait most of the time; a -parallel on the command line comes after this.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"turnout": main})
}

// patience is how long a script waits for something that should come at once; it is only ever used up by a
// failure.
const patience = 20 * time.Second

// TestScripts runs the command's manual: each script is a session with a real door on free ports. Beside
// testscript's own commands they have:
//
//	servers NAME...            toy servers; each greets with its name. $NAME is the address (blue-1: $BLUE_1)
//	sites NAME...              the same by HTTP: /N is answered with status N, anything else with 200 and the name
//	stopserver|startserver NAME   takes a server away, its connections too; brings it back where it was
//	served NAME N              the server has accepted N connections so far
//	start NAME CMD ARGS...     runs something beside the script
//	signal NAME SIGNAL         HUP, INT, TERM, QUIT, KILL
//	saw NAME REGEXP            waits until what it has written matches
//	finish NAME CODE           waits for its end, which must have that exit code; stdout and stderr are its own
//	exits CODE CMD ARGS...     like exec, but with that exit code
//	waitfor REGEXP CMD ARGS... runs the command until its stdout matches
//	dial NAME [SERVICE]        a connection through the door, which a server greets; stdout is its name
//	knock NAME [SERVICE]       a connection through the door, greeted or not
//	get SERVICE PATH           a request through the door; stdout is its answer: status, fields by name, body
//	talk NAME                  says something on it; stdout is the name of the server that answered
//	greeted NAME               waits for the greeting after a knock
//	closed NAME                waits until the connection is ended by the other side
//	hangup NAME                ends it
//	asuid UID CODE CMD ARGS... like exits, as another user
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			f := &fixture{toys: map[string]*recorded{}, conns: map[string]*talking{}, procs: map[string]*process{}}
			env.Values[fixtureKey{}] = f
			env.Defer(f.close)
			env.Vars = append(env.Vars, "TURNOUT_SOCKET=admin.sock", "TURNOUT_LOOPS=2", "TZ=UTC",
				"GORACE=atexit_sleep_ms=0") // else each command takes a second more under -race
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"servers": command(-1, (*fixture).servers), "sites": command(-1, (*fixture).makeSites), "stopserver": command(1, (*fixture).stopServer), "startserver": command(1, (*fixture).startServer),
			"served": command(2, (*fixture).served),
			"start":  command(-2, (*fixture).start), "signal": command(2, (*fixture).signal), "saw": command(2, (*fixture).saw), "finish": command(2, (*fixture).finish),
			"exits": command(-2, (*fixture).exits), "waitfor": command(-2, (*fixture).waitFor), "asuid": command(-3, (*fixture).asUID),
			"dial": command(-1, (*fixture).dial), "knock": command(-1, (*fixture).knock), "greeted": command(1, (*fixture).greeted), "get": command(2, (*fixture).get),
			"talk": command(1, (*fixture).talk), "closed": command(1, (*fixture).closed), "hangup": command(1, (*fixture).hangUp),
		},
	})
}

type fixtureKey struct{}

// fixture is what one script has beside its files.
type fixture struct {
	toys  map[string]*recorded
	conns map[string]*talking
	procs map[string]*process
	sites []*httptest.Server
	names []string // of the environment variables made by servers
}

// command makes a script command of a method; n arguments, or at least -n.
func command(n int, do func(*fixture, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || n >= 0 && len(args) != n || n < 0 && len(args) < -n {
			ts.Fatalf("see TestScripts for how this command is used")
		}
		do(ts.Value(fixtureKey{}).(*fixture), ts, args)
	}
}

func (f *fixture) close() {
	for _, c := range f.conns {
		_ = c.conn.Close()
	}
	for _, p := range f.procs {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	for _, t := range f.toys {
		t.stop()
		_ = unix.Close(t.place)
	}
	for _, s := range f.sites {
		s.Close()
	}
}

// recorded is a toy server that can be taken away, and that counts.
type recorded struct {
	name, address string

	// place is a socket that is bound to the address and does not listen, so that while the server is away nobody
	// else gets the port: no listener on port 0, and no client as its own.
	place int

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	accepted int
}

// settle gives the server its address.
func (r *recorded) settle() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.place = fd
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil { // as listeners have, so that one may come beside it
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	r.address = fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	return nil
}

func (r *recorded) start() error {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = l
	go r.accept(l) // ends with stop
	return nil
}

func (r *recorded) accept(l net.Listener) {
	t := &toy{name: r.name}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.accepted++
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		go t.talk(conn) // ends with the client, or stop
	}
}

func (r *recorded) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (f *fixture) servers(ts *testscript.TestScript, names []string) {
	for _, name := range names {
		r := &recorded{name: name}
		ts.Check(r.settle())
		ts.Check(r.start())
		f.toys[name] = r
		variable := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		ts.Setenv(variable, r.address)
		f.names = append(f.names, variable)
	}
}

func (f *fixture) makeSites(ts *testscript.TestScript, names []string) {
	for _, name := range names {
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
				w.WriteHeader(status)
			}
			_, _ = io.WriteString(w, name)
		}))
		f.sites = append(f.sites, site)
		variable := strings.ToUpper(name)
		ts.Setenv(variable, site.Listener.Addr().String())
		f.names = append(f.names, variable)
	}
}

func (f *fixture) toy(ts *testscript.TestScript, name string) *recorded {
	r := f.toys[name]
	if r == nil {
		ts.Fatalf("no server %q", name)
	}
	return r
}

func (f *fixture) stopServer(ts *testscript.TestScript, args []string) { f.toy(ts, args[0]).stop() }

func (f *fixture) startServer(ts *testscript.TestScript, args []string) {
	r := f.toy(ts, args[0])
	ts.Check(r.start())
}

func (f *fixture) served(ts *testscript.TestScript, args []string) {
	r := f.toy(ts, args[0])
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accepted != want {
		ts.Fatalf("%s has accepted %d connections, want %d", args[0], r.accepted, want)
	}
}

// process runs beside the script.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan struct{}
}

// lockedBuffer can be read while a process writes it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (f *fixture) command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := &exec.Cmd{Path: path, Args: args, Dir: ts.MkAbs(".")}
	for _, name := range append([]string{"PATH", "HOME", "TMPDIR", "WORK", "TZ", "TURNOUT_SOCKET", "TURNOUT_LOOPS", "GOCOVERDIR", "GORACE"}, f.names...) {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

func (f *fixture) start(ts *testscript.TestScript, args []string) {
	if old := f.procs[args[0]]; old != nil {
		ts.Fatalf("%s was started already; finish it first", args[0])
	}
	p := &process{cmd: f.command(ts, args[1:]), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	ts.Check(p.cmd.Start())
	f.procs[args[0]] = p
	p.cmd.WaitDelay = time.Second // what it started may outlive it, and its output
	go func() {                   // ends with the process
		_ = p.cmd.Wait()
		close(p.ended)
	}()
}

func (f *fixture) process(ts *testscript.TestScript, name string) *process {
	p := f.procs[name]
	if p == nil {
		ts.Fatalf("nothing was started as %q", name)
	}
	return p
}

func (f *fixture) signal(ts *testscript.TestScript, args []string) {
	sig, ok := map[string]os.Signal{"HUP": syscall.SIGHUP, "INT": os.Interrupt, "TERM": syscall.SIGTERM, "QUIT": syscall.SIGQUIT, "KILL": os.Kill, "USR1": syscall.SIGUSR1}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	ts.Check(f.process(ts, args[0]).cmd.Process.Signal(sig))
}

func (f *fixture) saw(ts *testscript.TestScript, args []string) {
	p := f.process(ts, args[0])
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	matches := func() bool { return re.MatchString(p.stdout.String()) || re.MatchString(p.stderr.String()) }
	if !eventually(matches) {
		ts.Fatalf("%s never wrote %s; it wrote\n%s%s", args[0], args[1], p.stdout.String(), p.stderr.String())
	}
}

// eventually looks until it is so, or patience is over.
func eventually(so func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if so() {
			return true
		}
	}
	return so()
}

func (f *fixture) finish(ts *testscript.TestScript, args []string) {
	p := f.process(ts, args[0])
	select {
	case <-p.ended:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; it wrote\n%s%s", args[0], p.stdout.String(), p.stderr.String())
	}
	delete(f.procs, args[0])
	_, _ = fmt.Fprint(ts.Stdout(), p.stdout.String())
	_, _ = fmt.Fprint(ts.Stderr(), p.stderr.String())
	f.checkCode(ts, p.cmd.ProcessState.ExitCode(), args[1])
}

func (f *fixture) checkCode(ts *testscript.TestScript, got int, want string) {
	if want == "killed" {
		want = "-1"
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

func (f *fixture) exits(ts *testscript.TestScript, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		f.checkCode(ts, 0, args[0])
	case errors.As(err, &exit):
		f.checkCode(ts, exit.ExitCode(), args[0])
	default:
		ts.Fatalf("%v", err)
	}
}

func (f *fixture) waitFor(ts *testscript.TestScript, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	matches := func() bool {
		out, _ = f.command(ts, args[1:]).CombinedOutput()
		return re.Match(out)
	}
	ok := eventually(matches)
	_, _ = ts.Stdout().Write(out)
	if !ok {
		ts.Fatalf("never matched %s", args[0])
	}
}

func (f *fixture) asUID(ts *testscript.TestScript, args []string) {
	uid, err := strconv.ParseUint(args[0], 10, 32)
	ts.Check(err)
	cmd := f.command(ts, args[2:])
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	for _, dir := range []string{filepath.Dir(cmd.Path), cmd.Dir} { // the way there is private to root at first
		for ; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
			ts.Check(os.Chmod(dir, 0o755)) //nolint:gosec // that is the point
		}
	}
	err = cmd.Run()
	_, _ = stdout.WriteTo(ts.Stdout())
	_, _ = stderr.WriteTo(ts.Stderr())
	if cmd.ProcessState == nil {
		ts.Check(err)
	}
	f.checkCode(ts, cmd.ProcessState.ExitCode(), args[1])
}

// talking is a client's connection.
type talking struct {
	conn net.Conn
	r    *bufio.Reader
	name string // of the server that greeted
}

func (f *fixture) knock(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := client.Dial(ts.MkAbs(ts.Getenv("TURNOUT_SOCKET"))).Status(ctx, "")
	ts.Check(err)
	names := sortedKeys(st.Services)
	service := names[0]
	if len(args) > 1 {
		service = args[1]
	}
	if !slices.Contains(names, service) {
		ts.Fatalf("the door has no service %q", service)
	}
	address := st.Services[service].Listen[0]
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok || strings.HasPrefix(address, "/") {
		network, address = "unix", cmp.Or(path, address)
	}
	conn, err := net.DialTimeout(network, address, patience)
	ts.Check(err)
	f.conns[args[0]] = &talking{conn: conn, r: bufio.NewReader(conn)}
}

func (f *fixture) get(ts *testscript.TestScript, args []string) {
	f.knock(ts, []string{"get", args[0]})
	c := f.conn(ts, "get")
	defer f.hangUp(ts, []string{"get"})
	_, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n", args[1])
	ts.Check(err)
	res, err := http.ReadResponse(c.r, nil)
	ts.Check(err)
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	_, _ = fmt.Fprintln(ts.Stdout(), res.Status)
	for _, name := range sortedKeys(res.Header) {
		_, _ = fmt.Fprintf(ts.Stdout(), "%s: %s\n", name, strings.Join(res.Header[name], ", "))
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "\n%s\n", body)
}

func (f *fixture) dial(ts *testscript.TestScript, args []string) {
	f.knock(ts, args)
	f.greeted(ts, args[:1])
}

func (f *fixture) conn(ts *testscript.TestScript, name string) *talking {
	c := f.conns[name]
	if c == nil {
		ts.Fatalf("no connection %q", name)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	return c
}

func (f *fixture) greeted(ts *testscript.TestScript, args []string) {
	c := f.conn(ts, args[0])
	name, err := c.r.ReadString('\n')
	if err != nil {
		ts.Fatalf("%s was not greeted: %v", args[0], err)
	}
	c.name = strings.TrimSpace(name)
	_, _ = fmt.Fprintln(ts.Stdout(), c.name)
}

func (f *fixture) talk(ts *testscript.TestScript, args []string) {
	c := f.conn(ts, args[0])
	if err := ask(c.conn, c.r, c.name, "hello"); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	_, _ = fmt.Fprintln(ts.Stdout(), c.name)
}

func (f *fixture) closed(ts *testscript.TestScript, args []string) {
	c := f.conn(ts, args[0])
	if b, err := c.r.ReadByte(); err == nil {
		ts.Fatalf("%s was sent %q instead of being closed", args[0], b)
	} else if os.IsTimeout(err) {
		ts.Fatalf("%s was not closed", args[0])
	}
}

func (f *fixture) hangUp(ts *testscript.TestScript, args []string) {
	_ = f.conn(ts, args[0]).conn.Close()
	delete(f.conns, args[0])
}

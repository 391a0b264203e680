package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// What the demo does. Nothing is cut: a long connection lives shorter than a drain.
const (
	demoSwaps   = 12
	demoEvery   = 400 * time.Millisecond
	demoWorkers = 8  // a new connection for each request
	demoLong    = 16 // connections that stay for a while
	demoLongest = 1500 * time.Millisecond
)

// demoFile leaves the port of the listener to the system, and has more in it than the demo needs, to play with.
const demoFile = `# A door of turnout demo. Change it, then: turnout reload
state_dir: %[1]s/state
admin: {socket: %[1]s/admin.sock}
log: {level: warn}
services:
  web:
    listen: ["127.0.0.1:0"]
    pools:
      blue:
        servers:
          - {name: blue-1, address: "%[2]s"}
          - {name: blue-2, address: "%[3]s"}
      green:
        servers:
          - {name: green-1, address: "%[4]s"}
    active: blue
    drain: {timeout: 10s}
`

func (c *cli) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: toy servers, a door, live traffic and a dozen swaps, in ten seconds",
		Long: `Start toy servers and a door in a temporary folder, drive traffic through it, swap a dozen times under that
load, and print what each swap can show. The last line counts connections that failed, and those that began after
the answer of a swap and reached the old side all the same; the exit code is 0 when both are 0.`,
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return c.demo(keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it up to play with, until Ctrl-C")
	return cmd
}

func (c *cli) demo(keep bool) error {
	w := newWait(c.timeout)
	defer w.stop()
	d, err := startDemo(w)
	if err != nil {
		return err
	}
	defer d.end()
	if keep {
		c.demoHelp(d)
		<-w.ctx.Done()
		return nil
	}
	t := d.drive()
	err = c.demoSwaps(w, d, t)
	t.stop()
	c.printf("demo: %d swaps, %s, %d failed, %d late", t.swaps, plural(int(t.done.Load()), "connection"), t.failed.Load(), t.late.Load())
	switch first := t.firstFailure.Load(); {
	case err != nil:
		return err
	case first != nil:
		return fmt.Errorf("demo: the first failure was: %w", *first)
	case t.late.Load() > 0:
		return errors.New("demo: a connection reached the old side after the answer of a swap")
	}
	return nil
}

func (c *cli) demoHelp(d *demo) {
	self := quote(os.Args[0])
	c.printf(`demo: a door is up between %[1]s and its servers; Ctrl-C ends it
try, in another terminal:
  export TURNOUT_SOCKET=%[2]s
  nc %[3]s                    # blue-1 or blue-2 greets you; type lines, it answers them
  %[4]s status --watch
  %[4]s swap web              # the next nc reaches green-1; the first one still talks to its server
  %[4]s back web
  %[4]s drain web/blue/blue-2
  %[4]s hold web              # the next nc waits ...
  %[4]s release web           # ... and is let in
  %[4]s history --long
  %[4]s reload                # after a change of %[5]s`,
		d.address, quote(d.socket), strings.Replace(d.address, ":", " ", 1), self, quote(d.file))
}

// demo is a door with its toy servers.
type demo struct {
	dir, file, socket string
	address           string // where clients connect
	toys              []*toy
	door              *exec.Cmd
	said              bytes.Buffer // by the door
	gone              chan error
	api               *client.Client
}

func startDemo(w *wait) (_ *demo, err error) {
	d := &demo{gone: make(chan error, 1)}
	defer func() {
		if err != nil {
			d.end()
		}
	}()
	if d.dir, err = os.MkdirTemp("", "turnout-demo-"); err != nil {
		return nil, err
	}
	for _, name := range []string{"blue-1", "blue-2", "green-1"} {
		t, err := startToy(name)
		if err != nil {
			return nil, err
		}
		d.toys = append(d.toys, t)
	}
	d.file, d.socket = filepath.Join(d.dir, "turnout.yaml"), filepath.Join(d.dir, "admin.sock")
	content := fmt.Sprintf(demoFile, d.dir, d.toys[0].address(), d.toys[1].address(), d.toys[2].address())
	if err := os.WriteFile(d.file, []byte(content), 0o600); err != nil {
		return nil, err
	}
	if err := d.startDoor(); err != nil {
		return nil, err
	}
	d.api = client.Dial(d.socket)
	return d, d.awaitDoor(w)
}

// startDoor runs this very program a second time, as an operator would.
func (d *demo) startDoor() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.door = &exec.Cmd{Path: self, Args: []string{"turnout", "serve", "-c", d.file}, Stderr: &d.said}
	ownGroup(d.door) // Ctrl-C is ours: the door is ended when the traffic is
	if err := d.door.Start(); err != nil {
		return err
	}
	go func() { d.gone <- d.door.Wait() }() // ends with the door
	return nil
}

func (d *demo) awaitDoor(w *wait) error {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	for {
		st, err := d.api.Status(ctx, "")
		if err == nil {
			d.address = st.Services["web"].Listen[0]
			return nil
		}
		select {
		case <-d.gone:
			return fmt.Errorf("demo: the door did not start:\n%s", strings.TrimSpace(d.said.String()))
		case <-ctx.Done():
			return fmt.Errorf("demo: no door yet: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end stops the door and the toys, and removes the folder.
func (d *demo) end() {
	if d.door != nil && d.door.Process != nil {
		_ = d.door.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.gone:
		case <-time.After(3 * time.Second):
			_ = d.door.Process.Kill()
			<-d.gone
		}
	}
	for _, t := range d.toys {
		t.close()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

// demoSwaps swaps to and fro under load and prints what each swap can show.
func (c *cli) demoSwaps(w *wait, d *demo, t *traffic) error {
	to := []string{"green", "blue"}
	for i := range demoSwaps {
		if !pause(w, demoEvery) {
			return w.early()
		}
		op, err := t.swap(w.ctx, d.api, to[i%2])
		if err != nil {
			return err
		}
		if !pause(w, demoEvery/4) { // time for the new side to have had its first start
			return w.early()
		}
		if now, err := d.api.Operation(w.ctx, op.ID, 0, 0); err == nil {
			op = now
		}
		for i := range op.Proofs {
			p := &op.Proofs[i]
			c.printf("%s", moved(p, op.Revision))
			c.printf("  %s", proof(p))
		}
	}
	pause(w, demoEvery)
	return w.early()
}

// pause returns false when the wait ended first.
func pause(w *wait, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.ctx.Done():
		return false
	}
}

// traffic is what the demo's clients do and see.
type traffic struct {
	address string
	workers sync.WaitGroup
	ended   chan struct{}

	swaps        int
	done         atomic.Int64
	failed       atomic.Int64
	late         atomic.Int64
	firstFailure atomic.Pointer[error]

	// turn counts the beginnings and the ends of swaps: it is odd while one is under way. side is the
	// pool that the last one which was answered led to.
	//
	// Invariant: side changes only while turn is odd. So a client that saw the same even turn before
	// it connected and after it was answered must have reached side.
	turn atomic.Int64
	side atomic.Pointer[string]
}

// drive starts the clients.
func (d *demo) drive() *traffic {
	t := &traffic{address: d.address, ended: make(chan struct{})}
	blue := "blue"
	t.side.Store(&blue)
	for range demoWorkers {
		t.workers.Go(func() { t.repeat(t.once) }) // ends with stop
	}
	for range demoLong {
		t.workers.Go(func() { t.repeat(t.stay) }) // ends with stop
	}
	return t
}

func (t *traffic) stop() {
	close(t.ended)
	t.workers.Wait()
}

func (t *traffic) repeat(talk func() error) {
	for {
		select {
		case <-t.ended:
			return
		case <-time.After(time.Millisecond): // leaves the machine some air
		}
		if err := talk(); err != nil {
			t.failed.Add(1)
			t.firstFailure.CompareAndSwap(nil, &err)
		}
		t.done.Add(1)
	}
}

// swap moves the traffic; the answer of the door is the instant that counts.
func (t *traffic) swap(ctx context.Context, door *client.Client, to string) (*api.Operation, error) {
	dontWait := false
	t.turn.Add(1)
	defer t.turn.Add(1)
	op, err := door.Swap(ctx, "web", api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: &dontWait, Reason: "demo"}, To: to})
	if err != nil {
		return nil, err
	}
	t.side.Store(&to)
	t.swaps++
	return op, nil
}

// greet connects and learns which server it is; it says so if that was one on the old side.
func (t *traffic) greet() (net.Conn, *bufio.Reader, string, error) {
	turn, side := t.turn.Load(), *t.side.Load()
	conn, err := net.DialTimeout("tcp", t.address, 5*time.Second)
	if err != nil {
		return nil, nil, "", err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	name, err := r.ReadString('\n')
	if err != nil {
		_ = conn.Close()
		return nil, nil, "", fmt.Errorf("no greeting: %w", err)
	}
	name = strings.TrimSpace(name)
	if turn%2 == 0 && t.turn.Load() == turn && !strings.HasPrefix(name, side+"-") {
		t.late.Add(1)
	}
	return conn, r, name, nil
}

// ask sends a line and checks the answer.
func ask(conn net.Conn, r *bufio.Reader, name, line string) error {
	if _, err := fmt.Fprintf(conn, "%s\n", line); err != nil {
		return err
	}
	answer, err := r.ReadString('\n')
	if err == nil && answer != name+" "+line+"\n" {
		err = fmt.Errorf("asked %s for %q, answered %q", name, line, answer)
	}
	return err
}

// once is one short connection; the server ends it.
func (t *traffic) once() error {
	conn, r, name, err := t.greet()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it has been read to its end
	if err := ask(conn, r, name, "bye"); err != nil {
		return err
	}
	if rest, err := r.ReadString('\n'); err == nil || rest != "" {
		return fmt.Errorf("%s said more than it should: %q", name, rest)
	}
	return nil
}

// stay is one long connection: it keeps its server, whatever is swapped meanwhile.
func (t *traffic) stay() error {
	conn, r, name, err := t.greet()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it was all answered
	end := time.Now().Add(rand.N(demoLongest))
	for i := 0; time.Now().Before(end); i++ {
		select {
		case <-t.ended:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		if err := ask(conn, r, name, fmt.Sprintf("line %d", i)); err != nil {
			return err
		}
	}
	return nil
}

//go:build linux

package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/turnout-proxy/turnout/bench/proc"
)

// Process is a child as the bench sees it.
type Process struct {
	*proc.Process
	in, out *os.File
	lines   *bufio.Reader // of out
}

// ServerProcess runs Servers.
type ServerProcess struct{ *Process }

// ClientProcess runs a Client.
type ClientProcess struct{ *Process }

// StartServers returns when all listeners are open.
func StartServers(spec Servers, cpus []int) (*ServerProcess, error) {
	p, err := startChild("servers", spec, cpus)
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	return &ServerProcess{p}, nil
}

// StartClient returns when all connections are open, and each has had an answer where servers give one.
func StartClient(spec Client, cpus []int) (*ClientProcess, error) {
	p, err := startChild("client", spec, cpus)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &ClientProcess{p}, nil
}

// Forward is the spec of the plain forwarder.
type Forward struct{ Listen, To string }

// StartForward starts a proxy in a few lines of ordinary Go (io.Copy both ways): a yardstick, and a stand-in
// in tests.
func StartForward(spec Forward, cpus []int) (*Process, error) {
	return startChild("forward", spec, cpus)
}

// Served is what the servers have seen, by listener.
func (p *ServerProcess) Served() (s []Served, err error) {
	err = p.ask("served", &s)
	return s, err
}

// Begin starts the load.
func (p *ClientProcess) Begin() error { return p.ask("begin", nil) }

// Mark says how far the client is. Latencies count between the first two Marks.
func (p *ClientProcess) Mark() (c Count, err error) {
	err = p.ask("mark", &c)
	return c, err
}

// End stops the load, waits for what is under way, and returns all that was found.
func (p *ClientProcess) End() (*Result, error) {
	r := new(Result)
	return r, p.ask("end", r)
}

// Close ends the process.
func (p *Process) Close() {
	p.in.Close()
	select {
	case <-p.Done():
	case <-time.After(time.Second):
	}
	p.Stop()
	p.out.Close()
}

func startChild(role string, spec any, cpus []int) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	child, err := proc.Start(proc.Options{
		Args:   []string{self},
		Env:    []string{roleVar + "=" + role, "GODEBUG=asyncpreemptoff=1", "GORACE=atexit_sleep_ms=0"}, // no signals into epoll_wait
		Stdin:  inR,
		Stdout: outW,
		CPUs:   cpus,
	})
	inR.Close()
	outW.Close()
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	p := &Process{Process: child, in: inW, out: outR, lines: bufio.NewReaderSize(outR, 1<<20)}
	text, err := json.Marshal(spec)
	if err == nil {
		err = p.ask(string(text), nil)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// ask sends a line and reads the answer into value. It fails when the child ends, so a bench that is
// interrupted need only stop its children.
func (p *Process) ask(line string, value any) error {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return fmt.Errorf("load process is gone: %w", err)
	}
	text, err := p.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("load process is gone: %w", err)
	}
	var a struct {
		Error string
		Value json.RawMessage
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return err
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if value == nil || a.Value == nil {
		return nil
	}
	return json.Unmarshal(a.Value, value)
}

//go:build linux

// Package peer knows the proxies that are compared: how each is configured for a Door, started, and told to
// swap. A new one is a value in All. It measures nothing.
package peer

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/bench/proc"
)

// Door is what every peer is configured to be: the same services, in each one's own words.
type Door struct {
	Dir            string // of its files; exists
	Services       []Service
	MaxConnections int   // clients it must be able to hold at once
	CPUs           []int // where it may run; empty: anywhere
	Threads        int   // loops, threads or workers
	HTTP           bool  // services carry HTTP, not TCP
	TLS            bool  // with HTTP: over TLS, with HTTP/2 for clients that ask for it
	Swaps          bool  // with an admin socket, for Swapper
}

func (d *Door) mode() string {
	if d.HTTP {
		return "http"
	}
	return "tcp"
}

// Service of a Door. Its first pool is active.
type Service struct {
	Name   string
	Listen string
	Pools  []Pool
}

// Pool of a Service: server addresses.
type Pool struct {
	Name    string
	Servers []string
}

// Peer is a kind of proxy.
type Peer struct {
	Name  string // as given to -peers
	Title string // as shown
	About string // its settings in a few words

	// Find says where the program is and which version; the error says what to install. Called once before
	// all else; nil: nothing to find.
	Find func(f *Finder) (program, version string, err error)
	// Config is its configuration file; nil: it has none.
	Config func(d Door, program string) string
	// Args is its command line, given the configuration file; nil: Start starts it.
	Args  func(d Door, program, config string) []string
	Start func(d Door) (Starter, error)
	// Swapper opens its way to swap service bench; nil: it has none.
	Swapper func(d Door) (Swapper, error)
}

// Swapper changes the active pool of service bench over a connection kept open.
type Swapper interface {
	Swap(from, to string) error // returns when the peer has acknowledged
	Close() error
}

// Starter is a running proxy that is not a program of its own.
type Starter interface {
	PID() int
	Ended() error
	Close()
}

// Finder is what Find may need.
type Finder struct {
	Module  string // folder of the turnout module
	Temp    string // for what is built
	Turnout string // a turnout that is built already; empty: build it
}

// Found is a peer that is there.
type Found struct {
	*Peer
	Program, Version string
}

// Running is a started one.
type Running struct {
	Config string     // its configuration, as written
	Addr   []string   // where clients connect, by service
	Tree   *proc.Tree // its processes; nil: none of its own (direct)
	stop   func()
	ended  func() error
}

// All peers, in the order of tables. The first that takes part is compared with the others.
var All = []*Peer{turnout, haproxy, haproxyTuned, haproxyMap, nginx, forward, direct}

// Get finds a peer by name.
func Get(name string) (*Peer, error) {
	var names []string
	for _, p := range All {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("unknown peer %q; known are %s", name, strings.Join(names, ", "))
}

// Look finds the peer's program.
func (p *Peer) Look(f *Finder) (*Found, error) {
	found := &Found{Peer: p}
	if p.Find == nil {
		return found, nil
	}
	var err error
	found.Program, found.Version, err = p.Find(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	return found, nil
}

// Run starts the peer as d, and returns when it accepts on every service.
func (f *Found) Run(d Door) (*Running, error) {
	if d.TLS {
		if f.Args == nil {
			return nil, fmt.Errorf("%s: speaks no TLS", f.Name)
		}
		if err := d.writeCertificate(); err != nil {
			return nil, err
		}
	}
	r := &Running{stop: func() {}, ended: func() error { return nil }}
	for _, s := range d.Services {
		r.Addr = append(r.Addr, s.Listen)
	}
	if f.Start == nil && f.Args == nil { // direct: no proxy at all
		for i, s := range d.Services {
			r.Addr[i] = s.Pools[0].Servers[0]
		}
		return r, nil
	}
	if err := f.start(d, r); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if err := r.await(); err != nil {
		r.Stop()
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	r.Tree.Refresh() // workers are there now
	return r, nil
}

func (f *Found) start(d Door, r *Running) error {
	if f.Start != nil {
		s, err := f.Start(d)
		if err != nil {
			return err
		}
		r.stop, r.ended, r.Tree = s.Close, s.Ended, proc.NewTree(s.PID())
		return nil
	}
	config := filepath.Join(d.Dir, f.Name+".conf")
	r.Config = f.Config(d, f.Program)
	if err := os.WriteFile(config, []byte(r.Config), 0o644); err != nil {
		return err
	}
	p, err := proc.Start(proc.Options{
		Args: f.Args(d, f.Program, config),
		Dir:  d.Dir,
		Log:  filepath.Join(d.Dir, f.Name+".log"),
		CPUs: d.CPUs,
	})
	if err != nil {
		return err
	}
	r.stop, r.ended, r.Tree = p.Stop, p.Ended, proc.NewTree(p.PID())
	return nil
}

// await waits until the last service accepts; all of these proxies open their listeners in order, before
// they serve.
func (r *Running) await() error {
	addr := r.Addr[len(r.Addr)-1]
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := r.ended(); err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("started, but does not accept on %s: %w", addr, err)
		}
	}
}

// Ended is why it has ended, though it should not have; nil while it runs.
func (r *Running) Ended() error { return r.ended() }

// Stop ends it.
func (r *Running) Stop() { r.stop() }

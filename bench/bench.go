//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/proc"
	"github.com/turnout-proxy/turnout/bench/report"
)

// bench is one run of the program.
type bench struct {
	*options
	temp       string
	files      uint64 // limit of open ones
	finder     *peer.Finder
	peers      []*peer.Found // in the order of the flag
	proxyCPUs  []int         // empty: no pinning
	loadCPUs   []int
	proxyLoops int
	loadLoops  int
	ports      [2]int // below the ephemeral ones, so that no outgoing connection sits on them
	folders    int
	shown      map[string]bool // configurations noted already
	noise      noise
	run        *report.Run
}

// wantFiles is enough for 8,000 connections through a proxy that takes six descriptors for each.
const wantFiles = 65536

func newBench(ctx context.Context, o *options) (*bench, error) {
	files, err := proc.RaiseFiles(wantFiles)
	if err != nil {
		return nil, fmt.Errorf("limit of open files: %w", err)
	}
	b := &bench{options: o, files: files, ports: portRange(), shown: map[string]bool{}}
	b.splitCPUs()
	if b.temp, err = os.MkdirTemp("", "turnout-bench-"); err != nil {
		return nil, err
	}
	b.run = newReport(o, files, b.proxyLoops, b.loadLoops)
	if err := b.findPeers(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.temp) }

// splitCPUs gives the proxies cores of their own where there are enough.
func (b *bench) splitCPUs() {
	all := proc.CPUs()
	b.proxyLoops, b.loadLoops = min(len(all), b.options.proxyCPUs), max(1, len(all)/2)
	if len(all) >= 4 {
		n := min(b.options.proxyCPUs, len(all)-2)
		b.proxyCPUs, b.loadCPUs = all[:n], all[n:]
		b.proxyLoops, b.loadLoops = n, max(1, len(b.loadCPUs)/2)
	}
	if b.options.loadLoops > 0 {
		b.loadLoops = b.options.loadLoops
	}
}

// findPeers looks for those of the flag. One that is missing is said and left out, unless it was asked for
// by name.
func (b *bench) findPeers(ctx context.Context) error {
	module, err := moduleFolder()
	if err != nil {
		return err
	}
	b.finder = &peer.Finder{Module: module, Temp: b.temp, Turnout: b.turnout}
	asked := b.options.peers != comparedPeers && b.options.peers != stormPeers && b.options.peers != growthPeers
	list := names(b.options.peers)
	if b.command == "list" {
		list = nil
		for _, p := range peer.All {
			list = append(list, p.Name)
		}
	}
	for _, name := range list {
		p, err := peer.Get(name)
		if err != nil {
			return err
		}
		found, err := p.Look(b.finder)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && asked {
			return fmt.Errorf("peer missing: %w", err)
		}
		if err != nil {
			b.run.Missing[name] = err.Error()
			b.say("MISSING %v", err)
			continue
		}
		b.peers = append(b.peers, found)
		b.notePeer(found)
	}
	if len(b.peers) == 0 {
		return errors.New("no peer is there to be measured")
	}
	return nil
}

func (b *bench) notePeer(p *peer.Found) {
	known := func(q report.Peer) bool { return q.Name == p.Name }
	if !slices.ContainsFunc(b.run.Peers, known) {
		b.run.Peers = append(b.run.Peers, report.Peer{Name: p.Name, Title: p.Title, About: p.About, Version: p.Version})
	}
}

// moduleFolder is where the turnout module is, from any folder inside it.
func moduleFolder() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("run it inside the turnout tree: go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// say tells about the progress, apart from the results.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// warn is for the results too.
func (b *bench) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.say("WARNING %s", text)
	b.run.Warnings = append(b.run.Warnings, text)
}

// publish prints the results. Files are written only when the run is complete.
func (b *bench) publish(complete bool) error {
	if !complete {
		b.run.Warnings = append(b.run.Warnings, "this run did not complete")
	}
	b.run.Warnings = append(b.run.Warnings, b.noise.warnings()...)
	b.run.Finish()
	page := b.run.Markdown()
	fmt.Println(page)
	if !complete {
		return nil
	}
	var err error
	if b.json != "" {
		err = b.run.WriteJSON(b.json)
	}
	if b.md != "" {
		err = errors.Join(err, os.WriteFile(b.md, []byte(page), 0o644))
	}
	return err
}

func (b *bench) list(w io.Writer) {
	fmt.Fprintln(w, "works (-only):")
	for _, k := range works {
		fmt.Fprintf(w, "  %-14s %s\n", k.name, k.about)
	}
	fmt.Fprintf(w, "  %-14s %s\n", "swapstorm", "swaps at 20/s, back to back, and at 100/s, under load")
	fmt.Fprintln(w, "\ntables of growth (-only):")
	for _, g := range growths {
		fmt.Fprintf(w, "  %-14s %s\n", g.name, g.about)
	}
	fmt.Fprintln(w, "\npeers (-peers):")
	for _, p := range b.peers {
		fmt.Fprintf(w, "  %-14s %s; %s\n", p.Name, p.Version, p.About)
	}
	for name, why := range b.run.Missing {
		fmt.Fprintf(w, "  %-14s MISSING: %s\n", name, why)
	}
}

// folder makes a new one for the files of a peer. Its name stays short: Unix sockets are bound in it.
func (b *bench) folder() (string, error) {
	b.folders++
	dir := filepath.Join(b.temp, fmt.Sprint(b.folders))
	return dir, os.Mkdir(dir, 0o755)
}

// portRange is where servers and proxies listen.
func portRange() [2]int {
	lowest := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &lowest)
	}
	if lowest < 4096 {
		return [2]int{61001, 65535}
	}
	return [2]int{min(10240, lowest/2), lowest - 1}
}

// port is a free one.
func (b *bench) port() (int, error) {
	for range 1000 {
		p := b.ports[0] + rand.IntN(b.ports[1]-b.ports[0])
		if ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", p)); err == nil {
			return p, ln.Close()
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", b.ports[0], b.ports[1])
}

// loopback is address i of a block of 250 per third byte: 127.0.block.1 and up. Many addresses of one
// machine make many times as many ports.
func loopback(block, i, port int) string {
	return fmt.Sprintf("127.0.%d.%d:%d", block+i/250, 1+i%250, port)
}

// pause sleeps unless the run is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

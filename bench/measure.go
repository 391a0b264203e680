//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/proc"
	"github.com/turnout-proxy/turnout/bench/report"
)

// span is what happened between two looks.
type span struct {
	time         time.Duration
	units, bytes uint64
	cpu          time.Duration // of the proxy
	proxy        bool          // there is one
	clientCPU    time.Duration
	result       *load.Result
}

// with adds to a work's values what all works have, and drops the CPU of a proxy that is not there.
func (s span) with(v map[string]float64) map[string]float64 {
	if !s.proxy {
		delete(v, "cpu")
	}
	v["failed"] = float64(s.result.Failed)
	v["load_cpu"] = s.clientCPU.Seconds() / s.time.Seconds()
	return v
}

// stage is a proxy between its servers, ready for a client.
type stage struct {
	peer    *peer.Found
	door    peer.Door
	servers *load.ServerProcess
	proxy   *peer.Running
	unhook  func() bool
}

// setStage starts servers and a proxy before them, all fresh, so that nothing is left of the measurement before.
func (b *bench) setStage(ctx context.Context, w *work, p *peer.Found) (*stage, error) {
	door, listeners, err := b.plan(w)
	if err != nil {
		return nil, err
	}
	s := &stage{peer: p, door: door}
	if s.servers, err = load.StartServers(load.Servers{Threads: b.loadLoops, Listeners: listeners}, b.loadCPUs); err != nil {
		return nil, err
	}
	if s.proxy, err = p.Run(door); err != nil {
		s.servers.Close()
		return nil, err
	}
	b.noteConfig(p, w, s.proxy.Config)
	s.unhook = context.AfterFunc(ctx, s.end) // what is under way then fails
	return s, nil
}

func (s *stage) end() {
	s.proxy.Stop()
	s.servers.Close()
}

func (s *stage) close() {
	if s.unhook() {
		s.end()
	}
}

// plan lays out addresses: service i on 127.0.100.x (the first on 127.0.0.1), servers of pool n on their own
// port of 127.0.10.x (the first on 127.0.0.1).
func (b *bench) plan(w *work) (door peer.Door, listeners []load.Listener, err error) {
	door = peer.Door{
		CPUs:           b.proxyCPUs,
		Threads:        b.proxyLoops,
		MaxConnections: w.client.Conns + 600,
		Swaps:          w.server == load.Stamp,
		HTTP:           w.server == load.HTTP,
		TLS:            w.client.Mode == load.HTTPSLoop || w.client.Mode == load.H2Loop,
	}
	// Two for each connection, HAProxy's pipes, listeners, and what else a process has open.
	if need := uint64(2*door.MaxConnections + 2000 + w.services + 200); need > b.files {
		return door, nil, fmt.Errorf("needs %d open files, the limit is %d: raise it (ulimit -n)", need, b.files)
	}
	if door.Dir, err = b.folder(); err != nil {
		return door, nil, err
	}
	pools := []peer.Pool{{Name: "a"}}
	if door.Swaps {
		pools = append(pools, peer.Pool{Name: "b"})
	}
	for n := range pools {
		port, err := b.port()
		if err != nil {
			return door, nil, err
		}
		for i := range w.servers {
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			if i > 0 {
				addr = loopback(10, i, port)
			}
			pools[n].Servers = append(pools[n].Servers, addr)
			listeners = append(listeners, load.Listener{Addr: addr, Mode: w.server, ID: pools[n].Name[0], Bytes: w.bytes})
		}
	}
	port, err := b.port()
	if err != nil {
		return door, nil, err
	}
	for i := range w.services {
		s := peer.Service{Name: fmt.Sprintf("bench%d", i), Listen: loopback(100, i, port), Pools: pools}
		if i == 0 {
			s.Name, s.Listen = "bench", fmt.Sprintf("127.0.0.1:%d", port)
		}
		door.Services = append(door.Services, s)
	}
	return door, listeners, nil
}

// noteConfig keeps each peer's configuration of each kind of work once; only addresses and limits differ within one.
func (b *bench) noteConfig(p *peer.Found, w *work, text string) {
	key := fmt.Sprint(p.Name, w.server == load.HTTP, w.client.Mode == load.HTTPSLoop || w.client.Mode == load.H2Loop, w.servers, w.services, w.server == load.Stamp)
	if text == "" || b.shown[key] {
		return
	}
	b.shown[key] = true
	if b.showConfig {
		b.say("--- %s, %s\n%s---", p.Title, w.name, text)
	}
	if lines := strings.SplitAfter(text, "\n"); len(lines) > 80 {
		text = strings.Join(lines[:40], "") + fmt.Sprintf("… %d lines like these\n", len(lines)-40)
	}
	plain := strings.ReplaceAll(text, b.temp, "TEMP")
	b.run.Configs = append(b.run.Configs, report.Config{Peer: p.Title, Work: w.name, Text: plain})
}

func (b *bench) client(w *work, addr string) load.Client {
	c := w.client
	c.Addr, c.Threads = addr, b.loadLoops
	if c.Mode == load.ConnectLoop || c.Mode == load.HTTPOnce {
		c.Sources, c.Reset = b.sources, b.reset
	}
	return c
}

// look is one reading of all clocks and counters.
type look struct {
	at                     time.Time
	count                  load.Count
	proxy, client, servers time.Duration
	machine                proc.Machine
}

// measureLoad runs a client's load and looks twice.
func (b *bench) measureLoad(ctx context.Context, w *work, p *peer.Found) (map[string]float64, error) {
	s, err := b.setStage(ctx, w, p)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c, err := load.StartClient(b.client(w, s.proxy.Addr[0]), b.loadCPUs)
	if err != nil {
		return nil, errors.Join(err, s.proxy.Ended())
	}
	defer c.Close()
	if err := c.Begin(); err != nil {
		return nil, err
	}
	swapping, err := startSwapping(p, s.door, w.swaps)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, b.warm); err != nil {
		return nil, err
	}
	first, err := s.look(c)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, b.seconds); err != nil {
		return nil, err
	}
	last, err := s.look(c)
	if err != nil {
		return nil, err
	}
	if err := swapping.stop(); err != nil {
		return nil, err
	}
	result, err := c.End()
	if err != nil {
		return nil, err
	}
	if err := s.proxy.Ended(); err != nil {
		return nil, err
	}
	return b.judge(w, s, first, last, result)
}

// look reads the client's counters first and the proxy's clock right after, both times.
func (s *stage) look(c *load.ClientProcess) (l look, err error) {
	if s.proxy.Tree != nil {
		s.proxy.Tree.Refresh()
	}
	l.machine = proc.MachineCPU()
	l.at = time.Now()
	if l.count, err = c.Mark(); err != nil {
		return l, err
	}
	if s.proxy.Tree != nil {
		if l.proxy, err = s.proxy.Tree.CPU(); err != nil {
			return l, errors.Join(err, s.proxy.Ended())
		}
	}
	if l.client, err = proc.NewTree(c.PID()).CPU(); err != nil {
		return l, err
	}
	l.servers, err = proc.NewTree(s.servers.PID()).CPU()
	return l, err
}

// judge turns two looks into values, or says why they are worth nothing.
func (b *bench) judge(w *work, s *stage, first, last look, result *load.Result) (map[string]float64, error) {
	if n := result.Errors["EADDRNOTAVAIL"]; n > 0 {
		return nil, fmt.Errorf("%d connections: EADDRNOTAVAIL%s; %d sockets are in TIME_WAIT", n, load.PortsHint, proc.TimeWait())
	}
	sp := span{
		time:      time.Duration(last.count.At - first.count.At),
		units:     last.count.Units - first.count.Units,
		bytes:     last.count.Bytes - first.count.Bytes,
		cpu:       last.proxy - first.proxy,
		proxy:     s.proxy.Tree != nil,
		clientCPU: last.client - first.client,
		result:    result,
	}
	if sp.units == 0 && sp.bytes == 0 {
		return nil, fmt.Errorf("nothing came back in %s%s", sp.time.Round(time.Millisecond), failed(result))
	}
	if total := float64(result.Units) + float64(result.Failed); float64(result.Failed) > total/1000 && result.Failed > 4 {
		return nil, fmt.Errorf("%d of %.0f failed%s", result.Failed, total, failed(result))
	}
	if result.Failed > 0 {
		b.warn("%s: %s: %d of %d failed%s", s.peer.Name, w.name, result.Failed, result.Units+result.Failed, failed(result))
	}
	b.judgeNoise(sp, first, last)
	return w.values(sp), nil
}

func (b *bench) judgeNoise(sp span, first, last look) {
	b.noise.measured++
	all := last.at.Sub(first.at).Seconds() * float64(b.run.Machine.Cores)
	ours := sp.cpu + sp.clientCPU + (last.servers - first.servers)
	if (last.machine.Busy-first.machine.Busy-ours).Seconds()/all > foreignLimit {
		b.noise.foreign++
	}
	if (last.machine.Steal-first.machine.Steal).Seconds()/all > stolenLimit {
		b.noise.stolen++
	}
	if sp.clientCPU.Seconds()/sp.time.Seconds()/float64(b.loadLoops) > saturatedLimit {
		b.noise.saturated++
	}
}

// failed lists why units failed, most frequent first, after a colon; nothing when none did.
func failed(r *load.Result) string {
	if r.Failed == 0 {
		return ""
	}
	var all []string
	for why := range r.Errors {
		all = append(all, why)
	}
	slices.SortFunc(all, func(x, y string) int { return int(r.Errors[y]) - int(r.Errors[x]) })
	for i, why := range all {
		all[i] = fmt.Sprintf("%d × %s", r.Errors[why], why)
	}
	return ": " + strings.Join(all, ", ") + portsSuspected()
}

// portsSuspected is a hint when so many ports wait that the proxy may have run out of them; it sees that,
// we only see its clients being refused.
func portsSuspected() string {
	if n := proc.TimeWait(); n > 20_000 {
		return fmt.Sprintf(" (%d sockets are in TIME_WAIT: the proxy may have run out of local ports; wait a minute)", n)
	}
	return ""
}

// measureIdle opens connections, lets each carry one message, and looks at what the proxy holds.
func (b *bench) measureIdle(ctx context.Context, w *work, p *peer.Found) (map[string]float64, error) {
	s, err := b.setStage(ctx, w, p)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if s.proxy.Tree == nil {
		return nil, nil // nothing that could hold anything
	}
	spec := b.client(w, s.proxy.Addr[0])
	spec.Conns = 50 // what is allocated once, at the first connections, is not per connection
	first, err := load.StartClient(spec, b.loadCPUs)
	if err != nil {
		return nil, errors.Join(err, s.proxy.Ended())
	}
	first.Close()
	if err := pause(ctx, 100*time.Millisecond); err != nil {
		return nil, err
	}
	s.proxy.Tree.Refresh() // nginx listens before it has workers
	before, err := s.proxy.Tree.Memory()
	if err != nil {
		return nil, err
	}
	c, err := load.StartClient(b.client(w, s.proxy.Addr[0]), b.loadCPUs)
	if err != nil {
		return nil, errors.Join(err, s.proxy.Ended())
	}
	defer c.Close()
	return s.rest(ctx, b, w, c, before)
}

func (s *stage) rest(ctx context.Context, b *bench, w *work, c *load.ClientProcess, before proc.Memory) (map[string]float64, error) {
	if err := c.Begin(); err != nil {
		return nil, err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return nil, err
	}
	cpu, err := s.proxy.Tree.CPU()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := pause(ctx, min(b.seconds, time.Second)); err != nil {
		return nil, err
	}
	cpuAfter, err := s.proxy.Tree.CPU()
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start)
	after, err := s.proxy.Tree.Memory()
	if err != nil {
		return nil, err
	}
	result, err := c.End()
	if err != nil {
		return nil, err
	}
	if result.Failed > 0 {
		return nil, fmt.Errorf("%d connections failed%s", result.Failed, failed(result))
	}
	n := float64(w.client.Conns)
	return map[string]float64{
		"memory": float64(after.PSS-before.PSS) / n,
		"fds":    float64(after.FDs-before.FDs) / n,
		"cpu":    (cpuAfter - cpu).Seconds() * 1e3 / elapsed.Seconds(),
	}, nil
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/report"
	"github.com/turnout-proxy/turnout/bench/stats"
)

// growth is one table: a cost against one number that grows, all else equal.
type growth struct {
	name, title, about string
	sizes              []int
	work               func(size int) *work
	figure             string // what is measured
	swaps              bool   // also: how long a swap takes, without load
}

const (
	perRoundTrips  = "CPU, ms per 1000 round trips"
	perConnections = "CPU, ms per 1000 connections"
)

var growths = []*growth{
	{
		name: "connections", title: "Cost against connections", about: "echo of 64 bytes on 100 to 8000 connections",
		sizes: []int{100, 400, 1000, 2000, 4000, 8000}, figure: perRoundTrips,
		work: func(n int) *work {
			return growthWork("connections", load.Echo, 1, 1, load.Client{Mode: load.EchoLoop, Conns: n})
		},
	},
	{
		name: "services", title: "Cost against services", about: "connect-echo-close on one of 1 to 1000 services, and its swaps",
		sizes: []int{1, 10, 100, 1000}, figure: perConnections, swaps: true, // of 8 servers
		work: func(n int) *work { return growthWork("services", load.Stamp, 8, n, connecting) },
	},
	{
		name: "servers", title: "Cost against servers per pool", about: "connect-echo-close on a pool of 1 to 1000 servers, and its swaps",
		sizes: []int{1, 10, 100, 1000}, figure: perConnections, swaps: true,
		work: func(n int) *work { return growthWork("servers", load.Stamp, n, 1, connecting) },
	},
	{
		name: "swaps", title: "Cost against swaps", about: "connect-echo-close while 0 to 1000 swaps a second go on",
		sizes: []int{0, 1, 10, 100, 1000}, figure: perConnections,
		work: func(n int) *work {
			w := growthWork("swaps", load.Stamp, 1, 1, connecting)
			w.swaps = float64(n)
			return w
		},
	},
}

var connecting = load.Client{Mode: load.ConnectLoop, Conns: 50}

func growthWork(name, server string, servers, services int, c load.Client) *work {
	return &work{name: "growth of " + name, server: server, servers: servers, services: services, client: c,
		measure: (*bench).measureLoad, values: perThousandUnits}
}

// chooseGrowth resolves -only for growth.
func (o *options) chooseGrowth() ([]*growth, error) {
	if o.only == "" {
		return growths, nil
	}
	var chosen []*growth
	for _, name := range names(o.only) {
		i := slices.IndexFunc(growths, func(g *growth) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: unknown table %q of growth; `go run ./bench list` has them", name)
		}
		chosen = append(chosen, growths[i])
	}
	return chosen, nil
}

// growth fills the tables, each cell the median of -n interleaved repetitions.
func (b *bench) growth(ctx context.Context) error {
	chosen, err := b.chooseGrowth()
	if err != nil {
		return err
	}
	for _, g := range chosen {
		t := &report.Table{Title: g.title, Note: g.about + ". Median (smallest to largest).", Columns: []string{g.name}}
		peers := g.able(b)
		for _, p := range peers {
			t.Columns = append(t.Columns, p.Title+": "+g.figure)
			if g.swaps && p.Swapper != nil {
				t.Columns = append(t.Columns, p.Title+": swap p50, ms", p.Title+": swap p99, ms")
			}
		}
		b.run.Tables = append(b.run.Tables, t)
		for _, size := range g.sizes {
			row, err := b.growthRow(ctx, g, peers, size)
			if err != nil {
				return err
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return nil
}

// able are the peers that can do it.
func (g *growth) able(b *bench) []*peer.Found {
	return slices.DeleteFunc(slices.Clone(b.peers), func(p *peer.Found) bool {
		return g.name == "swaps" && p.Swapper == nil
	})
}

func (b *bench) growthRow(ctx context.Context, g *growth, peers []*peer.Found, size int) ([]any, error) {
	cpu := make([]stats.Series, len(peers))
	swaps := make([][]float64, len(peers))
	for rep := range b.n {
		for i := range peers {
			i := (i + rep) % len(peers)
			values, times, err := b.growthCell(ctx, g, peers[i], size)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				b.warn("growth, %s %d, %s, repetition %d: %v", g.name, size, peers[i].Name, rep+1, err)
				continue
			}
			if v, ok := values["cpu"]; ok {
				cpu[i].Add(rep, v)
			}
			swaps[i] = append(swaps[i], times...)
			b.say("%d/%d %s %d %-10s %s %s", rep+1, b.n, g.name, size, peers[i].Name, report.Figure(values["cpu"]), g.figure)
		}
	}
	row := []any{size}
	for i, p := range peers {
		row = append(row, seriesCell(cpu[i]))
		if g.swaps && p.Swapper != nil {
			row = append(row, quantileCell(swaps[i], 0.5), quantileCell(swaps[i], 0.99))
		}
	}
	return row, nil
}

func seriesCell(s stats.Series) any {
	if len(s.Values) == 0 {
		return nil
	}
	lowest, highest := s.Spread()
	return report.Spread(s.Median(), lowest, highest)
}

func quantileCell(v []float64, q float64) any {
	if len(v) == 0 {
		return nil
	}
	return stats.Quantile(v, q)
}

// growthCell measures the cost, and then swaps without load.
func (b *bench) growthCell(ctx context.Context, g *growth, p *peer.Found, size int) (values map[string]float64, swaps []float64, err error) {
	w := g.work(size)
	if values, err = w.measure(b, ctx, w, p); err != nil || !g.swaps || p.Swapper == nil {
		return values, nil, err
	}
	s, err := b.setStage(ctx, w, p)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	swapping, err := startSwapping(p, s.door, 100)
	if err != nil {
		return nil, nil, err
	}
	err = pause(ctx, max(b.seconds/2, 200*time.Millisecond))
	if err := swapping.stop(); err != nil {
		return nil, nil, err
	}
	return values, judgeSwaps(swapping.swaps, nil).latency, err
}

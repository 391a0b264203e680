//go:build linux

package main

import (
	"context"
	"slices"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/report"
)

// work is one thing that every peer does. What is not here, a proxy of another plane for instance, needs a
// client mode in bench/load and an entry in works.
type work struct {
	name, title, about string

	server   string // what servers do: a mode of bench/load
	servers  int    // in the active pool
	bytes    int64  // of each answer of HTTP
	services int    // the load goes to the first
	client   load.Client
	swaps    float64 // a second, while it is measured

	measure func(b *bench, ctx context.Context, w *work, p *peer.Found) (map[string]float64, error)
	values  func(s span) map[string]float64 // of measureLoad
	metrics []report.Metric
}

var (
	cpuPerRoundTrip = report.Metric{Key: "cpu", Title: "CPU", Unit: "ms per 1000 round trips", Lead: true}
	roundTrips      = report.Metric{Key: "rate", Title: "rate", Unit: "round trips/s", Higher: true}
	failures        = report.Metric{Key: "failed", Title: "failed", Unit: "units", Hidden: true}
	loadCPU         = report.Metric{Key: "load_cpu", Title: "CPU of the client", Unit: "s/s", Hidden: true}
)

var works = slices.Concat(tcpWorks, httpWorks)

var tcpWorks = []*work{
	{
		name: "echo50", title: "echo, 50 connections", about: "64 bytes there and back on 50 connections, closed loop",
		server: load.Echo, servers: 1, services: 1,
		client:  load.Client{Mode: load.EchoLoop, Conns: 50},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRoundTrip, roundTrips, failures, loadCPU},
	},
	{
		name: "echo1000", title: "echo, 1000 connections", about: "the same on 1000 connections",
		server: load.Echo, servers: 1, services: 1,
		client:  load.Client{Mode: load.EchoLoop, Conns: 1000},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRoundTrip, roundTrips, failures, loadCPU},
	},
	{
		name: "bulk", title: "bulk, 4 flows down", about: "4 servers' flows to 4 clients, as fast as they go",
		server: load.Source, servers: 1, services: 1,
		client:  load.Client{Mode: load.DrainLoop, Conns: 4},
		measure: (*bench).measureLoad, values: perGiB, metrics: bulkMetrics,
	},
	{
		name: "bulk-up", title: "bulk, 4 flows up", about: "the other way, 4 clients to 4 servers' sinks",
		server: load.Sink, servers: 1, services: 1,
		client:  load.Client{Mode: load.FloodLoop, Conns: 4},
		measure: (*bench).measureLoad, values: perGiB, metrics: bulkMetrics,
	},
	{
		// A connection leaves a port in TIME_WAIT at the client, spread over -sources addresses, and one at
		// the proxy, spread over 8 servers.
		name: "connect", title: "connect, echo, close", about: "a new connection for each 64 bytes there and back, 50 at a time",
		server: load.Echo, servers: 8, services: 1,
		client:  load.Client{Mode: load.ConnectLoop, Conns: 50},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{
			{Key: "cpu", Title: "CPU", Unit: "ms per 1000 connections", Lead: true},
			{Key: "rate", Title: "rate", Unit: "connections/s", Higher: true},
			failures, loadCPU,
		},
	},
	{
		name: "latency", title: "latency at 10,000 echoes/s", about: "64 bytes 10,000 times a second by a timetable, on 50 connections; counted from when each was due",
		server: load.Echo, servers: 1, services: 1,
		client:  load.Client{Mode: load.RateLoop, Conns: 50, Rate: 10_000},
		measure: (*bench).measureLoad, values: latencies,
		metrics: []report.Metric{
			{Key: "p50", Title: "p50", Unit: "µs"},
			{Key: "p99", Title: "p99", Unit: "µs", Lead: true},
			{Key: "p99.9", Title: "p99.9", Unit: "µs"},
			{Key: "cpu", Title: "CPU", Unit: "ms per 1000 round trips"},
			{Key: "rate", Title: "rate", Unit: "round trips/s", Higher: true, Hidden: true},
			{Key: "lag_p99", Title: "of it the client's own lateness, p99", Unit: "µs"},
			failures, loadCPU,
		},
	},
	{
		name: "idle", title: "idle, 5000 connections", about: "5000 connections that have each had one message and now say nothing",
		server: load.Echo, servers: 1, services: 1,
		client:  load.Client{Mode: load.IdleLoop, Conns: 5000},
		measure: (*bench).measureIdle,
		metrics: []report.Metric{
			{Key: "memory", Title: "user memory", Unit: "bytes per connection", Lead: true},
			{Key: "fds", Title: "descriptors", Unit: "per connection"},
			{Key: "cpu", Title: "CPU at rest", Unit: "ms per s"},
		},
	},
}

var bulkMetrics = []report.Metric{
	{Key: "cpu", Title: "CPU", Unit: "s per GiB", Lead: true},
	{Key: "rate", Title: "rate", Unit: "GiB/s", Higher: true},
	failures, loadCPU,
}

func perThousandUnits(s span) map[string]float64 {
	return s.with(map[string]float64{
		"cpu":  s.cpu.Seconds() * 1e3 / (float64(s.units) / 1e3),
		"rate": float64(s.units) / s.time.Seconds(),
	})
}

func perGiB(s span) map[string]float64 {
	gib := float64(s.bytes) / (1 << 30)
	return s.with(map[string]float64{"cpu": s.cpu.Seconds() / gib, "rate": gib / s.time.Seconds()})
}

func latencies(s span) map[string]float64 {
	v := perThousandUnits(s)
	us := func(q float64) float64 { return float64(s.result.Latency.Quantile(q)) / 1e3 }
	v["p50"], v["p99"], v["p99.9"] = us(0.5), us(0.99), us(0.999)
	v["lag_p99"] = float64(s.result.Lag.Quantile(0.99)) / 1e3
	return v
}

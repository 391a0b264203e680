//go:build linux

package main

import (
	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/report"
)

var (
	cpuPerRequest = report.Metric{Key: "cpu", Title: "CPU", Unit: "ms per 1000 requests", Lead: true}
	requests      = report.Metric{Key: "rate", Title: "rate", Unit: "requests/s", Higher: true}
)

// httpBody is a small answer's: the head is most of it, as with most APIs.
const httpBody = 128

var httpWorks = []*work{
	{
		name: "http64", title: "HTTP keep-alive, 64 connections", about: "a GET and 128 bytes back on 64 kept-alive connections, closed loop",
		server: load.HTTP, servers: 1, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.HTTPLoop, Conns: 64},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRequest, requests, failures, loadCPU},
	},
	{
		name: "http512", title: "HTTP keep-alive, 512 connections", about: "the same on 512 connections",
		server: load.HTTP, servers: 1, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.HTTPLoop, Conns: 512},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRequest, requests, failures, loadCPU},
	},
	{
		name: "http-once", title: "HTTP, a connection per request", about: "a new connection for each GET and 128 bytes back, 50 at a time",
		server: load.HTTP, servers: 8, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.HTTPOnce, Conns: 50},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRequest, requests, failures, loadCPU},
	},
	{
		name: "http-bulk", title: "HTTP, answers of 1 MiB", about: "a GET and 1 MiB back on 8 kept-alive connections, closed loop",
		server: load.HTTP, servers: 1, services: 1, bytes: 1 << 20,
		client:  load.Client{Mode: load.HTTPLoop, Conns: 8},
		measure: (*bench).measureLoad, values: perGiB, metrics: bulkMetrics,
	},
	{
		name: "https64", title: "HTTPS keep-alive, 64 connections", about: "http64 over TLS 1.3 (ECDSA P-256, AES-128-GCM)",
		server: load.HTTP, servers: 1, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.HTTPSLoop, Conns: 64},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRequest, requests, failures, loadCPU},
	},
	{
		name: "h2", title: "HTTP/2 over TLS, 8 connections", about: "the same over HTTP/2, 8 requests at a time on each of 8 connections",
		server: load.HTTP, servers: 1, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.H2Loop, Conns: 8, Streams: 8},
		measure: (*bench).measureLoad, values: perThousandUnits,
		metrics: []report.Metric{cpuPerRequest, requests, failures, loadCPU},
	},
	{
		name: "http-idle", title: "HTTP idle, 5000 connections", about: "5000 kept-alive connections that have each had one request and now say nothing",
		server: load.HTTP, servers: 1, services: 1, bytes: httpBody,
		client:  load.Client{Mode: load.HTTPIdle, Conns: 5000},
		measure: (*bench).measureIdle,
		metrics: []report.Metric{
			{Key: "memory", Title: "user memory", Unit: "bytes per connection", Lead: true},
			{Key: "fds", Title: "descriptors", Unit: "per connection"},
			{Key: "cpu", Title: "CPU at rest", Unit: "ms per s"},
		},
	},
}

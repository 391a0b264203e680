//go:build linux

package peer

import "github.com/turnout-proxy/turnout/bench/load"

// forward is what an ordinary Go program would cost.
var forward = &Peer{
	Name:  "forward",
	Title: "io.Copy",
	About: "accept, dial, io.Copy both ways: twenty lines of ordinary Go, no checks, no balancing",
	Start: func(d Door) (Starter, error) {
		return load.StartForward(load.Forward{Listen: d.Services[0].Listen, To: d.Services[0].Pools[0].Servers[0]}, d.CPUs)
	},
}

// direct shows what the load side alone can do.
var direct = &Peer{
	Name:  "direct",
	Title: "no proxy",
	About: "the client connects to the first server: the ceiling of the load side",
}

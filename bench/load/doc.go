//go:build linux

// Package load is the two ends of a measurement: servers that a proxy leads to, and a client that loads it.
// They run in processes of their own, so that the proxy's CPU can be told from theirs, and spend little, so
// that they are not what is measured: epoll loops with raw system calls and no garbage.
//
//	the bench:   StartServers -> (starts a proxy) -> StartClient -> Begin -> Mark … Mark -> End -> Close
//	the child:   RunChild: reads its spec, opens all its sockets, says ready, obeys a line of stdin at a time
//
// A child ends when its stdin does, so it never outlives the bench. Times in the protocol are
// CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
package load

import "github.com/turnout-proxy/turnout/bench/stats"

// What a server does with a connection.
const (
	Echo   = "echo"   // returns every byte
	Source = "source" // sends Bytes, or for ever; reads nothing
	Sink   = "sink"   // reads for ever; sends nothing
	HTTP   = "http"   // answers each request with Bytes of body
	Stamp  = "stamp"  // returns every message with who and when in its head, see stampSize
)

// Listener is one address of the servers.
type Listener struct {
	Addr  string
	Mode  string
	ID    byte  // told by Stamp
	Bytes int64 // of Source (0: for ever) and of each answer of HTTP
}

// Servers is the spec of a server process.
type Servers struct {
	Threads   int
	Listeners []Listener
}

// Served is what a server process has seen on one listener.
type Served struct {
	ID          byte
	Accepted    uint64
	Messages    uint64 // of Stamp
	FirstAccept int64
	LastAccept  int64
}

// What a client does.
const (
	EchoLoop    = "echo"      // each connection sends a message when the last one is back
	RateLoop    = "rate"      // Rate messages a second, due by a timetable
	ConnectLoop = "connect"   // connect, one message, close; Conns at a time
	DrainLoop   = "drain"     // reads what servers send
	FloodLoop   = "flood"     // sends without end
	IdleLoop    = "idle"      // one message on each connection, then nothing
	HTTPLoop    = "http"      // a request on each connection when the last one is answered
	HTTPOnce    = "http-once" // connect, one request, its answer, close; Conns at a time
	HTTPIdle    = "http-idle" // one request on each connection, then nothing
	HTTPSLoop   = "https"     // HTTPLoop over TLS
	H2Loop      = "h2"        // the same over HTTP/2, with Streams requests at a time on each connection
	StormLoop   = "storm"     // Rate new connections a second, and Conns old ones at OldRate messages a second
)

// Client is the spec of a client process.
type Client struct {
	Mode    string
	Threads int
	Addr    string
	Conns   int     // connections, of all threads together
	Rate    float64 // a second, of all threads together
	OldRate float64 // of StormLoop
	Sources int     // client addresses to spread connections over, 127.0.1.1 and up; 0: the system's choice
	Streams int     // of H2Loop, on each connection
	Reset   bool    // ConnectLoop closes with RST and not FIN
}

// MessageSize of everything but bulk.
const MessageSize = 64

// A message of Stamp comes back with: its first byte the server's ID, bytes 8 to 16 when that server accepted
// the connection. The rest is as it was sent.
const stampSize = 16

// Count is how far a client has come.
type Count struct {
	At     int64  // when
	Units  uint64 // messages returned, or connections ended well
	Bytes  uint64 // of bulk
	Failed uint64 // units that failed
}

// Result is what a client has found in all.
type Result struct {
	Count
	Errors  map[string]uint64 // why units failed
	Latency stats.Hist        // from when a message was due to its return; of those due between the first two Marks
	Lag     stats.Hist        // from when it was due to when it was sent: what the client itself added
	New     []Start           // of StormLoop: each new connection
	Old     int               // of StormLoop: old connections that were there to the end
	OldLost []Loss            // of StormLoop: those that were not
}

// Start is one new connection of StormLoop.
type Start struct {
	Begin  int64  // the client calls connect
	Accept int64  // the server accepts
	Reply  int64  // the client has the answer
	Side   byte   // who answered
	Err    string `json:",omitempty"` // why nobody did; then Accept and Side are empty
}

// Loss is an old connection that broke.
type Loss struct {
	At  int64
	Err string
}

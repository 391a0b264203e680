package proxy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// epoch anchors Clock; taken once, so instants of one door compare.
var epoch = time.Now()

// Clock is monotonic nanoseconds since the process began. It never goes back when the wall clock does.
func Clock() int64 { return int64(time.Since(epoch)) }

// Wall turns a Clock instant into wall time, as it was at the start plus what has passed since. Zero stays
// the zero time.
func Wall(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(ns))
}

// Server is one address that can be dialled, with what loops count on it. It outlives snapshots: a reload
// that keeps service, pool, name and address keeps the *Server, and so its connections.
type Server struct {
	Service, Pool, Name string
	Address             string // host:port or unix:/path
	H2                  bool   // spoken to in HTTP/2

	id    uint64     // of its pool and name
	hash  uint64     // of Address, for SourceHash
	cells []cell     // one a loop
	limit sync.Mutex // makes "count, then claim" one act across loops, for servers with max_connections only

	lastError atomic.Pointer[string] // of the last failed dial; cleared by a success
	suspected atomic.Bool            // a failed dial was told and not looked into yet
}

// cell is what one loop counts on one server. Only that loop writes it; anyone may read.
// The padding keeps two loops' counters off one cache line.
type cell struct {
	dialing   atomic.Int64
	conns     atomic.Int64
	total     atomic.Uint64
	failures  atomic.Uint64
	cut       atomic.Uint64
	resteered atomic.Uint64
	toServer  atomic.Uint64
	toClient  atomic.Uint64
	lastStart atomic.Int64
	_         [56]byte

	answers [AnswerClasses]atomic.Uint64 // of requests: by the first digit of the status; 0: none
	took    [len(TookBounds) + 1]atomic.Uint64
	tookSum atomic.Int64 // nanoseconds
	_       [56]byte
}

// AnswerClasses is the number of classes of answers: without a status, 1xx to 5xx.
const AnswerClasses = 6

// TookBounds are the upper bounds of the buckets in which the time of requests is counted, in nanoseconds; the last
// bucket has none.
var TookBounds = [...]int64{5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2.5e8, 5e8, 1e9, 2.5e9, 5e9, 1e10, 3e10}

// Requests is a reading of the requests that a server answered, or did not, since it was made.
type Requests struct {
	Answers [AnswerClasses]uint64
	Took    [len(TookBounds) + 1]uint64 // not cumulative
	Sum     time.Duration
}

// requests reads what all loops count.
func (s *Server) requests() (n Requests) {
	for i := range s.cells {
		c := &s.cells[i]
		for k := range c.answers {
			n.Answers[k] += c.answers[k].Load()
		}
		for k := range c.took {
			n.Took[k] += c.took[k].Load()
		}
		n.Sum += time.Duration(c.tookSum.Load())
	}
	return n
}

// Add joins two readings.
func (n Requests) Add(m Requests) Requests {
	for k := range n.Answers {
		n.Answers[k] += m.Answers[k]
	}
	for k := range n.Took {
		n.Took[k] += m.Took[k]
	}
	n.Sum += m.Sum
	return n
}

func newServer(service, pool string, spec ServerSpec, loops int) *Server {
	return &Server{Service: service, Pool: pool, Name: spec.Name, Address: spec.Address, H2: spec.H2, id: hashString(pool + "/" + spec.Name), hash: hashString(spec.Address), cells: make([]cell, loops)}
}

// ServerCounts is a reading of a Server. Counters of different loops are read one after another, so a
// total may be a moment older than another.
type ServerCounts struct {
	Dialing, Connections         int
	Total, Failures, Cut         uint64
	Resteered                    uint64
	BytesToServer, BytesToClient uint64
	LastStart                    int64 // Clock instant of the last start; 0: none yet
	LastError                    string
	Requests                     Requests // of mode http
}

// Counts reads what all loops count on the server.
func (s *Server) Counts() ServerCounts {
	var n ServerCounts
	for i := range s.cells {
		c := &s.cells[i]
		n.Dialing += int(c.dialing.Load())
		n.Connections += int(c.conns.Load())
		n.Total += c.total.Load()
		n.Failures += c.failures.Load()
		n.Cut += c.cut.Load()
		n.Resteered += c.resteered.Load()
		n.BytesToServer += c.toServer.Load()
		n.BytesToClient += c.toClient.Load()
		n.LastStart = max(n.LastStart, c.lastStart.Load())
	}
	n.Requests = s.requests()
	if e := s.lastError.Load(); e != nil {
		n.LastError = *e
	}
	return n
}

// Connections is the number of started connections that have not ended.
func (s *Server) Connections() int {
	n := int64(0)
	for i := range s.cells {
		n += s.cells[i].conns.Load()
	}
	return int(n)
}

// claims counts connections and dials. A dial that becomes a connection meanwhile may be counted twice and is
// never missed: dials are read first, and Start counts the connection before it ends the dial.
func (s *Server) claims() int64 {
	n := int64(0)
	for i := range s.cells {
		n += s.cells[i].dialing.Load()
		n += s.cells[i].conns.Load()
	}
	return n
}

// claim counts a dial on the server, or tells that it is full. limit 0: never full.
func (s *Server) claim(loop, limit int) bool {
	if limit > 0 {
		// All loops that add take the lock, so what claims reads is never too little; that it may be too
		// much only makes the answer cautious.
		s.limit.Lock()
		defer s.limit.Unlock()
		if s.claims() >= int64(limit) {
			return false
		}
	}
	s.cells[loop].dialing.Add(1)
	return true
}

// hashString is FNV-1a, finished by mix so that near strings do not give near hashes.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// HashBytes gives a key for SourceHash from a client's address (4 or 16 bytes).
func HashBytes(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Sub takes an earlier reading of the same servers away: what is left came after it.
func (n Requests) Sub(m Requests) Requests {
	for k := range n.Answers {
		n.Answers[k] -= min(n.Answers[k], m.Answers[k])
	}
	for k := range n.Took {
		n.Took[k] -= min(n.Took[k], m.Took[k])
	}
	n.Sum = max(n.Sum-m.Sum, 0)
	return n
}

// Total is how many there were, answered or not; Failed how many of them had a 5xx or no answer.
func (n Requests) Total() (total, failed uint64) {
	for _, k := range n.Answers {
		total += k
	}
	return total, n.Answers[0] + n.Answers[5]
}

// Quantile is a bound that the part q of all took no longer than: that of its bucket in TookBounds; 0 without any.
func (n Requests) Quantile(q float64) time.Duration {
	total := uint64(0)
	for _, k := range n.Took {
		total += k
	}
	if total == 0 {
		return 0
	}
	seen, want := uint64(0), max(1, uint64(math.Ceil(q*float64(total))))
	for i, k := range n.Took[:len(TookBounds)] {
		if seen += k; seen >= want {
			return time.Duration(TookBounds[i])
		}
	}
	return 2 * time.Duration(TookBounds[len(TookBounds)-1])
}

package proxy

import "time"

// What tests look at from outside.

// MemoryOf is the memory that would make the snapshot again.
var MemoryOf = memoryOf

// Busy is the number of services that are being swapped.
func (s *Switch) Busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.busy)
}

// Timers is the number of deadlines that are armed.
func (s *Switch) Timers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.timers)
}

// Anchor begins the Clock anew, a second ago: in a synctest bubble time is elsewhere.
func Anchor() { epoch = time.Now().Add(-time.Second) }

// Settled is the proof of a swap that was stored by the given Clock instant, with its starts.
func Settled(at time.Time, stored, lastOld, firstNew int64) Proof {
	p := Proof{At: at, stored: stored, lastOld: lastOld, firstNew: firstNew}
	p.settle()
	return p
}

package proxy

import (
	"maps"
	"sync"
	"time"
)

// tallies is what the switch counts; see Stats.
type tallies struct {
	mu sync.Mutex
	Stats
}

// swapped counts a swap that is in force.
func (t *tallies) swapped(ch *Change, proofs []Proof) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch.Who == TheFailover {
		t.Failovers[ch.Target]++
	}
	for i := range proofs {
		t.Overlap[proofs[i].Service], t.LastSwap[proofs[i].Service] = proofs[i].Overlap, proofs[i].At
	}
}

// ended counts a swap whose drains have ended.
func (t *tallies) ended(outcome Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Swaps[outcome]++
}

// Stats is a reading of what the switch itself counts, for metrics.
type Stats struct {
	Swaps    map[Outcome]uint64       // how swaps ended, once their drains had
	Overlap  map[string]time.Duration // service → overlap of its last swap
	LastSwap map[string]time.Time     // service → when that was

	Failovers map[string]uint64 // service → swaps that the failover made
}

// Stats reads what the switch counts.
func (s *Switch) Stats() Stats {
	s.tallies.mu.Lock()
	defer s.tallies.mu.Unlock()
	t := &s.tallies
	return Stats{maps.Clone(t.Swaps), maps.Clone(t.Overlap), maps.Clone(t.LastSwap), maps.Clone(t.Failovers)}
}

package stats

import (
	"encoding/json"
	"math/bits"
)

// A bucket of Hist is 1/128 of its power of two wide, so that a quantile is off by less than 0.4 %.
const (
	subBits = 7
	sub     = 1 << subBits
	buckets = (41 - subBits) * sub // up to 2^41 ns, 36 minutes; longer ones count in the last
)

// Hist counts durations in nanoseconds. Record takes no memory; the zero value is ready. One writer.
type Hist struct {
	counts [buckets]uint64
	n      uint64
	max    int64
}

// Record counts one duration; a negative one counts as 0.
func (h *Hist) Record(ns int64) {
	ns = max(ns, 0)
	h.counts[bucket(ns)]++
	h.n++
	h.max = max(h.max, ns)
}

// N is how many were recorded.
func (h *Hist) N() uint64 { return h.n }

// Max is the longest one recorded, exactly.
func (h *Hist) Max() int64 { return h.max }

// Merge adds what o has counted.
func (h *Hist) Merge(o *Hist) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Quantile in nanoseconds: the middle of the bucket that holds it, never more than Max; 0 when empty.
func (h *Hist) Quantile(q float64) int64 {
	if h.n == 0 {
		return 0
	}
	want, seen := rank(h.n, q), uint64(0)
	if want == h.n {
		return h.max
	}
	for i, c := range h.counts {
		if seen += c; seen >= want {
			return min(middle(i), h.max)
		}
	}
	return h.max
}

func bucket(ns int64) int {
	if ns < sub {
		return int(ns)
	}
	exp := bits.Len64(uint64(ns)) - subBits - 1
	return min((exp+1)*sub+int(ns>>exp)-sub, buckets-1)
}

// middle is the inverse of bucket.
func middle(i int) int64 {
	if i < 2*sub {
		return int64(i)
	}
	exp := i/sub - 1
	return int64(sub+i%sub)<<exp + int64(1)<<exp/2
}

// histJSON lists only buckets in use, as pairs of index and count.
type histJSON struct {
	Max     int64       `json:"max"`
	Buckets [][2]uint64 `json:"buckets"`
}

// MarshalJSON implements json.Marshaler.
func (h *Hist) MarshalJSON() ([]byte, error) {
	j := histJSON{Max: h.max}
	for i, c := range h.counts {
		if c > 0 {
			j.Buckets = append(j.Buckets, [2]uint64{uint64(i), c})
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Hist) UnmarshalJSON(b []byte) error {
	var j histJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*h = Hist{max: j.Max}
	for _, p := range j.Buckets {
		i := min(p[0], buckets-1)
		h.counts[i] += p[1]
		h.n += p[1]
	}
	return nil
}

// Package stats is the arithmetic of the bench: percentiles, open-loop schedules corrected for coordinated
// omission, medians, and ratios taken pair by pair. It measures nothing itself.
package stats

import (
	"math"
	"slices"
)

// Series is one figure over the repetitions of a run. A repetition that failed is absent, so Reps and
// Values have one length and Reps rises.
type Series struct {
	Reps   []int     `json:"reps"`
	Values []float64 `json:"values"`
}

// Add notes the value of one repetition. NaN (not measured) is left out, so that JSON can hold the rest.
func (s *Series) Add(rep int, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	s.Reps = append(s.Reps, rep)
	s.Values = append(s.Values, v)
}

// Median of the values; NaN without any.
func (s Series) Median() float64 { return Median(s.Values) }

// Spread is the smallest and the largest value; NaN without any.
func (s Series) Spread() (lowest, highest float64) {
	if len(s.Values) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(s.Values), slices.Max(s.Values)
}

// Ratio divides each repetition of s by the same repetition of base. What changes slowly on a machine
// (clock, neighbours, cache) is much the same in both halves of a pair and so drops out, which it would not
// in a ratio of two medians. Repetitions that either side lacks are left out.
func (s Series) Ratio(base Series) Series {
	var r Series
	for i, rep := range s.Reps {
		if j := slices.Index(base.Reps, rep); j >= 0 && base.Values[j] != 0 {
			r.Add(rep, s.Values[i]/base.Values[j])
		}
	}
	return r
}

// Median of values, the mean of the middle two when their number is even; NaN without any.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// Quantile of values: the smallest one that at least a share q of them do not exceed; NaN without any.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return v[rank(uint64(len(v)), q)-1]
}

// rank is the 1-based position of quantile q among n ≥ 1 values in order.
func rank(n uint64, q float64) uint64 {
	r := uint64(math.Ceil(q * float64(n)))
	return min(max(r, 1), n)
}

package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHist_QuantilesAreWithinHalfAPercentOfTheSortedValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h Hist
	var all []float64
	for range 50_000 {
		v := int64(math.Exp(rng.Float64() * 24)) // 1 ns to 26 s, all magnitudes alike
		h.Record(v)
		all = append(all, float64(v))
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		got, want := float64(h.Quantile(q)), Quantile(all, q)
		if math.Abs(got-want) > want*0.005 {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if want := int64(slices.Max(all)); h.Max() != want || h.Quantile(1) != want {
		t.Errorf("max %d, quantile(1) %d, want both exactly %d", h.Max(), h.Quantile(1), want)
	}
}

func TestHist_MiddleIsInTheBucketItNames(t *testing.T) {
	for i := range buckets {
		if got := bucket(middle(i)); got != i {
			t.Fatalf("bucket(middle(%d)) = %d", i, got)
		}
	}
	for _, v := range []int64{math.MaxInt64, 1 << 41} {
		if got := bucket(v); got != buckets-1 {
			t.Errorf("bucket(%d) = %d, want the last, %d", v, got, buckets-1)
		}
	}
}

func TestHist_SmallSamplesTakeTheRankAbove(t *testing.T) {
	var h Hist
	if h.Quantile(0.5) != 0 {
		t.Error("an empty Hist has no quantile")
	}
	for _, v := range []int64{10, 20, 30, 40, -5} {
		h.Record(v)
	}
	for q, want := range map[float64]int64{0: 0, 0.2: 0, 0.21: 10, 0.5: 20, 0.6: 20, 0.8: 30, 0.99: 40} {
		if got := h.Quantile(q); got != want {
			t.Errorf("quantile %v: got %d, want %d", q, got, want)
		}
	}
}

func TestHist_SurvivesJSONAndMerges(t *testing.T) {
	var a, b, both Hist
	for i := range int64(1000) {
		a.Record(i * 1000)
		b.Record(i * 777)
		both.Record(i * 1000)
		both.Record(i * 777)
	}
	text, err := json.Marshal(&b)
	if err != nil {
		t.Fatal(err)
	}
	var back Hist
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back != b {
		t.Error("changed by JSON")
	}
	a.Merge(&back)
	if a != both {
		t.Error("merged differs from recorded together")
	}
}

// A server answers in 1 ms, but stalls from 100 to 600 ms. A closed loop sees one slow answer in 500, so its
// p99 stays at 1 ms; half of what was due in that second waited, and the timetable says so.
func TestSchedule_ChargesAStallToEveryMessageDueInIt(t *testing.T) {
	const ms = int64(1e6)
	answer := func(sent int64) int64 {
		if sent >= 100*ms && sent < 600*ms {
			sent = 600 * ms
		}
		return sent + ms
	}
	var open, closed Hist
	s := NewSchedule(0, 1000)
	for now := int64(0); now < 1000*ms; {
		for {
			_, due, ok := s.Next(now)
			if !ok {
				break
			}
			open.Record(answer(now) - due)
		}
		now = max(now+ms, s.Due())
		if now > 100*ms && now < 600*ms {
			now = 600 * ms // one thread that sends is itself held up by the stall
		}
	}
	for now := int64(0); now < 1000*ms; {
		end := answer(now)
		closed.Record(end - now)
		now = end
	}
	if n := open.N(); n != 1000 {
		t.Errorf("%d messages on the timetable, want 1000", n)
	}
	if p := closed.Quantile(0.99); p > 2*ms {
		t.Errorf("closed loop p99 %d: the test's premise is wrong", p)
	}
	if p := open.Quantile(0.75); p < 200*ms || p > 300*ms {
		t.Errorf("open loop p75 %d ms, want about 250", p/ms)
	}
	if p := open.Quantile(0.99); p < 480*ms || p > 501*ms {
		t.Errorf("open loop p99 %d ms, want about 490", p/ms)
	}
}

func TestSchedule_KeepsItsRateWithoutDrift(t *testing.T) {
	s := NewSchedule(5, 30_000) // 33 333.3… ns apart
	for {
		if _, _, ok := s.Next(5 + 1e9 - 1); !ok {
			break
		}
	}
	if s.next != 30_000 {
		t.Errorf("%d messages in a second, want 30000", s.next)
	}
}

func series(values ...float64) Series {
	var s Series
	for i, v := range values {
		s.Add(i, v)
	}
	return s
}

func TestRatio_IsTakenPairByPair(t *testing.T) {
	// The machine became twice as slow in repetition 1 and 3 times as slow in 2; the ratio never moved.
	ours, theirs := series(9, 18, 27), series(10, 20, 30)
	r := ours.Ratio(theirs)
	if lowest, highest := r.Spread(); r.Median() != 0.9 || lowest != 0.9 || highest != 0.9 {
		t.Errorf("ratio %v, want 0.9 throughout", r.Values)
	}
	// Medians of unlike repetitions would say 0.5 here; the pairs say 2.
	if r := series(2, 4, 200).Ratio(series(1, 8, 100)); r.Median() != 2 {
		t.Errorf("median of ratios %v, want 2", r.Median())
	}
}

func TestRatio_LeavesOutRepetitionsThatOneSideLacks(t *testing.T) {
	ours := series(1, math.NaN(), 3, 4)
	theirs := series(2, 2, math.Inf(1), 0)
	r := ours.Ratio(theirs)
	if !slices.Equal(r.Reps, []int{0}) || !slices.Equal(r.Values, []float64{0.5}) {
		t.Errorf("got %+v, want repetition 0 alone with 0.5", r)
	}
	if !math.IsNaN(Series{}.Ratio(theirs).Median()) {
		t.Error("a ratio of nothing is not a number")
	}
}

func TestMedianAndQuantile(t *testing.T) {
	if got := Median([]float64{5, 1, 3}); got != 3 {
		t.Errorf("median of three: %v", got)
	}
	if got := Median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of four: %v", got)
	}
	if !math.IsNaN(Median(nil)) || !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("of nothing: want NaN")
	}
	if got := Quantile([]float64{3, 1, 2}, 0.99); got != 3 {
		t.Errorf("quantile: %v", got)
	}
}

package main

import (
	"math"
	"testing"
	"time"
)

func TestTop_CountsFromOneReadingToTheNextAndAnewAfterARestart(t *testing.T) {
	at := time.Now()
	reading := func(after time.Duration, started uint64, requests float64) *loads {
		return &loads{at: at.Add(after), rows: []*counted{
			{row: load{Service: "api", Pool: "blue"}, http: true, started: started, requests: requests},
			{row: load{Service: "api", Pool: "green"}, http: true, requests: requests * 2},
			{row: load{Service: "api"}, http: true},
		}}
	}
	first, second := reading(0, 1000, 500), reading(2*time.Second, 1100, 540)
	f := second.since(first)
	if len(f.Loads) != 2 || f.Loads[0].Pool != "blue" || f.Loads[0].New != 50 || *f.Loads[0].Requests != 20 || *f.Loads[1].Requests != 40 {
		t.Errorf("%+v", f.Loads)
	}
	if f := reading(3*time.Second, 7, 9).since(second); f.Loads[1].Pool != "blue" || f.Loads[1].New != 7 || *f.Loads[1].Requests != 9 {
		t.Errorf("after a restart: %+v", f.Loads)
	}
}

func TestTop_AQuantileLiesBetweenTheBoundsOfItsBucket(t *testing.T) {
	buckets := func(counts ...float64) (out []bucket) {
		for i, le := range []float64{0.1, 0.2, 0.4, math.Inf(1)} {
			out = append(out, bucket{le, counts[i]})
		}
		return out
	}
	before := buckets(100, 100, 100, 100)
	for _, c := range []struct {
		name string
		now  []bucket
		q    float64
		want float64 // NaN: none
	}{
		{"no request since", before, 0.5, math.NaN()},
		{"no histogram", nil, 0.5, math.NaN()},
		{"all in one bucket", buckets(100, 110, 110, 110), 0.5, 0.15},
		{"in the first one", buckets(110, 110, 110, 110), 0.5, 0.05},
		{"the last of several", buckets(100, 150, 200, 200), 1, 0.4},
		{"beyond the last bound", buckets(100, 100, 100, 101), 0.99, 0.4},
	} {
		got := math.NaN()
		if p := quantile(c.now, before, c.q); p != nil {
			got = *p
		}
		if math.Abs(got-c.want) > 1e-9 || math.IsNaN(got) != math.IsNaN(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTop_SizesKeepAWholeNumberBeforeThePoint(t *testing.T) {
	for bytes, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 * 1024: "1.5 MiB", 3 << 40: "3072.0 GiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%v: got %s, want %s", bytes, got, want)
		}
	}
}

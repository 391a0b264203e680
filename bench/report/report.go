// Package report holds the results of a run of the bench, and shows them: JSON that keeps every value, a
// Markdown page for people, a picture.
package report

import (
	"encoding/json"
	"math"
	"os"
	"time"

	"github.com/turnout-proxy/turnout/bench/stats"
)

// Run is everything about one run.
type Run struct {
	Started  time.Time         `json:"started"`
	Took     string            `json:"took"`
	Command  string            `json:"command"`
	Commit   string            `json:"commit"` // empty: not known
	Dirty    bool              `json:"dirty"`  // the tree differed from Commit
	Machine  Machine           `json:"machine"`
	Settings map[string]string `json:"settings"`
	Peers    []Peer            `json:"peers"` // in the order of tables
	Missing  map[string]string `json:"missing,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
	Works    []*Work           `json:"works,omitempty"`
	Tables   []*Table          `json:"tables,omitempty"`
	Configs  []Config          `json:"configs,omitempty"`
}

// Machine is where it ran.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memory_mib"`
	Kernel    string `json:"kernel"`
	System    string `json:"system"`
	Go        string `json:"go"`
}

// Peer took part.
type Peer struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	About   string `json:"about"`
	Version string `json:"version,omitempty"`
}

// Work is one workload.
type Work struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	Metrics []*Metric `json:"metrics"`
}

// Metric is one figure of a workload, for each peer.
type Metric struct {
	Key    string                   `json:"key"`
	Title  string                   `json:"title"`
	Unit   string                   `json:"unit"`
	Higher bool                     `json:"higher_is_better,omitempty"`
	Lead   bool                     `json:"lead,omitempty"`   // the one that the picture shows
	Hidden bool                     `json:"hidden,omitempty"` // about the bench itself: JSON only
	Values map[string]*stats.Series `json:"values"`           // by peer
	Ratios []Ratio                  `json:"ratios,omitempty"` // filled by Finish
}

// Ratio of two peers, pair by pair.
type Ratio struct {
	Of     string       `json:"of"`
	To     string       `json:"to"`
	Median float64      `json:"median"`
	Min    float64      `json:"min"`
	Max    float64      `json:"max"`
	Series stats.Series `json:"series"`
}

// Table is a result that is no comparison of repetitions. Cells are text or numbers.
type Table struct {
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"`
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

// Config is what a peer was started with.
type Config struct {
	Peer string `json:"peer"`
	Work string `json:"work"`
	Text string `json:"text"`
}

// Bases are the peers that others are compared with.
var Bases = []string{"haproxy", "haproxy-tuned", "nginx"}

// Metric finds a metric by its key, or nil.
func (w *Work) Metric(key string) *Metric {
	for _, m := range w.Metrics {
		if m.Key == key {
			return m
		}
	}
	return nil
}

// Add notes what a peer did in one repetition. Values that were not measured are absent.
func (w *Work) Add(peer string, rep int, values map[string]float64) {
	for _, m := range w.Metrics {
		v, ok := values[m.Key]
		if !ok {
			continue
		}
		if m.Values == nil {
			m.Values = map[string]*stats.Series{}
		}
		if m.Values[peer] == nil {
			m.Values[peer] = &stats.Series{}
		}
		m.Values[peer].Add(rep, v)
	}
}

// Ratio of one peer to another; ok is false when they have no repetition in common.
func (m *Metric) Ratio(of, to string) (r Ratio, ok bool) {
	a, b := m.Values[of], m.Values[to]
	if a == nil || b == nil {
		return r, false
	}
	s := a.Ratio(*b)
	lowest, highest := s.Spread()
	return Ratio{of, to, s.Median(), lowest, highest, s}, !math.IsNaN(lowest)
}

// Finish computes what follows from the values. Call it once, when all are there.
func (r *Run) Finish() {
	r.Took = time.Since(r.Started).Round(time.Second).String()
	for _, w := range r.Works {
		for _, m := range w.Metrics {
			m.Ratios = nil
			for _, p := range r.Peers {
				for _, base := range Bases {
					if ratio, ok := m.Ratio(p.Name, base); ok && p.Name != base {
						m.Ratios = append(m.Ratios, ratio)
					}
				}
			}
		}
	}
}

// WriteJSON writes the run to a file.
func (r *Run) WriteJSON(file string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// ReadJSON reads a run that WriteJSON wrote.
func ReadJSON(file string) (*Run, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Run)
	return r, json.Unmarshal(b, r)
}

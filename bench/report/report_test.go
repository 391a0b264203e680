package report

import (
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a run of two peers in which turnout lost one repetition.
func sample() *Run {
	w := &Work{Name: "echo", Title: "echo <64 B>", Metrics: []*Metric{
		{Key: "cpu", Title: "CPU", Unit: "ms", Lead: true},
		{Key: "rate", Title: "rate", Unit: "1/s", Higher: true},
		{Key: "lag", Title: "lag", Unit: "µs", Hidden: true},
	}}
	for rep, v := range []float64{10, 20, 40} {
		w.Add("haproxy", rep, map[string]float64{"cpu": v, "rate": 12_345, "lag": 1})
		if rep != 1 {
			w.Add("turnout", rep, map[string]float64{"cpu": v * 0.9, "rate": 12_345})
		}
	}
	r := &Run{
		Peers:   []Peer{{Name: "turnout", Title: "turnout"}, {Name: "haproxy", Title: "HAProxy", Version: "2.6"}},
		Missing: map[string]string{"nginx": "nginx: not installed\nmore"},
		Works:   []*Work{w},
		Tables:  []*Table{{Title: "Swap storm", Columns: []string{"peer", "swaps"}, Rows: [][]any{{"turnout", 1234}, {"HAProxy", nil}}}},
		Configs: []Config{{Peer: "HAProxy", Work: "echo", Text: "global\n"}},
	}
	r.Finish()
	return r
}

func TestMarkdown_ShowsMediansAndPairwiseRatios(t *testing.T) {
	page := sample().Markdown()
	for _, want := range []string{
		"| work | figure | turnout | HAProxy | turnout : HAProxy |\n",
		"| echo <64 B> | **CPU, ms ↓** | 22.5 (9.00–36.0) | 20.0 (10.0–40.0) | **0.90 (0.90–0.90)** |\n",
		"|  | rate, 1/s ↑ | 12,345 (12,345–12,345) | 12,345 (12,345–12,345) | 1.00 (1.00–1.00) |\n",
		"- **missing** nginx: not installed\n",
		"| turnout | 1,234 |\n| HAProxy | – |\n",
		"<details><summary>HAProxy, echo</summary>\n\n```\nglobal\n```",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("missing in the page: %s", want)
		}
	}
	if strings.Contains(page, "lag") {
		t.Error("hidden figures are shown")
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestJSON_KeepsWhatTheOtherFormsNeed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.json")
	r := sample()
	if err := r.WriteJSON(file); err != nil {
		t.Fatal(err)
	}
	back, err := ReadJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after := strings.Split(r.Markdown(), "## Swap")[0], strings.Split(back.Markdown(), "## Swap")[0]
	if before != after {
		t.Errorf("page before and after differ:\n%s\n%s", before, after)
	}
	if got := back.Works[0].Metrics[0].Ratios; len(got) != 1 || got[0].Of != "turnout" || got[0].To != "haproxy" || len(got[0].Series.Reps) != 2 {
		t.Errorf("ratios: %+v", got)
	}
}

func TestSVG_IsWellFormedAndShowsTheRatio(t *testing.T) {
	svg, err := sample().SVG()
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{">0.90</text>", "echo &lt;64 B&gt;", ">turnout</text>"} {
		if !strings.Contains(svg, want) {
			t.Errorf("missing in the picture: %s", want)
		}
	}
	if _, err := (&Run{}).SVG(); err == nil {
		t.Error("a picture of nothing")
	}
}

func TestFigure_ShowsThreeDigitsThatMatter(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0123: "0.012", 0.914: "0.91", 9.876: "9.88", 98.76: "98.8", 987.6: "988", 9876: "9,876", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := Figure(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

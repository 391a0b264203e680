package health_test

import (
	"strings"
	"testing"

	"github.com/turnout-proxy/turnout/health"
)

func TestRule_IsBrokenByNumbersAndChecksAndSaysByWhich(t *testing.T) {
	r, err := health.NewRule("error_rate > 0.01 || latency_p99 > 3 * baseline.latency_p99 || !node_progress", []string{"node-progress", "db"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Checks(), ","); got != "node-progress" {
		t.Error("checks:", got)
	}
	before := map[string]float64{"latency_p99": 0.01}
	for _, c := range []struct {
		now    map[string]float64
		passes bool
		why    string
	}{
		{map[string]float64{"error_rate": 0.001, "latency_p99": 0.02}, true, ""},
		{map[string]float64{"error_rate": 0.5}, true, "error_rate 0.5"},
		{map[string]float64{"latency_p99": 0.05}, true, "latency_p99 0.05"},
		{nil, false, "node_progress false"},
	} {
		broken, why, err := r.Broken(c.now, before, true, map[string]bool{"node-progress": c.passes})
		if err != nil || broken != (c.why != "") || !strings.Contains(why, c.why) {
			t.Errorf("%v %v: %v %q %v", c.now, c.passes, broken, why, err)
		}
	}
}

func TestRule_ThatIsWrongSaysWhatItKnows(t *testing.T) {
	for _, text := range []string{"eror_rate > 1", "error_rate", "error_rate >", "!nobody", "len(baseline) > 0"} {
		if _, err := health.NewRule(text, []string{"db"}); err == nil || !strings.Contains(err.Error(), "error_rate") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRule_WithANameThatCouldMeanTwoThingsReadsItsOwnAndIsToldApart(t *testing.T) {
	checks := []string{"ready", "requests", "node-up", "node.up", "db"}
	for _, c := range []struct{ text, says string }{
		{"error_rate > 0.05 || !ready", "ready is what the watch itself reads"},
		{"!requests", "requests is what the watch itself reads"}, // a number, which it would have to be
		{"!db || !node_up", "node_up is the name of two checks here, node-up and node.up"},
		{"!db", ""},
	} {
		rule, err := health.NewRule(c.text, checks)
		if err == nil {
			err = rule.Ambiguous()
		}
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	rule, err := health.NewRule("!ready", checks)
	if err != nil || !rule.Ready() || len(rule.Checks()) != 0 {
		t.Errorf("%v; checks %v", err, rule.Checks())
	}
}

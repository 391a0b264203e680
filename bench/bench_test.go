//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/bench/load"
	"github.com/turnout-proxy/turnout/bench/peer"
)

func TestMain(m *testing.M) {
	load.RunChild()
	os.Exit(m.Run())
}

// small is a bench that measures only for a moment, with the peers of these that are installed.
func small(t *testing.T, command, peers string) *bench {
	t.Helper()
	o, err := parseOptions(command, []string{"-n", "1", "-t", "60ms", "-warm", "20ms", "-storm", "150ms"})
	if err != nil {
		t.Fatal(err)
	}
	o.peers = ""
	for _, name := range names(peers) {
		p, err := peer.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Look(&peer.Finder{}); err != nil {
			t.Logf("not tried: %v", err)
			continue
		}
		o.peers += name + ","
	}
	if o.peers == "" {
		t.Skip("none of the peers is installed")
	}
	b, err := newBench(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func TestCompare_AsksOverTLSAndHTTP2(t *testing.T) {
	b := small(t, "run", "haproxy,nginx")
	b.only = "https64,h2"
	if err := b.compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.run.Warnings) > 0 {
		t.Errorf("warnings: %q", b.run.Warnings)
	}
}

func TestCompare_MeasuresWhatIsInstalled(t *testing.T) {
	b := small(t, "run", "forward,haproxy,nginx,direct")
	b.only = "echo50,http64"
	if err := b.compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.run.Warnings) > 0 {
		t.Errorf("warnings: %q", b.run.Warnings)
	}
	for _, w := range b.run.Works {
		for _, p := range b.peers {
			for _, key := range []string{"cpu", "rate"} {
				s := w.Metric(key).Values[p.Name]
				if absent := p.Name == "direct" && key == "cpu"; absent {
					if s != nil {
						t.Errorf("%s: CPU of no proxy", w.Name)
					}
				} else if s == nil || s.Values[0] <= 0 {
					t.Errorf("%s, %s: no %s", w.Name, p.Name, key)
				}
			}
		}
	}
}

func TestSwapStorm_FindsNothingLostOnOldAndNew(t *testing.T) {
	b := small(t, "swapstorm", "haproxy-map")
	if err := b.swapStorm(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if rows := b.run.Tables[0].Rows; len(rows) != len(stormPaces) {
		t.Errorf("rows: %v; warnings: %q", rows, b.run.Warnings)
	}
}

func TestCompare_EndsSoonWhenInterrupted(t *testing.T) {
	b := small(t, "run", "forward")
	b.seconds, b.only = time.Hour, "echo50"
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.compare(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRun_SaysHowAProxyFailed(t *testing.T) {
	p, err := peer.Get("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.Look(&peer.Finder{})
	if err != nil {
		t.Skip(err)
	}
	_, err = found.Run(peer.Door{Dir: t.TempDir(), MaxConnections: 10, Threads: -1, Services: []peer.Service{
		{Name: "bench", Listen: "127.0.0.1:1", Pools: []peer.Pool{{Name: "a", Servers: []string{"127.0.0.1:1"}}}}}})
	if err == nil || !strings.Contains(err.Error(), "nbthread") {
		t.Errorf("got %v, want HAProxy's own words", err)
	}
}

func TestOptions_RefuseWhatTheyDoNotKnow(t *testing.T) {
	for _, args := range [][]string{{"frobnicate"}, {"run", "-n", "0"}, {"run", "extra"}, {"run", "-only", "frobnicate"}, {"growth", "-only", "echo50"}, {"run", "-peers", "envoy"}, {"picture"}} {
		if err := command(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

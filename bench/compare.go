//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/bench/peer"
	"github.com/turnout-proxy/turnout/bench/report"
)

// compare runs every chosen work with every peer, interleaved: what drifts on the machine meets all alike.
func (b *bench) compare(ctx context.Context) error {
	chosen, storm, err := b.choose()
	if err != nil {
		return err
	}
	b.sayHowLong(chosen, storm)
	results := b.newWorks(chosen)
	for rep := range b.n {
		for i, w := range chosen {
			// Nobody always goes first.
			for j := range b.peers {
				p := b.peers[(rep+i+j)%len(b.peers)]
				if err := b.once(ctx, w, p, rep, results[i]); err != nil {
					return err
				}
			}
		}
	}
	if storm {
		return b.swapStorm(ctx, 1)
	}
	return nil
}

// choose resolves -only.
func (o *options) choose() (chosen []*work, storm bool, err error) {
	if o.only == "" {
		for _, w := range works {
			if w.name != "bulk-up" { // only when asked for: it says little that bulk does not
				chosen = append(chosen, w)
			}
		}
		return chosen, true, nil
	}
	for _, name := range names(o.only) {
		if name == "swapstorm" || name == "storm" {
			storm = true
			continue
		}
		i := slices.IndexFunc(works, func(w *work) bool { return w.name == name })
		if i < 0 {
			return nil, false, fmt.Errorf("-only: unknown work %q; `go run ./bench list` has them", name)
		}
		chosen = append(chosen, works[i])
	}
	return chosen, storm, nil
}

func (b *bench) newWorks(chosen []*work) []*report.Work {
	var results []*report.Work
	for _, w := range chosen {
		r := &report.Work{Name: w.name, Title: w.title}
		for _, m := range w.metrics {
			r.Metrics = append(r.Metrics, &m)
		}
		results = append(results, r)
	}
	b.run.Works = append(b.run.Works, results...)
	return results
}

// once measures one work with one peer. What fails there is a warning; only an interruption ends the run.
func (b *bench) once(ctx context.Context, w *work, p *peer.Found, rep int, r *report.Work) error {
	values, err := w.measure(b, ctx, w, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b.warn("%s, %s, repetition %d: %v", w.name, p.Name, rep+1, err)
		return nil
	}
	r.Add(p.Name, rep, values)
	var line []string
	for _, m := range w.metrics {
		if v, ok := values[m.Key]; ok && !m.Hidden {
			line = append(line, fmt.Sprintf("%s %s %s", m.Title, report.Figure(v), m.Unit))
		}
	}
	b.say("%d/%d %-9s %-14s %s", rep+1, b.n, w.name, p.Name, strings.Join(line, ", "))
	return nil
}

func (b *bench) sayHowLong(chosen []*work, storm bool) {
	each := b.warm + b.seconds + 450*time.Millisecond // starting and ending processes
	total := time.Duration(b.n*len(chosen)*len(b.peers)) * each
	if storm {
		total += time.Duration(len(b.stormers())) * time.Duration(len(stormPaces)) * (b.storm + time.Second/2)
	}
	b.say("%d works × %d peers × %d repetitions, about %s", len(chosen), len(b.peers), b.n, total.Round(time.Second))
}

package rollout

import (
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// sampleEvery is how often counters are read while nothing is watched, and keptSamples how many of them: the last
// minute, in which a baseline is found.
const (
	sampleEvery = 5 * time.Second
	keptSamples = 13
)

// reading is the counters of a pool at one time.
type reading struct {
	at          time.Time
	pool        string
	total       uint64
	failures    uint64
	connections int
	requests    proxy.Requests
}

func readingOf(p *proxy.Pool) reading {
	r := reading{at: time.Now(), pool: p.Name}
	for i := range p.Members {
		n := p.Members[i].Counts()
		r.total, r.failures, r.connections = r.total+n.Total, r.failures+n.Failures, r.connections+n.Connections
		r.requests = r.requests.Add(n.Requests)
	}
	return r
}

// sampleRing is readings of one pool, oldest first.
type sampleRing struct{ list []reading }

// maxRing bounds a watch's readings: with a look each 50 ms they reach back 50 s.
const maxRing = 1000

func (s *sampleRing) add(r reading) {
	if n := len(s.list); n > 0 && s.list[n-1].pool != r.pool {
		s.list = s.list[:0]
	}
	if len(s.list) == maxRing {
		s.list = append(s.list[:0], s.list[1:]...)
	}
	s.list = append(s.list, r)
}

// over is what happened in the last d, as a Rule reads it.
func (s *sampleRing) over(d time.Duration, http bool) map[string]float64 {
	if len(s.list) == 0 {
		return map[string]float64{}
	}
	now := s.list[len(s.list)-1]
	from := s.list[0]
	for i := range s.list {
		if s.list[i].at.Before(now.at.Add(-d)) {
			from = s.list[i]
		}
	}
	failures := float64(now.failures - min(from.failures, now.failures))
	started := float64(now.total - min(from.total, now.total))
	out := map[string]float64{"requests": started, "dial_failures": failures, "connections": float64(now.connections), "error_rate": 0}
	errors, all := failures, started+failures
	if http {
		n := now.requests.Sub(from.requests)
		total, failed := n.Total()
		errors, all = failures+float64(failed), failures+float64(total)
		out["requests"] = float64(total)
		out["latency_p50"], out["latency_p90"], out["latency_p99"] = n.Quantile(0.5).Seconds(), n.Quantile(0.9).Seconds(), n.Quantile(0.99).Seconds()
	}
	if all > 0 {
		out["error_rate"] = errors / all
	}
	if took := now.at.Sub(from.at).Seconds(); took > 0 {
		out["rate"] = out["requests"] / took
	}
	return out
}

// sample reads what serves, so that there is a baseline when it is swapped.
func (r *Rollout) sample(snap *proxy.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, svc := range snap.Services {
		ring := r.samples[svc.Spec.Name]
		if ring == nil {
			ring = &sampleRing{}
			r.samples[svc.Spec.Name] = ring
		}
		ring.add(readingOf(svc.Active))
		if n := len(ring.list); n > keptSamples {
			ring.list = append(ring.list[:0], ring.list[n-keptSamples:]...)
		}
	}
	for name := range r.samples {
		if snap.Service(name) == nil {
			delete(r.samples, name)
		}
	}
}

// Baseline is what each of the services has done in the last minute.
func (r *Rollout) Baseline(snap *proxy.Snapshot, services []string) map[string]map[string]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]map[string]float64{}
	for _, name := range services {
		svc, ring := snap.Service(name), r.samples[name]
		if svc == nil || ring == nil {
			continue
		}
		now := sampleRing{list: append([]reading(nil), ring.list...)}
		now.add(readingOf(svc.Active))
		out[name] = now.over(time.Minute, svc.Spec.Mode == proxy.HTTP)
	}
	return out
}

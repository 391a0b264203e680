package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/turnout-proxy/turnout/proxy"
)

// observeRoutes is what admin.listen answers: nothing that changes anything.
func (s *Server) observeRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { s.say(w, http.StatusOK, "running") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /state", s.states)
	mux.HandleFunc("GET /state/{service}", s.state)
	return mux
}

func (s *Server) say(w http.ResponseWriter, status int, words string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write)) // no connection of ours lacks it
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, words) // a client that went away is not our failure
}

// readyz is 200 while every service has a server to give work to. A hold and a maintenance are meant, so they
// are no reason to send clients elsewhere.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.stopping.Load() != nil:
		s.say(w, http.StatusServiceUnavailable, "stopping")
		return
	case !s.serves.Load():
		s.say(w, http.StatusServiceUnavailable, "starting")
		return
	}
	var lacks []string
	for _, svc := range s.opt.Switch.Current().Services {
		pool := svc.Refuge()
		gives := false
		for i := range pool.Members {
			gives = gives || pool.Members[i].Gives()
		}
		if gives && pool.Dead() {
			lacks = append(lacks, fmt.Sprintf("%s: no server of %s, its %s, is ready: %s", svc.Spec.Name, pool.Name, svc.RefugeIs(), reasons(pool)))
		}
		if !gives {
			lacks = append(lacks, fmt.Sprintf("%s: no server of %s, its %s, takes new work: all are drained or have weight 0", svc.Spec.Name, pool.Name, svc.RefugeIs()))
		}
	}
	if len(lacks) > 0 {
		s.say(w, http.StatusServiceUnavailable, strings.Join(lacks, "\n"))
		return
	}
	s.say(w, http.StatusOK, "ready")
}

// reasons says of each server of a pool why it is not ready.
func reasons(p *proxy.Pool) string {
	var all []string
	for _, m := range p.Willing() {
		all = append(all, fmt.Sprintf("%s %s: %s: %s", m.Name, m.Health.State, m.Health.Check, m.Health.Reason))
	}
	return strings.Join(all, "; ")
}

// scrapesAtOnce bounds what a mistaken scraper costs.
const scrapesAtOnce = 8

func (s *Server) metrics() http.Handler {
	h := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write)) // no connection of ours lacks it
		h.ServeHTTP(w, r)
	})
}

package rounds

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Anew is what a file that is not in force yet asks anew of a service.
type Anew struct {
	Service string
	Pool    string   // that is active
	Checks  []string // that are new to the service, or ask something else than before
	Fall    int      // failures in a row until a server counts as failing
	Fails   []Failed // servers that serve now and would not be ready
	Nobody  bool     // there is no other one, and the service would not simply go on with one that is not ready
}

// Failed is a server with the check that it fails, and why.
type Failed struct{ Server, Check, Reason string }

func (f Failed) String() string { return f.Server + ": " + f.Check + ": " + f.Reason }

const (
	aheadLimit  = 8 * time.Second // for all that is asked before a reload
	askedAtOnce = 64
)

// Ahead says of which services a file would have other checks than now, and asks those checks of the servers of the
// active pool that serve now, as often as `fall` says: a check that was mistyped is found before it counts. Who has not
// answered in time has not failed.
func (r *Rounds) Ahead(ctx context.Context, spec *proxy.Spec, checks map[string]*health.Check) []Anew {
	ctx, cancel := context.WithTimeout(ctx, aheadLimit)
	defer cancel()
	snap, was := r.sw.Current(), *r.checks.Load()
	places := make(chan struct{}, askedAtOnce)
	var out []Anew
	var asked sync.WaitGroup
	for i := range spec.Services {
		next := &spec.Services[i]
		svc := snap.Service(next.Name)
		if svc == nil || next.Health == nil {
			continue
		}
		a := Anew{Service: next.Name, Pool: svc.Active.Name, Checks: changed(svc.Spec.Health, next.Health, was, checks), Fall: next.Health.Fall}
		if len(a.Checks) > 0 {
			out = append(out, a)
		}
	}
	for i := range out {
		a := &out[i]
		next := spec.Services[slices.IndexFunc(spec.Services, func(s proxy.ServiceSpec) bool { return s.Name == a.Service })]
		serving := stay(snap.Service(a.Service), &next)
		failed := make([]*Failed, len(serving))
		var service sync.WaitGroup
		for k, srv := range serving {
			service.Go(func() { // ends with ctx
				select {
				case places <- struct{}{}:
					defer func() { <-places }()
					failed[k] = r.fails(ctx, srv, next.Health, a.Checks, checks)
				case <-ctx.Done():
				}
			})
		}
		asked.Go(func() { // ends with those it waits for
			service.Wait()
			for _, f := range failed {
				if f != nil {
					a.Fails = append(a.Fails, *f)
				}
			}
			a.Nobody = len(serving) > 0 && len(a.Fails) == len(serving) && leaves(&next)
		})
	}
	asked.Wait()
	return out
}

// leaves tells whether a service leaves servers that are not ready, rather than to go on with one all the same.
func leaves(s *proxy.ServiceSpec) bool {
	return s.NoneReady() != proxy.NoneReadyTry || s.Failover != nil && s.Failover.Automatic
}

// changed names the checks of a service that it does not have now.
func changed(old, next *proxy.HealthSpec, was, is map[string]*health.Check) []string {
	return slices.DeleteFunc(slices.Clone(next.Checks), func(name string) bool {
		return old != nil && slices.Contains(old.Checks, name) && was[name] != nil && is[name] != nil && is[name].Same(was[name])
	})
}

// stay lists the servers of the active pool that serve now and that the next file has too. How they are spoken to must
// not change with the same reload: then nothing can be asked before it.
func stay(svc *proxy.Service, next *proxy.ServiceSpec) []*proxy.Server {
	if !reflect.DeepEqual(svc.Spec.ServerTLS, next.ServerTLS) {
		return nil
	}
	var out []*proxy.Server
	active := svc.Active
	for _, m := range active.Willing() {
		stays := slices.ContainsFunc(next.Pools, func(p proxy.PoolSpec) bool {
			return p.Name == active.Name && slices.ContainsFunc(p.Servers, func(s proxy.ServerSpec) bool { return s.Name == m.Name && s.Address == m.Address })
		})
		if stays && !m.Health.Down() {
			out = append(out, m.Server)
		}
	}
	return out
}

// fails asks checks of a server until all pass, or one has failed as often as counts; nil when it has not.
func (r *Rounds) fails(ctx context.Context, srv *proxy.Server, h *proxy.HealthSpec, names []string, checks map[string]*health.Check) *Failed {
	for n := 1; ; n++ {
		var failed *Failed
		for _, name := range names {
			check := checks[name]
			if check == nil {
				continue // the file was refused for it
			}
			if a := r.run(ctx, check, srv, h.Timeout); !a.OK && !a.Pending {
				failed = &Failed{srv.Name, name, a.Reason}
				break
			}
		}
		if failed == nil || ctx.Err() != nil {
			return nil
		}
		if n >= h.Fall {
			return failed
		}
		select {
		case <-time.After(h.Interval / 5):
		case <-ctx.Done():
			return nil
		}
	}
}

// Words say what is asked anew, one line each.
func (a *Anew) Words() []string {
	out := []string{fmt.Sprintf("service %s: asked anew: %s; its servers are unknown meanwhile, and serve until one has failed %d times in a row", a.Service, strings.Join(a.Checks, ", "), a.Fall)}
	for _, f := range a.Fails {
		out = append(out, fmt.Sprintf("service %s: %s/%s fails %s, asked just now: %s", a.Service, a.Pool, f.Server, f.Check, f.Reason))
	}
	return out
}

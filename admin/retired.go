package admin

import (
	"sync"

	"github.com/turnout-proxy/turnout/proxy"
)

// retired are servers that a reload removed and that still have connections: the snapshot does not list
// them any more, but status and metrics count every connection there is.
type retired struct {
	mu      sync.Mutex
	servers []*proxy.Server
	folded  map[serverKey]proxy.ServerCounts // what servers that are gone had counted, so that sums do not fall
}

// serverKey is a server's place in the configuration; a server that got another address has the same.
type serverKey struct{ service, pool, server string }

func keyOf(s *proxy.Server) serverKey { return serverKey{s.Service, s.Pool, s.Name} }

func serversOf(snap *proxy.Snapshot) map[*proxy.Server]struct{} {
	all := map[*proxy.Server]struct{}{}
	for _, svc := range snap.Services {
		for _, p := range svc.Pools {
			for i := range p.Members {
				all[p.Members[i].Server] = struct{}{}
			}
		}
	}
	return all
}

// add takes over the servers that were in the old snapshot and are not in the new one.
func (r *retired) add(old, next *proxy.Snapshot) {
	stay := serversOf(next)
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range serversOf(old) {
		if _, stays := stay[s]; !stays {
			r.servers = append(r.servers, s)
		}
	}
}

// look lists those that still have connections, and what all others had counted. A server that got no new
// work any more can only lose connections, so one that is empty stays so.
func (r *retired) look(snap *proxy.Snapshot) ([]*proxy.Server, map[serverKey]proxy.ServerCounts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.folded == nil {
		r.folded = map[serverKey]proxy.ServerCounts{}
	}
	var left []*proxy.Server
	for _, s := range r.servers {
		n := s.Counts()
		if n.Connections > 0 || n.Dialing > 0 {
			left = append(left, s)
			continue
		}
		n.LastError = ""
		r.folded[keyOf(s)] = sum(r.folded[keyOf(s)], n)
	}
	r.servers = left
	folded := make(map[serverKey]proxy.ServerCounts, len(r.folded))
	for k, n := range r.folded {
		if snap.Service(k.service) == nil { // its counters begin anew should it come back
			delete(r.folded, k)
			continue
		}
		folded[k] = n
	}
	return append([]*proxy.Server(nil), left...), folded
}

func sum(a, b proxy.ServerCounts) proxy.ServerCounts {
	a.Dialing += b.Dialing
	a.Connections += b.Connections
	a.Total += b.Total
	a.Failures += b.Failures
	a.Cut += b.Cut
	a.Resteered += b.Resteered
	a.BytesToServer += b.BytesToServer
	a.BytesToClient += b.BytesToClient
	a.LastStart = max(a.LastStart, b.LastStart)
	a.Requests = a.Requests.Add(b.Requests)
	return a
}

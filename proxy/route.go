package proxy

import (
	"slices"
	"strings"
)

// RouteSpec is one way into a service of mode http, on each of its listeners.
type RouteSpec struct {
	Host string // in lower case, without port; "*.example.org": every name below; "": every host
	Path string // prefix: "/v1" is /v1 and what is below it, "/v1/" only what is below; "": every path
}

// String is how people see it.
func (r RouteSpec) String() string {
	host, path := r.Host, r.Path
	if host == "" {
		host = "*"
	}
	if path == "" {
		path = "/"
	}
	return host + path
}

// Takes tells whether the route's path is the given one's prefix.
func (r RouteSpec) Takes(path string) bool {
	w := way{path: r.Path}
	return w.takes([]byte(path))
}

// routes are the ways into the services of one listener.
type routes struct {
	exact     map[string][]way
	wildcards []wildcard // the longer, the earlier
	any       []way

	// unnamed is the service of TLS clients that name no host; -1: none. See Snapshot.RouteSNI.
	unnamed int
}

// way is a path prefix, the longer, the earlier.
type way struct {
	path    string
	service int // position in Services
}

type wildcard struct {
	suffix string // ".example.org"
	ways   []way
}

// everywhere is the route of a service that has none.
var everywhere = []RouteSpec{{}}

func (r *routes) add(spec RouteSpec, service int) {
	w := way{spec.Path, service}
	suffix, isWildcard := strings.CutPrefix(spec.Host, "*")
	switch {
	case spec.Host == "":
		r.any = append(r.any, w)
	case !isWildcard:
		if r.exact == nil {
			r.exact = map[string][]way{}
		}
		r.exact[spec.Host] = append(r.exact[spec.Host], w)
	default:
		i := slices.IndexFunc(r.wildcards, func(c wildcard) bool { return c.suffix == suffix })
		if i < 0 {
			i = len(r.wildcards)
			r.wildcards = append(r.wildcards, wildcard{suffix: suffix})
		}
		r.wildcards[i].ways = append(r.wildcards[i].ways, w)
	}
}

func (r *routes) sort() {
	longest := func(a, b way) int { return len(b.path) - len(a.path) }
	for _, ways := range r.exact {
		slices.SortStableFunc(ways, longest)
	}
	slices.SortStableFunc(r.any, longest)
	slices.SortStableFunc(r.wildcards, func(a, b wildcard) int { return len(b.suffix) - len(a.suffix) })
	for i := range r.wildcards {
		slices.SortStableFunc(r.wildcards[i].ways, longest)
	}
}

// find is the position of the service for a request, or -1: the host's own routes come first, then those of the
// longest wildcard, then those for every host; among them the longest path.
func (r *routes) find(host, path []byte) int {
	if s := longestWay(r.exact[string(host)], path); s >= 0 {
		return s
	}
	for i := range r.wildcards {
		c := &r.wildcards[i]
		if n := len(host) - len(c.suffix); n > 0 && string(host[n:]) == c.suffix {
			if s := longestWay(c.ways, path); s >= 0 {
				return s
			}
		}
	}
	return longestWay(r.any, path)
}

func longestWay(ways []way, path []byte) int {
	for i := range ways {
		if ways[i].takes(path) {
			return ways[i].service
		}
	}
	return -1
}

// takes tells whether a path is the prefix or, by whole segments, below it.
func (w *way) takes(path []byte) bool {
	n := len(w.path)
	if n > len(path) || string(path[:n]) != w.path {
		return false
	}
	return n == 0 || n == len(path) || w.path[n-1] == '/' || path[n] == '/'
}

// Routed tells whether a listener slot leads to several services, or not every request to one: then Route says which.
func (s *Snapshot) Routed(slot int) bool { return s.index.routes[slot] != nil }

// Route is the service for a request on a listener slot, or nil. host is in lower case and without port; an empty
// path counts as "/".
func (s *Snapshot) Route(slot int, host, path []byte) *Service {
	r := s.index.routes[slot]
	if r == nil {
		return s.At(slot)
	}
	if len(path) == 0 {
		path = []byte("/")
	}
	if i := r.find(host, path); i >= 0 {
		return s.Services[i]
	}
	return nil
}

// routesBySNI are the ways into tcp services with TLS, the positions of which are all: by the host that the client names.
func routesBySNI(spec *Spec, all []int) *routes {
	r := &routes{unnamed: -1}
	for _, i := range all {
		t := spec.Services[i].TLS
		if t == nil {
			continue
		}
		for _, host := range t.SNI {
			r.add(RouteSpec{Host: host}, i)
		}
		if len(t.SNI) == 0 {
			r.add(everywhere[0], i)
		}
		if t.NoSNI == NoSNIAccept || t.NoSNI == "" && len(t.SNI) == 0 {
			r.unnamed = i
		}
	}
	r.sort()
	return r
}

// maxHost is the longest name of a host (RFC 1035 2.3.4).
const maxHost = 255

// RouteSNI is the tcp service, on a listener slot with TLS, for a client that names a host in its greeting as it is
// written there; nil: it named none. The service is nil when there is none for it.
func (s *Snapshot) RouteSNI(slot int, host []byte) *Service {
	r := s.index.routes[slot]
	switch {
	case r == nil: // a reload has taken TLS away
		return nil
	case host == nil:
		if r.unnamed < 0 {
			return nil
		}
		return s.Services[r.unnamed]
	}
	if n := len(host); host[n-1] == '.' { // RFC 6066 3 wants none, and some send it
		host = host[:n-1]
	}
	if len(host) > maxHost {
		return nil
	}
	var lower [maxHost]byte
	for i, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	if i := r.find(lower[:len(host)], nil); i >= 0 {
		return s.Services[i]
	}
	return nil
}

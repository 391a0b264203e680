package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// What services of mode http have, and what the mode of a service allows.

func timeouts(k *timeoutKeys) proxy.TimeoutSpec {
	return proxy.TimeoutSpec{Connect: k.connect.v, Idle: k.idle.v, RequestHeader: k.requestHeader.v, RequestBody: k.requestBody.v, Response: k.response.v, IdleTunnel: k.idleTunnel.v}
}

// mode refuses keys that the service's mode has no use for.
func (c *checker) mode(k *serviceKeys) {
	if k.mode.bad {
		return
	}
	switch t := &k.timeouts.v; k.mode.v {
	case proxy.HTTP:
		if p := &k.proxyProtocol.v; p.send.written && p.send.v != proxy.ProxyOff {
			c.refuse(p.send.place, p.send.raw, "of no use in mode http: one connection to a server carries requests of many clients; X-Forwarded-For and Forwarded name each")
		}
	default:
		for _, key := range []struct {
			written bool
			place
		}{{k.trusted.written, k.trusted.place}, {k.routes.written, k.routes.place}, {k.maintenance.written, k.maintenance.place}, {k.h2c.written, k.h2c.place}, {k.statePath.written, k.statePath.place}} {
			if key.written {
				c.refuse(key.place, "", "of no use in mode tcp; want mode: http in this service, or no such key")
			}
		}
		for _, d := range []*value[time.Duration]{&t.requestHeader, &t.requestBody, &t.response, &t.idleTunnel} {
			if d.written && !d.bad {
				c.refuse(d.place, d.raw, "of no use in mode tcp; want mode: http in this service, or no such key")
			}
		}
	}
}

// http reads what only services of mode http have.
func (c *checker) http(k *serviceKeys, spec *proxy.ServiceSpec) {
	if spec.H2C = k.h2c.v; spec.H2C && k.tls.written {
		c.refuse(k.h2c.place, k.h2c.raw, "of no use with tls: there clients agree upon HTTP/2 in the handshake; want no such key")
	}
	spec.TrustedProxies = networks(k.trusted.v)
	seen := map[proxy.RouteSpec]bool{}
	for _, r := range k.routes.v {
		if r.bad {
			continue
		}
		route := proxy.RouteSpec{Host: r.v.host.v, Path: r.v.path.v}
		if seen[route] {
			c.refuse(r.place, "", fmt.Sprintf("the route %s twice in one service", route))
		}
		seen[route] = true
		spec.Routes = append(spec.Routes, route)
	}
	spec.StatePath = k.statePath.v
	led := func(r proxy.RouteSpec) bool { return r.Takes(k.statePath.v) }
	if p := k.statePath; p.written && !p.bad && len(spec.Routes) > 0 && !slices.ContainsFunc(spec.Routes, led) {
		c.refuse(p.place, p.raw, "none of the service's routes leads to it; want a path below one of theirs, or a route for it")
	}
	m := &k.maintenance.v
	spec.Maintenance = proxy.MaintenanceSpec{Status: m.status.v, RetryAfter: m.retryAfter.v, Token: m.bypass.v.token.v.text, Addresses: networks(m.bypass.v.addresses.v),
		KnownKey: m.known.v.key.v.text, KnownFor: m.known.v.age.v}
	if m.page.written && !m.page.bad {
		spec.Maintenance.Page = c.page(m.page)
	}
}

func networks(list []value[netip.Prefix]) (all []netip.Prefix) {
	for _, p := range list {
		if !p.bad {
			all = append(all, p.v)
		}
	}
	return all
}

// maxPage is what a page may have: it must fit into one block of a loop, with its head.
const maxPage = 48 << 10

// page reads a page that clients are shown.
func (c *checker) page(p value[string]) string {
	name := p.v
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(c.issues.file), name)
	}
	content, err := os.ReadFile(name)
	switch {
	case err != nil:
		c.refuse(p.place, p.raw, "the file cannot be read: "+reasonOf(err))
	case len(content) > maxPage:
		c.refuse(p.place, p.raw, fmt.Sprintf("the file has %d bytes; want at most %d", len(content), maxPage))
	case len(content) == 0:
		c.refuse(p.place, p.raw, "the file is empty")
	}
	return string(content)
}

// sharing is which services of mode http are on one listener, and who has which route.
type sharing struct {
	services []string
	routes   map[proxy.RouteSpec]string // route → service
}

func newSharing(s *named[serviceKeys]) *sharing {
	all := &sharing{routes: map[proxy.RouteSpec]string{}}
	all.add(s)
	return all
}

// routesOf are the routes of a service; without any it has those that match everything.
func routesOf(k *serviceKeys) (all []value[routeKeys]) {
	if len(k.routes.v) == 0 {
		return []value[routeKeys]{{}}
	}
	return k.routes.v
}

func (s *sharing) add(service *named[serviceKeys]) {
	s.services = append(s.services, service.name)
	for _, r := range routesOf(&service.v) {
		s.routes[proxy.RouteSpec{Host: r.v.host.v, Path: r.v.path.v}] = service.name
	}
}

// share lets a further service on a listener, if its routes are no other's.
func (c *checker) share(s *sharing, service *named[serviceKeys]) {
	for _, r := range routesOf(&service.v) {
		route := proxy.RouteSpec{Host: r.v.host.v, Path: r.v.path.v}
		other, taken := s.routes[route]
		switch {
		case !taken || r.bad:
		case len(service.v.routes.v) == 0:
			c.refuse(service.key, "", fmt.Sprintf("it and %s are on one listener, and neither has routes that tell them apart; give one of them routes", other))
		default:
			c.refuse(r.place, "", fmt.Sprintf("%s, on the same listener, has the route %s too", other, route))
		}
	}
	s.add(service)
}

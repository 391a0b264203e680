package config

import (
	"fmt"

	"github.com/turnout-proxy/turnout/proxy"
)

// What tells tcp services on one listener apart: the host that a TLS client names (services.*.tls.sni).

// hostSharing is which services are on one listener, and whose clients name which host.
type hostSharing struct {
	services []*named[serviceKeys]
	hosts    map[string]string // host → service; "": all that are no other's
	unnamed  string            // whose those are that name none; "": nobody's
}

func newHostSharing(s *named[serviceKeys]) *hostSharing {
	all := &hostSharing{hosts: map[string]string{}}
	all.add(s)
	return all
}

// hostsOf are the hosts of a service; without any, the one that stands for all.
func hostsOf(t *clientTLSKeys) []value[string] {
	if len(t.sni.v) == 0 {
		return []value[string]{{}}
	}
	return t.sni.v
}

func (s *hostSharing) add(service *named[serviceKeys]) {
	s.services = append(s.services, service)
	t := &service.v.tls.v
	for _, host := range hostsOf(t) {
		s.hosts[host.v] = service.name
	}
	if noSNI(t) == proxy.NoSNIAccept {
		s.unnamed = service.name
	}
}

// shareByHost lets a further service on a listener, if its hosts are no other's.
func (c *checker) shareByHost(s *hostSharing, service *named[serviceKeys], at value[proxy.ListenSpec]) {
	first, next := s.services[0], service
	t := &next.v.tls.v
	switch {
	case first.v.tls.written != next.v.tls.written:
		c.refuse(at.place, at.raw, fmt.Sprintf("on one listener with %s, but only one of them has tls; want it in both, or other listeners", first.name))
		return
	case first.v.proxyProtocol.v.accept.v != next.v.proxyProtocol.v.accept.v:
		c.refuse(at.place, at.raw, fmt.Sprintf("on one listener with %s, but with another proxy_protocol.accept: the header comes before the client says whose it is; want the same in both", first.name))
	}
	for _, host := range hostsOf(t) {
		other, taken := s.hosts[host.v]
		switch {
		case !taken || host.bad:
		case host.v == "":
			c.refuse(next.key, "", fmt.Sprintf("it and %s are on one listener, and neither has tls.sni, which would tell their clients apart; give one of them some", other))
		default:
			c.refuse(host.place, host.raw, fmt.Sprintf("%s, on the same listener, has this host too", other))
		}
	}
	switch accepts := noSNI(t) == proxy.NoSNIAccept; {
	case !accepts || s.unnamed == "" || len(t.sni.v) == 0 && s.hosts[""] != "": // the last was refused above
	case t.noSNI.written:
		c.refuse(t.noSNI.place, t.noSNI.raw, fmt.Sprintf("%s, on the same listener, takes the clients that name no host already; want close in one of them", s.unnamed))
	default:
		c.refuse(next.key, "", fmt.Sprintf("%s, on the same listener, takes the clients that name no host already; want tls.no_sni: close here", s.unnamed))
	}
	s.add(service)
}

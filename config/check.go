package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

// checker turns what the tables have read into a Config, and refuses what no single value shows.
type checker struct {
	*reader
	root bool
}

func (c *checker) file(f *fileKeys) *Config {
	cfg := &Config{Log: Log{Level: f.log.v.level.v, Format: f.log.v.format.v}}
	c.admin(f, cfg)
	spec := &proxy.Spec{}
	cfg.checks = c.checks(f)
	for i := range f.services.v {
		s := c.service(&f.services.v[i])
		s.Health = c.health(&f.services.v[i].v, f, cfg.checks)
		s.Failover = c.failover(&f.services.v[i].v)
		c.rollout(&f.services.v[i].v, f, &s)
		spec.Services = append(spec.Services, s)
	}
	spec.Groups = c.groups(f)
	c.listeners(f, cfg)
	cfg.spec = spec
	return cfg
}

func (c *checker) admin(f *fileKeys, cfg *Config) {
	a := &f.admin.v
	cfg.StateDir, cfg.Admin.Socket = defaultPaths(c.root, f.stateDir.v)
	if a.socket.v != "" {
		cfg.Admin.Socket = a.socket.v
	} else if !f.stateDir.bad && len(cfg.Admin.Socket) > maxSocket {
		c.refuse(f.stateDir.place, f.stateDir.raw, fmt.Sprintf("the admin socket in it would have a path of more than %d bytes; set admin.socket", maxSocket))
	}
	cfg.Admin.Listen = a.listen.v.Address
	cfg.Admin.Roles = Roles{Operate: c.role(a.roles.v.operate.v), Read: c.role(a.roles.v.read.v)}
}

func (c *checker) role(r roleKeys) Role {
	return Role{Users: plain(r.users.v), Groups: plain(r.groups.v)}
}

func (c *checker) service(s *named[serviceKeys]) proxy.ServiceSpec {
	k := &s.v
	spec := proxy.ServiceSpec{
		Name:          s.name,
		Mode:          k.mode.v,
		Exclusive:     k.exclusive.v,
		Balance:       k.balance.v,
		SlowStart:     k.slowStart.v,
		Drain:         proxy.DrainSpec{Timeout: k.drain.v.timeout.v, Then: k.drain.v.then.v, BySession: k.drain.v.bySession.v, CloseOver: k.drain.v.closeOver.v},
		Hold:          proxy.HoldSpec{Timeout: k.hold.v.timeout.v, Max: k.hold.v.max.v},
		ProxyProtocol: proxy.ProxyProtocolSpec{Accept: k.proxyProtocol.v.accept.v, Send: k.proxyProtocol.v.send.v},
		Timeouts:      timeouts(&k.timeouts.v),
		AccessLog:     k.accessLog.v,
		TLS:           c.tls(&k.tls, k.mode.v),
		ServerTLS:     c.serverTLS(k),
	}
	c.http(k, &spec)
	own := newClaims()
	for _, l := range k.listen.v {
		if !l.bad {
			spec.Listen = append(spec.Listen, l.v)
			own.take(l)
		}
	}
	if l := k.preview.v.listen; l.written && !l.bad {
		own.take(l)
	}
	var names []string
	for i := range k.pools.v {
		p := &k.pools.v[i]
		spec.Pools = append(spec.Pools, c.pool(p, k, own))
		names = append(names, p.name)
	}
	c.apart(k, spec.Pools)
	spec.Active = c.active(k, names)
	c.mode(k)
	c.preview(k, &spec, names)
	return spec
}

// apart refuses pools between which a swap would move nothing, and in an exclusive service those that share a server at
// all: it would be on both sides. Else pools may overlap.
func (c *checker) apart(k *serviceKeys, pools []proxy.PoolSpec) {
	in := make([]map[string]bool, len(pools)) // the addresses of each pool
	for i, p := range pools {
		in[i] = make(map[string]bool, len(p.Servers))
		for _, s := range p.Servers {
			in[i][s.Address] = true
		}
		for j, other := range pools[:i] {
			shared := 0
			for address := range in[i] {
				if in[j][address] {
					shared++
				}
			}
			if shared == 0 {
				continue
			}
			first := fmt.Sprintf("pool %s (line %d)", other.Name, k.pools.v[j].key.line)
			if shared == len(in[i]) && shared == len(in[j]) {
				c.refuse(k.pools.v[i].key, p.Name, "has the same servers as "+first+": a swap would move nothing")
				break
			}
			if k.exclusive.v {
				c.refuse(k.pools.v[i].key, p.Name, "shares a server with "+first+": in an exclusive service it would be on both sides of a swap")
				break
			}
		}
	}
}

func (c *checker) active(k *serviceKeys, pools []string) string {
	if len(pools) == 0 {
		return ""
	}
	if !k.active.written || k.active.bad {
		return pools[0]
	}
	if !slices.Contains(pools, k.active.v) {
		c.unknown(k.active, "no such pool in this service", pools)
	}
	return k.active.v
}

// unknown refuses a name that is not among known. A name that came out of the environment is not compared
// aloud: the nearest word would tell about it.
func (c *checker) unknown(v value[string], message string, known []string) {
	near := ""
	if v.v == v.raw {
		near = proxy.Nearest(v.v, known)
	}
	c.add(Issue{Line: v.line, Column: v.column, Path: v.path, Value: v.raw, Message: message, Near: near})
}

func (c *checker) pool(p *named[poolKeys], service *serviceKeys, own *claims) proxy.PoolSpec {
	spec := proxy.PoolSpec{Name: p.name}
	addresses, names := map[string]int{}, map[string]int{}
	weightless := !p.bad && len(p.v.servers.v) > 0
	for _, s := range p.v.servers.v {
		k := &s.v
		weightless = weightless && k.weight.v == 0 && k.weight.written && !k.weight.bad
		if s.bad || k.address.bad || !k.address.written {
			weightless = false
			continue
		}
		scheme, address := schemeOf(k.address.v)
		switch {
		case scheme != "" && service.mode.v != proxy.HTTP:
			c.refuse(k.address.place, k.address.raw, scheme+" is of no use in mode tcp, which carries any protocol; want mode: http in this service, or the address alone")
		case scheme == h2cScheme && service.serverTLS.v.on:
			c.refuse(k.address.place, k.address.raw, "h2c:// is HTTP/2 without TLS, and the service has server_tls; want h2://, or no server_tls")
		case scheme == h2Scheme && !service.serverTLS.v.on && !service.serverTLS.bad:
			c.refuse(k.address.place, k.address.raw, "h2:// is HTTP/2 over TLS; want server_tls in this service, which says how servers prove who they are, or h2c://")
		}
		server := proxy.ServerSpec{Name: cmp.Or(k.name.v, address), Address: address, H2: scheme != "", Weight: k.weight.v, MaxConnections: k.maxConnections.v}
		if line, twice := addresses[server.Address]; twice {
			c.refuse(k.address.place, k.address.raw, fmt.Sprintf("the same server twice in one pool; first on line %d", line))
		} else {
			addresses[server.Address] = k.address.line
			if line, twice := names[server.Name]; twice {
				c.refuse(k.name.place, k.name.raw, fmt.Sprintf("another server of the pool has this name, on line %d", line))
			}
			names[server.Name] = cmp.Or(k.name.line, k.address.line)
		}
		if l, loop := own.servedBy(server.Address); loop {
			c.refuse(k.address.place, k.address.raw, fmt.Sprintf("the service itself listens there (%q): connections would go round in a circle", cut(l)))
		}
		spec.Servers = append(spec.Servers, server)
	}
	if weightless {
		c.refuse(p.key, "", "every weight is 0, so the pool would get no connections; want one from 1 to 256")
	}
	return spec
}

func (c *checker) groups(f *fileKeys) map[string][]string {
	services := map[string]place{}
	var names []string
	for i := range f.services.v {
		s := &f.services.v[i]
		services[s.name] = s.key
		names = append(names, s.name)
	}
	groups := map[string][]string{}
	for i := range f.groups.v {
		g := &f.groups.v[i]
		if s, taken := services[g.name]; taken {
			c.refuse(g.key, "", fmt.Sprintf("a service has this name, on line %d; want another for the group", s.line))
		}
		seen := map[string]int{}
		for _, member := range g.v {
			if member.bad {
				continue
			}
			if line, twice := seen[member.v]; twice {
				c.refuse(member.place, member.raw, fmt.Sprintf("twice in one group; first on line %d", line))
				continue
			}
			seen[member.v] = member.line
			if _, known := services[member.v]; !known && !f.services.bad {
				c.unknown(member, "no such service", names)
			}
			groups[g.name] = append(groups[g.name], member.v)
		}
	}
	return groups
}

// listeners refuses two listeners on one address, unless both are of http services that routes can tell apart, or of tcp
// services that the host can which a TLS client names. The later one in the file is at fault.
func (c *checker) listeners(f *fileKeys, cfg *Config) {
	type listener struct {
		value[proxy.ListenSpec]
		service  *named[serviceKeys] // nil: the door's own
		redirect bool                // it leads to https
	}
	var all []listener
	if f.admin.v.listen.written {
		all = append(all, listener{f.admin.v.listen, nil, false})
	}
	if socket, err := filepath.Abs(cfg.Admin.Socket); err == nil && !f.admin.v.socket.bad {
		at := value[proxy.ListenSpec]{place: f.admin.v.socket.place, v: proxy.ListenSpec{Network: proxy.NetUnix, Address: socket}, raw: cfg.Admin.Socket}
		at.path = "admin.socket"
		all = append(all, listener{at, nil, false})
	}
	for i := range f.services.v {
		s := &f.services.v[i]
		for _, l := range s.v.listen.v {
			all = append(all, listener{l, s, false})
		}
		if l := s.v.preview.v.listen; l.written {
			all = append(all, listener{l, nil, false})
		}
		for _, l := range s.v.tls.v.redirect.v {
			all = append(all, listener{l, s, true})
		}
	}
	slices.SortStableFunc(all, func(a, b listener) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	taken, shared, redirects := newClaims(), map[string]*sharing{}, map[string]bool{}
	firsts := map[string]*named[serviceKeys]{}
	byHost := map[string]*hostSharing{}
	for _, l := range all {
		if l.bad {
			continue
		}
		first, ok := taken.take(l.value)
		http := l.service != nil && l.service.v.mode.v == proxy.HTTP
		at := l.v.String()
		if ok {
			if redirects[at] = l.redirect; http && !l.redirect {
				shared[at], firsts[at] = newSharing(l.service), l.service
			} else if l.service != nil && !http {
				byHost[at] = newHostSharing(l.service)
			}
			continue
		}
		if l.redirect && redirects[at] && first.v == l.v { // wherever a request is led, it is by its host
			continue
		}
		if s := shared[at]; s != nil && http && !l.redirect && first.v == l.v && s.services[len(s.services)-1] != l.service.name {
			c.share(s, l.service)
			c.shareTLS(firsts[at], l.service, l.value)
			if a, b := &firsts[at].v.h2c, &l.service.v.h2c; a.v != b.v && !a.bad && !b.bad {
				c.refuse(l.place, l.raw, fmt.Sprintf("on one listener with %s, but only one of them has h2c; want it in both, or other listeners", firsts[at].name))
			}
			continue
		}
		if s := byHost[at]; s != nil && !http && l.service != nil && (s.services[0].v.tls.written || l.service.v.tls.written) && first.v == l.v && s.services[len(s.services)-1] != l.service {
			c.shareByHost(s, l.service, l.value)
			continue
		}
		message := "already taken by " + first.path
		if first.v != l.v {
			message = fmt.Sprintf("overlaps %q of %s", cut(first.raw), first.path)
		}
		if first.line > 0 {
			message += fmt.Sprintf(" (line %d)", first.line)
		}
		c.refuse(l.place, l.raw, message)
	}
}

// claims finds two listeners that want one address, without comparing each with each.
type claims struct {
	exact map[string]value[proxy.ListenSpec]                // unix: and systemd:
	ports map[string]map[netip.Addr]value[proxy.ListenSpec] // by port, then address; the zero Addr is a wildcard
}

func newClaims() *claims {
	return &claims{map[string]value[proxy.ListenSpec]{}, map[string]map[netip.Addr]value[proxy.ListenSpec]{}}
}

// take notes l, or says who was there first.
func (c *claims) take(l value[proxy.ListenSpec]) (first value[proxy.ListenSpec], ok bool) {
	if l.v.Network != proxy.NetTCP {
		if first, taken := c.exact[l.v.String()]; taken {
			return first, false
		}
		c.exact[l.v.String()] = l
		return first, true
	}
	ip, port, _ := addressIP(l.v.Address)
	if port == "0" {
		return first, true
	}
	held := c.ports[port]
	if held == nil {
		held = map[netip.Addr]value[proxy.ListenSpec]{}
		c.ports[port] = held
	}
	for _, same := range []netip.Addr{ip, {}} {
		if first, taken := held[same]; taken {
			return first, false
		}
	}
	if !ip.IsValid() {
		for _, other := range held {
			if first.path == "" || before(other.place, first.place) {
				first = other
			}
		}
		if first.path != "" {
			return first, false
		}
	}
	held[ip] = l
	return first, true
}

func before(a, b place) bool {
	return a.line < b.line || a.line == b.line && a.column < b.column
}

// servedBy says which of the listeners a connection to this server address would reach. A listener on all
// addresses is found by a loopback address only: which others are this machine's, the file does not say.
func (c *claims) servedBy(address string) (listener string, yes bool) {
	if strings.HasPrefix(address, "unix:") {
		l, yes := c.exact[address]
		return l.raw, yes
	}
	ip, port, isIP := addressIP(address)
	candidates := []netip.Addr{ip}
	switch {
	case !isIP && (strings.HasPrefix(address, "localhost:") || strings.HasPrefix(address, "localhost.:")):
		candidates = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), {}}
	case !isIP:
		return "", false
	case ip.IsLoopback():
		candidates = append(candidates, netip.Addr{})
	}
	for _, a := range candidates {
		if l, yes := c.ports[port][a]; yes {
			return l.raw, true
		}
	}
	return "", false
}

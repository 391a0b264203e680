package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Diff says in words what putting next in the place of old changes, one line per change; empty exactly when
// nothing does. Services come in next's order, then the removed ones. old may be nil: all is new.
func Diff(old, next *proxy.Spec) []string {
	if old == nil {
		old = &proxy.Spec{}
	}
	d := &diff{}
	was := byName(old.Services, serviceName)
	for _, s := range next.Services {
		d.subject = "service " + s.Name
		if before, known := was[s.Name]; known {
			d.service(before, s)
		} else {
			d.say(" added: " + serviceInWords(s))
		}
	}
	is := byName(next.Services, serviceName)
	for _, s := range old.Services {
		if _, stays := is[s.Name]; !stays {
			d.subject = "service " + s.Name
			d.say(" removed (its listeners close, its connections drain)")
		}
	}
	d.subject = "services"
	d.order(" ", namesIn(old.Services, serviceName), namesIn(next.Services, serviceName))
	d.groups(old.Groups, next.Groups)
	return d.lines
}

// DiffConfig is Diff of the whole file. A reload does not carry out changes of state_dir, admin.socket, admin.listen and
// log.format; those lines end in "(needs a restart)", and NeedsRestart gives them alone. started is what the door began with.
func DiffConfig(started, old, next *Config) []string {
	d := &diff{lines: NeedsRestart(started, next)}
	d.words("admin.roles.operate", roleInWords(old.Admin.Roles.Operate), roleInWords(next.Admin.Roles.Operate))
	d.words("admin.roles.read", roleInWords(old.Admin.Roles.Read), roleInWords(next.Admin.Roles.Read))
	d.words("log.level", old.Log.Level, next.Log.Level)
	d.checks(old.checks, next.checks)
	return append(d.lines, Diff(old.spec, next.spec)...)
}

// NeedsRestart says what of next a reload leaves as it was when the door started; empty when nothing.
func NeedsRestart(started, next *Config) []string {
	d := &diff{after: " (needs a restart)"}
	d.words("state_dir", started.StateDir, next.StateDir)
	d.words("admin.socket", started.Admin.Socket, next.Admin.Socket)
	d.words("admin.listen", started.Admin.Listen, next.Admin.Listen)
	d.words("log.format", started.Log.Format, next.Log.Format)
	return d.lines
}

// diff collects the lines about one subject after the other.
type diff struct {
	lines   []string
	subject string // "service node"
	after   string // ends each line
}

func (d *diff) say(what string) { d.lines = append(d.lines, d.subject+what+d.after) }

// words tells that a setting has another value.
func (d *diff) words(what, old, next string) {
	if old != next {
		d.say(what + " " + cmp.Or(old, "none") + " → " + cmp.Or(next, "none"))
	}
}

// order tells that what both have stands in another order, which nothing else told.
func (d *diff) order(what string, old, next []string) {
	both := func(list, other []string) []string {
		is := byName(other, itself)
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { _, there := is[s]; return !there })
	}
	// What was added or removed has its own line; without one, the order is all that differs.
	if now := both(next, old); !slices.Equal(both(old, next), now) {
		d.say(what + "now in the order " + strings.Join(now, ", "))
	}
}

func (d *diff) service(old, next proxy.ServiceSpec) {
	subject := d.subject
	d.subject += ": "
	d.words("mode", string(old.Mode), string(next.Mode))
	d.set("listen ", "", "", listenNames(old.Listen), listenNames(next.Listen))
	d.pools(old.Pools, next.Pools)
	d.subject = subject + ": "
	d.words("active (where the journal remembers none)", old.Active, next.Active)
	d.words("exclusive", onOff(old.Exclusive), onOff(next.Exclusive))
	d.words("balance", string(old.Balance), string(next.Balance))
	d.words("slow_start", short(old.SlowStart), short(next.SlowStart))
	d.words("drain.timeout", short(old.Drain.Timeout), short(next.Drain.Timeout))
	d.words("drain.then", string(old.Drain.Then), string(next.Drain.Then))
	d.words("drain.by_session", onOff(old.Drain.BySession), onOff(next.Drain.BySession))
	d.words("drain.close_over", short(old.Drain.CloseOver), short(next.Drain.CloseOver))
	d.words("hold.timeout", short(old.Hold.Timeout), short(next.Hold.Timeout))
	d.words("hold.max", fmt.Sprint(old.Hold.Max), fmt.Sprint(next.Hold.Max))
	d.words("proxy_protocol.accept", onOff(old.ProxyProtocol.Accept), onOff(next.ProxyProtocol.Accept))
	d.words("proxy_protocol.send", string(old.ProxyProtocol.Send), string(next.ProxyProtocol.Send))
	d.words("timeouts.connect", short(old.Timeouts.Connect), short(next.Timeouts.Connect))
	d.words("timeouts.idle", never(old.Timeouts.Idle), never(next.Timeouts.Idle))
	d.words("timeouts.request_header", short(old.Timeouts.RequestHeader), short(next.Timeouts.RequestHeader))
	d.words("timeouts.request_body", short(old.Timeouts.RequestBody), short(next.Timeouts.RequestBody))
	d.words("timeouts.response", short(old.Timeouts.Response), short(next.Timeouts.Response))
	d.words("timeouts.idle_tunnel", never(old.Timeouts.IdleTunnel), never(next.Timeouts.IdleTunnel))
	d.set("route ", "", "", routeNames(old.Routes), routeNames(next.Routes))
	d.maintenance(&old.Maintenance, &next.Maintenance)
	d.words("state_path", old.StatePath, next.StatePath)
	d.set("trusted_proxies ", "", "", networkNames(old.TrustedProxies), networkNames(next.TrustedProxies))
	d.words("access_log", onOff(old.AccessLog), onOff(next.AccessLog))
	d.preview(old.Preview, next.Preview)
	d.sticky(old.Sticky, next.Sticky)
	d.words("h2c", onOff(old.H2C), onOff(next.H2C))
	d.health(old.Health, next.Health)
	d.tls(old.TLS, next.TLS)
	d.serverTLS(old.ServerTLS, next.ServerTLS)
	d.failover(old.Failover, next.Failover)
	d.words("gates", list(old.Gates), list(next.Gates))
	d.words("require_snapshot", short(old.RequireSnapshot), short(next.RequireSnapshot))
	d.words("watch.for", short(old.Watch.For), short(next.Watch.For))
	d.words("watch.rollback_if", old.Watch.RollbackIf, next.Watch.RollbackIf)
	d.words("watch.interval", short(old.Watch.Interval), short(next.Watch.Interval))
	d.words("watch.over", short(old.Watch.Over), short(next.Watch.Over))
	d.words("watch.min_requests", fmt.Sprint(old.Watch.Min), fmt.Sprint(next.Watch.Min))
	d.words("watch.fall", fmt.Sprint(old.Watch.Fall), fmt.Sprint(next.Watch.Fall))
}

// checks tells which checks came, went, or ask something else; not what, since there may be secrets in it.
func (d *diff) checks(old, next map[string]*health.Check) {
	for _, name := range slices.Sorted(maps.Keys(next)) {
		d.subject = "check " + name
		if before, known := old[name]; !known {
			d.say(" added: " + next[name].Kind())
		} else if !next[name].Same(before) {
			d.say(" changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, stays := next[name]; !stays {
			d.subject = "check " + name
			d.say(" removed")
		}
	}
	d.subject = ""
}

func (d *diff) failover(old, next *proxy.FailoverSpec) {
	switch {
	case old == nil && next == nil:
		return
	case old == nil:
		d.say("failover added: " + mode(next))
		return
	case next == nil:
		d.say("failover removed")
		return
	}
	d.words("failover.mode", mode(old), mode(next))
	d.set("failover.to ", "", "", old.To, next.To)
	d.words("failover.failback", failback(old), failback(next))
	d.words("failover.lockout", short(old.Lockout), short(next.Lockout))
	d.words("failover.hold", short(old.Hold), short(next.Hold))
	if !slices.Equal(old.Fence, next.Fence) { // there may be secrets in it
		d.say("failover.fence changed")
	}
}

func mode(f *proxy.FailoverSpec) string {
	if f.Automatic {
		return "automatic"
	}
	return "manual"
}

func failback(f *proxy.FailoverSpec) string {
	if f.FailbackAfter == 0 {
		return "manual"
	}
	return "after " + short(f.FailbackAfter)
}

func (d *diff) health(old, next *proxy.HealthSpec) {
	switch {
	case old == nil && next == nil:
		return
	case old == nil:
		d.say("health added: " + strings.Join(next.Checks, ", "))
		return
	case next == nil:
		d.say("health removed: servers are not watched any more")
		return
	}
	d.set("health.checks ", "", "", old.Checks, next.Checks)
	d.words("health.interval", short(old.Interval), short(next.Interval))
	d.words("health.timeout", short(old.Timeout), short(next.Timeout))
	d.words("health.rise", fmt.Sprint(old.Rise), fmt.Sprint(next.Rise))
	d.words("health.fall", fmt.Sprint(old.Fall), fmt.Sprint(next.Fall))
	d.words("health: the longest a check may take", short(old.Limit), short(next.Limit))
	d.words("health.cut_dead", onOff(old.CutDead), onOff(next.CutDead))
	d.words("health.none_ready", string(old.NoneReady), string(next.NoneReady))
}

func routeNames(list []proxy.RouteSpec) (all []string) {
	for _, r := range list {
		all = append(all, r.String())
	}
	return all
}

// maintenance tells what differs; of secrets and the page, that they do.
func (d *diff) maintenance(old, next *proxy.MaintenanceSpec) {
	d.words("maintenance.status", fmt.Sprint(old.Status), fmt.Sprint(next.Status))
	d.words("maintenance.retry_after", short(old.RetryAfter), short(next.RetryAfter))
	d.words("maintenance.known.for", short(old.KnownFor), short(next.KnownFor))
	d.set("maintenance.bypass address ", "", "", networkNames(old.Addresses), networkNames(next.Addresses))
	if old.Page != next.Page {
		d.say("maintenance.page has another content")
	}
	if old.Token != next.Token {
		d.say("maintenance.bypass.token has changed")
	}
	if old.KnownKey != next.KnownKey {
		d.say("maintenance.known.key has changed")
	}
}

func networkNames(list []netip.Prefix) (all []string) {
	for _, p := range list {
		all = append(all, p.String())
	}
	return all
}

// set tells which words came and went.
func (d *diff) set(what, came, went string, old, next []string) {
	was, is := byName(old, itself), byName(next, itself)
	for _, s := range next {
		if _, known := was[s]; !known {
			d.say(what + s + " added" + came)
		}
	}
	for _, s := range old {
		if _, stays := is[s]; !stays {
			d.say(what + s + " removed" + went)
		}
	}
	d.order(what, old, next)
}

func (d *diff) pools(old, next []proxy.PoolSpec) {
	service := d.subject
	was, is := byName(old, poolName), byName(next, poolName)
	for _, p := range next {
		d.subject = service + "pool " + p.Name
		if before, known := was[p.Name]; known {
			d.pool(before, p)
		} else {
			d.say(" added: " + serversInWords(p))
		}
	}
	for _, p := range old {
		if _, stays := is[p.Name]; !stays {
			d.subject = service + "pool " + p.Name
			d.say(" removed (its connections drain)")
		}
	}
	d.subject = service
	d.order("pools ", namesIn(old, poolName), namesIn(next, poolName))
}

func (d *diff) pool(old, next proxy.PoolSpec) {
	pool := d.subject + ": "
	was, is := byName(old.Servers, serverName), byName(next.Servers, serverName)
	for _, s := range next.Servers {
		d.subject = pool + serverInWords(s.Name)
		before, known := was[s.Name]
		switch {
		case !known && s.Name == s.Address:
			d.say(" added")
		case !known:
			d.say(" added at " + s.Address)
		default:
			if before.Address != s.Address {
				d.say(": address " + before.Address + " → " + s.Address + " (connections to the old one drain)")
			}
			if before.H2 != s.H2 {
				d.words(": protocol", protocol(before), protocol(s))
			}
			d.words(": weight", fmt.Sprint(before.Weight), fmt.Sprint(s.Weight))
			d.words(": max_connections", limit(before.MaxConnections), limit(s.MaxConnections))
		}
	}
	for _, s := range old.Servers {
		if _, stays := is[s.Name]; !stays {
			d.subject = pool + serverInWords(s.Name)
			d.say(" removed (its connections drain)")
		}
	}
	d.subject = pool
	d.order("servers ", namesIn(old.Servers, serverName), namesIn(next.Servers, serverName))
}

func (d *diff) groups(old, next map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(next)) {
		d.subject = "group " + name
		if members, known := old[name]; known {
			d.subject += ": "
			d.set("", "", "", members, next[name])
		} else {
			d.say(" added: " + strings.Join(next[name], ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, stays := next[name]; !stays {
			d.subject = "group " + name
			d.say(" removed")
		}
	}
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, v := range list {
		m[name(v)] = v
	}
	return m
}

func namesIn[T any](list []T, name func(T) string) []string {
	all := make([]string, len(list))
	for i, v := range list {
		all[i] = name(v)
	}
	return all
}

func itself(s string) string                    { return s }
func serviceName(s proxy.ServiceSpec) string    { return s.Name }
func poolName(p proxy.PoolSpec) string          { return p.Name }
func serverName(s proxy.ServerSpec) string      { return s.Name }
func listenNames(l []proxy.ListenSpec) []string { return namesIn(l, proxy.ListenSpec.String) }

func serviceInWords(s proxy.ServiceSpec) string {
	var pools []string
	for _, p := range s.Pools {
		pools = append(pools, fmt.Sprintf("%s (%s)", p.Name, serversInWords(p)))
	}
	words := fmt.Sprintf("listens on %s; pools %s; active %s", strings.Join(listenNames(s.Listen), ", "), strings.Join(pools, ", "), s.Active)
	if s.TLS != nil {
		words += "; tls " + tlsInWords(s.TLS)
	}
	if s.ServerTLS != nil {
		words += "; speaks TLS with servers"
	}
	return words
}

func serversInWords(p proxy.PoolSpec) string {
	if len(p.Servers) == 1 {
		return "1 server"
	}
	return fmt.Sprintf("%d servers", len(p.Servers))
}

func protocol(s proxy.ServerSpec) string {
	if s.H2 {
		return "HTTP/2"
	}
	return "HTTP/1.1"
}

func serverInWords(name string) string { return "server " + name }

func roleInWords(r Role) string {
	var all []string
	if len(r.Users) > 0 {
		all = append(all, "users "+strings.Join(r.Users, ", "))
	}
	if len(r.Groups) > 0 {
		all = append(all, "groups "+strings.Join(r.Groups, ", "))
	}
	return strings.Join(all, "; ")
}

func onOff(b bool) string { return fmt.Sprint(b) }

func limit(n int) string {
	if n == 0 {
		return "no limit"
	}
	return fmt.Sprint(n)
}

func never(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return short(d)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

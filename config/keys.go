package config

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// The tables of turnout.yaml: every key there is, what it may be, its default, and where it goes. The parser
// reads by them, and Schema writes them down.

type fileKeys struct {
	stateDir value[string]
	admin    value[adminKeys]
	log      value[logKeys]
	checks   value[[]named[checkKeys]]
	services value[[]named[serviceKeys]]
	groups   value[[]named[[]value[string]]]
}

var fileShape = keysOf(
	key("state_dir", "Folder of the journal and the current state. Default: /var/lib/turnout for root, else ./.turnout.",
		path(maxPath), func(f *fileKeys) *value[string] { return &f.stateDir }),
	key("admin", "The admin socket, who may use it, and the optional HTTP listener for metrics.",
		adminShape, func(f *fileKeys) *value[adminKeys] { return &f.admin }),
	key("log", "The door's own log.",
		logShape, func(f *fileKeys) *value[logKeys] { return &f.log }),
	key("checks", "Questions to servers, by name; services say in health which of them their servers must pass.",
		namesOf("check", checkShape), func(f *fileKeys) *value[[]named[checkKeys]] { return &f.checks }),
	key("services", "What clients reach, by name.",
		namesOf("service", serviceShape), func(f *fileKeys) *value[[]named[serviceKeys]] { return &f.services }).mustBe(),
	key("groups", "Services that change together: group name and its services.",
		namesOf("group", listOf("a list of services", name())), func(f *fileKeys) *value[[]named[[]value[string]]] { return &f.groups }),
)

type adminKeys struct {
	socket value[string]
	listen value[proxy.ListenSpec]
	roles  value[rolesKeys]
}

var adminShape = keysOf(
	key("socket", "Path of the admin socket. Default: /run/turnout/admin.sock for root, else <state_dir>/admin.sock.",
		path(maxSocket), func(a *adminKeys) *value[string] { return &a.socket }),
	key("listen", "host:port for /metrics, /healthz, /readyz and /state; without it there is none.",
		text(`host:port such as "127.0.0.1:9900"`, object{"pattern": ":[0-9]+$"}, parseListenTCP), func(a *adminKeys) *value[proxy.ListenSpec] { return &a.listen }),
	key("roles", "Who may do what on the admin socket, besides root and the door's own user.",
		rolesShape, func(a *adminKeys) *value[rolesKeys] { return &a.roles }),
)

type rolesKeys struct{ operate, read value[roleKeys] }

var rolesShape = keysOf(
	key("operate", "May change what the door does.", roleShape, func(r *rolesKeys) *value[roleKeys] { return &r.operate }),
	key("read", "May look only.", roleShape, func(r *rolesKeys) *value[roleKeys] { return &r.read }),
)

type roleKeys struct{ users, groups value[[]value[string]] }

var roleShape = keysOf(
	key("users", "Names or numeric ids.", listOf("a list of users", account("user")), func(r *roleKeys) *value[[]value[string]] { return &r.users }),
	key("groups", "Names or numeric ids.", listOf("a list of groups", account("group")), func(r *roleKeys) *value[[]value[string]] { return &r.groups }),
)

type logKeys struct{ level, format value[string] }

var logShape = keysOf(
	key("level", "The least level that is written.",
		oneOf("debug", "info", "warn", "error").or("info"), func(l *logKeys) *value[string] { return &l.level }),
	key("format", "For people or for machines.",
		oneOf("console", "json").or("console"), func(l *logKeys) *value[string] { return &l.format }),
)

type serviceKeys struct {
	listen          value[[]value[proxy.ListenSpec]]
	mode            value[proxy.Mode]
	pools           value[[]named[poolKeys]]
	active          value[string]
	exclusive       value[bool]
	balance         value[proxy.Balance]
	slowStart       value[time.Duration]
	drain           value[drainKeys]
	hold            value[holdKeys]
	proxyProtocol   value[proxyKeys]
	timeouts        value[timeoutKeys]
	accessLog       value[bool]
	health          value[healthKeys]
	routes          value[[]value[routeKeys]]
	maintenance     value[maintenanceKeys]
	statePath       value[string]
	trusted         value[[]value[netip.Prefix]]
	tls             value[clientTLSKeys]
	serverTLS       value[serverTLSKeys]
	failover        value[failoverKeys]
	gates           value[[]value[string]]
	requireSnapshot value[time.Duration]
	watch           value[watchKeys]
	preview         value[previewKeys]
	sticky          value[stickyKeys]
	h2c             value[bool]
}

var serviceShape = keysOf(
	key("listen", "Where clients connect: host:port, unix:/path or systemd:NAME, or a list of them.",
		either(wantListen+", or a list of them", isText, converted(listenShape, oneListen), isList, listOf("a list of addresses", listenShape)),
		func(s *serviceKeys) *value[[]value[proxy.ListenSpec]] { return &s.listen }).mustBe(),
	key("mode", "What the service carries.",
		oneOf(proxy.TCP, proxy.HTTP).or(proxy.TCP), func(s *serviceKeys) *value[proxy.Mode] { return &s.mode }),
	key("pools", "Sets of servers, by name.",
		namesOf("pool", poolShape), func(s *serviceKeys) *value[[]named[poolKeys]] { return &s.pools }).mustBe(),
	key("active", "The pool that is active the first time; afterwards the journal remembers. Default: the first pool.",
		name(), func(s *serviceKeys) *value[string] { return &s.active }),
	key("exclusive", "Never two pools with clients at once: every swap is exclusive.",
		yesNo().or(false), func(s *serviceKeys) *value[bool] { return &s.exclusive }),
	key("balance", "How a server of the active pool is chosen.",
		oneOf(proxy.RoundRobin, proxy.LeastConnections, proxy.SourceHash).or(proxy.RoundRobin), func(s *serviceKeys) *value[proxy.Balance] { return &s.balance }),
	key("slow_start", "Time in which a server that failed or was drained gets its whole share of new work again, a tenth of it at first. Without it, at once.",
		duration(time.Millisecond), func(s *serviceKeys) *value[time.Duration] { return &s.slowStart }),
	key("drain", "How a drain ends.", drainShape, func(s *serviceKeys) *value[drainKeys] { return &s.drain }),
	key("hold", "Limits of a hold.", holdShape, func(s *serviceKeys) *value[holdKeys] { return &s.hold }),
	key("proxy_protocol", "The PROXY protocol towards clients and servers.", proxyShape, func(s *serviceKeys) *value[proxyKeys] { return &s.proxyProtocol }),
	key("timeouts", "Deadlines of a connection.", timeoutShape, func(s *serviceKeys) *value[timeoutKeys] { return &s.timeouts }),
	key("access_log", "One log line per ended connection.",
		yesNo().or(false), func(s *serviceKeys) *value[bool] { return &s.accessLog }),
	key("health", "How the servers are watched. Without it they are not.", healthShape, func(s *serviceKeys) *value[healthKeys] { return &s.health }),
	key("routes", "http: which requests are this service's, by host and path; without it, all that are no other's on the listener.",
		listOf("a list of routes (host, path)", routeShape), func(s *serviceKeys) *value[[]value[routeKeys]] { return &s.routes }),
	key("maintenance", "http: what is answered in maintenance, and who passes it.", maintenanceShape, func(s *serviceKeys) *value[maintenanceKeys] { return &s.maintenance }),
	key("state_path", "http: path that the door itself answers with the service's state, as JSON.", statePathShape, func(s *serviceKeys) *value[string] { return &s.statePath }),
	key("preview", "http: leads requests that are entitled to it to a pool that is not active yet.", previewShape, func(s *serviceKeys) *value[previewKeys] { return &s.preview }),
	key("sticky", "http: keeps a client's requests on one server, by a cookie.", stickyShape, func(s *serviceKeys) *value[stickyKeys] { return &s.sticky }),
	key("h2c", "http without tls: clients may also speak HTTP/2 (prior knowledge), as gRPC does.",
		yesNo().or(false), func(s *serviceKeys) *value[bool] { return &s.h2c }),
	key("trusted_proxies", "http: addresses or networks of proxies before the door, whose X-Forwarded-* and Forwarded are kept and added to.",
		listOf("a list of addresses and networks", networkShape), func(s *serviceKeys) *value[[]value[netip.Prefix]] { return &s.trusted }),
	key("tls", "How clients speak TLS. Without it they do not, or it goes through the door unseen.",
		clientTLSShape, func(s *serviceKeys) *value[clientTLSKeys] { return &s.tls }),
	key("server_tls", "How the door speaks TLS with the servers. Without it, it does not.",
		serverTLSShape, func(s *serviceKeys) *value[serverTLSKeys] { return &s.serverTLS }),
	key("failover", "What the door does by itself when no server of the active pool is ready.", failoverShape, func(s *serviceKeys) *value[failoverKeys] { return &s.failover }),
	key("gates", "Checks that must pass before a swap: those with an address of their own are what the service depends on, others are asked of each server of the new pool.",
		listOf("a list of checks", name()), func(s *serviceKeys) *value[[]value[string]] { return &s.gates }),
	key("require_snapshot", "A swap needs a snapshot (turnout snapshot take) of the service that is no older.",
		duration(time.Second), func(s *serviceKeys) *value[time.Duration] { return &s.requireSnapshot }),
	key("watch", "How long, and for what, a swap is taken back by itself.", watchShape, func(s *serviceKeys) *value[watchKeys] { return &s.watch }),
)

var listenShape = text(wantListen, object{"pattern": "^unix:/.|^systemd:.|^[^/]*:[0-9]+$"}, parseListen)

func oneListen(at place, n *node, l proxy.ListenSpec) []value[proxy.ListenSpec] {
	return []value[proxy.ListenSpec]{{place: at, v: l, raw: n.text, written: true}}
}

type poolKeys struct{ servers value[[]value[serverKeys]] }

var serversShape = listOf("a list of servers",
	either(wantServer+", or a map of keys (name, address, weight, max_connections)",
		isText, converted(serverAddressShape, oneServer), isMap, serverShape))

var poolShape = either("a list of servers, or a map with the key servers",
	isList, converted(serversShape, func(at place, _ *node, s []value[serverKeys]) poolKeys {
		return poolKeys{servers: value[[]value[serverKeys]]{place: at, v: s, written: true}}
	}),
	isMap, keysOf(
		key("servers", "The servers of the pool.", serversShape, func(p *poolKeys) *value[[]value[serverKeys]] { return &p.servers }).mustBe(),
	))

type serverKeys struct {
	name           value[string]
	address        value[string]
	weight         value[int]
	maxConnections value[int]
}

// serverAddressShape is addressShape with h2c:// or h2:// before it, or not.
var serverAddressShape = text(wantServer, object{"pattern": "^(h2c?://)?unix:/.|^(h2c?://)?[^/]+:[0-9]+$"}, func(s string) (string, string) {
	scheme, rest := schemeOf(s)
	address, problem := parseServer(rest)
	return scheme + address, problem
})

// Before the address of a server that speaks HTTP/2: without TLS, and with.
const (
	h2cScheme = "h2c://"
	h2Scheme  = "h2://"
)

func schemeOf(s string) (scheme, address string) {
	for _, scheme := range []string{h2cScheme, h2Scheme} {
		if address, has := strings.CutPrefix(s, scheme); has {
			return scheme, address
		}
	}
	return "", s
}

var addressShape = text(wantServer, object{"pattern": "^unix:/.|^[^/]+:[0-9]+$"}, parseServer)

var serverShape = keysOf(
	key("name", "What the server is called. Default: its address.",
		name(), func(s *serverKeys) *value[string] { return &s.name }),
	key("address", "host:port or unix:/path; http: with h2c:// before it, the server is spoken to in HTTP/2 without TLS, with h2:// in HTTP/2 over TLS (server_tls), as gRPC needs.",
		serverAddressShape, func(s *serverKeys) *value[string] { return &s.address }).mustBe(),
	key("weight", "Its share of new connections beside the others; 0: none.",
		whole(0, 256).or(1), func(s *serverKeys) *value[int] { return &s.weight }),
	key("max_connections", "The most connections at once; 0: no limit.",
		whole(0, math.MaxInt32).or(0), func(s *serverKeys) *value[int] { return &s.maxConnections }),
)

func oneServer(at place, n *node, address string) serverKeys {
	s := serverShape.absent()
	s.address = value[string]{place: at, v: address, raw: n.text, written: true}
	return s
}

type drainKeys struct {
	timeout   value[time.Duration]
	then      value[proxy.Then]
	bySession value[bool]
	closeOver value[time.Duration]
}

var drainShape = keysOf(
	key("timeout", "How long connections may take to end by themselves.",
		duration(time.Millisecond).or(30*time.Second), func(d *drainKeys) *value[time.Duration] { return &d.timeout }),
	key("then", "What becomes of those that are left.",
		oneOf(proxy.ThenClose, proxy.ThenKeep).or(proxy.ThenClose), func(d *drainKeys) *value[proxy.Then] { return &d.then }),
	key("by_session", "With sticky: requests of clients that are on a server which is drained go on to it, up to the timeout; others go elsewhere at once.",
		yesNo().or(false), func(d *drainKeys) *value[bool] { return &d.bySession }),
	key("close_over", "After the timeout, over how long what is left is ended, one connection after the other, so that their clients do not all come back at once; 0: all at once.",
		duration(0).or(0), func(d *drainKeys) *value[time.Duration] { return &d.closeOver }),
)

type holdKeys struct {
	timeout value[time.Duration]
	max     value[int]
}

var holdShape = keysOf(
	key("timeout", "The longest that a client waits at the door.",
		duration(time.Millisecond).or(30*time.Second), func(h *holdKeys) *value[time.Duration] { return &h.timeout }),
	key("max", "The most clients that wait at once.",
		whole(1, 1_000_000).or(10_000), func(h *holdKeys) *value[int] { return &h.max }),
)

type proxyKeys struct {
	accept value[bool]
	send   value[proxy.ProxyVersion]
}

var proxyShape = keysOf(
	key("accept", "Every client must begin with a PROXY header.",
		yesNo().or(false), func(p *proxyKeys) *value[bool] { return &p.accept }),
	key("send", "Which PROXY header servers are sent.",
		oneOf(proxy.ProxyOff, proxy.ProxyV1, proxy.ProxyV2).or(proxy.ProxyOff), func(p *proxyKeys) *value[proxy.ProxyVersion] { return &p.send }),
)

type timeoutKeys struct {
	connect, idle, requestHeader, requestBody, response, idleTunnel value[time.Duration]
}

var timeoutShape = keysOf(
	key("connect", "For one dial; then the next server is tried.",
		duration(time.Millisecond).or(3*time.Second), func(t *timeoutKeys) *value[time.Duration] { return &t.connect }),
	key("idle", "A connection without a byte either way for so long is closed (http: between two requests); 0: never.",
		durationOrNever().or(time.Hour), func(t *timeoutKeys) *value[time.Duration] { return &t.idle }),
	key("request_header", "http: from a request's first byte to the end of its head; then 408. Also from a connection to its first request; then it is closed.",
		duration(time.Millisecond).or(10*time.Second), func(t *timeoutKeys) *value[time.Duration] { return &t.requestHeader }),
	key("request_body", "http: without a byte of a request's body, or without the client taking a byte of its answer; then 408, or the end.",
		duration(time.Millisecond).or(time.Minute), func(t *timeoutKeys) *value[time.Duration] { return &t.requestBody }),
	key("response", "http: without a byte from the server once it has the request; then 504, or the end.",
		duration(time.Millisecond).or(time.Minute), func(t *timeoutKeys) *value[time.Duration] { return &t.response }),
	key("idle_tunnel", "http: a WebSocket or another upgraded connection without a byte either way for so long is closed; 0: never.",
		durationOrNever().or(0), func(t *timeoutKeys) *value[time.Duration] { return &t.idleTunnel }),
)

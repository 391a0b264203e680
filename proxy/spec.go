package proxy

import (
	"net/netip"
	"time"
)

// Spec is what the configuration file declares: services, pools, policy. It is built once by package
// config, already checked, and never changed afterwards. What the journal remembers (active pool, server
// states, holds) is in Memory; a Snapshot is made of both.
type Spec struct {
	Services []ServiceSpec       // in the file's order; names are unique
	Groups   map[string][]string // group name → names of services; no group has a service's name
}

// Mode says what a service carries.
type Mode string

// Modes of a service.
const (
	TCP  Mode = "tcp"
	HTTP Mode = "http"
)

// Balance says how a server is chosen inside the active pool.
type Balance string

// Ways of balancing.
const (
	RoundRobin       Balance = "round_robin"       // smooth weighted round robin; the default
	LeastConnections Balance = "least_connections" // fewest connections per weight
	SourceHash       Balance = "source_hash"       // rendezvous hash of the client's address: removing one server moves only its share
)

// Then says what becomes of connections that a drain still has at its deadline.
type Then string

// Ends of a drain.
const (
	ThenClose Then = "close" // cut them, idle ones first, never in the middle of an answer while that can be helped
	ThenKeep  Then = "keep"  // leave them until they end by themselves
)

// Listener networks, as in ListenSpec.Network.
const (
	NetTCP     = "tcp"     // Address is host:port; an empty host is every address, IPv4 and IPv6
	NetUnix    = "unix"    // Address is a path
	NetSystemd = "systemd" // Address is a FileDescriptorName= of a socket unit
)

// ListenSpec is one address a service listens on. It is comparable: two equal values are one listener,
// which a reload keeps open.
type ListenSpec struct {
	Network string // NetTCP, NetUnix or NetSystemd
	Address string
}

// String is the form used in the configuration file: host:port, unix:/path or systemd:NAME.
func (l ListenSpec) String() string {
	if l.Network == NetTCP {
		return l.Address
	}
	return l.Network + ":" + l.Address
}

// ServiceSpec declares one service. All durations are positive unless said otherwise.
type ServiceSpec struct {
	Name          string
	Mode          Mode
	Listen        []ListenSpec
	Pools         []PoolSpec // in the file's order; at least one
	Active        string     // the pool that is active the first time; afterwards Memory wins
	Exclusive     bool       // every swap of this service is exclusive (P4)
	Balance       Balance
	SlowStart     time.Duration // for how long a server that takes new work again gets less than its share; 0: not at all
	Drain         DrainSpec
	Hold          HoldSpec
	ProxyProtocol ProxyProtocolSpec
	Preview       *PreviewSpec // http only; nil: none
	Sticky        *StickySpec  // http only; nil: none
	H2C           bool         // http without TLS only: clients may speak HTTP/2
	Timeouts      TimeoutSpec
	AccessLog     bool          // one log line per ended connection, or request
	Health        *HealthSpec   // nil: servers are not watched
	Failover      *FailoverSpec // nil: by hand, as with Automatic off

	Gates []string // checks that must pass before a swap
	// RequireSnapshot: a swap needs a snapshot of readings that is no older; 0: none.
	RequireSnapshot time.Duration
	Watch           WatchSpec

	Maintenance MaintenanceSpec // http: what is said in maintenance, and who passes it

	StatePath      string         // http: the door itself answers it with the service's state (Public); "": there is none
	Routes         []RouteSpec    // http: which requests on Listen are this service's; none: all that are no other's
	TrustedProxies []netip.Prefix // http: clients whose word on who is behind them counts
	TLS            *TLSSpec       // nil: the door speaks no TLS with its clients
	ServerTLS      *ServerTLSSpec // nil: nor with its servers
}

// MaintenanceSpec says how a service of mode http answers in maintenance, and who passes it.
type MaintenanceSpec struct {
	Status     int            // default 503
	RetryAfter time.Duration  // when to come again, unless the maintenance knows its end; default 1m
	Page       string         // HTML; "": a short one of the door's
	Token      string         // who shows it passes; "": nobody does
	Addresses  []netip.Prefix // from where clients pass
	KnownKey   string         // signs the cookie by which a soft maintenance knows its clients; "": no cookie
	KnownFor   time.Duration  // how long a client is known after its last request; default 24h
}

// PoolSpec declares a named set of servers.
type PoolSpec struct {
	Name    string
	Servers []ServerSpec // at least one; names are unique within the pool
}

// ServerSpec declares one server.
type ServerSpec struct {
	Name           string // default: the address
	Address        string // host:port or unix:/path; a host name is resolved by package config's caller, see Resolve
	Weight         int    // 0..256; 0: no new connections by balancing; default 1
	MaxConnections int    // 0: no limit
	H2             bool   // of http services: it is spoken to in HTTP/2; with ServerTLS in TLS (ALPN h2), else without (prior knowledge, RFC 9113 3.3)
}

// DrainSpec is the default policy of a drain.
type DrainSpec struct {
	Timeout   time.Duration // default 30s
	Then      Then          // default ThenClose
	BySession bool          // requests of sessions (StickySpec) go on to a server that is drained, up to the deadline
	CloseOver time.Duration // over how long, after the timeout, the ends of what is left are spread; default 0
}

// HoldSpec bounds a hold.
type HoldSpec struct {
	Timeout time.Duration // the longest a client waits at the door before it gets the explicit answer; default 30s
	Max     int           // the most clients waiting at once; the next one gets the explicit answer; default 10000
}

// PreviewSpec leads requests that are entitled to it to a chosen pool before a swap leads all there.
type PreviewSpec struct {
	Header      string      // names the place, POOL or POOL/SERVER; lower case; "": there is none
	TokenHeader string      // has the token; lower case
	Cookie      string      // a cookie with POOL:TOKEN; "": there is none
	TokenHash   [32]byte    // SHA-256 of the token, which is kept nowhere
	Listen      *ListenSpec // a listener of its own, which entitles by itself; nil: none
	Pool        string      // where that one leads; "": the first pool that is not active
}

// StickySpec keeps a client's requests on one server, as long as that one takes new work.
type StickySpec struct {
	Cookie string // its name
}

// ProxyVersion is a version of the PROXY protocol.
type ProxyVersion string

// Versions of the PROXY protocol that a service can send.
const (
	ProxyOff ProxyVersion = "off"
	ProxyV1  ProxyVersion = "v1"
	ProxyV2  ProxyVersion = "v2"
)

// ProxyProtocolSpec says whether clients must announce themselves by a PROXY header, and whether servers
// are sent one. https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt
type ProxyProtocolSpec struct {
	Accept bool // every client must begin with a v1 or v2 header; anything else is closed
	Send   ProxyVersion
}

// TimeoutSpec holds the deadlines of a connection.
type TimeoutSpec struct {
	Connect time.Duration // for one dial, then the next server is tried; also the time a client has to send its PROXY header; default 3s
	Idle    time.Duration // a connection without a byte either way for so long is closed; http: between two requests; 0: never; default 1h

	// Of http services.
	RequestHeader time.Duration // from a request's first byte to the end of its head; default 10s
	RequestBody   time.Duration // without a byte of a request's body, or without the client taking a byte of its answer; default 60s
	IdleTunnel    time.Duration // a tunnel (WebSocket) without a byte either way for so long is closed; 0: never; default never
	Response      time.Duration // without a byte from the server, once it has the whole request; default 60s
}

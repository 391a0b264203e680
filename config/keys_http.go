package config

import (
	"net/netip"
	"regexp"
	"strings"
	"time"
)

type routeKeys struct{ host, path value[string] }

const (
	wantRouteHost = `a host name such as api.example.org, or *.example.org for all names below it`
	wantRoute     = `a path prefix such as /v1/`
)

var routeHostRegexp = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_~-]+(\.[A-Za-z0-9_~-]+)*$|^\[[0-9a-fA-F:.]+\]$`)

var routeShape = keysOf(
	key("host", "Host of the request, without port; *.example.org: all names below. Default: every host.",
		text(wantRouteHost, object{"pattern": routeHostRegexp.String()}, func(s string) (string, string) {
			if !routeHostRegexp.MatchString(s) || len(s) > 255 {
				return "", "want " + wantRouteHost
			}
			return strings.ToLower(s), ""
		}), func(r *routeKeys) *value[string] { return &r.host }),
	key("path", "Prefix of the path, by whole segments. Default: every path.",
		text(wantRoute, object{"pattern": "^/[^?#\\s]*$"}, func(s string) (string, string) {
			if s[0] != '/' || strings.ContainsAny(s, "?# \t") {
				return "", "want " + wantRoute
			}
			return s, ""
		}), func(r *routeKeys) *value[string] { return &r.path }),
)

type maintenanceKeys struct {
	status     value[int]
	retryAfter value[time.Duration]
	page       value[string]
	bypass     value[bypassKeys]
	known      value[knownKeys]
}

type bypassKeys struct {
	token     value[secret]
	addresses value[[]value[netip.Prefix]]
}

type knownKeys struct {
	key value[secret]
	age value[time.Duration]
}

var maintenanceShape = keysOf(
	key("status", "Status of the answer.", whole(200, 599).or(503), func(m *maintenanceKeys) *value[int] { return &m.status }),
	key("retry_after", "When clients may come again, for Retry-After; a maintenance with --for says its own end.",
		duration(time.Second).or(time.Minute), func(m *maintenanceKeys) *value[time.Duration] { return &m.retryAfter }),
	key("page", "File of the HTML page that is shown, relative to this file.", path(maxPath), func(m *maintenanceKeys) *value[string] { return &m.page }),
	key("bypass", "Who passes a maintenance.", keysOf(
		key("token", "Requests with this in X-Turnout-Bypass, or in the cookie turnout_bypass, pass.",
			secretText(wantSecret), func(b *bypassKeys) *value[secret] { return &b.token }),
		key("addresses", "Clients from these addresses and networks pass.",
			listOf("a list of addresses and networks", networkShape), func(b *bypassKeys) *value[[]value[netip.Prefix]] { return &b.addresses }),
	), func(m *maintenanceKeys) *value[bypassKeys] { return &m.bypass }),
	key("known", "Clients get a signed cookie, by which a soft maintenance knows them.", keysOf(
		key("key", "What signs the cookie; the same for all doors.", secretText(wantSecret), func(k *knownKeys) *value[secret] { return &k.key }).mustBe(),
		key("for", "How long a client is known after its last request.", duration(time.Minute).or(24*time.Hour), func(k *knownKeys) *value[time.Duration] { return &k.age }),
	), func(m *maintenanceKeys) *value[knownKeys] { return &m.known }),
)

var statePathRegexp = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+$`)

const wantStatePath = "a path of its own such as /.well-known/turnout"

// statePathShape is compared with the path to route by, so it has no dot segments and no escapes.
var statePathShape = text(wantStatePath, object{"pattern": statePathRegexp.String()}, func(s string) (string, string) {
	if len(s) > 255 || !statePathRegexp.MatchString(s) || strings.Contains(s+"/", "/./") || strings.Contains(s+"/", "/../") {
		return "", "want " + wantStatePath
	}
	return s, ""
})

var networkShape = text(`an address or a network such as "10.0.0.0/8"`, object{"pattern": `^[0-9a-fA-F:.]+(/[0-9]{1,3})?$`}, func(s string) (netip.Prefix, string) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, `want an address or a network such as "10.0.0.0/8"`
	case p != p.Masked():
		return p, "has bits set behind its prefix; want " + p.Masked().String()
	}
	return p, ""
})

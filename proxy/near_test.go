package proxy_test

import (
	"slices"
	"testing"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestNearest_FindsTheWordThatWasMeant(t *testing.T) {
	keys := []string{"listen", "mode", "pools", "active", "proxy_protocol", "timeouts", "max_connections", "weight"}
	names := []string{"web", "api", "node", "blue", "green", "primary", "standby", "127.0.0.1:9001", "127.0.0.1:9002"}
	verbs := []string{"swap", "status", "split", "drain"}
	for _, c := range []struct {
		word  string
		known []string
		want  string
	}{
		{"lissten", keys, "listen"}, {"Listen", keys, "listen"}, {"lsiten", keys, "listen"}, {"timeout", keys, "timeouts"},
		{"proxy-protocol", keys, "proxy_protocol"}, {"proxyProtocol", keys, "proxy_protocol"}, {"maxconnections", keys, "max_connections"},
		{"wieght", keys, "weight"}, {"pool", keys, "pools"}, {"zzz", keys, ""}, {"", keys, ""}, {"x", keys, ""}, {"something_else", keys, ""},
		{"wbe", names, "web"}, {"ewb", names, "web"}, {"we", names, "web"}, {"ap", names, "api"}, {"pai", names, "api"}, {"bew", names, ""},
		{"gren", names, "green"}, {"prim", names, "primary"}, {"127.0.0.1:9003", names, "127.0.0.1:9001"},
		{"swpa", verbs, "swap"}, {"stat", verbs, "status"}, {"xyzzy", verbs, ""},
	} {
		for range 2 { // whatever their order
			if got := proxy.Nearest(c.word, c.known); got != c.want {
				t.Errorf("%q of %q: got %q, want %q", c.word, c.known, got, c.want)
			}
			c.known = slices.Clone(c.known)
			slices.Reverse(c.known)
		}
	}
}

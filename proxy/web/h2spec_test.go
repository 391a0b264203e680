package web_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
	framing "golang.org/x/net/http2"
)

// otherwise names cases of h2spec in which this door does something else than they want; see
// TestHTTP2_WhereItDiffersFromH2spec for what.
var otherwise = map[string]string{
	"http2/8.1.2.2/1": "a field that is of one connection is answered with 400, as RFC 9113 8.1.1 allows, and not with a reset",
	"http2/8.1.2.2/2": "so is a TE other than trailers",
	"http2/6.5.3/1":   "one SETTINGS frame that says the same setting twice ends the connection, where RFC 9113 6.5.3 has the last count",
}

// Each case is a connection of its own that breaks one rule of RFC 9113 or 7541, or keeps it.
func TestHTTP2_KeepsEveryRuleOfH2spec(t *testing.T) {
	doorSpec, _ := secured2(t, pools([]string{"p", digester(t, "s")}))
	d := openDoor(t, doorSpec)
	host, port, err := net.SplitHostPort(d.addr("svc"))
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Host: host, Path: "/?n=1000", Timeout: 30 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: true, Insecure: true}
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	ran, differ := 0, 0
	var walk func(t *testing.T, g *spec.TestGroup)
	walk = func(t *testing.T, g *spec.TestGroup) {
		for i, tc := range append(g.Tests, g.StrictTests...) {
			name := fmt.Sprintf("%s/%d", g.ID(), i+1)
			if otherwise[name] != "" {
				differ++
				continue
			}
			ran++
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conn, err := spec.Dial(c)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close() //nolint:errcheck // it was judged
				if err = tc.Run(c, conn); err != nil && !errors.Is(err, spec.ErrSkipped) {
					t.Errorf("%s: %s: %v", tc.Desc, tc.Requirement, err)
				}
			})
		}
		for _, sub := range g.Groups {
			walk(t, sub)
		}
	}
	t.Run("cases", func(t *testing.T) {
		for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			walk(t, g)
		}
	})
	if ran != 143 || differ != len(otherwise) {
		t.Errorf("%d cases, and %d in which the door differs; want 143 and %d", ran, differ, len(otherwise))
	}
}

func TestHTTP2_WhereItDiffersFromH2spec(t *testing.T) {
	doorSpec, config := secured2(t, pools([]string{"p", digester(t, "s")}))
	d := openDoor(t, doorSpec)
	for _, c := range []struct {
		name string
		do   func(c *h2conn)
		want string
	}{
		{"a field of one connection", func(c *h2conn) { c.headers(1, true, "connection", "keep-alive") }, "HEADERS 1 400"},
		{"a TE other than trailers", func(c *h2conn) { c.headers(1, true, "te", "trailers, deflate") }, "HEADERS 1 400"},
		{"the same setting twice", func(c *h2conn) {
			c.settings(framing.Setting{ID: framing.SettingInitialWindowSize, Val: 100}, framing.Setting{ID: framing.SettingInitialWindowSize, Val: 1})
		}, "GOAWAY PROTOCOL_ERROR"},
	} {
		conn := d.h2(config)
		c.do(conn)
		if got := conn.until("HEADERS", "GOAWAY", "RST_STREAM", "end"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

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
)

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
	ran := 0
	var walk func(t *testing.T, g *spec.TestGroup)
	walk = func(t *testing.T, g *spec.TestGroup) {
		for i, tc := range append(g.Tests, g.StrictTests...) {
			ran++
			t.Run(fmt.Sprintf("%s/%d", g.ID(), i+1), func(t *testing.T) {
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
	if ran != 146 {
		t.Errorf("%d cases; want 146", ran)
	}
}

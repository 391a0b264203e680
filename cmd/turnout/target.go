package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// place names a pool or a server: SERVICE/POOL or SERVICE/POOL/SERVER.
type place struct {
	service, pool, server string
}

// parsePlace splits at the first two slashes only: a server's name may be an address with slashes in it, such
// as unix:/run/app.sock.
func parsePlace(s string) (place, bool) {
	parts := strings.SplitN(s, "/", 3)
	for _, p := range parts {
		if p == "" {
			return place{}, false
		}
	}
	switch len(parts) {
	case 2:
		return place{parts[0], parts[1], ""}, true
	case 3:
		return place{parts[0], parts[1], parts[2]}, true
	}
	return place{}, false
}

func (p place) String() string {
	if p.server == "" {
		return p.service + "/" + p.pool
	}
	return p.service + "/" + p.pool + "/" + p.server
}

// place reads the argument of drain, ready and weight.
func (c *cli) place(cmd *cobra.Command, args []string) (place, error) {
	if p, ok := parsePlace(args[0]); ok {
		return p, nil
	}
	return place{}, c.usage(cmd, fmt.Sprintf("%s: want SERVICE/POOL or SERVICE/POOL/SERVER", quote(args[0])), "")
}

// target reads the argument of swap, back, hold, release and maintenance: a service or group.
func (c *cli) target(cmd *cobra.Command, arg string) (string, error) {
	if p, ok := parsePlace(arg); ok {
		corrected := c.corrected(arg, p.service)
		if cmd.Name() == "swap" && p.server == "" {
			corrected = c.corrected(arg, p.service, p.pool)
		}
		return "", c.usage(cmd, fmt.Sprintf("%s: %s takes the name of a service or group", quote(arg), cmd.CommandPath()), corrected)
	}
	if arg == "" || strings.Contains(arg, "/") {
		return "", c.usage(cmd, fmt.Sprintf("%s: want the name of a service or group", quote(arg)), "")
	}
	return arg, nil
}

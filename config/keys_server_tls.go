package config

import (
	"crypto/tls"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

// The table of services.*.server_tls.

type serverTLSKeys struct {
	on         bool
	ca         value[string]
	serverName value[string]
	cert, key  value[string]
	minVersion value[string]
	insecure   value[bool]
}

var serverTLSMap = keysOf(
	key("ca", "File with the authorities that servers' certificates must be from, in PEM. Default: the system's.",
		path(maxPath), func(t *serverTLSKeys) *value[string] { return &t.ca }),
	key("server_name", "The host that each server must prove to be, and is told. Default: the host of its address.",
		hostShape(), func(t *serverTLSKeys) *value[string] { return &t.serverName }),
	key("cert", "File with the certificate that servers are shown, and its chain, in PEM.",
		path(maxPath), func(t *serverTLSKeys) *value[string] { return &t.cert }),
	key("key", "File with the key of cert, in PEM.",
		path(maxPath), func(t *serverTLSKeys) *value[string] { return &t.key }),
	key("min_version", "The oldest TLS that servers may speak.",
		oneOf("1.2", "1.3").or("1.2"), func(t *serverTLSKeys) *value[string] { return &t.minVersion }),
	key("insecure", "Do not ask servers to prove who they are: then anyone between can pose as one.",
		yesNo().or(false), func(t *serverTLSKeys) *value[bool] { return &t.insecure }),
)

var serverTLSShape = either("true or false, or a map of keys (ca, server_name, cert, key, min_version, insecure)",
	isBool, converted(yesNo(), func(_ place, _ *node, on bool) serverTLSKeys {
		t := serverTLSMap.absent()
		t.on = on
		return t
	}),
	isMap, converted(serverTLSMap, func(_ place, _ *node, t serverTLSKeys) serverTLSKeys { t.on = true; return t }))

// serverTLS checks what no single value shows.
func (c *checker) serverTLS(k *serviceKeys) *proxy.ServerTLSSpec {
	t := &k.serverTLS.v
	if !k.serverTLS.written || k.serverTLS.bad || !t.on {
		return nil
	}
	spec := &proxy.ServerTLSSpec{CA: t.ca.v, ServerName: t.serverName.v, Cert: t.cert.v, Key: t.key.v, MinVersion: tls.VersionTLS12, Insecure: t.insecure.v}
	if t.minVersion.v == "1.3" {
		spec.MinVersion = tls.VersionTLS13
	}
	switch {
	case t.cert.written && !t.key.written:
		c.refuse(t.cert.place, t.cert.raw, "a certificate without its key: want key beside it")
	case t.key.written && !t.cert.written:
		c.refuse(t.key.place, t.key.raw, "a key without its certificate: want cert beside it")
	}
	if t.insecure.v && t.ca.written {
		c.refuse(t.insecure.place, t.insecure.raw, "contradicts ca, by which servers prove who they are; want one of them")
	}
	if k.tls.v.mode.v == proxy.Passthrough && k.tls.written {
		c.refuse(k.serverTLS.place, "", "of no use with tls.mode: passthrough, where clients and servers speak TLS with each other; want one of them")
	}
	if !t.insecure.v && t.serverName.v == "" {
		for _, p := range k.pools.v {
			for _, s := range p.v.servers.v {
				address := s.v.address
				if _, plain := schemeOf(address.v); !address.bad && strings.HasPrefix(plain, "unix:") {
					c.refuse(address.place, address.raw, "no host that the server could prove to be: want server_tls.server_name")
				}
			}
		}
	}
	return spec
}

package config

import (
	"crypto/tls"
	"strconv"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

// tls tells what becomes of a service's TLS. Connections that are there keep what they negotiated.
func (d *diff) tls(old, next *proxy.TLSSpec) {
	switch {
	case old == nil && next == nil:
		return
	case old == nil:
		d.say("tls added: " + tlsInWords(next))
		return
	case next == nil:
		d.say("tls removed: new clients speak without it")
		return
	}
	d.words("tls.mode", string(old.Mode), string(next.Mode))
	d.set("tls.sni ", "", "", old.SNI, next.SNI)
	d.words("tls.no_sni", string(old.NoSNI), string(next.NoSNI))
	d.set("tls certificate ", "", "", namesIn(old.Certs, certName), namesIn(next.Certs, certName))
	d.set("tls.hosts ", "", "", old.ACME.Hosts, next.ACME.Hosts)
	d.set("tls.on_demand ", "", "", old.ACME.OnDemand, next.ACME.OnDemand)
	d.words("tls.email", old.ACME.Email, next.ACME.Email)
	d.words("tls.acme.directory", old.ACME.Directory, next.ACME.Directory)
	d.words("tls.acme.root", old.ACME.Root, next.ACME.Root)
	d.set("tls.acme.challenges ", "", "", namesIn(old.ACME.Challenges, challengeName), namesIn(next.ACME.Challenges, challengeName))
	d.set("tls.redirect_from ", "", "", listenNames(old.RedirectFrom), listenNames(next.RedirectFrom))
	d.words("tls.min_version", versionName(old.MinVersion), versionName(next.MinVersion))
	d.set("tls.alpn ", "", "", old.ALPN, next.ALPN)
	d.words("tls.client_cert.mode", string(old.ClientCert.Mode), string(next.ClientCert.Mode))
	d.words("tls.client_cert.ca", old.ClientCert.CA, next.ClientCert.CA)
	d.words("tls.handshake_timeout", short(old.Handshake), short(next.Handshake))
}

// serverTLS tells what becomes of how servers are spoken to.
func (d *diff) serverTLS(old, next *proxy.ServerTLSSpec) {
	switch {
	case old == nil && next == nil:
		return
	case old == nil:
		d.say("server_tls added: new connections to servers speak TLS")
		return
	case next == nil:
		d.say("server_tls removed: new connections to servers speak without it")
		return
	}
	d.words("server_tls.ca", old.CA, next.CA)
	d.words("server_tls.server_name", old.ServerName, next.ServerName)
	d.words("server_tls.cert", old.Cert, next.Cert)
	d.words("server_tls.key", old.Key, next.Key)
	d.words("server_tls.min_version", versionName(old.MinVersion), versionName(next.MinVersion))
	d.words("server_tls.insecure", strconv.FormatBool(old.Insecure), strconv.FormatBool(next.Insecure))
}

func certName(c proxy.CertSpec) string       { return c.Cert + " (key " + c.Key + ")" }
func challengeName(c proxy.Challenge) string { return string(c) }
func versionName(v uint16) string            { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }
func tlsInWords(t *proxy.TLSSpec) string {
	words := string(t.Mode)
	if len(t.SNI) > 0 {
		words += ", sni " + strings.Join(t.SNI, ", ")
	}
	if len(t.Certs) > 0 {
		words += ", certificate " + strings.Join(namesIn(t.Certs, certName), ", ")
	}
	if len(t.ACME.Hosts) > 0 {
		words += ", hosts " + strings.Join(t.ACME.Hosts, ", ")
	}
	if len(t.ACME.OnDemand) > 0 {
		words += ", on demand " + strings.Join(t.ACME.OnDemand, ", ")
	}
	return words
}

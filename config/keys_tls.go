package config

import (
	"crypto/tls"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// The table of services.*.tls.

type clientTLSKeys struct {
	mode       value[proxy.TLSMode]
	cert, key  value[string]
	certs      value[[]value[certKeys]]
	hosts      value[[]value[string]]
	onDemand   value[[]value[string]]
	email      value[string]
	acme       value[acmeKeys]
	minVersion value[string]
	alpn       value[[]value[string]]
	clientCert value[clientCertKeys]
	handshake  value[time.Duration]
	redirect   value[[]value[proxy.ListenSpec]]
	sni        value[[]value[string]]
	noSNI      value[proxy.NoSNI]
}

var clientTLSShape = keysOf(
	key("mode", "terminate: the door speaks TLS with the client, and the service carries what is inside. passthrough, tcp only: servers do, and the door reads no more than which host the client names.",
		oneOf(proxy.Terminate, proxy.Passthrough).or(proxy.Terminate), func(t *clientTLSKeys) *value[proxy.TLSMode] { return &t.mode }),
	key("cert", "File with a certificate and its chain, in PEM. It is read again when it changes.",
		path(maxPath), func(t *clientTLSKeys) *value[string] { return &t.cert }),
	key("key", "File with the key of cert, in PEM.",
		path(maxPath), func(t *clientTLSKeys) *value[string] { return &t.key }),
	key("certs", "Several certificates; a client gets the first that fits the host it names, or else the first.",
		listOf("a list of certificates", certShape), func(t *clientTLSKeys) *value[[]value[certKeys]] { return &t.certs }),
	key("hosts", "Hosts for which certificates are obtained from an ACME authority, and renewed.",
		listOf("a list of host names", hostShape()), func(t *clientTLSKeys) *value[[]value[string]] { return &t.hosts }),
	key("on_demand", "Hosts, or *.host for one label, for which a certificate is obtained when the first client asks for it.",
		listOf("a list of host names", hostPatternShape()), func(t *clientTLSKeys) *value[[]value[string]] { return &t.onDemand }),
	key("email", "Where the authority may write to.",
		text("an e-mail address", object{"pattern": "^[^@ ]+@[^@ ]+$"}, parseEmail), func(t *clientTLSKeys) *value[string] { return &t.email }),
	key("acme", "Which authority, and how a host is proven to be ours.", acmeShape, func(t *clientTLSKeys) *value[acmeKeys] { return &t.acme }),
	key("min_version", "The oldest TLS that clients may speak.",
		oneOf("1.2", "1.3").or("1.2"), func(t *clientTLSKeys) *value[string] { return &t.minVersion }),
	key("alpn", "Protocols offered by ALPN, the preferred one first. Without it, none is negotiated.",
		listOf("a list of protocols", text("the name of a protocol, such as postgresql", object{"maxLength": 255}, parseALPN)), func(t *clientTLSKeys) *value[[]value[string]] { return &t.alpn }),
	key("client_cert", "Whether clients must show a certificate.", clientCertShape, func(t *clientTLSKeys) *value[clientCertKeys] { return &t.clientCert }),
	key("sni", "tcp: the hosts whose clients are this service's, or *.host for all names below; services on one listener are told apart by them. Without it, all that are no other's on the listener.",
		listOf("a list of host names", sniShape()), func(t *clientTLSKeys) *value[[]value[string]] { return &t.sni }),
	key("no_sni", "tcp: what becomes of clients that name no host: accept (they are this service's) or close. Default: accept without sni, close with it.",
		oneOf(proxy.NoSNIAccept, proxy.NoSNIClose), func(t *clientTLSKeys) *value[proxy.NoSNI] { return &t.noSNI }),
	key("handshake_timeout", "A client whose handshake takes longer (passthrough: its greeting) is closed.",
		duration(time.Millisecond).or(10*time.Second), func(t *clientTLSKeys) *value[time.Duration] { return &t.handshake }),
	key("redirect_from", "http: further addresses to listen on, without TLS; requests there are led to https.",
		either(wantListen+", or a list of them", isText, converted(listenShape, oneListen), isList, listOf("a list of addresses", listenShape)),
		func(t *clientTLSKeys) *value[[]value[proxy.ListenSpec]] { return &t.redirect }),
)

type certKeys struct{ cert, key value[string] }

var certShape = keysOf(
	key("cert", "File with a certificate and its chain, in PEM.", path(maxPath), func(c *certKeys) *value[string] { return &c.cert }).mustBe(),
	key("key", "File with its key, in PEM.", path(maxPath), func(c *certKeys) *value[string] { return &c.key }).mustBe(),
)

type acmeKeys struct {
	directory  value[string]
	root       value[string]
	challenges value[[]value[proxy.Challenge]]
}

var acmeShape = keysOf(
	key("directory", "URL of the authority's directory. Default: Let's Encrypt.",
		text("an https URL", object{"pattern": "^https://"}, parseDirectory), func(a *acmeKeys) *value[string] { return &a.directory }),
	key("root", "File with the roots that the directory's own certificate is checked by. Default: those of the system.",
		path(maxPath), func(a *acmeKeys) *value[string] { return &a.root }),
	key("challenges", "How a host may be proven to be ours. Default: both.",
		listOf("a list of challenges", oneOf(proxy.ChallengeHTTP, proxy.ChallengeALPN)), func(a *acmeKeys) *value[[]value[proxy.Challenge]] { return &a.challenges }),
)

type clientCertKeys struct {
	mode value[proxy.ClientAuth]
	ca   value[string]
}

var clientCertShape = keysOf(
	key("mode", "off, optional (one that is shown must be valid) or required.",
		oneOf(proxy.ClientCertOff, proxy.ClientCertOptional, proxy.ClientCertRequired).or(proxy.ClientCertRequired), func(c *clientCertKeys) *value[proxy.ClientAuth] { return &c.mode }),
	key("ca", "File with the authorities that clients' certificates may be from, in PEM.",
		path(maxPath), func(c *clientCertKeys) *value[string] { return &c.ca }).mustBe(),
)

const hostPattern = `([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?`

var hostRegexp = regexp.MustCompile(`^` + hostPattern + `$`)

const wantHost = "a host name such as www.example.org (letters, digits and '-'; other alphabets in their xn-- form)"

// hostShape is a host name in lower case, without a last dot.
func hostShape() shape[string] {
	return text(wantHost, object{"pattern": "^" + hostPattern + `\.?$`}, parseHost)
}

// hostPatternShape is a host name, or "*." and one: any single label before it.
func hostPatternShape() shape[string] {
	want := "a host name such as www.example.org, or *.example.org"
	return text(want, object{"pattern": `^(\*\.)?` + hostPattern + `\.?$`}, func(s string) (string, string) {
		if rest, wild := strings.CutPrefix(s, "*."); wild {
			host, problem := parseHost(rest)
			if problem != "" || !strings.Contains(host, ".") {
				return "", "want " + want
			}
			return "*." + host, ""
		}
		host, problem := parseHost(s)
		if problem != "" {
			return "", "want " + want
		}
		return host, ""
	})
}

// sniShape is hostPatternShape for routing: "*." stands for one or more labels, as in routes.
func sniShape() shape[string] {
	s := hostPatternShape()
	s.want = "a host name such as db.example.org, or *.example.org for all names below it"
	return s
}

func parseHost(s string) (string, string) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) > 253 || !hostRegexp.MatchString(s) {
		return "", "want " + wantHost
	}
	return s, ""
}

func parseEmail(s string) (string, string) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return "", "want an e-mail address such as ops@example.org"
	}
	return s, ""
}

func parseALPN(s string) (string, string) {
	if len(s) > 255 || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", "want the name of a protocol: at most 255 printable characters"
	}
	return s, ""
}

func parseDirectory(s string) (string, string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", "want an https URL such as https://acme-v02.api.letsencrypt.org/directory"
	}
	return s, ""
}

// tls checks what no single value shows, and gives what the service is to do.
func (c *checker) tls(k *value[clientTLSKeys], mode proxy.Mode) *proxy.TLSSpec {
	if !k.written || k.bad {
		return nil
	}
	t := &k.v
	spec := &proxy.TLSSpec{
		Mode: t.mode.v, MinVersion: tls.VersionTLS12, ALPN: plain(t.alpn.v), Handshake: t.handshake.v,
		ACME: proxy.ACMESpec{Hosts: plain(t.hosts.v), OnDemand: plain(t.onDemand.v), Email: t.email.v,
			Directory: t.acme.v.directory.v, Root: t.acme.v.root.v, Challenges: plain(t.acme.v.challenges.v)},
		ClientCert: proxy.ClientCertSpec{Mode: proxy.ClientCertOff}, RedirectFrom: plain(t.redirect.v), SNI: plain(t.sni.v),
	}
	if mode == proxy.TCP {
		spec.NoSNI = noSNI(t)
	}
	if t.mode.v == proxy.Passthrough {
		c.passthrough(t, mode)
		return &proxy.TLSSpec{Mode: proxy.Passthrough, SNI: spec.SNI, NoSNI: spec.NoSNI, Handshake: spec.Handshake}
	}
	if mode == proxy.HTTP {
		for _, key := range []struct {
			written bool
			place
		}{{t.sni.written, t.sni.place}, {t.noSNI.written, t.noSNI.place}} {
			if key.written {
				c.refuse(key.place, "", "of no use in mode http, where routes tell services apart; want routes in this service, or no such key")
			}
		}
	}
	switch {
	case mode == proxy.HTTP && t.alpn.written:
		c.refuse(t.alpn.place, "", "of no use in mode http, which offers what it speaks; remove the key")
	case mode == proxy.HTTP:
		spec.ALPN = []string{"h2", "http/1.1"}
	case t.redirect.written:
		c.refuse(t.redirect.place, "", "of no use in mode tcp; want mode: http in this service, or no such key")
	}
	if t.minVersion.v == "1.3" {
		spec.MinVersion = tls.VersionTLS13
	}
	if t.clientCert.written {
		spec.ClientCert = proxy.ClientCertSpec{Mode: t.clientCert.v.mode.v, CA: t.clientCert.v.ca.v}
	}
	if len(spec.ACME.Challenges) == 0 {
		spec.ACME.Challenges = []proxy.Challenge{proxy.ChallengeHTTP, proxy.ChallengeALPN}
	}
	switch {
	case t.cert.written && !t.key.written:
		c.refuse(t.cert.place, t.cert.raw, "a certificate without its key: want key beside it")
	case t.key.written && !t.cert.written:
		c.refuse(t.key.place, t.key.raw, "a key without its certificate: want cert beside it")
	case t.cert.written:
		spec.Certs = append(spec.Certs, proxy.CertSpec{Cert: t.cert.v, Key: t.key.v})
	}
	for _, cert := range t.certs.v {
		spec.Certs = append(spec.Certs, proxy.CertSpec{Cert: cert.v.cert.v, Key: cert.v.key.v})
	}
	acme := t.hosts.written || t.onDemand.written
	if !acme && !t.cert.written && !t.key.written && !t.certs.written && !t.mode.bad {
		c.refuse(k.place, "", "no certificate: want cert and key, or certs, or hosts to obtain them for")
	}
	if !acme && t.acme.written {
		c.refuse(t.acme.place, "", "acme without hosts or on_demand: want the hosts to obtain certificates for")
	}
	if !acme && t.email.written {
		c.refuse(t.email.place, t.email.raw, "an e-mail address without hosts or on_demand: want the hosts to obtain certificates for")
	}
	return spec
}

func noSNI(t *clientTLSKeys) proxy.NoSNI {
	switch {
	case t.noSNI.written:
		return t.noSNI.v
	case t.sni.written:
		return proxy.NoSNIClose
	}
	return proxy.NoSNIAccept
}

// passthrough refuses what only makes sense where the door itself speaks TLS.
func (c *checker) passthrough(t *clientTLSKeys, mode proxy.Mode) {
	if mode == proxy.HTTP {
		c.refuse(t.mode.place, t.mode.raw, "of no use in mode http, which must see what is inside; want mode: tcp in this service, or tls.mode: terminate")
		return
	}
	for _, key := range []struct {
		written bool
		place
	}{
		{t.cert.written, t.cert.place}, {t.key.written, t.key.place}, {t.certs.written, t.certs.place}, {t.hosts.written, t.hosts.place},
		{t.onDemand.written, t.onDemand.place}, {t.email.written, t.email.place}, {t.acme.written, t.acme.place}, {t.minVersion.written, t.minVersion.place},
		{t.alpn.written, t.alpn.place}, {t.clientCert.written, t.clientCert.place}, {t.redirect.written, t.redirect.place},
	} {
		if key.written {
			c.refuse(key.place, "", "of no use with tls.mode: passthrough, where the servers speak TLS; want mode: terminate, or no such key")
		}
	}
}

// shareTLS refuses services on one listener whose clients would be met differently: who has shaken hands as a client of
// the one can ask for the other.
func (c *checker) shareTLS(first, next *named[serviceKeys], at value[proxy.ListenSpec]) {
	a, b := &first.v.tls, &next.v.tls
	switch {
	case a.written != b.written:
		c.refuse(at.place, at.raw, fmt.Sprintf("on one listener with %s, but only one of them has tls; want it in both, or other listeners", first.name))
	case a.v.clientCert.v.mode.v != b.v.clientCert.v.mode.v || a.v.clientCert.v.ca.v != b.v.clientCert.v.ca.v || a.v.clientCert.written != b.v.clientCert.written || a.v.minVersion.v != b.v.minVersion.v:
		c.refuse(at.place, at.raw, fmt.Sprintf("on one listener with %s, but with other tls.client_cert or tls.min_version: its clients could ask for this service, too; want other listeners", first.name))
	}
}

func plain[T any](list []value[T]) (all []T) {
	for _, v := range list {
		if !v.bad {
			all = append(all, v.v)
		}
	}
	return all
}

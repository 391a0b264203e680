package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// The tables of checks and of what services do with them.

type checkKeys struct {
	tcp      value[tcpKeys]
	http     value[httpKeys]
	redis    value[redisKeys]
	postgres value[postgresKeys]
	exec     value[execKeys]
	grpc     value[grpcKeys]
	expect   value[string]
	value    value[string]
	must     value[string]
	within   value[withinKeys]
	timeout  value[time.Duration]
}

var checkShape = keysOf(
	key("tcp", "Connect; with send or receive, speak too.", tcpShape, func(c *checkKeys) *value[tcpKeys] { return &c.tcp }),
	key("http", "One HTTP/1.1 request on a connection of its own.", httpShape, func(c *checkKeys) *value[httpKeys] { return &c.http }),
	key("redis", "PING, and ROLE where it matters.", redisShape, func(c *checkKeys) *value[redisKeys] { return &c.redis }),
	key("postgres", "One query in a read-only transaction.", postgresShape, func(c *checkKeys) *value[postgresKeys] { return &c.postgres }),
	key("exec", "Run a program, without a shell; exit status 0 passes.", execShape, func(c *checkKeys) *value[execKeys] { return &c.exec }),
	key("grpc", "grpc.health.v1.Health/Check.", grpcShape, func(c *checkKeys) *value[grpcKeys] { return &c.grpc }),
	key("expect", "An expression over the answer that must be true (https://expr-lang.org). Without it, the kind's own rule.",
		expressionShape, func(c *checkKeys) *value[string] { return &c.expect }),
	key("value", "An expression over the answer whose result is kept, for must and within.",
		expressionShape, func(c *checkKeys) *value[string] { return &c.value }),
	key("must", "advance: the value must grow.", oneOf("advance"), func(c *checkKeys) *value[string] { return &c.must }),
	key("within", "With must: advance, how long the value may stand still. Or N of CHECK: how far the value may be behind that check's.",
		withinShape, func(c *checkKeys) *value[withinKeys] { return &c.within }),
	key("timeout", "For one run of it.", duration(time.Millisecond), func(c *checkKeys) *value[time.Duration] { return &c.timeout }),
)

var expressionShape = text("an expression", object{"minLength": 1}, func(s string) (string, string) { return s, "" })

// withinKeys is a time, or a distance from another check's value.
type withinKeys struct {
	time  time.Duration
	n     float64
	check string // "": a time
}

const wantWithin = "a duration such as 60s, or N of CHECK such as 5 of chain-head"

var withinShape = text(wantWithin, object{"pattern": durationPattern + "|^[0-9]+([.][0-9]+)? of " + namePattern + "$"}, func(s string) (withinKeys, string) {
	n, check, of := strings.Cut(s, " of ")
	if !of {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 || d > maxDuration {
			return withinKeys{}, "want " + wantWithin
		}
		return withinKeys{time: d}, ""
	}
	far, err := strconv.ParseFloat(n, 64)
	if err != nil || far < 0 || nameProblem(check) != "" {
		return withinKeys{}, "want " + wantWithin
	}
	return withinKeys{n: far, check: check}, ""
})

// secret is a text whose content must not be shown: with ${NAME} and file:PATH filled in. hidden is what came from
// there.
type secret struct {
	text   string
	hidden []string
}

const wantSecret = "text, with ${NAME} or as file:PATH"

// secretText reads a text that may come out of the environment or a file.
func secretText(want string) shape[secret] {
	return shape[secret]{
		want:   want,
		schema: object{"type": "string", "minLength": 1},
		read: func(r *reader, at place, n *node) (secret, bool) {
			if n.kind != isText {
				r.mismatch(at, n, want+"; put it in quotes")
				return secret{}, false
			}
			var s secret
			path, isFile := strings.CutPrefix(n.text, "file:")
			env := func(name string) (string, bool) {
				held, set := r.env(name)
				s.hidden = append(s.hidden, held)
				return held, set
			}
			filled, problem := fill(cmp.Or(path, n.text), env)
			if problem == "" && isFile {
				var content []byte
				var err error
				if content, err = os.ReadFile(filled); err != nil {
					problem = "the file cannot be read: " + reasonOf(err)
				} else if len(content) > maxSecret {
					problem = fmt.Sprintf("the file has more than %d bytes", maxSecret)
				}
				filled = strings.TrimRight(string(content), "\r\n")
				s.hidden = append(s.hidden, filled)
			}
			if problem == "" && filled == "" {
				problem = "empty: want " + want
			}
			if problem != "" {
				r.refuse(at, n.text, problem)
				return secret{}, false
			}
			s.text = filled
			return s, true
		},
	}
}

const maxSecret = 64 << 10

// reasonOf leaves the path out, which the issue shows as it is written.
func reasonOf(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

type tlsKeys struct {
	on         bool
	serverName value[string]
	ca         value[string]
	cert, key  value[string]
	insecure   value[bool]
}

var tlsMap = keysOf(
	key("server_name", "The name the server must prove. Default: the host of the address.", plainText(), func(t *tlsKeys) *value[string] { return &t.serverName }),
	key("ca", "File of the certificates that are trusted. Default: the system's.", path(maxPath), func(t *tlsKeys) *value[string] { return &t.ca }),
	key("cert", "File of the certificate to show.", path(maxPath), func(t *tlsKeys) *value[string] { return &t.cert }),
	key("key", "File of its key.", path(maxPath), func(t *tlsKeys) *value[string] { return &t.key }),
	key("insecure", "Do not ask the server for proof.", yesNo().or(false), func(t *tlsKeys) *value[bool] { return &t.insecure }),
)

var tlsShape = either("true or false, or a map of keys (server_name, ca, cert, key, insecure)",
	isBool, converted(yesNo(), func(_ place, _ *node, on bool) tlsKeys { return tlsKeys{on: on} }),
	isMap, converted(tlsMap, func(_ place, _ *node, t tlsKeys) tlsKeys { t.on = true; return t }))

// tlsOptions are nil unless the check says something.
func tlsOptions(k value[tlsKeys]) *health.TLS {
	t := &k.v
	switch {
	case !k.written:
		return nil
	case !t.on:
		return &health.TLS{Off: true}
	}
	return &health.TLS{ServerName: t.serverName.v, CAFile: t.ca.v, CertFile: t.cert.v, KeyFile: t.key.v, Insecure: t.insecure.v}
}

func plainText() shape[string] {
	return text("text", object{"minLength": 1}, func(s string) (string, string) { return s, "" })
}

const aboutTLS = "Speak TLS. Default: as server_tls of the service says, when the server itself is asked; else not."

const aboutAddress = "Whom to ask. Default: the server itself."

type tcpKeys struct {
	address value[string]
	send    value[secret]
	receive value[string]
	tls     value[tlsKeys]
}

var tcpShape = keysOf(
	key("address", aboutAddress, addressShape, func(t *tcpKeys) *value[string] { return &t.address }),
	key("send", "What to say first.", secretText(wantSecret), func(t *tcpKeys) *value[secret] { return &t.send }),
	key("receive", "What the answer must contain.", plainText(), func(t *tcpKeys) *value[string] { return &t.receive }),
	key("tls", aboutTLS, tlsShape, func(t *tcpKeys) *value[tlsKeys] { return &t.tls }),
)

type httpKeys struct {
	address value[string]
	method  value[string]
	path    value[string]
	host    value[string]
	headers value[[]named[secret]]
	body    value[secret]
	tls     value[tlsKeys]
}

var httpShape = keysOf(
	key("address", aboutAddress, addressShape, func(h *httpKeys) *value[string] { return &h.address }),
	key("method", "Default: GET, with a body POST.", plainText(), func(h *httpKeys) *value[string] { return &h.method }),
	key("path", "Default: /.", plainText(), func(h *httpKeys) *value[string] { return &h.path }),
	key("host", "The Host header. Default: the address.", plainText(), func(h *httpKeys) *value[string] { return &h.host }),
	key("headers", "Header fields.", namesOf("header field", secretText(wantSecret)), func(h *httpKeys) *value[[]named[secret]] { return &h.headers }),
	key("body", "What is sent, such as a JSON-RPC call.", secretText(wantSecret), func(h *httpKeys) *value[secret] { return &h.body }),
	key("tls", aboutTLS, tlsShape, func(h *httpKeys) *value[tlsKeys] { return &h.tls }),
)

type redisKeys struct {
	address            value[string]
	username, password value[secret]
	role               value[string]
	tls                value[tlsKeys]
}

var redisShape = keysOf(
	key("address", aboutAddress, addressShape, func(k *redisKeys) *value[string] { return &k.address }),
	key("username", "Of an ACL user.", secretText(wantSecret), func(k *redisKeys) *value[secret] { return &k.username }),
	key("password", "Write it as ${NAME} or file:PATH.", secretText(wantSecret), func(k *redisKeys) *value[secret] { return &k.password }),
	key("role", "The role it must have.", oneOf("master", "replica"), func(k *redisKeys) *value[string] { return &k.role }),
	key("tls", aboutTLS, tlsShape, func(k *redisKeys) *value[tlsKeys] { return &k.tls }),
)

type postgresKeys struct {
	address value[string]
	dsn     value[secret]
	query   value[string]
	role    value[string]
}

var postgresShape = keysOf(
	key("address", "Whom to ask. Default: the host of the DSN, else the server itself.", addressShape, func(p *postgresKeys) *value[string] { return &p.address }),
	key("dsn", "postgres://user:password@/database or key=value words. Write it as ${NAME} or file:PATH when it has a password.",
		secretText(wantSecret), func(p *postgresKeys) *value[secret] { return &p.dsn }).mustBe(),
	key("query", "Default: asks whether the server is in recovery; row.role is then primary or replica.", plainText(), func(p *postgresKeys) *value[string] { return &p.query }),
	key("role", "The role it must have; only without a query.", oneOf("primary", "replica"), func(p *postgresKeys) *value[string] { return &p.role }),
)

type execKeys struct {
	command value[[]value[secret]]
	dir     value[string]
}

var execShape = keysOf(
	key("command", "The program and its arguments. It is told TURNOUT_SERVER_NAME and TURNOUT_SERVER_ADDRESS.",
		listOf("a list: the program, then its arguments", secretText(wantSecret)), func(e *execKeys) *value[[]value[secret]] { return &e.command }).mustBe(),
	key("dir", "The folder it runs in.", path(maxPath), func(e *execKeys) *value[string] { return &e.dir }),
)

type grpcKeys struct {
	address value[string]
	service value[string]
	tls     value[tlsKeys]
}

var grpcShape = keysOf(
	key("address", aboutAddress, addressShape, func(g *grpcKeys) *value[string] { return &g.address }),
	key("service", "Whose health. Default: the server's as a whole.", plainText(), func(g *grpcKeys) *value[string] { return &g.service }),
	key("tls", aboutTLS, tlsShape, func(g *grpcKeys) *value[tlsKeys] { return &g.tls }),
)

type healthKeys struct {
	checks     value[[]value[string]]
	interval   value[time.Duration]
	timeout    value[time.Duration]
	rise, fall value[int]
	noneReady  value[proxy.NoneReady]
	cutDead    value[bool]
}

var healthShape = keysOf(
	key("checks", "Names from checks; a server is ready while all pass.", listOf("a list of checks", name()), func(h *healthKeys) *value[[]value[string]] { return &h.checks }).mustBe(),
	key("interval", "How often each is asked; faster while an answer differs from the state.",
		duration(10*time.Millisecond).or(time.Second), func(h *healthKeys) *value[time.Duration] { return &h.interval }),
	key("timeout", "For one run of a check that has no timeout of its own. Default: the interval, at most 2s.",
		duration(time.Millisecond), func(h *healthKeys) *value[time.Duration] { return &h.timeout }),
	key("rise", "Passes in a row that make a check pass.", whole(1, 100).or(2), func(h *healthKeys) *value[int] { return &h.rise }),
	key("fall", "Failures in a row that make it fail.", whole(1, 100).or(3), func(h *healthKeys) *value[int] { return &h.fall }),
	key("none_ready", "When no server of the active pool is ready: try one anyway, hold new clients (for hold.timeout at most), or refuse them.",
		oneOf(proxy.NoneReadyTry, proxy.NoneReadyHold, proxy.NoneReadyRefuse).or(proxy.NoneReadyTry), func(h *healthKeys) *value[proxy.NoneReady] { return &h.noneReady }),
	key("cut_dead", "End the connections to a server that fails and cannot be connected to any more, so that clients come again.",
		yesNo().or(false), func(h *healthKeys) *value[bool] { return &h.cutDead }),
)

// checks builds the checks of the file. Those that others refer to come first.
func (c *checker) checks(f *fileKeys) map[string]*health.Check {
	all := map[string]*health.Check{}
	var names []string
	for i := range f.checks.v {
		names = append(names, f.checks.v[i].name)
	}
	for _, referring := range []bool{false, true} {
		for i := range f.checks.v {
			k := &f.checks.v[i]
			if (k.v.within.v.check != "") != referring || k.bad {
				continue
			}
			spec, ok := c.checkSpec(k)
			if of := k.v.within.v.check; of != "" {
				if spec.Reference = all[of]; spec.Reference == nil {
					ok = false
					if f.check(of) == nil {
						at := k.v.within.place
						c.add(Issue{Line: at.line, Column: at.column, Path: at.path, Value: k.v.within.raw, Message: "no such check", Near: proxy.Nearest(of, names)})
					} else if f.check(of).v.within.v.check != "" {
						c.refuse(k.v.within.place, k.v.within.raw, of+" is itself within another check's value")
					}
				}
			}
			if !ok {
				continue
			}
			check, err := health.NewCheck(spec)
			if err != nil {
				c.checkProblems(k, err)
				continue
			}
			all[k.name] = check
		}
	}
	return all
}

func (f *fileKeys) check(name string) *named[checkKeys] {
	for i := range f.checks.v {
		if f.checks.v[i].name == name {
			return &f.checks.v[i]
		}
	}
	return nil
}

// checkSpec is what the keys of a check say; false when one of them was refused already.
func (c *checker) checkSpec(k *named[checkKeys]) (health.Spec, bool) {
	v := &k.v
	s := health.Spec{Name: k.name, Expect: v.expect.v, Value: v.value.v, Must: v.must.v, Within: v.within.v.time, Behind: v.within.v.n, Timeout: v.timeout.v}
	ok := !v.expect.bad && !v.value.bad && !v.must.bad && !v.within.bad && !v.timeout.bad
	use := func(written, bad bool, address value[string]) bool {
		if written {
			s.Address, ok = cmp.Or(address.v, s.Address), ok && !bad && !address.bad
		}
		return written
	}
	hide := func(x value[secret]) string {
		s.Secrets, ok = append(s.Secrets, x.v.hidden...), ok && !x.bad
		return x.v.text
	}
	if t := &v.tcp.v; use(v.tcp.written, v.tcp.bad, t.address) {
		s.TCP = &health.TCP{Send: hide(t.send), Receive: t.receive.v, TLS: tlsOptions(t.tls)}
	}
	if h := &v.http.v; use(v.http.written, v.http.bad, h.address) {
		s.HTTP = &health.HTTP{Method: h.method.v, Path: h.path.v, Host: h.host.v, Body: hide(h.body), TLS: tlsOptions(h.tls), Headers: map[string]string{}}
		for _, field := range h.headers.v {
			s.HTTP.Headers[field.name] = hide(field.value)
		}
	}
	if r := &v.redis.v; use(v.redis.written, v.redis.bad, r.address) {
		s.Redis = &health.Redis{Username: hide(r.username), Password: hide(r.password), Role: r.role.v, TLS: tlsOptions(r.tls)}
	}
	if p := &v.postgres.v; use(v.postgres.written, v.postgres.bad, p.address) {
		ok = ok && p.dsn.written
		s.Postgres = &health.Postgres{DSN: hide(p.dsn), Query: p.query.v, Role: p.role.v}
	}
	if e := &v.exec.v; use(v.exec.written, v.exec.bad, value[string]{}) {
		s.Exec, ok = &health.Exec{Dir: e.dir.v}, ok && !e.command.bad && e.command.written
		for _, word := range e.command.v {
			s.Exec.Command = append(s.Exec.Command, hide(word))
		}
	}
	if g := &v.grpc.v; use(v.grpc.written, v.grpc.bad, g.address) {
		s.GRPC = &health.GRPC{Service: g.service.v, TLS: tlsOptions(g.tls)}
	}
	return s, ok
}

// checkProblems gives each mistake in a check its place.
func (c *checker) checkProblems(k *named[checkKeys], err error) {
	v := &k.v
	places := map[string]place{
		"expect": v.expect.place, "value": v.value.place, "must": v.must.place, "within": v.within.place, "timeout": v.timeout.place,
		"tcp": v.tcp.place, "http": v.http.place, "redis": v.redis.place, "postgres": v.postgres.place, "exec": v.exec.place, "grpc": v.grpc.place,
		"http.path": v.http.v.path.place, "http.method": v.http.v.method.place, "http.host": v.http.v.host.place, "http.headers": v.http.v.headers.place,
		"redis.role": v.redis.v.role.place, "postgres.dsn": v.postgres.v.dsn.place, "postgres.role": v.postgres.v.role.place, "exec.command": v.exec.v.command.place,
	}
	for _, one := range unjoined(err) {
		var mistake *health.SpecError
		if !errors.As(one, &mistake) {
			c.refuse(k.key, "", one.Error())
			continue
		}
		at, known := places[mistake.Key]
		if kind, _, deeper := strings.Cut(mistake.Key, "."); (!known || at.path == "") && deeper {
			at = places[kind]
		}
		if at.path == "" {
			at = k.place
			if at.path == "" {
				at = k.key
			}
		}
		text := mistake.Text
		if mistake.Line > 0 {
			text = fmt.Sprintf("at character %d: %s", mistake.Column, text)
			if mistake.Line > 1 {
				text = fmt.Sprintf("line %d, %s", mistake.Line, text)
			}
		}
		c.refuse(at, "", text)
	}
}

func unjoined(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// health is what a service says about its servers' checks; nil when it says nothing.
func (c *checker) health(k *serviceKeys, f *fileKeys, checks map[string]*health.Check) *proxy.HealthSpec {
	h := &k.health.v
	if !k.health.written || k.health.bad {
		return nil
	}
	spec := &proxy.HealthSpec{Interval: h.interval.v, Timeout: h.timeout.v, Rise: h.rise.v, Fall: h.fall.v, NoneReady: h.noneReady.v, CutDead: h.cutDead.v}
	if spec.Timeout == 0 {
		spec.Timeout = min(spec.Interval, health.DefaultTimeout)
	}
	spec.Checks = c.checkNames(h.checks, f)
	for _, name := range spec.Checks {
		limit := spec.Timeout
		if check := checks[name]; check != nil && check.Limit() > 0 {
			limit = check.Limit()
		}
		spec.Limit = max(spec.Limit, limit)
	}
	return spec
}

// checkNames refuses names of no check, and one named twice.
func (c *checker) checkNames(list value[[]value[string]], f *fileKeys) []string {
	var known, out []string
	for i := range f.checks.v {
		known = append(known, f.checks.v[i].name)
	}
	seen := map[string]int{}
	for _, n := range list.v {
		if n.bad {
			continue
		}
		if line, twice := seen[n.v]; twice {
			c.refuse(n.place, n.raw, fmt.Sprintf("twice in one list; first on line %d", line))
			continue
		}
		seen[n.v] = n.line
		if f.check(n.v) == nil && !f.checks.bad {
			c.unknown(n, "no such check", known)
		}
		out = append(out, n.v)
	}
	return out
}

type failoverKeys struct {
	mode     value[string]
	to       value[[]value[string]]
	failback value[time.Duration]
	lockout  value[time.Duration]
	hold     value[time.Duration]
	fence    value[[]value[secret]]
}

var failoverShape = keysOf(
	key("mode", "automatic: the door itself moves to a pool that is ready when no server of the active one is. manual: it only says so.",
		oneOf("manual", "automatic").or("manual"), func(f *failoverKeys) *value[string] { return &f.mode }),
	key("to", "The pools that may take over, in this order. Default: all others, in the file's order.",
		listOf("a list of pools", name()), func(f *failoverKeys) *value[[]value[string]] { return &f.to }),
	key("failback", "manual, or after 10m: swap back when the old side has been ready for so long.",
		failbackShape, func(f *failoverKeys) *value[time.Duration] { return &f.failback }),
	key("lockout", "No second failover for so long, unless the active pool cannot even be connected to.",
		duration(0).or(10*time.Minute), func(f *failoverKeys) *value[time.Duration] { return &f.lockout }),
	key("hold", "How long new work waits at the door for a side that is ready; then maintenance. 0: it does not wait.",
		durationOrNever().or(30*time.Second), func(f *failoverKeys) *value[time.Duration] { return &f.hold }),
	key("fence", "A program that stops a server for certain; run for each server of the old side that still accepts connections. Exclusive services do not move without it while one does.",
		listOf("a list: the program, then its arguments", secretText(wantSecret)), func(f *failoverKeys) *value[[]value[secret]] { return &f.fence }),
)

const wantFailback = "manual, or after and a duration, such as after 10m"

var failbackShape = func() shape[time.Duration] {
	s := text(wantFailback, object{"pattern": "^manual$|^after " + durationPattern[1:]}, func(s string) (time.Duration, string) {
		after, timed := strings.CutPrefix(s, "after ")
		d, err := time.ParseDuration(after)
		switch {
		case s == "manual":
			return 0, ""
		case !timed || err != nil || d <= 0 || d > maxDuration:
			return 0, "want " + wantFailback
		}
		return d, ""
	})
	s.schema["default"] = "manual"
	return s
}()

// failover is a service's policy; nil when it says nothing.
func (c *checker) failover(k *serviceKeys) *proxy.FailoverSpec {
	f := &k.failover.v
	if !k.failover.written || k.failover.bad {
		return nil
	}
	spec := &proxy.FailoverSpec{Automatic: f.mode.v == "automatic", FailbackAfter: f.failback.v, Lockout: f.lockout.v, Hold: f.hold.v}
	for _, word := range f.fence.v {
		spec.Fence = append(spec.Fence, word.v.text)
	}
	if !k.health.written {
		c.refuse(k.failover.place, "", "needs health: without checks nobody knows whether a side is ready")
	}
	var pools []string
	for i := range k.pools.v {
		pools = append(pools, k.pools.v[i].name)
	}
	seen := map[string]int{}
	for _, to := range f.to.v {
		if to.bad {
			continue
		}
		if line, twice := seen[to.v]; twice {
			c.refuse(to.place, to.raw, fmt.Sprintf("twice in one list; first on line %d", line))
			continue
		}
		if seen[to.v] = to.line; !slices.Contains(pools, to.v) {
			c.unknown(to, "no such pool in this service", pools)
		}
		spec.To = append(spec.To, to.v)
	}
	if len(pools) < 2 && spec.Automatic {
		c.refuse(k.failover.place, "", "needs a second pool to go to")
	}
	return spec
}

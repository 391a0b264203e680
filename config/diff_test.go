package config

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := parseText(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const textBefore = `
state_dir: /s
admin: {socket: /a.sock, roles: {operate: {users: [ann]}}}
checks: {up: {tcp: {}}, old: {http: {path: /a}}, gone: {redis: {}}}
services:
  node:
    listen: [":6688", ":6689"]
    pools:
      primary: ["10.0.0.1:1", {name: big, address: "10.0.0.2:1", weight: 3}, "10.0.0.3:1"]
      standby: [{name: s1, address: "10.0.1.1:1"}, {name: s2, address: "10.0.1.2:1"}]
      old: ["10.0.2.1:1"]
    health: {checks: [up, old]}
    failover: {to: [standby, old], fence: [a, b]}
    gates: [up]
    watch: {for: 2m, rollback_if: "!up"}
  gone: {listen: ":2", pools: {p: ["10.0.0.1:1"]}, gates: [up, old]}
  last: {listen: ":3", pools: {p: ["10.0.0.1:1"]}}
  safe:
    listen: ":4"
    pools: {p: ["10.0.0.1:1"]}
    tls:
      certs: [{cert: a.pem, key: a.key}, {cert: b.pem, key: b.key}]
      hosts: [a.example.org, b.example.org]
      on_demand: [c.example.org, "*.d.example.org"]
      email: ops@example.org
      acme: {directory: "https://ca.example.org/d", root: r.pem}
      alpn: [x, y]
      client_cert: {ca: c.pem}
  site:
    mode: http
    listen: ":5"
    pools: {p: ["10.0.0.1:1"]}
    tls: {cert: a.pem, key: a.key, redirect_from: [":6", ":7"]}
groups: {g: [node, gone], h: [last]}
`

const textAfter = `
state_dir: /t
admin: {listen: ":9900", roles: {operate: {users: [ann, bob]}, read: {groups: [staff]}}}
log: {level: debug, format: json}
checks: {up: {tcp: {}}, old: {http: {path: /b}}, new: {grpc: {}}}
services:
  last: {listen: ":3", pools: {p: ["10.0.0.1:1"]}}
  node:
    listen: [":6689", ":6690"]
    pools:
      new: ["10.0.3.1:1"]
      standby: [{name: s2, address: "10.0.1.3:1", max_connections: 9}, {name: s3, address: "10.0.1.4:1"}]
      primary: ["10.0.0.3:1", {name: big, address: "10.0.0.2:1", weight: 1}, "10.0.0.1:1"]
    active: standby
    exclusive: true
    balance: least_connections
    drain: {timeout: 10s, then: keep, close_over: 5s}
    hold: {timeout: 90s, max: 5}
    proxy_protocol: {accept: true, send: v1}
    timeouts: {connect: 1s, idle: 0}
    access_log: true
    gates: [up, new]
    require_snapshot: 15m
    health: {checks: [new, up], interval: 2s, timeout: 1s, rise: 1, fall: 5, none_ready: hold, cut_dead: true}
    failover: {mode: automatic, to: [standby], failback: after 1m, lockout: 1m, hold: 1m, fence: [c]}
  api: {listen: [":80", "unix:/x"], pools: {blue: ["10.0.0.1:1", "10.0.0.2:1"], green: ["10.0.0.3:1"]}, tls: {cert: n.pem, key: n.key, hosts: [n.example.org]}}
  safe:
    listen: ":4"
    pools: {p: ["10.0.0.1:1"]}
    tls:
      cert: b.pem
      key: b.key
      hosts: [b.example.org]
      acme: {challenges: [tls-alpn-01]}
      min_version: "1.3"
      alpn: [y]
      client_cert: {mode: optional, ca: d.pem}
      handshake_timeout: 5s
  site:
    mode: http
    listen: ":5"
    pools: {p: ["10.0.0.1:1"]}
    tls: {cert: a.pem, key: a.key, redirect_from: ":7"}
groups: {g: [api, node], i: [api]}
`

func TestDiff_SaysEachChangeInPlainWords(t *testing.T) {
	got := DiffConfig(mustParse(t, textBefore), mustParse(t, textBefore), mustParse(t, textAfter))
	want := []string{
		"state_dir /s → /t (needs a restart)",
		"admin.socket /a.sock → /run/turnout/admin.sock (needs a restart)",
		"admin.listen none → :9900 (needs a restart)",
		"log.format console → json (needs a restart)",
		"admin.roles.operate users ann → users ann, bob",
		"admin.roles.read none → groups staff",
		"log.level info → debug",
		"check new added: grpc",
		"check old changed",
		"check gone removed",
		"service node: listen :6690 added",
		"service node: listen :6688 removed",
		"service node: pool new added: 1 server",
		"service node: pool standby: server s2: address 10.0.1.2:1 → 10.0.1.3:1 (connections to the old one drain)",
		"service node: pool standby: server s2: max_connections no limit → 9",
		"service node: pool standby: server s3 added at 10.0.1.4:1",
		"service node: pool standby: server s1 removed (its connections drain)",
		"service node: pool primary: server big: weight 3 → 1",
		"service node: pool primary: servers now in the order 10.0.0.3:1, big, 10.0.0.1:1",
		"service node: pool old removed (its connections drain)",
		"service node: pools now in the order standby, primary",
		"service node: active (where the journal remembers none) primary → standby",
		"service node: exclusive false → true",
		"service node: balance round_robin → least_connections",
		"service node: drain.timeout 30s → 10s",
		"service node: drain.then close → keep",
		"service node: drain.close_over 0s → 5s",
		"service node: hold.timeout 30s → 1m30s",
		"service node: hold.max 10000 → 5",
		"service node: proxy_protocol.accept false → true",
		"service node: proxy_protocol.send off → v1",
		"service node: timeouts.connect 3s → 1s",
		"service node: timeouts.idle 1h → never",
		"service node: access_log false → true",
		"service node: health.checks new added",
		"service node: health.checks old removed",
		"service node: health.interval 1s → 2s",
		"service node: health.rise 2 → 1",
		"service node: health.fall 3 → 5",
		"service node: health.cut_dead false → true",
		"service node: health.none_ready try → hold",
		"service node: failover.mode manual → automatic",
		"service node: failover.to old removed",
		"service node: failover.failback manual → after 1m",
		"service node: failover.lockout 10m → 1m",
		"service node: failover.hold 30s → 1m",
		"service node: failover.fence changed",
		"service node: gates up → up, new",
		"service node: require_snapshot 0s → 15m",
		"service node: watch.for 2m → 0s",
		"service node: watch.rollback_if !up → error_rate > 0.05 || !ready",
		"service api added: listens on :80, unix:/x; pools blue (2 servers), green (1 server); active blue; tls terminate, certificate n.pem (key n.key), hosts n.example.org",
		"service safe: tls certificate a.pem (key a.key) removed",
		"service safe: tls.hosts a.example.org removed",
		"service safe: tls.on_demand c.example.org removed",
		"service safe: tls.on_demand *.d.example.org removed",
		"service safe: tls.email ops@example.org → none",
		"service safe: tls.acme.directory https://ca.example.org/d → none",
		"service safe: tls.acme.root r.pem → none",
		"service safe: tls.acme.challenges http-01 removed",
		"service safe: tls.min_version 1.2 → 1.3",
		"service safe: tls.alpn x removed",
		"service safe: tls.client_cert.mode required → optional",
		"service safe: tls.client_cert.ca c.pem → d.pem",
		"service safe: tls.handshake_timeout 10s → 5s",
		"service site: tls.redirect_from :6 removed",
		"service gone removed (its listeners close, its connections drain)",
		"services now in the order last, node, safe, site",
		"group g: api added",
		"group g: gone removed",
		"group i added: api",
		"group h removed",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := NeedsRestart(mustParse(t, textBefore), mustParse(t, textAfter)); !reflect.DeepEqual(got, want[:4]) {
		t.Errorf("needs a restart: got %q", got)
	}
}

func TestDiff_OfNothingBeforeIsAllNew(t *testing.T) {
	got := Diff(nil, mustParse(t, "services: {a: {listen: ':1', pools: {p: ['10.0.0.1:1']}}}").Spec())
	if want := []string{"service a added: listens on :1; pools p (1 server); active p"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// Whatever one field of the Spec is changed, Diff has a word for it; so a field that is added to the Spec and
// forgotten here fails.
func TestDiff_IsEmptyExactlyWhenTheSpecsAreEqual(t *testing.T) {
	spec := func() *proxy.Spec { return mustParse(t, textBefore).Spec() }
	if got := Diff(spec(), spec()); len(got) != 0 {
		t.Errorf("two equal specs: got %q", got)
	}
	var change func(v reflect.Value, path string)
	base := spec()
	changed := reflect.ValueOf(spec()).Elem()
	change = func(v reflect.Value, path string) {
		probe := func(set func()) {
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			set()
			if got := Diff(base, changed.Addr().Interface().(*proxy.Spec)); len(got) == 0 {
				t.Errorf("a change of %s is not told", path)
			}
			v.Set(old)
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				change(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case reflect.Slice:
			if v.Len() == 0 {
				probe(func() { v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem()))) })
				return
			}
			for i := range v.Len() {
				change(v.Index(i), path+"[]")
			}
			if v.Len() == 0 {
				probe(func() { v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem()))) })
				return
			}
			probe(func() { v.Set(v.Slice(0, v.Len()-1)) })
			if v.Len() > 1 {
				probe(func() {
					turned := reflect.MakeSlice(v.Type(), 0, v.Len())
					v.Set(reflect.Append(reflect.AppendSlice(turned, v.Slice(1, v.Len())), v.Index(0)))
				})
			}
		case reflect.Pointer:
			if v.IsNil() {
				return
			}
			change(v.Elem(), path)
			probe(func() { v.SetZero() })
		case reflect.Float64:
			probe(func() { v.SetFloat(v.Float() + 1) })
		case reflect.String:
			probe(func() { v.SetString(v.String() + "x") })
		case reflect.Bool:
			probe(func() { v.SetBool(!v.Bool()) })
		case reflect.Uint16:
			probe(func() { v.SetUint(v.Uint() + 1) })
		case reflect.Int, reflect.Int64:
			probe(func() { v.SetInt(v.Int() + int64(time.Second)) })
		case reflect.Map:
			probe(func() { v.Set(reflect.MakeMap(v.Type())) })
			probe(func() {
				v.Set(reflect.ValueOf(map[string][]string{"g": {"gone", "node"}, "h": {"last"}}))
			})
		default:
			t.Fatalf("%s is a %s: teach this test", path, v.Kind())
		}
	}
	change(changed, "Spec")
}

func TestDiff_HasOneOrderForOneChange(t *testing.T) {
	a, b := mustParse(t, textBefore).Spec(), mustParse(t, textAfter).Spec()
	want := Diff(a, b)
	for range 20 {
		if got := Diff(a, b); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %q, then %q", want, got)
		}
	}
}

func TestShort_IsReadBackAsTheSameDuration(t *testing.T) {
	for range 1000 {
		d := time.Duration(rand.Int64N(int64(maxDuration))).Round([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour}[rand.IntN(5)])
		if back, err := time.ParseDuration(short(d)); err != nil || back != d {
			t.Errorf("%v: got %s", d, short(d))
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 0: "0s", 10 * time.Second: "10s", time.Hour + time.Second: "1h0m1s"} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

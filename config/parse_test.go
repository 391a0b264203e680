package config

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
	"github.com/turnout-proxy/turnout/proxy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testEnv stands for the environment. The values must be in no error text.
var testEnv = map[string]string{
	"API_HOST": "127.0.0.1", "BLUE": "10.0.0.1:80", "EMPTY": "", "SECRET": "hunter2 hunter2", "POOL": "blueisch",
	"ADDRESS": "10.77.0.1:1", "LISTEN": "10.66.0.1:7", "NARROW": "10.66.0.1:7", "LISTEN_LOOP": "10.66.0.1:7",
}

func fromTestEnv(name string) (string, bool) {
	v, ok := testEnv[name]
	return v, ok
}

func parseFile(t testing.TB, path string) (*Config, error) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(path), text, fromTestEnv, AsRoot(true))
}

func parseText(text string) (*Config, error) {
	return Parse("turnout.yaml", []byte(text), fromTestEnv, AsRoot(true))
}

// corpus lists testdata/<folder>/*.yaml.
func corpus(t testing.TB, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/%s: %v", folder, err)
	}
	return files
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew):\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestParse_TellsEveryMistakeOfABadFileWithItsPlace(t *testing.T) {
	for _, folder := range []string{"bad", "wrong", "yaml"} {
		for _, file := range corpus(t, folder) {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				cfg, err := parseFile(t, file)
				var all Errors
				if cfg != nil || !errors.As(err, &all) || len(all) == 0 {
					t.Fatalf("got %v, %v; want no Config and Errors", cfg, err)
				}
				golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
			})
		}
	}
}

func TestParse_NeverRepeatsWhatAVariableHolds(t *testing.T) {
	for _, folder := range []string{"bad", "wrong"} {
		for _, file := range corpus(t, folder) {
			_, err := parseFile(t, file)
			for _, name := range []string{"SECRET", "POOL", "ADDRESS", "LISTEN"} {
				if strings.Contains(err.Error(), testEnv[name]) {
					t.Errorf("%s: the value of %s is in the error text:\n%v", file, name, err)
				}
			}
		}
	}
}

func TestParse_TakesEveryGoodFile(t *testing.T) {
	for _, file := range corpus(t, "good") {
		if _, err := parseFile(t, file); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestParse_FillsInTheDefaults(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server := func(address string) []proxy.ServerSpec {
		return []proxy.ServerSpec{{Name: address, Address: address, Weight: 1}}
	}
	want := &proxy.Spec{
		Services: []proxy.ServiceSpec{{
			Name: "redis", Mode: proxy.TCP, Active: "blue", Balance: proxy.RoundRobin,
			Listen:        []proxy.ListenSpec{{Network: proxy.NetTCP, Address: ":6379"}},
			Pools:         []proxy.PoolSpec{{Name: "blue", Servers: server("127.0.0.1:7001")}, {Name: "green", Servers: server("127.0.0.1:7002")}},
			Drain:         proxy.DrainSpec{Timeout: 30 * time.Second, Then: proxy.ThenClose},
			Hold:          proxy.HoldSpec{Timeout: 30 * time.Second, Max: 10000},
			ProxyProtocol: proxy.ProxyProtocolSpec{Send: proxy.ProxyOff},
			Timeouts:      proxy.TimeoutSpec{Connect: 3 * time.Second, Idle: time.Hour, RequestHeader: 10 * time.Second, RequestBody: time.Minute, Response: time.Minute},
			Maintenance:   proxy.MaintenanceSpec{Status: 503, RetryAfter: time.Minute, KnownFor: 24 * time.Hour},
			Watch:         watchDefaults,
		}},
		Groups: map[string][]string{},
	}
	if !reflect.DeepEqual(cfg.Spec(), want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Spec(), want)
	}
	if cfg.StateDir != "/var/lib/turnout" || !reflect.DeepEqual(cfg.Admin, Admin{Socket: "/run/turnout/admin.sock"}) || cfg.Log != (Log{"info", "console"}) {
		t.Errorf("got state_dir %q, admin %+v, log %+v", cfg.StateDir, cfg.Admin, cfg.Log)
	}
}

func TestParse_ReadsEveryKey(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	wantAdmin := Admin{
		Socket: "/run/turnout/admin.sock", Listen: "127.0.0.1:9900",
		Roles: Roles{Operate: Role{Users: []string{"deploy", "1000"}, Groups: []string{"4", "ops"}}, Read: Role{Users: []string{"nobody"}}},
	}
	if !reflect.DeepEqual(cfg.Admin, wantAdmin) || cfg.Log != (Log{"debug", "json"}) {
		t.Errorf("got admin %+v, log %+v", cfg.Admin, cfg.Log)
	}
	want := proxy.ServiceSpec{
		Name: "node", Mode: proxy.TCP, Active: "standby", Exclusive: true, Balance: proxy.SourceHash, AccessLog: true,
		Listen: []proxy.ListenSpec{
			{Network: "tcp", Address: ":6688"}, {Network: "unix", Address: "/run/turnout/node.sock"},
			{Network: "systemd", Address: "node.socket"}, {Network: "tcp", Address: "[::1]:6690"},
		},
		Pools: []proxy.PoolSpec{
			{Name: "primary", Servers: []proxy.ServerSpec{
				{Name: "127.0.0.1:6687", Address: "127.0.0.1:6687", Weight: 1},
				{Name: "unix:/run/node.sock", Address: "unix:/run/node.sock", Weight: 1},
				{Name: "node-3.example.org:6687", Address: "node-3.example.org:6687"},
			}},
			{Name: "standby", Servers: []proxy.ServerSpec{
				{Name: "s1", Address: "127.0.0.1:6689", Weight: 256, MaxConnections: 500},
				{Name: "[fe80::1%eth0]:6687", Address: "[fe80::1%eth0]:6687", Weight: 1},
			}},
		},
		Drain:         proxy.DrainSpec{Timeout: 90 * time.Minute, Then: proxy.ThenKeep, CloseOver: time.Minute},
		Hold:          proxy.HoldSpec{Timeout: 2500 * time.Millisecond, Max: 1},
		ProxyProtocol: proxy.ProxyProtocolSpec{Accept: true, Send: proxy.ProxyV2},
		Timeouts:      proxy.TimeoutSpec{Connect: 500 * time.Millisecond, RequestHeader: 10 * time.Second, RequestBody: time.Minute, Response: time.Minute},
		Maintenance:   proxy.MaintenanceSpec{Status: 503, RetryAfter: time.Minute, KnownFor: 24 * time.Hour},
		Watch:         watchDefaults,
	}
	if got := cfg.Spec().Services[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	api := cfg.Spec().Services[1]
	if api.Listen[0].Address != "127.0.0.1:0" || api.Pools[0].Servers[0].Address != "10.0.0.1:80" || api.ProxyProtocol.Send != proxy.ProxyOff || api.Timeouts.Idle != 0 {
		t.Errorf("got %+v", api)
	}
	wantTLS := &proxy.TLSSpec{
		Mode: proxy.Terminate, Certs: []proxy.CertSpec{{Cert: "a.pem", Key: "a.key"}, {Cert: "b.pem", Key: "b.key"}},
		ACME: proxy.ACMESpec{Hosts: []string{"www.example.org", "xn--bcher-kva.example"}, OnDemand: []string{"*.example.net", "api.example.net"}, Email: "ops@example.org",
			Directory: "https://ca.example.org:14000/dir", Root: "/etc/root.pem", Challenges: []proxy.Challenge{proxy.ChallengeALPN}},
		NoSNI: proxy.NoSNIAccept, MinVersion: tls.VersionTLS13, ALPN: []string{"postgresql"}, ClientCert: proxy.ClientCertSpec{Mode: proxy.ClientCertOptional, CA: "/etc/ca.pem"}, Handshake: 5 * time.Second,
	}
	if got := cfg.Spec().Services[3].TLS; !reflect.DeepEqual(got, wantTLS) {
		t.Errorf("got %+v", got)
	}
	if got := cfg.Spec().Services[2].TLS; got.MinVersion != tls.VersionTLS12 || got.Certs[0] != (proxy.CertSpec{Cert: "/etc/c.pem", Key: "./k.pem"}) || got.Handshake != 10*time.Second ||
		got.ClientCert.Mode != proxy.ClientCertOff || len(got.ACME.Challenges) != 2 {
		t.Errorf("got %+v", got)
	}
	wantTLS = &proxy.TLSSpec{Mode: proxy.Passthrough, SNI: []string{"db.example.org", "*.db.example.org"}, NoSNI: proxy.NoSNIAccept, Handshake: 3 * time.Second}
	if got := cfg.Spec().Services[4].TLS; !reflect.DeepEqual(got, wantTLS) {
		t.Errorf("got %+v", got)
	}
	if got := cfg.Spec().Services[5].TLS; got.NoSNI != proxy.NoSNIClose || got.SNI != nil {
		t.Errorf("got %+v", got)
	}
	if got := cfg.Spec().Services[6].TLS; got.NoSNI != proxy.NoSNIClose || got.Mode != proxy.Terminate || len(got.SNI) != 1 {
		t.Errorf("got %+v", got)
	}
	for i, want := range []*proxy.ServerTLSSpec{{CA: "/etc/ca.pem", ServerName: "db.example.org", Cert: "door.pem", Key: "door.key", MinVersion: tls.VersionTLS13}, {MinVersion: tls.VersionTLS12}, {MinVersion: tls.VersionTLS12, Insecure: true}, nil} {
		if got := cfg.Spec().Services[7+i].ServerTLS; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	want11 := []proxy.ServerSpec{{Name: "127.0.0.1:50051", Address: "127.0.0.1:50051", Weight: 1, H2: true}, {Name: "two", Address: "calls.example.org:50051", Weight: 1, H2: true}, {Name: "127.0.0.1:80", Address: "127.0.0.1:80", Weight: 1}}
	if got := cfg.Spec().Services[11].Pools[0].Servers; !reflect.DeepEqual(got, want11) {
		t.Errorf("got %+v", got)
	}
	if !cfg.Spec().Services[11].H2C {
		t.Error("h2c was not read")
	}
	site := cfg.Spec().Services[12]
	wantPreview := &proxy.PreviewSpec{Header: "x-pool", TokenHeader: "x-pass", Cookie: "pool", TokenHash: sha256.Sum256([]byte("127.0.0.1x")),
		Listen: &proxy.ListenSpec{Network: proxy.NetTCP, Address: "127.0.0.1:8089"}, Pool: "green"}
	if !reflect.DeepEqual(site.Preview, wantPreview) || site.Sticky == nil || site.Sticky.Cookie != "sid" || !site.Drain.BySession {
		t.Errorf("got %+v, %+v", site.Preview, site.Sticky)
	}
	if got := cfg.Spec().Groups; !reflect.DeepEqual(got, map[string][]string{"all": {"node", "api"}}) {
		t.Errorf("got groups %v", got)
	}
}

func TestParse_WritesOneAddressInOneWay(t *testing.T) {
	for written, want := range map[string]string{
		"[0:0:0:0:0:0:0:1]:080": "[::1]:80", "127.0.0.1:080": "127.0.0.1:80", ":0080": ":80", "unix:/run/../x//y": "unix:/x/y", "systemd:a@1.socket": "systemd:a@1.socket",
	} {
		if got, problem := parseListen(written); problem != "" || got.String() != want {
			t.Errorf("%s: got %s, %q; want %s", written, got, problem, want)
		}
	}
	for written, want := range map[string]string{
		"Example.ORG:80": "example.org:80", "a_b:1": "a_b:1", "[2001:DB8::0:1]:65535": "[2001:db8::1]:65535", "unix:/a/./b": "unix:/a/b", "xn--bcher-kva.example.:1": "xn--bcher-kva.example.:1",
	} {
		if got, problem := parseServer(written); problem != "" || got != want {
			t.Errorf("%s: got %s, %q; want %s", written, got, problem, want)
		}
	}
}

func TestParse_PutsTheSocketIntoTheStateDirWhenNotRoot(t *testing.T) {
	const services = "services: {a: {listen: ':1', pools: {p: ['10.0.0.1:1']}}}\n"
	for _, c := range []struct {
		text, state, socket string
		root                bool
	}{
		{services, "./.turnout", ".turnout/admin.sock", false},
		{"state_dir: /x\n" + services, "/x", "/x/admin.sock", false},
		{"state_dir: /x\nadmin: {socket: /y}\n" + services, "/x", "/y", false},
		{"state_dir: /x\n" + services, "/x", "/run/turnout/admin.sock", true},
	} {
		cfg, err := Parse("t", []byte(c.text), nil, AsRoot(c.root))
		if err != nil || cfg.StateDir != c.state || cfg.Admin.Socket != c.socket {
			t.Errorf("%q root %v: got %+v, %v", c.text, c.root, cfg, err)
		}
	}
	_, err := Parse("t", []byte("state_dir: /"+strings.Repeat("x", 110)+"\n"+services), nil, AsRoot(false))
	if err == nil || !strings.Contains(err.Error(), "set admin.socket") {
		t.Errorf("a socket path that no system takes: got %v", err)
	}
}

func TestParse_FillsInVariablesAndLeavesEscapedOnes(t *testing.T) {
	env := func(name string) (string, bool) {
		return map[string]string{"A": "1", "B_2": "${A}"}[name], name == "A" || name == "B_2"
	}
	for in, want := range map[string]string{
		"": "", "$": "$", "$A": "$A", "${A}": "1", "x${A}y${A}": "x1y1", "$${A}": "${A}", "$${A}${A}": "${A}1", "${B_2}": "${A}", "$$${A}": "$${A}", "$$x": "$$x",
	} {
		if got, problem := fill(in, env); got != want || problem != "" {
			t.Errorf("%q: got %q, %q; want %q", in, got, problem, want)
		}
	}
	for _, in := range []string{"${", "${}", "${1}", "${A", "${A B}", "${NONE}", "a ${é}"} {
		if got, problem := fill(in, env); problem == "" || got != "" {
			t.Errorf("%q: got %q and no problem", in, got)
		}
	}
}

// The parser loses the second document here (go-yaml 1.19.2). We refuse that text anyway; what it may lose
// elsewhere is caught by the count of what has found its place.
func TestParse_RefusesTextThatTheYAMLParserDrops(t *testing.T) {
	const source = "---\n---\na: b\n...\n"
	tr := &tree{found: &issues{file: "f"}, left: map[*token.Token]bool{}}
	tokens := lexer.Tokenize(source)
	tr.plain(tokens)
	tr.found = &issues{file: "f"}
	if root := tr.parse(tokens, source); root != nil {
		t.Fatalf("got %+v", root)
	}
	if got := tr.found.err().Error(); got != `f:3:1: invalid YAML: "a" has no place here` {
		t.Errorf("got %s", got)
	}
}

// A text without a limit that it should have met takes minutes or all the memory; go test's own deadline is the judge of
// that, since a busy machine can make seconds of anything. -v tells how long each took.
func TestParse_AlwaysAnswersSoon(t *testing.T) {
	lines := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := 0; i < n && b.Len() < maxFile-200; i++ {
			b.WriteString(f(i))
		}
		return b.String()
	}
	repeat := func(s string) string { return strings.Repeat(s, (maxFile-30)/len(s)) }
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + lines(9, func(i int) string {
		return fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", 'b'+i, 'b'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i)
	})
	service := "services:\n  a: &s\n    listen: ':1'\n    pools: {p: &p [&a '10.0.0.1:1'" + strings.Repeat(", *a", 20000) + "]" + lines(200, func(i int) string { return fmt.Sprintf(", q%d: *p", i) }) + "}\n"
	for name, text := range map[string]string{
		"too large":       strings.Repeat("#", maxFile+1),
		"keys":            lines(maxFile, func(i int) string { return fmt.Sprintf("k%d: v\n", i) }),
		"almost too many": lines(maxKeys-1, func(i int) string { return fmt.Sprintf("k%d: v\n", i) }),
		"maps of many": lines(30, func(d int) string {
			return lines(maxKeys-1, func(i int) string { return fmt.Sprintf("%*sk%d:\n", d, "", i) })
		}),
		"services": "services:\n" + lines(3000, func(i int) string { return fmt.Sprintf("  s%d: {listen: ':0', pools: {p: ['10.0.0.1:1']}}\n", i) }),
		"conflicts": "services:\n" + lines(3000, func(i int) string {
			return fmt.Sprintf("  s%d: {listen: ':1', pools: {p: ['10.0.0.1:1', '10.0.0.1:1']}}\n", i)
		}),
		"dashes":              repeat("- "),
		"brackets":            repeat("["),
		"braces":              repeat("{a: "),
		"deep":                lines(2000, func(i int) string { return strings.Repeat(" ", i) + "a:\n" }),
		"anchors":             repeat("&a "),
		"tags":                repeat("! "),
		"aliases":             "a: &a 1\nb: [" + repeat("*a,") + "]",
		"questions":           repeat("? "),
		"colons":              repeat(": "),
		"quotes":              repeat(`'a' `),
		"one list":            "services: [" + repeat("a, ") + "]",
		"one flow map":        "{" + lines(40_000, func(i int) string { return fmt.Sprintf("k%d: v,", i) }) + "}",
		"one text":            "state_dir: " + repeat("x"),
		"one quoted text":     `state_dir: "` + repeat(`\x41`) + `"`,
		"lines of text":       "state_dir:\n" + repeat("  x\n"),
		"literal":             "state_dir: |\n" + repeat("  x\n"),
		"documents":           repeat("---\n"),
		"percent":             repeat("%"),
		"comments":            repeat("#\n"),
		"references":          `state_dir: "` + repeat("${A}") + `"`,
		"aliases of aliases":  bomb,
		"servers of services": service,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Whole, a text may be refused for its size; a part of it has to get past that.
			for _, text := range []string{text, text[:min(len(text), 60_000)]} {
				start := time.Now()
				_, err := parseText(text)
				t.Logf("%d bytes in %v", len(text), time.Since(start))
				if err != nil && len(err.Error()) > 1<<20 {
					t.Errorf("%d bytes of error text", len(err.Error()))
				}
			}
		})
	}
}

func TestErrors_GiveTheIssuesOneByOne(t *testing.T) {
	_, err := parseText("nodes: 1\nservices: {a: {listen: ':1', pools: {p: ['10.0.0.1:1']}, drain: {timeout: 10}}}\n")
	var all Errors
	var first Issue
	if !errors.As(err, &all) || len(all) != 2 || !errors.As(err, &first) {
		t.Fatalf("got %v", err)
	}
	want := Issue{File: "turnout.yaml", Line: 2, Column: 75, Path: "services.a.drain.timeout", Value: "10", Message: "want a duration with a unit, such as 10s"}
	if all[1] != want || first != all[0] {
		t.Errorf("got %+v, %+v; want %+v second", all, first, want)
	}
	if want := `turnout.yaml:2:75: services.a.drain.timeout: "10": want a duration with a unit, such as 10s`; all[1].Error() != want {
		t.Errorf("got  %s\nwant %s", all[1], want)
	}
}

func TestLoad_NamesTheFileThatCannotBeRead(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v", err)
	}
	var all Errors
	if errors.As(err, &all) {
		t.Errorf("a missing file is not a list of mistakes: %v", all)
	}
}

func TestConfig_HasOneHashForOneText(t *testing.T) {
	a, err := parseFile(t, "testdata/good/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load("testdata/good/smallest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load("testdata/good/alias.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash() != b.Hash() || a.Hash() == c.Hash() || len(a.Hash()) != 64 {
		t.Errorf("got %s, %s, %s", a.Hash(), b.Hash(), c.Hash())
	}
}

// FuzzParse: whatever the text, an answer without a panic, and one that holds together.
func FuzzParse(f *testing.F) {
	for _, folder := range []string{"good", "bad", "wrong", "yaml"} {
		for _, file := range corpus(f, folder) {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse("f", text, fromTestEnv, AsRoot(false))
		if err != nil {
			var all Errors
			if cfg != nil || !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("got %v and %v", cfg, err)
			}
			for i, issue := range all {
				if issue.Message == "" || issue.File != "f" || strings.ContainsAny(issue.Error(), "\n\r\x1b") {
					t.Errorf("issue %d: %+v", i, issue)
				}
			}
			return
		}
		if len(cfg.Spec().Services) == 0 || len(Diff(cfg.Spec(), cfg.Spec())) != 0 {
			t.Errorf("got %+v", cfg.Spec())
		}
		for _, s := range cfg.Spec().Services {
			if len(s.Listen) == 0 || len(s.Pools) == 0 || s.Drain.Timeout <= 0 || s.Hold.Max <= 0 || !nameRegexp.MatchString(s.Name) {
				t.Errorf("got %+v", s)
			}
		}
	})
}

func TestParse_ReadsUnusualYAMLAsItIsMeant(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/odd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	web := cfg.Spec().Services[0]
	var servers []string
	for _, p := range web.Pools {
		for _, s := range p.Servers {
			servers = append(servers, p.Name+"/"+s.Name+"="+s.Address)
		}
	}
	want := []string{"blue/10.0.0.1:80=10.0.0.1:80", "blue/10.0.0.2:80=10.0.0.2:80", "green/10.0.0.2:80=10.0.0.2:80", "green/s2=10.0.0.3:80", "1.5/1.0.0.4:80=1.0.0.4:80"}
	if !reflect.DeepEqual(servers, want) || web.Listen[0].Address != "127.0.0.1:80" || web.Active != "green" || !web.AccessLog {
		t.Errorf("got %+v", web)
	}
}

var watchDefaults = proxy.WatchSpec{RollbackIf: DefaultRule, Interval: time.Second, Over: 10 * time.Second, Min: 20, Fall: 3}

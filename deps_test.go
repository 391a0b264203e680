// Package turnout_test holds the house rules that no single room can keep: who may import whom.
package turnout_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/turnout-proxy/turnout"

// rooms names for each package which other packages of this module it may import, and why no others. Imports go
// down only. A new package needs a line here.
var rooms = []struct {
	room, why string
	may       []string
}{
	{"cmd/turnout", "the only wiring: it may know every room of the door", []string{"admin", "admin/api", "admin/client", "admin/rollout", "admin/runbook", "config", "config/journal", "health", "health/failover", "health/rounds", "proxy", "proxy/certs", "proxy/front", "proxy/listen", "proxy/stream", "proxy/web", "proxy/web/h2"}},
	{"admin", "turns requests into changes; carries no bytes and reads no file", []string{"admin/api", "admin/rollout", "config", "proxy"}},
	{"admin/client", "a client must not need the server's code", []string{"admin/api"}},
	{"admin/rollout", "looks at services through named checks and counters; every change it makes goes by the switch", []string{"health", "proxy"}},
	{"admin/runbook", "a text of steps, read as strictly as a configuration; it drives a door through the client alone", []string{"admin/api", "admin/client", "config"}},
	{"admin/api", "wire types alone, so that anyone can import them", nil},
	{"health", "knows addresses, not services: the switch asks it, not the other way round; of the loops it has the raw socket calls alone, of TLS the words for what fails", []string{"proxy/loop", "proxy/secure"}},
	{"config", "the file becomes a proxy.Spec and health checks, which know best what is wrong with them; it changes nothing by itself", []string{"health", "proxy"}},
	{"health/failover", "decides from what the switch knows and changes it like anyone else; it asks nobody itself", []string{"proxy"}},
	{"health/rounds", "knows both: services have servers, servers have checks; the switch is told levels", []string{"health", "proxy"}},
	{"config/journal", "bytes in, bytes out: it must never need to know what it keeps", nil},
	{"proxy", "the core is pure: no socket, no file, no clock but the monotonic one, no other room", nil},
	{"proxy/listen", "opens what a ListenSpec names", []string{"proxy"}},
	{"proxy/loop", "the ground under the planes knows no service and no protocol", nil},
	{"proxy/web", "a plane: carries what the switch decides, over the front's loops", []string{"proxy", "proxy/front", "proxy/hold", "proxy/loop", "proxy/proxyproto", "proxy/secure", "proxy/web/h1"}},
	{"proxy/front", "owns loops and listeners for all planes, and so may know none of them", []string{"proxy", "proxy/certs", "proxy/listen", "proxy/loop", "proxy/secure"}},
	{"proxy/hold", "orders who waits, for any plane: it neither dials nor has a socket", []string{"proxy"}},
	{"proxy/certs", "reads files and talks to authorities, off the loops; it knows services by name and carries nothing", []string{"proxy"}},
	{"proxy/certs/certstest", "makes certificates for tests, and needs no room for it", nil},
	{"proxy/proxytest", "what the tests of both planes have in common", []string{"proxy", "proxy/certs/certstest"}},
	{"proxy/secure", "TLS on the loops, for any plane: it knows no service and no certificate", []string{"proxy/loop"}},
	{"proxy/stream", "a plane: carries what the switch decides, over the front's loops", []string{"proxy", "proxy/front", "proxy/hold", "proxy/loop", "proxy/proxyproto", "proxy/secure"}},
	{"proxy/proxyproto", "parses without I/O, for any plane", []string{"proxy/loop"}},
	{"proxy/web/h2", "streams become clients of the HTTP plane, which knows it by an interface alone", []string{"proxy/loop", "proxy/secure", "proxy/web", "proxy/web/h1"}},
	{"proxy/web/h1", "parses without I/O, and so for any plane", nil},
	{"bench", "measures doors from outside, as a user would", []string{"bench/load", "bench/peer", "bench/proc", "bench/report", "bench/stats"}},
	{"bench/load", "", []string{"bench/proc", "bench/stats"}},
	{"bench/peer", "drives a door by its wire types", []string{"admin/api", "bench/load", "bench/proc"}},
	{"bench/proc", "", nil},
	{"bench/report", "", []string{"bench/stats"}},
	{"bench/stats", "", nil},
	{"examples/node", "a program of its own that the door knows nothing of", nil},
	{"examples/toy", "what the examples' stand-ins have in common, of the standard library and drivers of their stores", nil},
	{"examples/controlled-rollout/node", "a program of its own that the door knows nothing of", []string{"examples/toy"}},
	{"examples/subquery-indexer/indexer", "a program of its own that the door knows nothing of", []string{"examples/toy"}},
	{"examples/decapi/app", "a program of its own that the door knows nothing of", []string{"examples/toy"}},
	{"e2e", "tests from outside: the binary and its socket, not its packages", nil},
}

// never names packages that must not be reached from a room, with the reason.
var never = []struct{ room, imported, why string }{
	{"proxy", "net", "the core opens no socket"},
	{"proxy", "os", "the core writes no file"},
	{"proxy/loop", "net/http", "the loops carry bytes themselves; net/http's cost is in docs/performance.md"},
	{"proxy/stream", "net/http", "nothing of net/http on the way of a connection"},
	{"proxy/web", "net/http", "an own engine: its cost is in docs/performance.md"},
	{"proxy/secure", "net/http", "nothing of net/http on the way of a connection"},
	{"proxy/web/h1", "net/http", "an own engine's parser; net/http is only what its fuzz test compares with"},
	{"admin/client", module + "/proxy", "the CLI of another machine needs no door"},
	{"admin/api", "net/http", "types alone"},
	{"config/journal", "encoding/json", "bytes in, bytes out"},
}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module+"/")] = p
	}
}

func TestRooms_ImportOnlyWhatTheyMay(t *testing.T) {
	all := list(t)
	for _, r := range rooms {
		p, ok := all[r.room]
		if !ok {
			t.Errorf("%s has a line here and no code", r.room)
			continue
		}
		delete(all, r.room)
		for _, imported := range p.Imports {
			if of, ours := strings.CutPrefix(imported, module+"/"); ours && !slices.Contains(r.may, of) {
				t.Errorf("%s imports %s, and may not: %s", r.room, of, r.why)
			}
		}
	}
	for name := range all {
		if name != module {
			t.Errorf("%s has no line in rooms: say what it may import, and why", name)
		}
	}
}

func TestRooms_NeverReachWhatTheyMustNot(t *testing.T) {
	all := list(t)
	for _, n := range never {
		p := all[n.room]
		// Of our own packages a detour counts too; of others it does not: zap, for one, imports net/http for a
		// handler that nobody here uses.
		if slices.Contains(p.Imports, n.imported) || strings.HasPrefix(n.imported, module) && slices.Contains(p.Deps, n.imported) {
			t.Errorf("%s reaches %s: %s", n.room, n.imported, n.why)
		}
	}
}

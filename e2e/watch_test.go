package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// watched begins a swap with a watch and returns when the door watches.
func (d *door) watched(service, target string, more ...string) *process {
	d.t.Helper()
	p := d.begin(append([]string{"swap", target, "--watch", "10m"}, more...)...)
	eventually(d.t, service+" is watched", func() bool {
		if p.over() {
			d.t.Fatalf("the swap ended: %s", ended(d.t, p))
		}
		w := d.service(service).Watch
		return w != nil && w.Looks > 0 && strings.Contains(p.out.String(), ", revision ") // and the command has its answer
	})
	return p
}

// Nobody asks a service without health checks how it is, and without traffic no dial fails: the watch asks itself.
func TestWatch_ADeadNewSideWithoutTrafficAndWithoutChecksIsABreach(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    watch: {interval: 50ms, fall: 3}\n", freePort(t), a.addr, b.addr)).start()
	swap := d.watched("web", "web")
	b.down()
	r := ended(t, swap)
	exitsLike(t, r, 8, "watch: web rolled back after ", "ready false", "ready: "+b.addr+": connect: connection refused")
	if n := b.tally().served; n != 0 {
		t.Errorf("%d clients came, and there were to be none", n)
	}
	exitsLike(t, d.cli("status", "web"), 0, "web: serving a ", "watch rolled back at ", b.addr+": connect: connection refused")
	if back := d.lastOf("web", "back"); back.Who.Name != "door" || !strings.Contains(back.Reason, b.addr) {
		t.Errorf("history: %+v", back)
	}
}

// A group that was swapped as one goes back as one.
func TestWatch_ABreachOfOneServiceTakesItsWholeGroupBack(t *testing.T) {
	t.Parallel()
	var services strings.Builder
	sides := map[string]*side{}
	for _, name := range []string{"api", "feed"} {
		for _, pool := range []string{"a", "b"} {
			sides[name+pool] = startSide(t, pool[0])
		}
		fmt.Fprintf(&services, "  %s:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    watch: {interval: 50ms}\n", name, freePort(t), sides[name+"a"].addr, sides[name+"b"].addr)
	}
	d := newDoor(t, "services:\n"+services.String()+"groups: {shop: [api, feed]}\n").start()
	swap := d.watched("api", "shop")
	if look := d.look(); look.Services["api"].Active != "b" || look.Services["feed"].Active != "b" || look.Services["feed"].Watch == nil {
		t.Fatalf("not swapped as one: %+v", look.Services)
	}
	sides["feedb"].down()
	exitsLike(t, ended(t, swap), 8, "rolled back")
	look := d.look()
	for _, name := range []string{"api", "feed"} {
		if s := look.Services[name]; s.Active != "a" || s.Watch != nil || s.Watched == nil || s.Watched.Outcome != "rolled_back" {
			t.Errorf("%s: %s serves, watched %+v", name, s.Active, s.Watched)
		}
	}
	if api, feed := d.lastOf("api", "back"), d.lastOf("feed", "back"); api.Seq != feed.Seq || api.Target != "shop" {
		t.Errorf("they went back by %d (%s) and %d", api.Seq, api.Target, feed.Seq)
	}
}

// What clients are answered is looked at: an error rate, and how long it takes.
func TestWatch_ErrorsAndSlownessAreBreachesOnceThereAreEnoughRequestsToTell(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rule, says string
		answer           http.HandlerFunc
	}{
		{"errors", "error_rate > 0.5", "error_rate ", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }},
		{"slowness", "latency_p50 > 0.2", "latency_p50 ", func(w http.ResponseWriter, _ *http.Request) { pace(400 * time.Millisecond) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := startPatient(t, "a"), startPatient(t, "b")
			b.answers(tt.answer)
			address := freePort(t)
			d := newDoor(t, fmt.Sprintf("services:\n  web:\n    mode: http\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    watch: {interval: 50ms, over: 10m, min_requests: 10, rollback_if: %s}\n",
				address, a.addr, b.addr, tt.rule)).start()
			ask := func() {
				resp, err := http.Get("http://" + address + "/readyz")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			swap := d.watched("web", "web")
			for range 5 {
				ask()
			}
			looks := d.service("web").Watch.Looks
			eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > looks+3 })
			if note := d.service("web").Watch.Note; !strings.Contains(note, "fewer than 10 requests") {
				t.Errorf("note: %q", note)
			}
			for d.service("web").Watch != nil {
				ask()
			}
			exitsLike(t, ended(t, swap), 8, "rolled back after", tt.rule+" ("+tt.says)
			if d.service("web").Active != "a" {
				t.Errorf("%s serves", d.service("web").Active)
			}
		})
	}
}

// require_snapshot: none, one that is too old, one of another service, and a fresh one, also after a restart.
func TestSwap_WantsASnapshotThatIsFreshAndOfTheService(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	file := func(age string) string {
		return fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    require_snapshot: %s\n  other:\n    listen: \"127.0.0.1:0\"\n    pools: {a: [%[2]q]}\n", "127.0.0.1:0", a.addr, b.addr, age)
	}
	d := newDoor(t, file("1h")).start()
	exitsLike(t, d.cli("swap", "web"), 4, "web not swapped to b: gate snapshot: there is no snapshot; want one of the last 1h0m0s: `turnout snapshot take NAME`", "still serving a")
	d.must("snapshot", "take", "elsewhere", "other")
	exitsLike(t, d.cli("swap", "web"), 4, "gate snapshot: there is no snapshot")
	d.must("snapshot", "take", "fresh", "web")
	d.kill9()
	d.start()
	d.must("swap", "web")
	d.write(file("1s"))
	d.must("reload")
	eventually(t, "the snapshot is too old", func() bool {
		r := d.cli("gate", "web")
		return r.code == 4 && strings.Contains(r.err, "gate snapshot: the newest one, fresh, is ") && strings.Contains(r.err, " old; want one of the last 1s: ")
	})
	exitsLike(t, d.cli("swap", "web"), 4, "gate snapshot: the newest one, fresh, is ", "still serving b")
	d.must("swap", "web", "--force")
	if !d.lastOf("web", "swap").Force {
		t.Errorf("--force is not in the history: %+v", d.lastOf("web", "swap"))
	}
}

// Holds, splits, maintenance and read-only mode have deadlines that a door killed in the middle keeps: it goes on until then, or ends
// at the start what has passed meanwhile.
func TestDeadline_OfAHoldASplitMaintenanceAndReadOnlySurvivesKill9(t *testing.T) {
	t.Parallel()
	for _, change := range [][]string{{"hold", "web"}, {"split", "web", "b=25%"}, {"maintenance", "on", "web"}, {"read-only", "on", "web"}} {
		t.Run(change[0], func(t *testing.T) {
			t.Parallel()
			a, b := startSide(t, 'a'), startSide(t, 'b')
			d := newDoor(t, fmt.Sprintf("services:\n  web:\n    mode: http\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n", freePort(t), a.addr, b.addr)).start()
			until := func() time.Time {
				t.Helper()
				switch s := d.service("web"); {
				case s.HeldUntil != nil:
					return *s.HeldUntil
				case s.Split != nil && s.Split.Until != nil:
					return *s.Split.Until
				case s.Maintenance != nil && s.Maintenance.Until != nil:
					return *s.Maintenance.Until
				case s.ReadOnly != nil && s.ReadOnly.Until != nil:
					return *s.ReadOnly.Until
				}
				return time.Time{}
			}
			d.must(append(change, "--for", "10m")...)
			want := until()
			d.kill9()
			d.start()
			if got := until(); want.IsZero() || !got.Equal(want) {
				t.Errorf("its deadline was %s and is %s", want, got)
			}
			exitsLike(t, d.cli("status"), 0, " left)")
			// Now with one that passes while no door runs: if this machine was too slow for it, with a longer one.
			var at time.Time
			for lasts := time.Second; ; lasts *= 2 {
				d.must(append(change, "--for", lasts.String())...)
				at = until()
				d.kill9()
				if time.Now().Before(at) {
					break
				}
				d.start()
			}
			<-time.After(time.Until(at))
			d.start()
			if s := d.service("web"); !until().IsZero() || s.State != "serving" || s.Split != nil {
				t.Errorf("after its deadline: %+v", s)
			}
			if r := d.lastOf("", "start"); !strings.Contains(r.Reason, "had passed its own deadline: web") {
				t.Errorf("history: %+v", r)
			}
		})
	}
}

// A staged swap goes on where it was: its share and the rest of its steps are in the journal.
func TestWatch_AStagedSwapGoesOnAfterKill9OfTheDoorAndOfTheOperator(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    watch: {interval: 50ms}\n", freePort(t), a.addr, b.addr)).start()
	swap := d.begin("swap", "web", "--steps", "25%,50%", "--every", "3s", "--watch", "1s")
	eventually(t, "the first step", func() bool { return d.service("web").Split != nil })
	_ = swap.Process.Kill()
	<-swap.ended
	d.kill9()
	d.start()
	eventually(t, "all of it went to the new side, and the watch after it ended", func() bool {
		s := d.service("web")
		return s.Active == "b" && s.Split == nil && s.Watch == nil && s.Watched != nil && s.Watched.Outcome == "passed"
	})
	if r := d.lastOf("web", "swap"); r.Who.Name != "door" || !strings.Contains(r.Reason, "step to 100%") {
		t.Errorf("history: %+v", r)
	}
}

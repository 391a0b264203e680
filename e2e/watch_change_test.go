package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shop is a group of two watched services; sides are api-a, api-b, feed-a, feed-b.
func shop(t *testing.T, more string) (*door, map[string]*side) {
	t.Helper()
	sides := map[string]*side{}
	services := ""
	for _, name := range []string{"api", "feed"} {
		a, b := startSide(t, 'a'), startSide(t, 'b')
		sides[name+"-a"], sides[name+"-b"] = a, b
		services += looked(name, freePort(t), a, b, more)
	}
	return newDoor(t, "services:\n"+services+"groups: {shop: [api, feed]}\n").start(), sides
}

func (d *door) serves(services map[string]string) {
	d.t.Helper()
	look := d.look()
	for name, pool := range services {
		if s := look.Services[name]; s.Active != pool {
			d.t.Errorf("%s: %s serves, want %s", name, s.Active, pool)
		}
	}
}

// The new version is bad, and one member's old side is dead: none goes back while not all can (P2), and everybody who may
// look is told why, and what to do. The door tries again until the old side is there.
func TestWatch_AGroupWhoseOldSideIsDownSaysSoAndGoesBackOnceItIsThere(t *testing.T) {
	t.Parallel()
	d, sides := shop(t, "")
	swap := d.watched("api", "shop")
	sides["feed-a"].down()
	sides["api-b"].down()
	refused := "feed not swapped to a: 0 of 1 server ready: " + sides["feed-a"].addr + ": connect: connection refused"
	eventually(t, "the swap that waits is told", func() bool { return strings.Contains(swap.err.String(), "rollback refused because "+refused) })
	d.serves(map[string]string{"api": "b", "feed": "b"})
	exitsLike(t, d.cli("status"), 0, "watch: api breached since ", "rollback refused because "+refused+"; `turnout status api` says what to do")
	exitsLike(t, d.cli("status", "api"), 0, "watch: breached since ", "ready: "+sides["api-b"].addr+": connect: connection refused", "watch: rollback refused because "+refused,
		"watch: the door tries again at each look: start a server there; `turnout back shop --force` goes back all the same; `turnout swap shop b --watch 0s` keeps the new side")
	if n := d.metric(`turnout_watch_breached{service="api"}`); n != 1 {
		t.Errorf("breached: %v", n)
	}
	if r := d.lastOf("api", "note"); r.Who.Name != "door" || r.Outcome != "failed" || !strings.Contains(r.Reason, "watch: breached, rollback refused because "+refused) {
		t.Errorf("history: %+v", r)
	}
	looks := d.service("api").Watch.Looks
	eventually(t, "it looks on", func() bool { w := d.service("api").Watch; return w != nil && w.Looks > looks+3 })
	sides["feed-a"].up()
	r := ended(t, swap)
	exitsLike(t, r, 8, "shop rolled back: ", sides["api-b"].addr)
	if n := strings.Count(r.err, "rollback refused because"); n != 1 {
		t.Errorf("it was said %d times: %s", n, r)
	}
	d.serves(map[string]string{"api": "a", "feed": "a"})
	if api, feed := d.lastOf("api", "back"), d.lastOf("feed", "back"); api.Seq != feed.Seq {
		t.Errorf("they went back by %d and %d", api.Seq, feed.Seq)
	}
	for series, want := range map[string]float64{`turnout_watch_breached{service="api"}`: 0, `turnout_rollbacks_total{service="api"}`: 1, `turnout_rollbacks_total{service="feed"}`: 1, `turnout_watched{service="api"}`: 0} {
		if n := d.metric(series); n != want {
			t.Errorf("%s: %v, want %v", series, n, want)
		}
	}
}

// At the watch's deadline the command waits no longer and fails; the door goes on. The two ways out that are offered work.
func TestWatch_ARefusedRollbackGoesOnAfterTheDeadlineAndHasTwoWaysOut(t *testing.T) {
	t.Parallel()
	for _, way := range [][]string{{"back", "shop", "--force"}, {"swap", "shop", "b", "--watch", "0s"}} {
		t.Run(way[0], func(t *testing.T) {
			t.Parallel()
			d, sides := shop(t, "")
			swap := d.begin("swap", "shop", "--watch", "4s")
			eventually(t, "it is watched", func() bool { return d.service("api").Watch != nil })
			sides["feed-a"].down()
			sides["api-b"].down()
			exitsLike(t, ended(t, swap), 1, "api is breached and could not be rolled back until its watch's deadline: feed not swapped to a: ", "api serving b, feed serving b", "`turnout back shop --force` goes back all the same")
			looks := d.service("api").Watch.Looks
			eventually(t, "it looks on", func() bool { w := d.service("api").Watch; return w != nil && w.Looks > looks+3 && w.Breach != "" })
			if w := d.service("feed").Watch; w == nil {
				t.Error("the watch of feed ended alone")
			}
			d.must(way...)
			want := map[string]string{"back": "a", "swap": "b"}[way[0]]
			d.serves(map[string]string{"api": want, "feed": want})
			for name, s := range d.look().Services {
				if s.Watch != nil || s.Watched == nil || s.Watched.Outcome != "superseded" {
					t.Errorf("%s: watch %+v, watched %+v", name, s.Watch, s.Watched)
				}
			}
		})
	}
}

// A group is watched for as long as the longest of its members says: a breach then takes back those too that say less, or nothing.
func TestWatch_OfAGroupLastsAsLongAsTheLongestOfItsMembers(t *testing.T) {
	t.Parallel()
	a, b, c, e := startSide(t, 'a'), startSide(t, 'b'), startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, "services:\n"+looked("api", freePort(t), a, b, ", for: 10m")+looked("feed", freePort(t), c, e, ", for: 1s")+
		fmt.Sprintf("  plain:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n", freePort(t), a.addr, b.addr)+"groups: {shop: [api, feed, plain]}\n").start()
	swap := d.begin("swap", "shop")
	eventually(t, "it is watched", func() bool { return d.service("api").Watch != nil })
	look := d.look()
	for _, name := range []string{"feed", "plain"} {
		if w := look.Services[name].Watch; w == nil || !w.Until.Equal(look.Services["api"].Watch.Until) {
			t.Errorf("%s: %+v", name, w)
		}
	}
	e.down()
	exitsLike(t, ended(t, swap), 8, "shop rolled back: ")
	d.serves(map[string]string{"api": "a", "feed": "a", "plain": "a"})
}

// A freeze holds a rollback up, and that is said like any other reason; once it is over the door goes back.
func TestWatch_AFreezeHoldsARollbackUpAndSaysSo(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
	swap := d.watched("web", "web")
	d.must("freeze", "--reason", "audit")
	b.down()
	eventually(t, "the swap that waits is told", func() bool { return strings.Contains(swap.err.String(), "rollback refused because frozen by ") })
	exitsLike(t, d.cli("status", "web"), 0, "watch: rollback refused because frozen by ", ": audit", "watch: the door tries again at each look; `turnout unfreeze` allows changes again")
	d.must("unfreeze")
	exitsLike(t, ended(t, swap), 8, "web rolled back: ")
}

// An exclusive service goes back by a hand-over, which takes as long as its drain: it is rolled back when that has committed, and
// meanwhile nobody is told that it is not.
func TestWatch_OfAnExclusiveServiceGoesBackByAHandOver(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address, well := freePort(t), filepath.Join(room(t), "well")
	if err := os.WriteFile(well, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, fmt.Sprintf("checks: {well: {exec: {command: [cat, %q]}}}\nservices:\n", well)+looked("web", address, a, b, `, rollback_if: "!well"`)+"    exclusive: true\n    drain: {timeout: 1s}\n").start()
	swap := d.watched("web", "web")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // it is cut
	if _, err := c.Write([]byte("12345678")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(well); err != nil {
		t.Fatal(err)
	}
	exitsLike(t, ended(t, swap), 8, "web rolled back: !well")
	d.serves(map[string]string{"web": "a"})
	if log := d.process.err.String(); strings.Contains(log, "not rolled back") || strings.Count(log, "rolled back") != 1 {
		t.Errorf("one rollback, and what was said:\n%s", log)
	}
	if n := d.metric(`turnout_rollbacks_total{service="web"}`); n != 1 {
		t.Errorf("%v rollbacks", n)
	}
}

// Whatever else changes what serves ends a watch, and the swap that waits for it is told by whom; it does not take another
// one's watch for its own.
func TestWatch_IsEndedByAnotherChangeAndTheSwapThatWaitsIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, says string
		change     []string
	}{
		{"swap", "the watch of web was ended by another change: swap by ", []string{"swap", "web", "a", "--no-wait", "--watch", "10m"}},
		{"back", "the watch of web was ended by another change: back by ", []string{"back", "web", "--no-wait"}},
		{"split", "the watch of web was ended by another change: split by ", []string{"split", "web", "a=50%"}},
		{"kept", "the watch of web was ended by another change: swap by ", []string{"swap", "web", "b", "--watch", "0s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := startSide(t, 'a'), startSide(t, 'b')
			d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
			swap := d.watched("web", "web")
			d.must(tt.change...)
			exitsLike(t, ended(t, swap), 7, tt.says)
		})
	}
}

// A file that takes the service away takes its watch away, which is said and is no success. One with which the watch could
// not be judged any more is refused; by force, or at a start with it, the watch ends at its deadline as one in which nothing was judged.
func TestWatch_WhatAReloadDoesToItIsSaid(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	other := fmt.Sprintf("  other:\n    listen: %q\n    pools: {a: [%q]}\n", "127.0.0.1:0", a.addr)
	const check = "checks: {up: {tcp: {}}}\n"
	address := freePort(t)
	with := check + "services:\n" + looked("web", address, a, b, `, rollback_if: "!up"`) + other
	without := "services:\n" + looked("web", address, a, b, "") + other
	d := newDoor(t, with).start()
	swap := d.watched("web", "web")
	d.write(without)
	exitsLike(t, d.cli("reload", "--plan"), 0, "be refused as it is now: web is watched until ")
	exitsLike(t, d.cli("reload"), 4, "not reloaded: web is watched until ", "rolled back if !up, and with this file that cannot be judged: unknown name up", "the file read last stays in force")
	d.must("reload", "--force")
	eventually(t, "status says so", func() bool {
		return strings.Contains(d.service("web").Watch.Note, "nothing is judged: the rule cannot be used: ")
	})
	d.write(with)
	d.must("reload")
	eventually(t, "it is judged again", func() bool { return !strings.Contains(d.service("web").Watch.Note, "nothing is judged") })
	d.write("services:\n" + other)
	d.must("reload")
	exitsLike(t, ended(t, swap), 7, "the watch of web was ended by another change: a reload took the service away")

	d.write(with)
	d.must("reload")
	d.must("swap", "web", "b", "--no-wait", "--watch", "2s")
	d.kill9()
	d.write(without)
	d.start()
	eventually(t, "the watch has ended", func() bool { return d.service("web").Watch == nil })
	if w := d.service("web").Watched; w.Outcome != "superseded" || !strings.Contains(w.Reason, "its rule could not be used, nothing was judged: unknown name up") {
		t.Errorf("watched: %+v", w)
	}
}

// What is looked at changes with the file; the rule and the deadline are those of the swap.
func TestWatch_TakesItsPatienceFromAReloadAndItsRuleFromTheSwap(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	file := func(more string) string { return "services:\n" + looked("web", address, a, b, more) }
	d := newDoor(t, file(", fall: 100")).start()
	swap := d.watched("web", "web")
	before := d.service("web").Watch
	d.write(file(`, fall: 1, rollback_if: "requests > 1000000"`))
	d.must("reload")
	if w := d.service("web").Watch; w.If != before.If || !w.Until.Equal(before.Until) {
		t.Errorf("the watch was %+v and is %+v", before, w)
	}
	b.down()
	exitsLike(t, ended(t, swap), 8, "web rolled back: "+before.If)
}

// Two services that were swapped by themselves are watched by themselves.
func TestWatch_OfTwoServicesAtOnceAreNotOne(t *testing.T) {
	t.Parallel()
	d, sides := shop(t, "")
	api := d.watched("api", "api")
	feed := d.watched("feed", "feed")
	sides["feed-b"].down()
	exitsLike(t, ended(t, feed), 8, "feed rolled back: ")
	d.serves(map[string]string{"api": "b", "feed": "a"})
	if d.service("api").Watch == nil {
		t.Error("api is not watched any more")
	}
	_ = api.Process.Kill()
	<-api.ended
}

// A hold and a maintenance are no breach and no end of a watch: nobody is served badly by them.
func TestWatch_GoesOnInAHoldAndInMaintenance(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
	swap := d.watched("web", "web")
	d.must("hold", "web", "--for", "1m")
	d.must("maintenance", "on", "web", "--for", "1m")
	looks := d.service("web").Watch.Looks
	eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > looks+5 })
	b.down()
	exitsLike(t, ended(t, swap), 8, "web rolled back: ")
	if s := d.service("web"); s.Active != "a" || s.Maintenance == nil || s.HeldUntil == nil {
		t.Errorf("%+v", s)
	}
}

// A runbook's step is done when its swap has been watched to the end, and not when somebody else has ended the watch, or when the
// breach that it found cannot be taken back.
func TestWatch_ThatDoesNotEndWellFailsTheStepOfARunbook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lasts, says string
		code        int
		meanwhile   func(*door, *side)
	}{
		{"5m", "the watch of web was ended by another change: swap by ", 7, func(d *door, _ *side) { d.must("swap", "web", "a", "--no-wait") }},
		{"5m", "the watch of web was ended by another change: a reload took the service away", 7, func(d *door, s *side) {
			d.write(fmt.Sprintf("services:\n  other:\n    listen: %q\n    pools: {a: [%q]}\n", freePort(d.t), s.addr))
			d.must("reload")
		}},
		{"3s", "web is breached and could not be rolled back until its watch's deadline: frozen by ", 1, func(d *door, s *side) { d.must("freeze"); s.down() }},
	} {
		t.Run(tt.lasts+" "+tt.says, func(t *testing.T) {
			t.Parallel()
			a, b := startSide(t, 'a'), startSide(t, 'b')
			d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
			if err := os.WriteFile(filepath.Join(d.dir, "move.yaml"), []byte("steps:\n  - swap: {target: web, to: b, watch: "+tt.lasts+"}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			run := d.runbook(nil, "move.yaml")
			eventually(t, "it is watched", func() bool { return d.service("web").Watch != nil })
			tt.meanwhile(d, b)
			exitsLike(t, ended(t, run), tt.code, "step 1 of 1, swap web b: failed after ", tt.says)
		})
	}
}

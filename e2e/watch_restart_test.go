package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// looked is a service of two sides with a watch.
func looked(name, address string, a, b *side, more string) string {
	return fmt.Sprintf("  %s:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    watch: {interval: 50ms%s}\n", name, address, a.addr, b.addr, more)
}

// A watch is in the journal with its deadline, so a door that is killed in the middle goes on with it, and whoever swapped
// and waits is told how it ended.
func TestWatch_GoesOnAfterKill9OfTheDoorAndTheSwapThatWaitsIsTold(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
	swap := d.watched("web", "web", "--reason", "image 2.9.1")
	before := d.service("web").Watch
	d.kill9()
	d.start()
	eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > 3 })
	if w := d.service("web").Watch; !w.Since.Equal(before.Since) || !w.Until.Equal(before.Until) || w.If != before.If {
		t.Errorf("the watch was %+v and is %+v", before, w)
	}
	b.down()
	exitsLike(t, ended(t, swap), 8, "watch: web rolled back after ", b.addr+": connect: connection refused", "web serving a")
	exitsLike(t, d.cli("status", "web"), 0, "web: serving a ", "watch rolled back at ", b.addr+": connect: connection refused")
	if r := d.lastOf("web", "back"); r.Who.Name != "door" || r.To != "a" || !strings.Contains(r.Reason, b.addr) {
		t.Errorf("history: %+v", r)
	}
}

// A deadline that passes while no door runs ends the watch at the start, and not before the new side has been looked at: one
// that died meanwhile is rolled back from.
func TestWatch_WhoseDeadlinePassedWhileNoDoorWasThereEndsAtTheStart(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		t.Run(map[bool]string{false: "well", true: "dead"}[dead], func(t *testing.T) {
			t.Parallel()
			a, b := startSide(t, 'a'), startSide(t, 'b')
			d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
			// If this machine was too slow for it, with a longer one.
			var until time.Time
			for lasts := time.Second; ; lasts *= 2 {
				d.must("swap", "web", "b", "--no-wait", "--force", "--watch", lasts.String())
				w := d.service("web").Watch
				if w != nil {
					until = w.Until
				}
				d.kill9()
				if w != nil && time.Now().Before(until) {
					break
				}
				d.start()
				d.must("swap", "web", "a", "--watch", "0s")
			}
			if dead {
				b.down()
			}
			<-time.After(time.Until(until))
			d.start()
			eventually(t, "the watch has ended", func() bool { return d.service("web").Watch == nil })
			want, outcome, verb, says := "b", "passed", "watch", "its deadline passed while no door was there to look"
			if dead {
				want, outcome, verb, says = "a", "rolled_back", "back", b.addr+": connect: connection refused"
			}
			if s := d.service("web"); s.Active != want || s.Watched == nil || s.Watched.Outcome != outcome || !strings.Contains(s.Watched.Reason, says) {
				t.Errorf("%s serves, watched %+v", s.Active, s.Watched)
			}
			if r := d.lastOf("web", verb); r.Who.Name != "door" || !strings.Contains(r.Reason, says) {
				t.Errorf("history: %+v", r)
			}
		})
	}
}

// A staged swap that is killed in the middle of a step keeps the step's share and deadline, and what is to come; a breach
// then takes the share back.
func TestWatch_AStepKeepsItsShareAndDeadlineOverKill9AndABreachTakesItBack(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, "services:\n"+looked("web", freePort(t), a, b, "")).start()
	swap := d.begin("swap", "web", "--steps", "5%,25%,100%", "--every", "10m", "--watch", "1m")
	eventually(t, "the first step", func() bool { s := d.service("web"); return s.Split != nil && s.Watch != nil })
	before := d.service("web")
	d.kill9()
	d.start()
	eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > 0 })
	s := d.service("web")
	if every := s.Watch.Until.Sub(s.Watch.Since); every != 10*time.Minute || !s.Watch.Until.Equal(before.Watch.Until) || fmt.Sprint(s.Watch.Steps) != "[25 100]" || s.Watch.Pool != "b" {
		t.Errorf("the watch was %+v and is %+v", before.Watch, s.Watch)
	}
	if s.Split == nil || s.Pools["b"].Percent != 5 || s.Pools["a"].Percent != 95 {
		t.Errorf("the split was %+v and is %+v", before.Split, s.Split)
	}
	b.down()
	exitsLike(t, ended(t, swap), 8, "watch: web rolled back after ")
	if s := d.service("web"); s.Active != "a" || s.Split != nil {
		t.Errorf("%s serves, split %+v", s.Active, s.Split)
	}
	if r := d.lastOf("web", "split"); r.Who.Name != "door" || r.To != "a" || !strings.Contains(r.Reason, b.addr) {
		t.Errorf("history: %+v", r)
	}
}

// The watch of a group is in the journal too: after kill -9 a breach of one member takes all of them back in one change.
func TestWatch_OfAGroupGoesOnAfterKill9AndGoesBackAsOne(t *testing.T) {
	t.Parallel()
	sides := map[string]*side{}
	services := ""
	for _, name := range []string{"api", "feed", "p2p"} {
		sides[name+"a"], sides[name+"b"] = startSide(t, 'a'), startSide(t, 'b')
		services += looked(name, freePort(t), sides[name+"a"], sides[name+"b"], "")
	}
	d := newDoor(t, "services:\n"+services+"groups: {shop: [api, feed, p2p]}\n").start()
	swap := d.watched("api", "shop", "--reason", "image 2.9.1")
	d.kill9()
	d.start()
	eventually(t, "it looks on", func() bool { w := d.service("feed").Watch; return w != nil && w.Looks > 0 })
	sides["feedb"].down()
	exitsLike(t, ended(t, swap), 8, "shop rolled back: ", sides["feedb"].addr+": connect: connection refused")
	for _, name := range []string{"api", "feed", "p2p"} {
		exitsLike(t, d.cli("status", name), 0, name+": serving a ", "watch rolled back at ", sides["feedb"].addr+": connect: connection refused")
		if r := d.lastOf(name, "back"); r.Target != "shop" || r.Seq != d.lastOf("api", "back").Seq || r.Who.Name != "door" || !strings.Contains(r.Reason, sides["feedb"].addr) {
			t.Errorf("history of %s: %+v", name, r)
		}
	}
}

// Whoever swapped is gone (kill -9). The new version is healthy and stands still: the door finds it alone.
func TestWatch_StalledProgressionIsRolledBackByTheDoorAlone(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	height := filepath.Join(room(t), "height")
	const within = 3 * time.Second
	services := "services:\n" + looked("web", freePort(t), a, b, `, rollback_if: "!moves"`)
	d := newDoor(t, fmt.Sprintf("checks:\n  moves: {exec: {command: [cat, %q]}, value: number(output), must: advance, within: %s}\n", height, within)+services)
	var moving atomic.Bool
	moving.Store(true)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for n := 1; ; n++ {
			if moving.Load() {
				_ = os.WriteFile(height+".new", []byte(strconv.Itoa(n)), 0o644)
				_ = os.Rename(height+".new", height)
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	d.start()
	swap := d.watched("web", "web")
	_ = swap.Process.Kill()
	<-swap.ended
	looks := d.service("web").Watch.Looks
	eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > looks+3 })
	moving.Store(false)
	at := time.Now()
	eventually(t, "the door has swapped back", func() bool { return d.service("web").Active == "a" })
	exitsLike(t, d.cli("status", "web"), 0, "watch rolled back at ", "moves: stands at ", "must advance within 3s")
	r := d.lastOf("web", "back")
	if r.Who.Name != "door" || !strings.Contains(r.Reason, "must advance within 3s") {
		t.Errorf("history: %+v", r)
	}
	t.Logf("it stood still, and was rolled back from %s later; it must advance within %s, and is looked at each 50ms", r.Time.Sub(at).Round(time.Millisecond), within)
}

// The door dies while the command still waits for the drain: what it can say then is how the watch ends.
func TestWatch_ACommandThatLosesTheDoorInTheDrainSeesTheWatchToItsEnd(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, "services:\n"+looked("web", address, a, b, "")+longDrain).start()
	stay := startRegulars(t, address, 1, time.Hour)
	swap := d.watched("web", "web")
	d.kill9()
	d.start()
	eventually(t, "it looks on", func() bool { w := d.service("web").Watch; return w != nil && w.Looks > 0 })
	b.down()
	exitsLike(t, ended(t, swap), 8, "lost sight of swap web: ", "web rolled back: ")
	stay.close()
}

// Without a watch there is nothing more to see.
func TestSwap_ACommandThatLosesTheDoorInTheDrainSaysSo(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	d := newDoor(t, pairOf(address, a, b, longDrain)).start()
	stay := startRegulars(t, address, 1, time.Hour)
	swap := d.begin("swap", "svc")
	eventually(t, "the swap is in force", func() bool { return strings.Contains(swap.out.String(), ", revision ") })
	d.kill9()
	d.start()
	exitsLike(t, ended(t, swap), 3, "lost sight of swap svc: ", "it was in force when last seen")
	stay.close()
}

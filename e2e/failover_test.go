package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnout-proxy/turnout/admin/api"
)

// failoverPair is watchedPair with a policy.
func failoverPair(address string, a, b *patient, health, failover, more string) string {
	return watchedPair(address, quoted(a), quoted(b), health) + "    failover: {" + failover + "}\n" + more
}

func (d *door) awaitActive(pool string) {
	d.t.Helper()
	eventually(d.t, pool+" is active", func() bool { return d.service("web").Active == pool })
}

// lastSwap is the latest swap in history.
func (d *door) lastSwap() api.Record {
	d.t.Helper()
	all := decode[[]api.Record](d.t, d.must("history", "-o", "json").out)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Verb == "swap" || all[i].Verb == "back" {
			return all[i]
		}
	}
	d.t.Fatal("no swap in history")
	return api.Record{}
}

func TestFailover_ClientsWaitInTheGapAndTheReturningSideGetsNoTraffic(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.says(`{"ready": false}`) // a standby that waits for a lock
	address := freePort(t)
	d := newDoor(t, failoverPair(address, a, b, "", "mode: automatic, hold: 60s, lockout: 1h", ""))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "waiting")

	a.down()
	answers := make(chan string, 30)
	for range cap(answers) {
		go func() { answers <- asked(address) }() // ends with its answer
	}
	eventually(t, "the door holds, by itself", func() bool { s := d.service("web"); return s.State == "held" && s.Held == cap(answers) })
	b.says(`{"ready": true}`) // it has the lock now
	for range cap(answers) {
		if got := <-answers; got != "b" {
			t.Fatalf("a client of the gap: %s", got)
		}
	}
	d.awaitActive("b")
	if r := d.lastSwap(); r.Who.Name != "failover" || r.From != "a" || r.To != "b" || !strings.Contains(r.Reason, "a is not ready: a failing: ") {
		t.Errorf("history: %+v", r)
	}
	eventually(t, "nothing is held any more", func() bool { return d.service("web").State == "serving" })

	// The old side returns: no traffic, no failback; also not after the door was killed.
	a.up()
	d.awaitState("a", "a", "ready")
	d.kill9()
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "ready")
	hits := a.hits.Load()
	for range 20 {
		if got := asked(address); got != "b" {
			t.Fatalf("after the failover: %s", got)
		}
	}
	if n := a.hits.Load() - hits; n > 0 {
		t.Errorf("%d clients reached the side that came back", n)
	}
	if out := d.must("status", "web").out; !strings.Contains(out, "failover automatic, failback manual; failed over from a at ") || !strings.Contains(out, "locked out for ") {
		t.Error(out)
	}
	d.must("back", "web", "--reason", "hand back")
	if got := asked(address); got != "a" {
		t.Errorf("after the hand-back: %s", got)
	}
	if f := d.service("web").Failover; f == nil || f.At != nil {
		t.Errorf("an operator's swap ends the lockout: %+v", f)
	}
	if n := d.metric(`turnout_failovers_total{service="web"}`); n != 0 { // of this run of the door
		t.Errorf("%v failovers", n)
	}
}

func TestFailover_WithNoSideReadyItHoldsThenClosesAndOpensAgain(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.down()
	address := freePort(t)
	d := newDoor(t, failoverPair(address, a, b, "", "mode: automatic, hold: 1s", ""))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "waiting")
	a.down()
	eventually(t, "the door holds", func() bool { return d.service("web").State == "held" })
	eventually(t, "then it is in maintenance", func() bool { return d.service("web").State == "maintenance" })
	if m := d.service("web").Maintenance; m == nil || m.By != "failover" || !strings.Contains(m.Reason, "no side was ready within 1s") {
		t.Errorf("maintenance: %+v", m)
	}
	a.up()
	eventually(t, "it opens again", func() bool { return d.service("web").State == "serving" })
	if got := asked(address); got != "a" {
		t.Errorf("answered by %s", got)
	}
	// And it goes to the other side, when that is the one that comes.
	a.down()
	eventually(t, "maintenance again", func() bool { return d.service("web").State == "maintenance" })
	b.up()
	d.awaitActive("b")
	eventually(t, "it opens again", func() bool { return d.service("web").State == "serving" })
	if got := asked(address); got != "b" {
		t.Errorf("answered by %s", got)
	}
}

func TestFailover_AnExclusiveServiceStaysWhileTheOldSideAnswersUnlessItWasFenced(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	dir := room(t)
	fence := filepath.Join(dir, "fence")
	if err := os.WriteFile(fence, []byte("#!/bin/sh\necho \"$TURNOUT_SERVER_NAME\" >>"+dir+"/fenced\ntest -e "+dir+"/power\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	config := func(policy string) string {
		return failoverPair(address, a, b, "", "mode: automatic, hold: 0"+policy, "    exclusive: true\n")
	}
	d := newDoor(t, config(""))
	d.env = []string{"E2E_TOKEN=x"}
	b.says(`{"ready": false}`)
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "waiting")
	a.says(`{"ready": false}`) // the port is open all the same
	b.says(`{"ready": true}`)
	d.awaitState("a", "a", "failing")
	d.awaitState("b", "b", "ready")
	eventually(t, "the log says why it stays", func() bool { return strings.Contains(d.process.err.String(), "a still accepts connections") })
	if s := d.service("web"); s.Active != "a" {
		t.Fatalf("it moved to %s while the old side answered", s.Active)
	}

	d.write(config(", fence: [" + fence + "]"))
	d.must("reload")
	eventually(t, "the fence was tried", func() bool { b, _ := os.ReadFile(dir + "/fenced"); return strings.HasPrefix(string(b), "a\n") })
	if s := d.service("web"); s.Active != "a" {
		t.Fatalf("it moved to %s though the fence failed", s.Active)
	}
	if err := os.WriteFile(dir+"/power", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d.awaitActive("b")
	if got := asked(address); got != "b" {
		t.Errorf("answered by %s", got)
	}
}

func TestFailover_FreezeStopsItAndOperatorsComeFirst(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	d := newDoor(t, failoverPair(freePort(t), a, b, "", "mode: automatic, hold: 0", ""))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "ready")
	d.must("freeze", "--reason", "audit")
	a.down()
	d.awaitState("a", "a", "failing")
	eventually(t, "the log says that it is frozen", func() bool { return strings.Contains(d.process.err.String(), `"reason": "frozen"`) })
	if s := d.service("web"); s.Active != "a" {
		t.Fatalf("frozen, and it moved to %s", s.Active)
	}
	if out := d.must("status", "web").out; !strings.Contains(out, "failover automatic, failback manual\nno failover yet: frozen\n") {
		t.Errorf("status does not say why it stays:\n%s", out)
	}
	d.must("unfreeze")
	d.awaitActive("b")
	eventually(t, "nothing is due any more", func() bool { return !strings.Contains(d.must("status", "web").out, "no failover yet") })
}

func TestFailover_TwoSidesThatLookActiveAreAnAlarmAndNothingMoves(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.says(`{"ready": false}`)
	d := newDoor(t, failoverPair(freePort(t), a, b, "", "mode: automatic", "    exclusive: true\n"))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "waiting")
	b.says(`{"ready": true}`)
	eventually(t, "the alarm", func() bool { return d.service("web").Conflict })
	if n := d.metric(`turnout_active_conflict{service="web"}`); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	if s := d.service("web"); s.Active != "a" {
		t.Errorf("it moved to %s", s.Active)
	}
	out := d.must("status", "web").out
	if !strings.Contains(out, "conflict: two sides look active, and the service is exclusive: a and b; new clients stay on a") || !strings.Contains(out, "stop b, unless that is the right one: `turnout swap web b --stop-old CMD` stops a and leads there") || strings.Contains(out, "turnout back") {
		t.Error(out)
	}
	b.says(`{"ready": false}`)
	eventually(t, "the alarm is over", func() bool { return !d.service("web").Conflict })
}

func TestSwap_WaitForACheckWhileClientsWait(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.says(`{"ready": false}`)
	address := freePort(t)
	d := newDoor(t, readyCheck+fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%s], b: [%s]}\n", address, quoted(a), quoted(b)))
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	if r := d.cli("swap", "web", "--wait-for", "raedy"); r.code != 1 || !strings.Contains(r.err, `the file has no check "raedy"`) {
		t.Errorf("an unknown check: %s", r)
	}
	if r := d.cli("swap", "web", "--wait-for", "ready", "--hold", "300ms"); r.code != 5 || !strings.Contains(r.err, "still serving a") {
		t.Errorf("a check that does not pass: %s", r)
	}
	swap := d.begin("swap", "web", "--wait-for", "ready", "--hold", "60s")
	eventually(t, "the swap waits for the check", func() bool { return strings.Contains(swap.err.String()+swap.out.String(), "not passing ready yet") })
	answer := make(chan string, 1)
	go func() { answer <- asked(address) }() // ends with its answer
	eventually(t, "a client waits", func() bool { return d.service("web").Held == 1 })
	b.says(`{"ready": true}`)
	if got := <-answer; got != "b" {
		t.Errorf("the client that waited: %s", got)
	}
	if r := ended(t, swap); r.code != 0 || !strings.Contains(r.out+r.err, "b passing ready after ") {
		t.Errorf("the swap: %s", r)
	}
}

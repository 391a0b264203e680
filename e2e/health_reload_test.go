package e2e

import (
	"strings"
	"testing"
	"time"
)

// mistyped is a file's checks with a path that the servers do not have.
func mistyped(services string) string {
	return strings.Replace(services, "path: /readyz", "path: /raedyz", 1)
}

func TestReload_ACheckThatWouldLeaveNoServerIsRefusedAndChangesNothing(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	b.says(`{"ready": false}`)
	address := freePort(t)
	t.Setenv("E2E_TOKEN", "x") // the CLI reads the file too
	good := failoverPair(address, a, b, "", "mode: automatic, hold: 60s", "")
	d := newDoor(t, good)
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.awaitState("b", "b", "waiting")

	d.write(mistyped(good))
	exitsLike(t, d.cli("check", "-c", d.file), 0, "it would be refused as it is now: web: by its new checks no server of a would be ready: a: ready: ", "service web: a/a fails ready, asked just now: ")
	exitsLike(t, d.cli("reload"), 4, "not reloaded: web: by its new checks no server of a would be ready: a: ready: 200 OK: the answer is not JSON", "the file read last stays in force", "`turnout reload --force`")
	if s := d.server("a", "a"); s.State != "ready" {
		t.Errorf("refused, and the server is %s", s.State)
	}
	if got := asked(address); got != "a" {
		t.Errorf("answered by %s", got)
	}

	// Forced, it counts: the gap is as long as the file says, and the log and status say why.
	exitsLike(t, d.cli("reload", "--force"), 0, "service web: asked anew: ready; its servers are unknown meanwhile, and serve until one has failed 3 times in a row")
	eventually(t, "the door holds", func() bool { return d.service("web").State == "held" })
	if s := d.service("web"); s.HeldUntil == nil || time.Until(*s.HeldUntil) > time.Minute || s.HeldBy != "failover" {
		t.Errorf("held until %v by %s, and the file says 60s", s.HeldUntil, s.HeldBy)
	}
	exitsLike(t, d.cli("status", "web"), 0, "held by failover: a is not ready: a failing: ready: 200 OK: the answer is not JSON")
	if log := d.process.err.String(); strings.Contains(log, "failing: : ") {
		t.Errorf("a reason is missing in the log:\n%s", log)
	}

	// The correction is taken at once, and ends the gap.
	d.write(good)
	exitsLike(t, d.cli("reload"), 0, "check ready changed")
	d.awaitState("a", "a", "ready")
	eventually(t, "the door serves", func() bool { return d.service("web").State == "serving" })
	if got := asked(address); got != "a" {
		t.Errorf("answered by %s", got)
	}
}

func TestReload_WhereTheDoorGoesOnAnywayABadCheckIsOnlySaid(t *testing.T) {
	a, b := startPatient(t, "a"), startPatient(t, "b")
	address := freePort(t)
	good := watchedPair(address, quoted(a), quoted(b), "")
	d := newDoor(t, good)
	d.env = []string{"E2E_TOKEN=x"}
	d.start()
	d.awaitState("a", "a", "ready")
	d.write(mistyped(good))
	exitsLike(t, d.cli("reload"), 0, "service web: a/a fails ready, asked just now: 200 OK: the answer is not JSON")
	if got := asked(address); got != "a" {
		t.Errorf("answered by %s", got)
	}
	d.awaitState("a", "a", "failing")
	if got := asked(address); got != "a" { // none_ready: try
		t.Errorf("answered by %s", got)
	}
}

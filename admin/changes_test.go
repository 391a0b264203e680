package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

func TestStatus_ShowsOneSnapshotWithItsCounters(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	st := d.status()
	if st.Revision != 1 || st.Version != "1.2.3" || st.Config != "turnout.yaml" || st.PID == 0 || len(st.Drift) != 0 || len(st.Groups["all"]) != 2 {
		t.Errorf("door: %s", asJSON(st))
	}
	svc := st.Services["api"]
	if svc.Active != "blue" || svc.State != "serving" || svc.Connections != 1 || svc.Listen[0] != ":8080" {
		t.Errorf("api: %s", asJSON(svc))
	}
	if blue := svc.Pools["blue"]; blue.State != "active" || blue.Connections != 1 || blue.Servers["b1"].State != "ready" || blue.Servers["b1"].BytesToClient+blue.Servers["b2"].BytesToClient != 20 {
		t.Errorf("blue: %s", asJSON(blue))
	}
	if st := svc.Pools["green"].State; st != "standby" {
		t.Errorf("green is %s", st)
	}
	if l := st.Services["db"].Listen[0]; l != "127.0.0.1:4321" {
		t.Errorf("port 0 is shown as %s", l)
	}
}

func TestStatus_OfOneServiceOrGroupAlone(t *testing.T) {
	d := open(t)
	st, err := d.Status(t.Context(), "db")
	if err != nil || len(st.Services) != 1 {
		t.Fatal(err, asJSON(st))
	}
	if st, err = d.Status(t.Context(), "all"); err != nil || len(st.Services) != 2 {
		t.Fatal(err, asJSON(st))
	}
	_, err = d.Status(t.Context(), "dc")
	if e := refused(t, err, api.CodeNotFound); e.Hint != "did you mean db? there are: all, api, db" {
		t.Error(e.Hint)
	}
}

func TestSwap_AnswersWhenTheOldSideHasDrained(t *testing.T) {
	d := open(t)
	old := d.plane.connect(t, "api")
	answered := make(chan *api.Operation)
	go func() {
		op, err := d.Swap(context.WithoutCancel(t.Context()), "api", api.SwapRequest{To: "green"})
		if err != nil {
			t.Error(err)
		}
		answered <- op
	}()
	eventually(t, "the swap is in force", func() bool { return d.status().Services["api"].Active == "green" })
	svc := d.status().Services["api"]
	if svc.Previous != "blue" || svc.Pools["blue"].State != "draining" || svc.Pools["blue"].DrainUntil == nil || svc.Operation == "" || svc.Pools["green"].State != "active" {
		t.Errorf("meanwhile: %s", asJSON(svc))
	}
	d.plane.connect(t, "api")
	select {
	case op := <-answered:
		t.Fatalf("answered with a connection left: %s", asJSON(op))
	default:
	}
	d.plane.end(old, false)
	op := <-answered
	if op.State != "done" || !op.Changed || len(op.Proofs) != 1 || op.Ended.IsZero() {
		t.Fatalf("operation: %s", asJSON(op))
	}
	if p := op.Proofs[0]; !p.Drained || p.Cut != 0 || p.From != "blue" || p.To != "green" || p.LastStartOld == nil || p.FirstStartNew == nil || !p.LastStartOld.Before(*p.FirstStartNew) {
		t.Errorf("proof: %s", asJSON(p))
	}
	if drift := d.status().Drift; len(drift) != 1 || drift[0] != "services.api: the file says active: blue; the journal says green" {
		t.Errorf("drift: %q", drift)
	}
	if d.status().Services["api"].Operation != "" {
		t.Error("an operation that has ended is shown as under way")
	}
}

func TestSwap_WithoutWaitAnswersWhileConnectionsAreLeft(t *testing.T) {
	d := open(t)
	old := d.plane.connect(t, "api")
	op := d.done(d.Swap(t.Context(), "api", api.SwapRequest{To: "green", ChangeRequest: api.ChangeRequest{Wait: new(false)}}))
	if op.State != "draining" || op.Proofs[0].Remaining != 1 || op.Proofs[0].FirstStartNew != nil {
		t.Fatal(asJSON(op))
	}
	d.plane.connect(t, "api")
	if op = d.done(d.Operation(t.Context(), op.ID, 0, 0)); op.Proofs[0].FirstStartNew == nil {
		t.Error("the proof was not brought up to date: " + asJSON(op))
	}
	d.plane.end(old, false)
	op = d.done(d.Operation(t.Context(), op.ID, -1, time.Minute)) // a long poll
	if op.State != "done" || !op.Proofs[0].Drained {
		t.Error(asJSON(op))
	}
}

func TestSwap_CutsAtItsDeadlineAndSaysSo(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	op := d.done(d.Swap(t.Context(), "api", api.SwapRequest{To: "green", Drain: api.Duration(time.Millisecond)}))
	if op.State != "done" || op.Proofs[0].Cut != 1 || op.Cut != 1 {
		t.Error(asJSON(op))
	}
	d.plane.connect(t, "api")
	if op = d.done(d.Drain(t.Context(), "api", "green", "", api.DrainRequest{Drain: api.Duration(time.Millisecond), ChangeRequest: api.ChangeRequest{Force: true}})); op.Cut != 1 {
		t.Error("a drain: ", asJSON(op))
	}
}

func TestSwap_OfAGroupIsOneRevision(t *testing.T) {
	d := open(t)
	op := d.done(d.Swap(t.Context(), "all", api.SwapRequest{}))
	if op.Revision != 2 || len(op.Proofs) != 2 {
		t.Error(asJSON(op))
	}
	if op = d.done(d.Back(t.Context(), "all", api.SwapRequest{})); op.Revision != 3 {
		t.Error(asJSON(op))
	}
	if st := d.status(); st.Services["db"].Active != "primary" || st.Services["api"].Active != "blue" {
		t.Error(asJSON(st))
	}
}

func TestSwap_ToTheActivePoolChangesNothing(t *testing.T) {
	d := open(t)
	op := d.done(d.Swap(t.Context(), "api", api.SwapRequest{To: "blue"}))
	if op.Changed || op.State != "done" || op.Revision != 1 || op.Plan[0] != "api: blue is active already" {
		t.Error(asJSON(op))
	}
}

func TestPlan_SaysWhatWouldChangeAndChangesNothing(t *testing.T) {
	d := open(t)
	op := d.done(d.Swap(t.Context(), "api", api.SwapRequest{ChangeRequest: api.ChangeRequest{Plan: true}}))
	if op.State != "planned" || op.Changed || len(op.Plan) != 1 || d.status().Revision != 1 {
		t.Error(asJSON(op))
	}
}

func TestSwap_IsRefusedByTheGateAndNothingChanges(t *testing.T) {
	d := open(t)
	d.setDown("g1", errors.New("connect: connection refused"))
	op, err := d.Swap(t.Context(), "api", api.SwapRequest{To: "green"})
	e := refused(t, err, api.CodeGate)
	if op != nil || e.Message != "api not swapped to green: 0 of 1 server ready: g1.test:1: connect: connection refused" || !strings.HasPrefix(e.Holds, "still serving blue, revision 1") || e.Hint == "" {
		t.Error(asJSON(e), asJSON(op))
	}
	d.done(d.Swap(t.Context(), "api", api.SwapRequest{To: "green", ChangeRequest: api.ChangeRequest{Force: true}}))
	if d.status().Services["api"].Active != "green" {
		t.Error("force did not skip the gate")
	}
}

func TestHandover_PausesForEachHookAndGoesOn(t *testing.T) {
	d := open(t)
	req := api.SwapRequest{Exclusive: true, StopOld: true, StartNew: true}
	op := d.done(d.Swap(t.Context(), "db", req)) // answers though wait is the default: it waits for us
	if op.State != "waiting" || op.Waiting != "stop_old" || op.Changed != true {
		t.Fatal(asJSON(op))
	}
	if svc := d.status().Services["db"]; svc.State != "handover" || svc.Operation != op.ID || svc.HeldUntil == nil || svc.Active != "primary" {
		t.Error(asJSON(svc))
	}
	_, err := d.Swap(t.Context(), "db", api.SwapRequest{})
	refused(t, err, api.CodeConflict)
	_, err = d.Continue(t.Context(), op.ID, api.ContinueRequest{Step: "start_new"})
	refused(t, err, api.CodeConflict)
	op = d.done(d.Continue(t.Context(), op.ID, api.ContinueRequest{Step: "stop_old"}))
	if op.Waiting == "stop_old" {
		t.Error("the answer still shows the pause that it ended")
	}
	op = d.done(d.Operation(t.Context(), op.ID, -1, time.Minute))
	if op.Waiting != "start_new" {
		t.Fatal(asJSON(op))
	}
	d.done(d.Continue(t.Context(), op.ID, api.ContinueRequest{Step: "start_new"}))
	op = d.done(d.Operation(t.Context(), op.ID, -1, time.Minute))
	if op.State != "done" || op.Error != nil || len(op.Steps) == 0 || d.status().Services["db"].Active != "standby" {
		t.Error(asJSON(op))
	}
}

func TestHandover_GoesBackWhenAHookFails(t *testing.T) {
	d := open(t)
	op := d.done(d.Swap(t.Context(), "db", api.SwapRequest{StopOld: true}))
	d.done(d.Continue(t.Context(), op.ID, api.ContinueRequest{Step: "stop_old", Error: "exit status 1"}))
	op = d.done(d.Operation(t.Context(), op.ID, -1, time.Minute))
	if op.State != "failed" || op.Changed || op.Error == nil || op.Error.Message != "db not swapped: stop_old failed: exit status 1" {
		t.Error(asJSON(op))
	}
	if svc := d.status().Services["db"]; svc.State != "serving" || svc.Active != "primary" || svc.HeldUntil != nil {
		t.Error(asJSON(svc))
	}
}

func TestHandover_AbortAnswersWhenAllIsAsBefore(t *testing.T) {
	d := open(t)
	op := d.done(d.Swap(t.Context(), "db", api.SwapRequest{StopOld: true}))
	op = d.done(d.Continue(t.Context(), op.ID, api.ContinueRequest{Abort: true}))
	if op.State != "failed" || op.Error == nil || d.status().Services["db"].Active != "primary" {
		t.Error(asJSON(op))
	}
	_, err := d.Continue(t.Context(), op.ID, api.ContinueRequest{Abort: true})
	refused(t, err, api.CodeConflict)
}

// A swap that had begun and went back is answered with its error's status, and with its steps.
func TestHandover_ThatFailsComesWithItsStepsAndItsError(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "db")
	op, err := d.Swap(t.Context(), "db", api.SwapRequest{Exclusive: true, Hold: api.Duration(time.Millisecond), Drain: api.Duration(time.Minute)})
	refused(t, err, api.CodeTimeout)
	if op == nil || op.State != "failed" || len(op.Steps) < 2 || op.Changed {
		t.Error(asJSON(op))
	}
}

func TestHoldAndRelease(t *testing.T) {
	d := open(t)
	d.done(d.Hold(t.Context(), "api", api.HoldRequest{For: api.Duration(time.Hour)}))
	if svc := d.status().Services["api"]; svc.State != "held" || svc.HeldUntil == nil || time.Until(*svc.HeldUntil) < 50*time.Minute {
		t.Error(asJSON(svc))
	}
	d.done(d.Release(t.Context(), "api", api.ChangeRequest{}))
	if svc := d.status().Services["api"]; svc.State != "serving" || svc.HeldUntil != nil {
		t.Error(asJSON(svc))
	}
}

func TestMaintenance_DrainsUnlessSoft(t *testing.T) {
	d := open(t)
	d.plane.connect(t, "api")
	d.done(d.Maintenance(t.Context(), "api", api.MaintenanceRequest{On: new(true), Soft: true, For: api.Duration(time.Hour), ChangeRequest: api.ChangeRequest{Reason: "disk"}}))
	svc := d.status().Services["api"]
	if svc.State != "maintenance" || svc.Connections != 1 || svc.Maintenance.Reason != "disk" || svc.Maintenance.Until == nil || !svc.Maintenance.Soft || svc.Pools["blue"].State != "active" {
		t.Error(asJSON(svc))
	}
	d.done(d.Maintenance(t.Context(), "api", api.MaintenanceRequest{On: new(false)}))
	op := d.done(d.Maintenance(t.Context(), "api", api.MaintenanceRequest{On: new(true), ChangeRequest: api.ChangeRequest{Wait: new(false)}}))
	if svc = d.status().Services["api"]; op.State != "draining" || svc.Pools["blue"].State != "draining" || svc.Operation != op.ID {
		t.Error(asJSON(svc))
	}
}

func TestDrainReadyAndWeightOfAServer(t *testing.T) {
	d := open(t)
	d.done(d.Drain(t.Context(), "api", "blue", "b1", api.DrainRequest{}))
	d.done(d.Weight(t.Context(), "api", "blue", "b2", api.WeightRequest{Weight: new(7)}))
	st := d.status()
	blue := st.Services["api"].Pools["blue"]
	if blue.State != "active" || blue.Servers["b1"].State != "drained" || blue.Servers["b2"].Weight != 7 {
		t.Error(asJSON(blue))
	}
	if len(st.Drift) != 2 || st.Drift[0] != "services.api.pools.blue.b1: the journal says drained" || st.Drift[1] != "services.api.pools.blue.b2: the file says weight: 1; the journal says 7" {
		t.Errorf("drift: %q", st.Drift)
	}
	_, err := d.Drain(t.Context(), "api", "blue", "", api.DrainRequest{})
	refused(t, err, api.CodeGate)
	d.done(d.Ready(t.Context(), "api", "blue", "b1", api.ReadyRequest{}))
	d.done(d.Drain(t.Context(), "api", "green", "", api.DrainRequest{}))
	if st := d.status().Services["api"]; st.Pools["blue"].Servers["b1"].State != "ready" || st.Pools["green"].State != "drained" {
		t.Error(asJSON(st))
	}
}

func TestFreeze_RefusesChangesAndSaysWho(t *testing.T) {
	d := open(t)
	d.done(d.Freeze(t.Context(), api.ChangeRequest{Reason: "audit"}))
	_, err := d.Swap(t.Context(), "api", api.SwapRequest{})
	refused(t, err, api.CodeConflict)
	if f := d.status().Frozen; f == nil || f.Reason != "audit" || f.By == "" {
		t.Error(asJSON(f))
	}
	d.done(d.Unfreeze(t.Context(), api.ChangeRequest{}))
	d.done(d.Swap(t.Context(), "api", api.SwapRequest{}))
}

func TestChange_IsRefusedWhenTheRevisionMoved(t *testing.T) {
	d := open(t)
	_, err := d.Hold(t.Context(), "api", api.HoldRequest{ChangeRequest: api.ChangeRequest{IfRevision: 9}})
	refused(t, err, api.CodeConflict)
	d.done(d.Hold(t.Context(), "api", api.HoldRequest{ChangeRequest: api.ChangeRequest{IfRevision: 1}}))
}

func TestChange_ThatCannotBeMadeDurableIsRefused(t *testing.T) {
	d := open(t)
	d.journal.setFull(errors.New("no space left on device"))
	_, err := d.Hold(t.Context(), "api", api.HoldRequest{})
	if e := refused(t, err, api.CodeJournal); e.Holds == "" {
		t.Error(asJSON(e))
	}
	d.journal.setFull(nil)
}

func TestChange_IsLoggedWithWhoAskedForIt(t *testing.T) {
	d := open(t)
	d.done(d.Hold(t.Context(), "api", api.HoldRequest{}))
	_, _ = d.Hold(t.Context(), "nothing", api.HoldRequest{})
	if made := d.logs.FilterMessage("change").All(); len(made) != 1 || made[0].ContextMap()["verb"] != "hold" || made[0].ContextMap()["revision"] != uint64(2) || made[0].ContextMap()["pid"] == int64(0) {
		t.Errorf("made: %v", made)
	}
	if not := d.logs.FilterMessage("change refused").All(); len(not) != 1 || not[0].ContextMap()["code"] != "not_found" {
		t.Errorf("refused: %v", not)
	}
}

func TestUnknownNamesAreToldWithWhatThereIs(t *testing.T) {
	d := open(t)
	for name, call := range map[string]func() (*api.Operation, error){
		`no service or group is named "apu"`: func() (*api.Operation, error) { return d.Swap(t.Context(), "apu", api.SwapRequest{}) },
		`api has no pool "gren"`:             func() (*api.Operation, error) { return d.Swap(t.Context(), "api", api.SwapRequest{To: "gren"}) },
		`api has no pool "a/b c"`:            func() (*api.Operation, error) { return d.Drain(t.Context(), "api", "a/b c", "", api.DrainRequest{}) },
		`api/blue has no server "unix:/x"`: func() (*api.Operation, error) {
			return d.Ready(t.Context(), "api", "blue", "unix:/x", api.ReadyRequest{})
		},
		`no operation "77" is known`: func() (*api.Operation, error) { return d.Operation(t.Context(), "77", 0, 0) },
	} {
		op, err := call()
		if e := refused(t, err, api.CodeNotFound); e.Message != name || e.Hint == "" || op != nil {
			t.Errorf("want %s, got %s", name, asJSON(e))
		}
	}
}

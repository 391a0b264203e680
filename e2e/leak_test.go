package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// figures of a door at one moment.
type figures struct {
	descriptors, goroutines int
	resident                float64
}

func (f figures) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines, %.1f MiB", f.descriptors, f.goroutines, f.resident)
}

func (d *door) figures() figures {
	d.t.Helper()
	d.Client.Close()
	d.metric("go_goroutines") // the connection that asks counts too; let the last one end first
	return figures{d.descriptors(), int(d.metric("go_goroutines")), d.resident()}
}

// P6: what 10,000 connections, a reload and a swap took is given back.
func TestDoor_TenThousandConnectionsLeaveNothingBehind(t *testing.T) {
	n := lighter(10_000, 4)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := int(limit.Max)/2 - 300; most < n { // each has two ends here and two in the door
		t.Logf("only %d connections: this machine allows %d descriptors a process", most, limit.Max)
		n = most
	}
	a, b := startSide(t, 'a'), startSide(t, 'b')
	address := freePort(t)
	file := pairOf(address, a, b, longDrain)
	d := newDoor(t, file).start()
	if got := once(address); got.err != nil {
		t.Fatal(got.err)
	}
	eventually(t, "it is gone", func() bool { return d.service("svc").Connections == 0 })
	start := d.figures()
	t.Logf("at the start:  %s", start)
	to := "b"
	var after [3]figures
	for round := range after {
		stay := startRegulars(t, address, n, time.Hour)
		if got := d.service("svc").Connections; got != n {
			t.Errorf("status counts %d of %d connections", got, n)
		}
		full := d.figures()
		d.write(file + fmt.Sprintf("  more: {listen: %q, pools: {a: [%q]}}\n", freePort(t), a.addr))
		d.must("reload")
		d.swapTo("svc", to)
		to = map[string]string{"a": "b", "b": "a"}[to]
		if got := d.service("svc").Connections; got != n {
			t.Errorf("after a reload and a swap %d of %d connections are there", got, n)
		}
		stay.close()
		d.write(file)
		d.must("reload")
		eventually(t, "all have left and the descriptors are back", func() bool {
			return d.service("svc").Connections == 0 && d.figures().descriptors <= start.descriptors+1
		})
		eventually(t, "the goroutines are back", func() bool { return d.figures().goroutines <= start.goroutines+3 })
		after[round] = d.figures()
		t.Logf("round %d: with %d connections %s; after: %s", round+1, n, full, after[round])
	}
	// Memory that the first round took may be kept for the next; what grows from round to round is lost.
	allowed := 8.0
	if raced {
		allowed = 64
	}
	if grown := after[2].resident - after[0].resident; grown > allowed {
		t.Errorf("%.1f MiB more after the third round than after the first", grown)
	}
	if kept := after[2].resident - start.resident; kept > 4*allowed {
		t.Errorf("%.1f MiB more than at the start", kept)
	}
}

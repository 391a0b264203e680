package stream_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func TestSwap_NewConnectionsMoveAtOnceAndHeldOnesFinish(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	d := openDoor(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	old := d.dial("svc")
	if got := readLine(t, old); got != "blue" {
		t.Fatalf("before the swap: %s", got)
	}
	v := d.swap("svc", "green")
	if len(v.Proofs) != 1 || v.Proofs[0].Remaining != 1 || v.Proofs[0].From != "blue" || v.Proofs[0].To != "green" {
		t.Fatalf("proof: %+v", v.Proofs)
	}
	if got := readLine(t, d.dial("svc")); got != "green" {
		t.Fatalf("after the swap: %s", got)
	}
	fmt.Fprintln(old, "still here")
	if got := readLine(t, old); got != "still here" {
		t.Fatalf("the old connection: %s", got)
	}
	if v.State != proxy.StateDraining {
		t.Fatalf("state %s", v.State)
	}
	old.Close()
	op := d.Operation(v.ID)
	waitFor(t, "drained", func() bool { return op.View().State == proxy.StateDone })
	if p := op.View().Proofs[0]; !p.Drained || p.Cut != 0 || p.Overlap != 0 || p.FirstStartNew.IsZero() || !p.FirstStartNew.After(p.LastStartOld) {
		t.Fatalf("final proof: %+v", p)
	}
}

// P1: while clients connect as fast as they can, no connection that begins after the answer of a swap
// reaches the old side, and none fails.
func TestSwap_NoConnectionBegunAfterTheAnswerReachesTheOldSide(t *testing.T) {
	blue, green := echo(t, "blue"), echo(t, "green")
	d := openDoor(t, pools([]string{"blue", blue.address()}, []string{"green", green.address()}))
	addr := d.addr("svc")
	var epoch atomic.Uint64 // odd: a swap is under way, either side is right; else half of it counts the swaps
	var stop atomic.Bool
	var wg sync.WaitGroup
	var total, failed, late atomic.Int64
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				before := epoch.Load()
				c, err := net.Dial("tcp", addr)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				b := make([]byte, 6)
				n, err := io.ReadAtLeast(c, b, 5)
				after := epoch.Load()
				_ = c.(*net.TCPConn).SetLinger(0)
				c.Close()
				total.Add(1)
				if err != nil {
					failed.Add(1)
					continue
				}
				isBlue := bytes.HasPrefix(b[:n], []byte("blue"))
				if before == after && before%2 == 0 && isBlue != (before/2%2 == 0) {
					late.Add(1)
				}
			}
		})
	}
	names := []string{"blue", "green"}
	for i := range 100 {
		epoch.Add(1)
		op := d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: names[(i+1)%2]})
		epoch.Add(1)
		if v := op.View(); v.Proofs[0].Overlap != 0 {
			t.Errorf("overlap %v", v.Proofs[0].Overlap)
		}
		time.Sleep(2 * time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	if failed.Load() > 0 || late.Load() > 0 || total.Load() < 100 {
		t.Fatalf("%d connections, %d failed, %d late", total.Load(), failed.Load(), late.Load())
	}
	t.Logf("%d connections over 100 swaps", total.Load())
}

func TestHold_ClientsWaitUnreadAndAreLetInByRelease(t *testing.T) {
	blue := echo(t, "blue")
	d := openDoor(t, pools([]string{"blue", blue.address()}))
	d.must(proxy.Change{Verb: proxy.VerbHold, Target: "svc"})
	var conns []net.Conn
	for range 300 {
		conns = append(conns, d.dial("svc"))
	}
	waitFor(t, "300 held", func() bool { return d.Current().Service("svc").Held() == 300 })
	d.must(proxy.Change{Verb: proxy.VerbRelease, Target: "svc"})
	for _, c := range conns {
		if got := readLine(t, c); got != "blue" {
			t.Fatal(got)
		}
	}
	if n := d.Current().Service("svc").Held(); n != 0 {
		t.Fatalf("%d still held", n)
	}
}

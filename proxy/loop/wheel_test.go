package loop

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const tick = int64(1) << tickShift

// tickOf is the time at which a timer set to at may fire.
func tickOf(at int64) int64 {
	if at > never-tick {
		return never
	}
	return (at + tick - 1) / tick * tick
}

// The wheel against a plain map: every Advance fires exactly what is due, sorted by tick, through jumps of
// hours and with timers that are set and cancelled while others fire.
func TestWheel_FiresWhatASortedListWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(0, 1<<50).Draw(t, "start")
		w := newWheel(now)
		model := map[uint32]int64{}
		late := map[uint32]bool{}
		slotGen := rapid.OneOf(rapid.Uint32Range(0, 5), rapid.Uint32Range(0, 2000))
		delayGen := rapid.OneOf(
			rapid.Int64Range(-int64(time.Second), 0),
			rapid.Int64Range(0, 3*tick),
			rapid.Int64Range(0, int64(100*time.Millisecond)),
			rapid.Int64Range(0, int64(time.Minute)),
			rapid.Int64Range(0, int64(48*time.Hour)),
			rapid.Int64Range(0, int64(20*365*24*time.Hour)),
		)
		set := func(slot uint32, at int64) {
			w.Set(slot, at)
			model[slot] = at
			late[slot] = tickOf(at) <= now/tick*tick
		}
		cancel := func(slot uint32) {
			w.Cancel(slot)
			delete(model, slot)
		}
		advance := func(to int64) {
			now = to
			due := map[uint32]int64{}
			for slot, at := range model {
				if tickOf(at) <= now {
					due[slot] = tickOf(at)
				}
			}
			last := int64(math.MinInt64)
			reset := map[uint32]bool{} // set again by a callback: must wait for the next Advance
			w.Advance(now, func(slot uint32) {
				at, ok := due[slot]
				if !ok || reset[slot] {
					t.Fatalf("slot %d fired at %d, it was set to %d", slot, now, model[slot])
				}
				if late[slot] { // already when it was set: these come first
					at = math.MinInt64
				}
				if at < last {
					t.Fatalf("slot %d of tick %d fired after tick %d", slot, at, last)
				}
				last = at
				delete(due, slot)
				delete(model, slot)
				if w.At(slot) != 0 && w.At(slot) != model[slot] {
					t.Fatalf("slot %d is still set while it fires", slot)
				}
				switch rapid.IntRange(0, 7).Draw(t, "in callback") {
				case 0: // set itself again
					set(slot, now+delayGen.Draw(t, "delay"))
					reset[slot] = true
				case 1: // cancel another, due or not
					other := slotGen.Draw(t, "other")
					cancel(other)
					delete(due, other)
				case 2: // move another
					other := slotGen.Draw(t, "other")
					set(other, now+delayGen.Draw(t, "delay"))
					delete(due, other)
					reset[other] = true
				}
			})
			if len(due) > 0 {
				t.Fatalf("at %d these were due and did not fire: %v", now, due)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1, 2:
				set(slotGen.Draw(t, "slot"), now+delayGen.Draw(t, "delay"))
			case 3:
				cancel(slotGen.Draw(t, "slot"))
			case 4:
				advance(now + rapid.OneOf(rapid.Int64Range(0, 5*tick), rapid.Int64Range(0, int64(time.Second)), rapid.Int64Range(0, int64(30*time.Hour))).Draw(t, "jump"))
			case 5: // as the loop does
				if at := w.wakeAt(); at != never {
					advance(max(now, at))
				}
			}
			if w.Len() != len(model) {
				t.Fatalf("Len %d, want %d", w.Len(), len(model))
			}
			first := never
			for slot, at := range model {
				first = min(first, tickOf(at))
				if w.At(slot) != at {
					t.Fatalf("At(%d) = %d, want %d", slot, w.At(slot), at)
				}
			}
			next := w.NextAt()
			if next > max(first, now) {
				t.Fatalf("NextAt %d is later than the first timer at %d", next, first)
			}
			if len(model) == 0 && next != never {
				t.Fatalf("NextAt %d of an empty wheel", next)
			}
			if near := first - now; near > 0 && near < 2*tick && first/tick/slots == now/tick/slots && next != first {
				t.Fatalf("NextAt %d, but the timer of the next ticks is at %d", next, first)
			}
		}
	})
}

// Going from NextAt to NextAt, a timer a day away costs a handful of wakes, and fires on its tick.
func TestWheel_AFarTimerWakesTheLoopOnlyAFewTimes(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, time.Second, time.Hour, 25 * time.Hour, 400 * 24 * time.Hour} {
		for now := range int64(50) {
			now *= 12_345_678_901
			w := newWheel(now)
			at := now + int64(delay)
			w.Set(3, at)
			fired, wakes := int64(0), 0
			for fired == 0 {
				now = w.NextAt()
				wakes++
				w.Advance(now, func(uint32) { fired = now })
			}
			if fired < at || fired >= at+tick {
				t.Errorf("%v: fired %v after its time", delay, time.Duration(fired-at))
			}
			if wakes > levels {
				t.Errorf("%v: %d wakes", delay, wakes)
			}
		}
	}
}

func TestWheel_TheEndOfTimeIsNoSpecialCase(t *testing.T) {
	w := newWheel(1 << 40)
	w.Set(0, never)
	w.Set(1, never-1)
	w.Set(2, math.MinInt64)
	var fired []uint32
	w.Advance(1<<62, func(slot uint32) { fired = append(fired, slot) })
	if !slices.Equal(fired, []uint32{2}) {
		t.Fatalf("fired %v, want the one long past", fired)
	}
	if w.At(0) != never || w.Len() != 2 {
		t.Fatal("the far ones are lost")
	}
}

func TestWheel_ACallbackThatSetsThePastDoesNotTurnForever(t *testing.T) {
	w := newWheel(0)
	w.Set(1, 0)
	fired := 0
	for range 3 {
		w.Advance(1000, func(slot uint32) {
			fired++
			w.Set(slot, 0)
		})
	}
	if fired != 3 {
		t.Fatalf("fired %d times in 3 calls", fired)
	}
	if w.NextAt() > 1000 {
		t.Fatal("the loop would sleep over it")
	}
}

func TestWheel_MemoryComesBackAfterACrowd(t *testing.T) {
	w := newWheel(0)
	before := heap()
	for slot := range uint32(100_000) {
		w.Set(slot, int64(time.Hour))
	}
	for slot := range uint32(100_000) {
		w.Cancel(slot)
	}
	for at := w.wakeAt(); at != never; at = w.wakeAt() {
		w.Advance(at, nil)
	}
	if left := heap() - before; left > 100<<10 {
		t.Fatalf("%d bytes stay", left)
	}
	runtime.KeepAlive(w)
}

func TestWheel_AllocatesNothing(t *testing.T) {
	w := newWheel(0)
	now := int64(0)
	fire := func(slot uint32) { w.Set(slot, now+int64(time.Millisecond)) }
	for slot := range uint32(1000) {
		w.Set(slot, int64(slot)*1000)
	}
	if n := testing.AllocsPerRun(10_000, func() {
		w.Set(5, now+int64(time.Hour))
		w.Cancel(300)
		now = w.NextAt()
		w.Advance(now, fire)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkWheel_SetAgain(b *testing.B) {
	w := newWheel(0)
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		w.Set(uint32(i&1023), 1e9+i*1e3)
		i++
	}
}

func BenchmarkWheel_OneMillisecondTimers(b *testing.B) {
	w := newWheel(0)
	now := int64(0)
	fire := func(slot uint32) { w.Set(slot, now+1e6) }
	for slot := range uint32(100) {
		w.Set(slot, int64(slot)*1e4)
	}
	b.ReportAllocs()
	for b.Loop() {
		now = w.NextAt()
		w.Advance(now, fire)
	}
}

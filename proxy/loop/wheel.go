package loop

import (
	"math"
	"math/bits"
)

// never is later than every time.
const never = int64(math.MaxInt64)

const (
	// tickShift makes a tick 2^18 ns = 0.26 ms: a timer fires at most that late and never early.
	tickShift = 18

	levelBits = 6
	levels    = 8 // 8*6 bits of ticks: all of an int64 of nanoseconds, so that no time is too far
	slots     = 1 << levelBits

	lists    = levels*slots + 2
	dueList  = levels * slots // already late when set, or found late by Advance
	fireList = dueList + 1    // about to be fired by Advance
	noList   = math.MaxUint16

	trimAfter = int64(2e9) // ns from the moment a chunk of timers runs empty until it is given back
)

// Wheel is a hierarchical timer wheel with one timer per slot number. Set, Cancel and the firing of a
// timer are O(1), apart from at most seven moves of a far timer into finer levels. Timers are linked by
// numbers in chunks of 256 that have no pointers; chunks without timers are given back after a while.
//
// A timer of tick t is at the level of the highest 6-bit digit in which t differs from the tick the wheel
// has reached. So all timers of one level are in the same turn of it, sooner ones at lower digits, and all
// of a lower level are sooner than all of a higher: the next one is found by two bit scans.
type Wheel struct {
	fire func(slot uint32) // for the Loop that advances the wheel

	tick  int64 // reached: everything before is fired or in dueList
	n     int   // timers set
	trim  int64 // when to look for empty chunks; 0 if there are none
	occ   [levels]uint64
	any   uint32 // bit per level: occ is not zero
	heads [lists]int32
	tails [lists]int32

	chunks []*timerChunk
}

type timerChunk struct {
	t    [chunkSize]timer
	used int
}

type timer struct {
	at         int64
	next, prev int32
	list       uint16 // noList: not set
}

func newWheel(now int64) *Wheel {
	w := &Wheel{tick: now >> tickShift}
	for i := range w.heads {
		w.heads[i], w.tails[i] = -1, -1
	}
	return w
}

// Len is the number of timers set.
func (w *Wheel) Len() int { return w.n }

// Set has slot fire at the Clock time at, in place of any time it had. A time that is past fires at the next
// Advance.
func (w *Wheel) Set(slot uint32, at int64) {
	c := w.chunk(slot)
	t := &c.t[slot&chunkMask]
	if t.list != noList {
		w.unlink(t)
	} else {
		c.used++
		w.n++
	}
	t.at = at
	w.place(int32(slot), t)
}

// Cancel takes slot's timer away, if it has one. It will not fire any more.
func (w *Wheel) Cancel(slot uint32) {
	c, t := w.lookup(slot)
	if t == nil {
		return
	}
	w.unlink(t)
	w.drop(c, t)
}

// At is the time slot was set to; 0 if it has no timer.
func (w *Wheel) At(slot uint32) int64 {
	if _, t := w.lookup(slot); t != nil {
		return t.at
	}
	return 0
}

// NextAt is when Advance must be called next: at or before the time of the first timer (rounded up to a
// tick), math.MaxInt64 if there is none. It may be before, when timers must be moved to a finer level.
func (w *Wheel) NextAt() int64 {
	if w.heads[dueList] >= 0 {
		return w.tick << tickShift
	}
	if w.any == 0 {
		return never
	}
	_, _, tick := w.first()
	if tick > never>>tickShift { // the tick after the last whole one
		return never
	}
	return tick << tickShift
}

// wakeAt is NextAt, or sooner if memory is to be given back.
func (w *Wheel) wakeAt() int64 {
	at := w.NextAt()
	if w.trim != 0 {
		at = min(at, w.trim)
	}
	return at
}

// Advance fires every timer whose tick has begun at now: by its tick, each once, after it has ceased to be
// set. fire may Set and Cancel any timer. One that it sets into the past waits for the next Advance.
func (w *Wheel) Advance(now int64, fire func(slot uint32)) {
	target := now >> tickShift
	for w.any != 0 {
		level, digit, tick := w.first()
		if tick > target {
			break
		}
		w.tick = tick
		w.empty(level, digit)
	}
	w.tick = max(w.tick, target)

	w.heads[fireList], w.tails[fireList] = w.heads[dueList], w.tails[dueList]
	w.heads[dueList], w.tails[dueList] = -1, -1
	for i := w.heads[fireList]; i >= 0; i = w.at(i).next {
		w.at(i).list = fireList
	}
	for w.heads[fireList] >= 0 {
		slot := uint32(w.heads[fireList])
		w.Cancel(slot)
		fire(slot)
	}
	if w.trim > askTrim && now >= w.trim {
		w.giveBack()
	}
	if w.trim == askTrim {
		w.trim = now + trimAfter
	}
}

// first is the list that comes next and the tick at which it does. Some level must be occupied.
func (w *Wheel) first() (level, digit int, tick int64) {
	level = bits.TrailingZeros32(w.any)
	digit = bits.TrailingZeros64(w.occ[level])
	shift := level * levelBits
	// The digits above are those of w.tick, the one at level is digit, those below are zero.
	tick = w.tick>>(shift+levelBits)<<(shift+levelBits) | int64(digit)<<shift
	return level, digit, tick
}

// empty moves the timers of a list whose tick is reached to where they belong now: dueList or a finer level.
func (w *Wheel) empty(level, digit int) {
	list := level*slots + digit
	i := w.heads[list]
	w.heads[list], w.tails[list] = -1, -1
	w.vacate(level, digit)
	for i >= 0 {
		t := w.at(i)
		next := t.next
		w.place(i, t)
		i = next
	}
}

// place links t, which is in no list, by its time.
func (w *Wheel) place(slot int32, t *timer) {
	// Rounded up: never early. Overflow is kept out by shifting first.
	tick := t.at >> tickShift
	if t.at&(1<<tickShift-1) != 0 {
		tick++
	}
	if tick <= w.tick {
		w.link(dueList, slot, t)
		return
	}
	level := (bits.Len64(uint64(tick^w.tick)) - 1) / levelBits
	digit := int(tick>>(level*levelBits)) & (slots - 1)
	w.occ[level] |= 1 << digit
	w.any |= 1 << level
	w.link(uint16(level*slots+digit), slot, t)
}

func (w *Wheel) link(list uint16, slot int32, t *timer) {
	t.list = list
	t.next, t.prev = -1, w.tails[list]
	if t.prev >= 0 {
		w.at(t.prev).next = slot
	} else {
		w.heads[list] = slot
	}
	w.tails[list] = slot
}

func (w *Wheel) unlink(t *timer) {
	if t.prev >= 0 {
		w.at(t.prev).next = t.next
	} else {
		w.heads[t.list] = t.next
	}
	if t.next >= 0 {
		w.at(t.next).prev = t.prev
	} else {
		w.tails[t.list] = t.prev
	}
	if w.heads[t.list] < 0 && t.list < dueList {
		w.vacate(int(t.list)/slots, int(t.list)%slots)
	}
}

func (w *Wheel) vacate(level, digit int) {
	if w.occ[level] &^= 1 << digit; w.occ[level] == 0 {
		w.any &^= 1 << level
	}
}

// askTrim in Wheel.trim asks Advance, which knows the time, to set it.
const askTrim = 1

// drop forgets t, which is in no list.
func (w *Wheel) drop(c *timerChunk, t *timer) {
	t.list = noList
	w.n--
	if c.used--; c.used == 0 && w.trim == 0 {
		w.trim = askTrim
	}
}

func (w *Wheel) at(slot int32) *timer {
	return &w.chunks[slot>>chunkShift].t[slot&chunkMask]
}

// lookup returns slot's timer if it is set.
func (w *Wheel) lookup(slot uint32) (*timerChunk, *timer) {
	ci := int(slot >> chunkShift)
	if ci >= len(w.chunks) || w.chunks[ci] == nil {
		return nil, nil
	}
	c := w.chunks[ci]
	if t := &c.t[slot&chunkMask]; t.list != noList {
		return c, t
	}
	return nil, nil
}

// chunk returns slot's chunk, made if need be.
func (w *Wheel) chunk(slot uint32) *timerChunk {
	ci := int(slot >> chunkShift)
	for ci >= len(w.chunks) {
		w.chunks = append(w.chunks, nil)
	}
	if w.chunks[ci] == nil {
		c := new(timerChunk)
		for i := range c.t {
			c.t[i].list = noList
		}
		w.chunks[ci] = c
	}
	return w.chunks[ci]
}

// giveBack drops the chunks that have no timers now. One that is used again and again, a timer at a time, is
// made anew at most once per trimAfter.
func (w *Wheel) giveBack() {
	w.trim = 0
	last := 0
	for ci, c := range w.chunks {
		switch {
		case c == nil:
		case c.used == 0:
			w.chunks[ci] = nil
		default:
			last = ci + 1
		}
	}
	w.chunks = w.chunks[:last]
}

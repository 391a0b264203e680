package proxy

import "time"

// Cut says how a connection is ended.
type Cut uint8

// Ways of cutting, from none at all over the gentlest on.
const (
	CutNot         Cut = iota
	CutIdle            // when nothing has moved on it since the look before the last one, and nothing is under way
	CutAfterAnswer     // also when its client begins to ask anew: before a byte of that is carried
	CutNow             // whatever it is doing
)

// Cuts says how each connection of a server is ended. Each has a place among all, by its number; those whose place is
// below a bound are ended as the bound says. The zero Cuts ends none.
type Cuts struct {
	below [CutNow]uint64 // of CutIdle, CutAfterAnswer, CutNow; whole: all. Invariant: each is at least as high as the next
}

const whole = 1 << 32 // of places

// All ends all connections alike.
func (how Cut) All() Cuts {
	var c Cuts
	for i := range how {
		c.below[i] = whole
	}
	return c
}

// Of is how the connection with that number on that loop is ended. Numbers that follow each other have places far
// apart, evenly over all, since a golden section lies between them.
func (c Cuts) Of(loop int, number uint32) Cut {
	place, how := uint64(number*0x9e3779b1+uint32(loop)*0x85ebca6b), CutNot
	for how < CutNow && place < c.below[how] {
		how++
	}
	return how
}

// How a connection's end goes on: for so long it is cut only if it is idle, then after the answer it is in, then in any
// case. Together this adds at most cutIdleFor + cutAfterFor to the time that is its own.
const (
	cutIdleFor  = 500 * time.Millisecond
	cutAfterFor = 500 * time.Millisecond
	cutNowFor   = time.Second // what is cut has ended by then, or never will
	cutTick     = 10 * time.Millisecond
)

// idleLooks is how many looks a connection must pass without a byte to be idle. A time would not tell: that of a loop is of
// the round's begin, and a loop that was kept from its processor takes what has just moved for long ago.
const idleLooks = 2

// IdleCut is for how many nanoseconds nothing has moved on a connection that counts as idle.
const IdleCut = int64(20 * time.Millisecond)

// Looks are a loop's looks at the connections of a server (Plane.Cut). They belong to the loop.
type Looks struct {
	// Cuts: which of the connections end when their clients begin to ask anew (CutAfterAnswer). The quiet point clears it,
	// since a change may have ended the drain; a drain that goes on sets it again.
	Cuts Cuts

	// at: when the last one was, and those before, by the loop's clock. What has moved since the earliest is not idle, however
	// long ago the loop takes it to be.
	at [idleLooks]int64
}

// Idle tells whether a connection on which something has moved last at that time has not moved for idleLooks looks.
func (l *Looks) Idle(last int64) bool { return last < l.at[idleLooks-1] }

// Done says that a look has just ended.
func (l *Looks) Done(cuts Cuts, now int64) {
	l.Cuts = cuts
	copy(l.at[1:], l.at[:])
	l.at[0] = now
}

// cutTime is how long it takes to end all connections whose time comes evenly spread over a time.
func cutTime(over time.Duration) time.Duration { return over + cutIdleFor + cutAfterFor + cutNowFor }

// CutsAt says how to end connections whose time comes evenly spread over a time, so long after its begin; before it, none.
func CutsAt(since, over time.Duration) Cuts {
	var c Cuts
	for i, later := range [...]time.Duration{0, cutIdleFor, cutIdleFor + cutAfterFor} {
		switch since := since - later; {
		case since >= over:
			c.below[i] = whole
		case since > 0:
			c.below[i] = uint64(float64(since) / float64(over) * whole)
		}
	}
	return c
}

// tickOf is how often connections are looked at whose time comes evenly spread over a time.
func tickOf(over time.Duration) time.Duration { return min(max(over/1000, cutTick), 10*cutTick) }

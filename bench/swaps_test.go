//go:build linux

package main

import (
	"testing"

	"github.com/turnout-proxy/turnout/bench/load"
)

const ms = int64(1e6)

// One swap to b from 100 to 110 ms, one back to a from 200 to 210 ms.
var twoSwaps = []swap{{'b', 100 * ms, 110 * ms}, {'a', 200 * ms, 210 * ms}}

func TestJudgeSwaps_LateIsWhatBeganAfterTheAnswerAndGotTheOldSide(t *testing.T) {
	f := func(begin, accept int64, side byte, want bool) {
		t.Helper()
		c := load.Start{Begin: begin * ms, Accept: accept * ms, Reply: (accept + 1) * ms, Side: side}
		if got := judgeSwaps(twoSwaps, []load.Start{c}).late == 1; got != want {
			t.Errorf("begun at %d, accepted at %d by %c: late is %v, want %v", begin, accept, side, got, want)
		}
	}
	f(10, 20, 'a', false)   // before any swap
	f(10, 20, 'b', true)    // nobody had sent it there
	f(105, 106, 'a', false) // the command is under way: either side will do
	f(105, 106, 'b', false)
	f(109, 150, 'a', false) // begun before the answer: may have been claimed before
	f(110, 111, 'b', false)
	f(110, 111, 'a', true)  // answered, and yet
	f(150, 205, 'a', false) // the next command was under way when it was accepted
	f(150, 199, 'a', true)
	f(211, 212, 'b', true)
	f(211, 212, 'a', false)
}

func TestJudgeSwaps_CountsLostAndTimes(t *testing.T) {
	v := judgeSwaps(twoSwaps, []load.Start{
		{Begin: 1 * ms, Accept: 2 * ms, Reply: 4 * ms, Side: 'a'},
		{Begin: 5 * ms, Reply: 6 * ms, Err: "ECONNREFUSED"},
	})
	if v.starts != 2 || v.lost != 1 || v.late != 0 || v.startTime[0] != 3 || v.latency[1] != 10 || v.swapped != 100e6 {
		t.Errorf("got %+v", v)
	}
}

func TestBothSides_IsFromTheFirstNewToTheLastOld(t *testing.T) {
	at := func(accept int64, side byte) load.Start {
		return load.Start{Begin: accept - ms, Accept: accept, Reply: accept + ms, Side: side}
	}
	got := bothSides(twoSwaps, []load.Start{
		at(108*ms, 'a'), at(103*ms, 'b'), at(101*ms, 'a'), at(130*ms, 'b'), // 103 to 108
		at(201*ms, 'b'), at(202*ms, 'a'), // no overlap: the old side was first
		{Err: "ECONNRESET"},
	})
	if len(got) != 1 || got[0] != 5 {
		t.Errorf("got %v, want 5 ms once", got)
	}
}

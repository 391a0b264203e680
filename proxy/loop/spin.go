package loop

// spin decides whether a loop, before it blocks, first lets others run (sched_yield) and looks again.
//
// Where client, door and server share a machine, the answer to what was just sent is often made by another
// process on this core, within microseconds. A look then finds it, often several at once, and spares a
// blocking wait with its two switches and a Go scheduler that may have given the loop's processor away.
// Where nothing comes, yield and look are lost: 0.9 µs (BenchmarkSpin_FruitlessLook). A wait costs 0.3 µs
// even if it finds something at once, and by estimate 3 µs when the thread must sleep and be woken.
//
// So tries earn credit by their fruit and pay for being fruitless, at a rate that breaks even when one in
// three bears fruit. With no credit left, every 16th wait is preceded by one try, which finds out whether
// times have changed. There is at most one such decision per wait, and an idle loop's wait does not end:
// a loop that has nothing to do spends nothing, and one that wakes seldom next to nothing.
type spin struct {
	credit int
	waits  int // without a try since the last one
}

const (
	spinTries  = 4  // looks before a wait, while there is credit
	spinGain   = 2  // credit for a fruitful look
	spinLoss   = 1  // and for a fruitless one
	spinMax    = 16 // so that the end of a busy time costs at most 16 looks
	spinProbe  = 16 // waits until a look without credit
	spinMaiden = 4  // credit for the first fruit of such a look
)

// tries is how many looks the coming wait is worth.
func (s *spin) tries() int {
	if s.credit > 0 {
		return spinTries
	}
	if s.waits++; s.waits >= spinProbe {
		s.waits = 0
		return 1
	}
	return 0
}

// learn is told what each look found.
func (s *spin) learn(fruit bool) {
	switch {
	case !fruit:
		s.credit = max(0, s.credit-spinLoss)
	case s.credit == 0:
		s.credit = spinMaiden
	default:
		s.credit = min(spinMax, s.credit+spinGain)
	}
}

package loop

import "sync/atomic"

// patience is how long, in ns, All looks before it sleeps. A loop that is awake runs what is posted within the
// handler it is in, one that sleeps is awake within some 50 µs.
const patience = int64(300e3)

// All runs f, with each loop's index, on all loops at the same time, and returns when it has returned on each; a
// loop that has stopped is left out. It must not be called on a loop.
//
// First it looks again and again whether all are done, and lets other threads run in between: to be woken by a
// loop, through the Go scheduler, takes longer than the loops do. On two busy cores this makes 0.05 ms of 0.15.
func All(loops []*Loop, f func(i int)) {
	var left atomic.Int32
	left.Store(int32(len(loops)))
	done := make(chan struct{})
	end := func() {
		if left.Add(-1) == 0 {
			close(done)
		}
	}
	for i, l := range loops {
		if !l.Post(func() { defer end(); f(i) }) {
			end()
		}
	}
	for began := Clock(); left.Load() > 0; yield() {
		if Clock()-began > patience {
			<-done
		}
	}
}

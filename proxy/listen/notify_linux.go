package listen

import "golang.org/x/sys/unix"

func monotonicUsec() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("listen: BUG: clock_gettime: " + err.Error())
	}
	return ts.Nano() / 1e3
}

package loop

import "time"

// base is where Clock starts, one second before the process, so that 0 is free to mean "no time".
var base = time.Now().Add(-time.Second)

// Clock is a precise monotonic time in nanoseconds, the same one on all loops. It is never 0.
func Clock() int64 { return int64(time.Since(base)) }

// Wall is the time of day at a Clock reading, by the system's clock as it goes now.
func Wall(ns int64) time.Time { return time.Now().Add(time.Duration(ns - Clock())) }

package loop

// Values of Linux for the calls in sys_linux.go, here so that callers compile everywhere.
const (
	SockStream = 1

	ShutRead  = 0
	ShutWrite = 1
	ShutBoth  = 2

	SpliceMove     = 1
	SpliceNonblock = 2
	SpliceMore     = 4
)

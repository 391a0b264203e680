// Package stream is the TCP plane: it carries bytes between clients and servers on event loops.
//
//	a connection:  accept ->  (header) ->   steer: claim -> dial -> start -> relay -> end
//	               welcome.go proxyproto.go steer.go                         relay.go end.go
//	waiting:       steer -> hold -> release -> steer                       hold.go
//
// Each loop has a worker, which owns every connection the loop accepted, from its first byte to its last,
// without a lock. What is shared is read from the snapshot; what is counted is counted in cells of the
// loop's own. A connection is a slot in a slab without pointers; tokens carry the slot's generation, so an
// event that comes late for a slot that was given to someone else is dropped.
//
// Promises: a byte is carried once, in order and unchanged; an end of stream is carried after the last byte
// before it, in each direction by itself; a reset is carried as a reset, after what came before it was
// acknowledged. A side that does not read stops the other side's being read: at most one block (64 KiB), or
// what a pipe holds (1 MiB), waits in between, for either direction.
//
// Not promised: urgent data; a reset on a Unix socket, which knows none (there it becomes an end of stream); who
// comes first of clients that wait on different loops for a hold to end; that a server which was connected to but
// sent nothing (a dial taken back) does not see that connection come and go.
package stream

// Package loop is the ground the planes run on: event loops, one per core, and what a loop lends to its
// connections: timers, slots, buffers, pipes, and non-blocking system calls. It knows no service and no
// protocol, and it uses neither net nor Go's own poller.
//
//	a round:  poll -> handler per event -> Do/Post functions -> timers -> again-list -> poll
//
// Everything that belongs to a Loop is used on that loop's goroutine only, without locks: handlers, timers
// and functions given to Do and Post all run there, one after the other. From elsewhere only Do, Post,
// Stop, Stats and ID may be called.
//
// Promises: after the start nothing here allocates in the steady state, not per event, timer, Again, slot,
// buffer or system call. A Do is answered after the handler that runs at the moment, also in the middle of
// a large batch. Every function for which Post said true is run, if the loop runs at all. An idle loop
// sleeps until something happens or the next timer is due. A panic in a handler ends the process.
//
// Not promised: that an event's owner still lives. The token of an event, of an Again and of a Post carries
// the generation of its slot, and the handler must Check it.
//
// The door runs on Linux. Elsewhere the package compiles, New returns an error that says so, and system
// calls answer ENOSYS; what is Linux's own is in the files *_linux.go behind the type poller.
package loop

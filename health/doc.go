// Package health asks servers how they are, and tells who asks when that changes. It knows addresses, not
// services, and decides nothing: who gets traffic is decided elsewhere, from what is said here.
//
//	once:     NewCheck(Spec) -> Check: options checked, expressions compiled, all mistakes told at once
//	a probe:  Check.Run -> ask (tcp.go, http.go, redis.go, postgres.go, exec_linux.go, grpc.go)
//	          -> judge (expect.go: own rule of the kind, then `expect`, then `value`) -> Answer
//	by time:  Progress.Judge: the value must have grown; Fresh: the value must be near another one
//	always:   Monitor: one goroutine per check and target, and one thread for all plain ones (asker_linux.go:
//	          when; turn_linux.go: one question, from connect to answer; leftover_linux.go: what goes on beside it)
//	          -> rise and fall -> state -> Transition
//
// Whoever needs a check's answer in the door (gates, watches, steps that wait) does not run it by hand but asks
// health/rounds, which knows the checks of the file and the servers of the snapshot: Rounds.Probe(ctx, server) is the
// gate, Rounds.AskAll(ctx, server) gives every answer, Rounds.Ask(ctx, name, server) asks one check by name now, and
// Rounds.Check(name).NewProgress(nil) is a history of one's own for a check that must advance.
//
// Promises: an Answer says in an operator's words why it is no. A target that hangs, lies, dribbles, never ends
// or answers hugely costs its own check one timeout and at most about 1 MiB read. A Run that has returned has
// left no connection and no process behind (a program that leaves its process group is not followed). What was
// configured as secret is never in an Answer. Not promised: that a server which answered is still there.
package health

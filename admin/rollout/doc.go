// Package rollout is what holds around a swap: gates before it, a watch after it, snapshots to compare with. It runs in
// the door, so that it outlives whoever asked for the swap.
//
//	a gate:      swap -> Switch -> Gates: dependencies first, then the servers of the new pool -> what is missing
//	a watch:     swap commits with a Watch -> Run looks at it each interval -> breach: Switch.RollBack; deadline: EndWatch
//	a stage:     the same watch, at whose deadline Switch.NextStep goes on: 5%, 25%, the swap
//	a snapshot:  Take: answers, values and counters as they are now -> a file -> Compare, in words
//
// It decides and remembers nothing about traffic: the watch is in the switch's journal, with its deadline, and every
// change goes by Switch.Apply. So a door that is killed in the middle of a watch goes on with it.
//
// Not promised: that a breach is found at the instant it begins. It is found by the next look, once there is enough to
// tell: min_requests for rates, `within` for what must advance, `fall` answers for other checks.
package rollout

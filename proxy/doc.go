// Package proxy is the switch: it decides which server a new connection gets, and moves that decision
// elsewhere without a gap. It opens no socket and writes no file; the planes (proxy/stream, proxy/web) carry bytes,
// config/journal remembers.
//
//	a connection:  plane accepts -> Claimer.Claim -> plane dials -> Claimer.Start -> plane relays -> Claimer.End
//	a change:      Plan -> Plane.Prepare -> Journal.Append -> cur.Store -> Plane.Quiet -> the answer, with its proof
//	a drain:       goes on after the answer: waits for the connections to end, cuts what is left at its deadline
//	a hand-over:   hold -> drain -> (stop, start) -> gate -> commit; each step a change of its own (P4)
//
// # One road
//
// CLI, API, reload, deadline and signal all end in Switch.Apply. A change is planned (plan.go) from the
// snapshot in force by a pure function, made durable, stored as the next snapshot in one pointer, and
// answered after every loop has passed a quiet point. Rolling back is a swap.
//
// # Why no connection starts on the old side after the answer (P1)
//
//  1. A loop claims from the snapshot it loads and then dials. Many dials are under way at any time.
//  2. Apply stores the next snapshot. From here each new claim of each loop sees it.
//  3. Apply asks each loop to pass a quiet point. There the loop takes back its dials to servers that the
//     current snapshot gives no new work to, and claims anew for their clients.
//  4. A dial that ends between 2 and 3 is caught by Claimer.Start, which loads the snapshot again before
//     and after it reads the clock: a start is stamped with an instant at which its own snapshot was in
//     force. So every start on the old side lies before the store, every one on the new side after it.
//  5. When all loops have answered, no dial to the old side is left and none can begin. Now Apply answers.
//
// # Locks
//
// Switch.mu serializes changes; it is never taken on the way of a connection. Lock order: Switch.mu, then
// Operation.mu or hub.mu. Server.limit is taken on a claim only for servers that have max_connections.
//
// Not promised: that two doors switch at one instant; that a server which was sent bytes did not act on
// them before its connection was cut.
package proxy

// Package admin is where a door is operated and observed from: an HTTP+JSON API on a Unix socket, and metrics and
// readiness on an optional TCP listener. It decides nothing about traffic; every change ends in proxy.Switch.
//
//	a change:   accept -> peer (SO_PEERCRED) -> role -> strict JSON -> Switch.Apply -> wait -> answer, audit line
//	a reading:  accept -> peer -> role -> one Snapshot -> mapping.go -> answer
//	a scrape:   collector reads the loops' counters; nothing is counted here on the way of a connection
//
// The wire types are in admin/api, the client in admin/client. proxy's types become wire types in mapping.go and
// nowhere else.
//
// Promises: a client that says nothing, sends what is not HTTP or JSON, sends too much, or does not read costs
// only itself, and not for long. A refusal says what still holds. Every change and every refusal of one is logged with
// who asked. A socket of another door, or a file that is not a socket, is never removed. Not promised: that a
// status and the next one show the same revision.
package admin

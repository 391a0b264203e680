// Package front is where clients come in: it owns the event loops and the listening sockets, leads each
// accepted client to the plane of its service's mode, and is the one proxy.Plane that the Switch sees.
//
//	a client:  accept -> the slot's service -> its mode's plane -> Worker.Welcome
//	a change:  Prepare opens listeners -> Commit -> Quiet: one post a loop, in which every plane settles
//
// A plane (proxy/stream, proxy/web) has a Worker on each loop, which owns the connections it was given until their
// end, whatever their service's mode is by then. Planes share a loop and nothing else; the addresses of servers,
// which all planes dial, are resolved here (Places), and what all planes show their clients is asked for here (TLS,
// Lane).
//
// Promises: a listener that stays over a reload is not touched, also when its service changes its mode. A
// listener is closed after those who wait in its queue were taken. Quiet returns when every worker of every
// loop has settled.
package front

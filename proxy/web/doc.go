// Package web is the HTTP plane: it carries requests and their answers between clients and servers on event loops.
//
//	a connection:  Welcome -> read                                             welcome.go, read.go
//	a request:     read -> begin -> steer: choose, claim -> (dial) -> start -> send -> upload    steer.go, dial.go, request.go
//	               respond -> finish -> read                                   respond.go, finish.go
//	waiting:       steer -> hold -> release -> steer                           hold.go
//	the door says: answer                                                      answer.go
//	the end:       close, linger                                               finish.go
//
// Each loop has a worker, which owns the clients that the loop accepted and a pool of connections to each server
// (upstream.go), without a lock. Clients and connections to servers are slots in two slabs without pointers. A
// client is served one request at a time; what it sends meanwhile waits in the kernel, or in a block.
//
// # Three buffers, and what waits
//
// A loop reads clients into its one read buffer and servers into the worker's reply buffer; heads and chunks are
// written in the worker's scratch. A connection has memory of its own (a block) only while bytes could not be dealt
// with at once: a head that is not complete, a request that is held or dialled for, a head that may have to be sent
// again, bytes that the other side does not take. At most one block waits in either direction, and nobody is
// read from while one does.
//
// # Claims
//
// A request is claimed before it is sent, and started when its first byte is about to be written: at once when a
// kept-alive connection is at hand, else when the dial has ended. So those that the quiet point takes back are
// exactly those being dialled for, and the very next request of a kept-alive client goes to the new side. A claim
// ends when the answer is complete and the request is. choose (steer.go) is the place where the pool for a
// request is chosen.
//
// # Seams
//
// A client's bytes may come through a Session in place of its descriptor (session.go): TLS, or one stream of
// HTTP/2, which then is one client with one request whose bytes are HTTP/1.1. adopt takes such a client
// into the plane, and its Ref tells that the session can be read or written again. All that this package does for
// a request (routing, claim, hold, retry, deadlines, access log) it does for them too.
//
// Promises: what is written to a server or a client was parsed strictly and written anew (package h1); bytes of
// one answer never reach another client; an answer cut short is never made to look whole. A connection to a
// server with unread bytes, or with half a request on it, is never used again.
//
// Not promised: that a request which was begun to be sent, and whose connection broke, did not have its effect; it
// is answered with 502, unless it is idempotent, has no body, and met a kept-alive connection that the server was
// closing: then it is sent once more.
package web

// Package secure is TLS on event loops: crypto/tls carries the bytes of connections that a loop owns, and never waits
// there.
//
//	a handshake:  Lane.Begin -> a goroutine runs it, parked while bytes are to come; the loop calls Wake at each event
//	              of the descriptor -> done, on the loop, with a Session
//	after it:     Lane.Read, Write and CloseWrite on the loop, as Recv, Send and Shutdown are for plain connections
//
// A handshake needs a signature, which takes longer than a loop may; what comes after it does not. So a
// tls.Conn is used twice: first over a transport whose Read parks the goroutine, then over the same one
// whose Read answers with a temporary error when there is nothing to read. crypto/tls keeps what it has of a record and
// goes on with the next call. A write that would block would be final for it, so the transport takes every byte that
// crypto/tls writes, and Lane.Write gives back what the socket did not take.
//
// Promises: on a loop nothing waits and nothing but crypto/tls itself allocates. Handshakes that compute at once are as
// many as there are loops; those that wait for their client take a goroutine each, up to Options.Handshakes, and the
// next ones wait their turn, unread. While any do, a client that has said nothing for Options.Patience gives way. A session that is idle holds the memory of its tls.Conn and no buffer of ours.
//
// Not promised: that an end of stream was meant by the peer. One that comes without close_notify is an end all the same:
// many clients close so. Who must know asks Session.Truncated.
package secure

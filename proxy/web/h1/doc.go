// Package h1 is HTTP/1 without I/O: it reads heads and bodies out of a caller's buffer, strictly, and
// writes the heads that go on. It holds no bytes, opens nothing, waits for nothing and allocates nothing.
//
// The way of a request through a door, with the file that does each step:
//
//	recv into a buffer
//	  Request.Parse         head complete? wrong? (request.go, fields.go, digest.go)
//	  Request.AppendHost    what to route by (host.go); then the engine claims a server
//	  Request.AppendTo      the head that goes to the server (rewrite_request.go)
//	  Body.Next             payload spans of the body, until Done (body.go); AppendChunkSize, LastChunk (chunk.go)
//	recv from the server
//	  Response.Parse        head, given what was asked (response.go); 1xx: forward to 1.1, parse the next one
//	  Response.ForClient    how the body goes to this client, and whether its connection ends then
//	  Response.AppendTo     the head that goes to the client (rewrite_response.go)
//	  Body.Next             until Done, or AtEOF when the server closed
//	what follows in the buffer is the next request
//
// Three kinds of memory. Progress (8 bytes) and Body (16 bytes) have no pointers and belong to a connection:
// they are what must survive between two reads. Info (40 bytes, no pointers) is what must survive the head's
// bytes: the response is judged by it. Request, Response and Trailer hold the table of fields; one of
// each per event loop is enough, because nothing in them is needed once the head was written on.
//
// Promises:
//   - A head is looked at in time linear in its bytes, however they are cut: a line is checked once when it is
//     complete, and once more when a head that came in pieces has ended.
//   - The outcome does not depend on how the bytes were cut: same error, same fields, same spans.
//   - What is written on has one framing, one Host, CRLF line ends, no hop-by-hop field and nothing that a
//     client may not set. Parsed again it is accepted and says the same.
//   - Any Err is final: answer with its Status, close the connection. Bytes behind it have no meaning.
//
// Choices, where RFC 9112 leaves one: bare LF is never a line end (2.2); one empty line before a request is
// skipped, a second is refused (2.2); obs-fold is refused (5.2); Content-Length given twice is refused even
// when both agree (6.3); any Transfer-Encoding but a single "chunked" is refused (6.1); methods are upper case.
// Host and the authority of a target are limited to names of letters, digits, "-._~" and IP addresses.
//
// Not here: deadlines, connections, HTTP/2, what a status page says. Percent-encoding and dots in a path
// are carried as they came.
package h1

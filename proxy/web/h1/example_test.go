package h1_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// What an engine does with one client connection: bytes arrive in pieces, requests are pipelined, one goes to a
// server and its answer comes back. All reading and writing is the engine's; here it is printing.
func Example() {
	// One of each per event loop.
	request, response := h1.NewRequest(h1.Limits{}), h1.NewResponse(h1.Limits{})
	var out [4096]byte

	// Per connection: the head so far, how far it was checked, and what outlives it.
	var (
		pending  []byte
		progress h1.Progress
		info     h1.Info
		body     h1.Body
	)
	for _, received := range []string{
		"POST /upload?x HTTP/1.1\r\nHost: API.example.org\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTransfer-Enc",
		"oding: chunked\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n5\r\nhel",
		"lo\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHo",
	} {
		pending = append(pending, received...)
		for len(pending) > 0 {
			if body.Done() { // between messages
				n, e := request.Parse(pending, &progress)
				if e != h1.ErrNone {
					show("HTTP/1.1 %d %s", e.Status(), e.Reason())
					return // and close
				}
				if n == 0 {
					break // wait for more; the request_header deadline runs
				}
				info, body = request.Info, request.NewBody(false)
				show("route by %s %s\n", request.AppendHost(out[:0], pending), request.Path.In(pending))
				peer := h1.RequestOut{Peer: netip.MustParseAddr("192.0.2.1"), By: "turnout"}
				show("%s", request.AppendTo(out[:0], pending, &peer))
				pending = pending[n:]
				continue
			}
			payload, n, e := body.Next(pending)
			if e != h1.ErrNone {
				return // 400, and both connections close: the server has half a body
			}
			if len(payload) > 0 {
				show("%s", h1.AppendChunk(out[:0], payload))
			}
			if body.Done() {
				show("%s", h1.LastChunk)
			}
			pending = pending[n:]
		}
	}

	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\n\r\nok")
	var fromServer h1.Progress
	n, e := response.Parse(answer, &fromServer, &info)
	if e != h1.ErrNone {
		show("HTTP/1.1 %d %s", e.Status(), e.Reason()) // 502
		return
	}
	framing, mustClose := response.ForClient(info.Minor)
	show("%s", response.AppendTo(out[:0], answer, &h1.ResponseOut{
		Minor: info.Minor, Body: framing, Close: mustClose || !info.KeepAlive, By: "turnout",
	}))
	toClient := response.NewBody(false)
	payload, _, _ := toClient.Next(answer[n:])
	show("%s\nserver's connection again: %v\nstill to read: %s", payload, response.KeepAlive && toClient.Done(), pending)

	// Output:
	// route by api.example.org /upload
	// POST /upload?x HTTP/1.1
	// Host: API.example.org
	// Transfer-Encoding: chunked
	// X-Forwarded-For: 192.0.2.1
	// X-Forwarded-Proto: http
	// X-Forwarded-Host: API.example.org
	// Forwarded: for=192.0.2.1;host="API.example.org";proto=http
	// Via: 1.1 turnout
	//
	// 3
	// hel
	// 2
	// lo
	// 0
	//
	// HTTP/1.1 200 OK
	// Server: x
	// Content-Length: 2
	// Via: 1.1 turnout
	//
	// ok
	// server's connection again: true
	// still to read: GET /next HTTP/1.1
	// Ho
}

// show prints without CRs, which the comparison with the text above would not take.
func show(format string, args ...any) {
	fmt.Print(strings.ReplaceAll(fmt.Sprintf(format, args...), "\r", ""))
}

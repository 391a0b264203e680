package e2e

import (
	"strings"
	"testing"
)

const (
	postHi   = "POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"
	putHi    = "PUT / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"
	deleteIt = "DELETE / HTTP/1.1¶Host: a¶¶"
	goodIt   = "GET /good HTTP/1.1¶Host: a¶¶"

	wsAsk    = "GET /ws HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==¶Sec-WebSocket-Version: 13¶¶"
	wsAsked  = "GET /ws HTTP/1.1¶Host: a¶Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==¶Sec-WebSocket-Version: 13¶Upgrade: websocket¶¶"
	wsAnswer = "HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: websocket¶Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=¶¶"
	wsGot    = "101 Switching Protocols¶Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=¶Upgrade: websocket¶¶"
)

// RFC 9112 9: one connection after another request, RFC 9110 9.2.2: what may be sent twice.
var persistence = []httpCase{
	{"three in one packet", good + postHi + plainGet, nil, []string{goodIt, postHi, plainGet}, []string{ok2, ok2, ok2}, "kept kept", "", false},
	{"fifty in one packet", strings.Repeat(good, 50), nil, many(goodIt, 50), many(ok2, 50), "kept kept", "", false},
	{"a pipeline is served in turn", good + plainGet, []string{"HTTP/1.1 103 Early Hints¶¶⟨got 103⟩" + answered}, []string{goodIt, plainGet}, []string{"103 Early Hints¶¶", ok2, ok2}, "kept kept", "", false},
	{"a chunked body, then more", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶2¶hi¶0¶X: y¶¶" + good, nil, []string{chunkedTo + "hi || " + chunkedTo + "hi⟨X: y⟩", goodIt}, []string{ok2, ok2}, "kept kept", "", false},
	{"empty lines between requests", good + "¶" + plainGet, nil, []string{goodIt, plainGet}, []string{ok2, ok2}, "kept kept", "", false},
	{"a client that ends its direction gets its answer", plainGet + "⟨fin⟩", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"a client that ends its direction while the server thinks", plainGet + "⟨held⟩⟨fin⟩", []string{"⟨seen GET⟩" + answered}, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"a client that ends its direction behind a pipeline", good + postHi + plainGet + "⟨fin⟩", nil, []string{goodIt, postHi, plainGet}, []string{ok2, ok2, ok2}, "closed kept", "", false},
	{"a client that ends its direction while it is answered", plainGet + "⟨got o⟩⟨fin⟩", []string{head11("Content-Length: 2") + "o⟨got o⟩k"}, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"half a request line", "GET /⟨fin⟩", nil, nil, []string{"400 || …eof"}, "closed none", "", false},
	{"half a head", "GET / HTTP/1.1¶Host: a¶⟨fin⟩", nil, nil, []string{"400 || …eof"}, "closed none", "", false},
	{"half a head behind a good one", good + "GET / HTTP/1.1¶Ho⟨fin⟩", nil, []string{goodIt}, []string{ok2, "400 || …eof"}, "closed kept", "", false},
	{"nothing", "⟨fin⟩", nil, nil, []string{"…eof"}, "closed none", "", false},
	{"an empty line and nothing", "¶⟨fin⟩", nil, nil, []string{"400 || …eof"}, "closed none", "", false},
	{"half a body", "POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello⟨seen hello⟩⟨fin⟩", nil, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello…cut"}, []string{"400 || …cut"}, "cut cut", "", false},
	{"half a chunked body", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶a¶hello⟨seen hello⟩⟨fin⟩", nil, []string{chunkedTo + "hello…cut"}, []string{"400 || …cut"}, "cut cut", "", false},
	{"a chunked body without its last chunk", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶5¶hello¶⟨seen hello⟩⟨fin⟩", nil, []string{chunkedTo + "hello…cut"}, []string{"400 || …cut"}, "cut cut", "", false},
	{"a client that resets while the server thinks", plainGet + "⟨held⟩⟨rst⟩", []string{"⟨mute⟩"}, []string{plainGet}, nil, "gone cut", "", false},
	{"a client that resets its upload", "POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello⟨seen hello⟩⟨rst⟩", nil, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 10¶¶hello…cut"}, nil, "gone cut", "", false},
	{"a client that closes its upload", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶5¶hello¶⟨seen hello⟩⟨close⟩", nil, []string{chunkedTo + "hello…cut"}, nil, "gone cut", "", false},
	{"a client that resets its answer", plainGet + "⟨got hello⟩⟨rst⟩", []string{head11("Content-Length: 10") + "hello⟨mute⟩"}, []string{plainGet}, nil, "gone cut", "", false},
	{"a client that resets behind an answer leaves the server's connection alone", plainGet + "⟨got ok⟩⟨rst⟩", nil, []string{plainGet}, nil, "gone kept", "", false},

	{"a stale connection, GET", good + plainGet, []string{answered, "⟨close⟩", answered}, []string{goodIt, plainGet, plainGet}, []string{ok2, ok2}, "kept cut,kept", "", false},
	{"a stale connection, reset, GET", good + plainGet, []string{answered, "⟨rst⟩", answered}, []string{goodIt, plainGet, plainGet}, []string{ok2, ok2}, "kept cut,kept", "", false},
	{"a stale connection, HEAD", good + "HEAD / HTTP/1.1¶Host: a¶¶", []string{answered, "⟨close⟩", head11("Content-Length: 5")}, []string{goodIt, "HEAD / HTTP/1.1¶Host: a¶¶", "HEAD / HTTP/1.1¶Host: a¶¶"}, []string{ok2, "HEAD 200 OK¶Content-Length: 5¶¶"}, "kept cut,kept", "", false},
	{"a stale connection, DELETE", good + deleteIt, []string{answered, "⟨close⟩", answered}, []string{goodIt, deleteIt, deleteIt}, []string{ok2, ok2}, "kept cut,kept", "", false},
	{"a stale connection, POST", good + postHi, []string{answered, "⟨close⟩"}, []string{goodIt, postHi}, []string{ok2, "502"}, "told cut", "", false},
	{"a stale connection, POST without a body", good + bodyless, []string{answered, "⟨close⟩"}, []string{goodIt, bodyless + " || POST / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"}, []string{ok2, "502"}, "told cut", "", false},
	{"a stale connection, PATCH", good + "PATCH / HTTP/1.1¶Host: a¶¶", []string{answered, "⟨close⟩"}, []string{goodIt, "PATCH / HTTP/1.1¶Host: a¶¶ || PATCH / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"}, []string{ok2, "502"}, "told cut", "", false},
	{"a stale connection, an unknown method", good + "BREW / HTTP/1.1¶Host: a¶¶", []string{answered, "⟨close⟩"}, []string{goodIt, "BREW / HTTP/1.1¶Host: a¶¶"}, []string{ok2, "502"}, "told cut", "", false},
	{"a stale connection, PUT with a body", good + putHi, []string{answered, "⟨close⟩"}, []string{goodIt, putHi}, []string{ok2, "502"}, "told cut", "", false},
	{"a stale connection, GET with a body", good + "GET / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi", []string{answered, "⟨close⟩"}, []string{goodIt, "GET / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"}, []string{ok2, "502"}, "told cut", "", false},
	{"stale once is tried anew, twice is not", good + plainGet, []string{answered, "⟨close⟩", "⟨close⟩"}, []string{goodIt, plainGet, plainGet}, []string{ok2, "502"}, "told cut,cut", "", false},
	{"a new connection that is reset is tried anew", plainGet, []string{"⟨rst⟩", answered}, []string{plainGet, plainGet}, []string{ok2}, "kept cut,kept", "", false},
	{"a new connection that is reset, twice is not", plainGet, []string{"⟨rst⟩", "⟨rst⟩"}, []string{plainGet, plainGet}, []string{"502"}, "told cut,cut", "", false},
	{"a new connection that is reset, POST", postHi, []string{"⟨rst⟩"}, []string{postHi}, []string{"502"}, "told cut", "", false},
	{"a stale connection, then one that is reset", good + plainGet, []string{answered, "⟨close⟩", "⟨rst⟩", answered}, []string{goodIt, plainGet, plainGet, plainGet}, []string{ok2, ok2}, "kept cut,cut,kept", "", false},
	{"a byte of an answer and a reset is not tried anew", plainGet, []string{"H⟨rst⟩"}, []string{plainGet}, []string{"502"}, "told cut", "", false},
	{"a new connection that ends is not tried anew", plainGet, []string{"⟨close⟩"}, []string{plainGet}, []string{"502"}, "told cut", "", false},
	{"half an answer is not tried anew", good + plainGet, []string{answered, "HTTP/1.1 200 OK¶⟨close⟩"}, []string{goodIt, plainGet}, []string{ok2, "502"}, "told cut", "", false},
	{"a byte of an answer is not tried anew", good + plainGet, []string{answered, "H⟨close⟩"}, []string{goodIt, plainGet}, []string{ok2, "502"}, "told cut", "", false},
	{"an interim answer is not tried anew", good + plainGet, []string{answered, "HTTP/1.1 103 Early Hints¶¶⟨close⟩"}, []string{goodIt, plainGet}, []string{ok2, "103 Early Hints¶¶", "502 || …cut"}, "told cut", "", false},
}

func many(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

// Answers before the request was whole, RFC 9110 10.1.1, RFC 9112 9.3 and 9.5.
var early = []httpCase{
	{"100 and the body", "POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶⟨got 100⟩hello", []string{"⟨head⟩HTTP/1.1 100 Continue¶¶⟨seen hello⟩" + answered}, []string{"POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶hello"}, []string{"100 Continue¶¶", ok2}, "kept kept", "", false},
	{"Expect in other letters", "POST / HTTP/1.1¶Host: a¶expect: 100-Continue¶Content-Length: 5¶¶⟨got 100⟩hello", []string{"⟨head⟩HTTP/1.1 100 Continue¶¶⟨seen hello⟩" + answered}, []string{"POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶hello || POST / HTTP/1.1¶Host: a¶Expect: 100-Continue¶Content-Length: 5¶¶hello"}, []string{"100 Continue¶¶", ok2}, "kept kept", "", false},
	{"100 and a chunked body", "POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Transfer-Encoding: chunked¶¶⟨got 100⟩5¶hello¶0¶¶", []string{"⟨head⟩HTTP/1.1 100 Continue¶¶⟨seen hello⟩" + answered}, []string{"POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Transfer-Encoding: chunked¶¶hello"}, []string{"100 Continue¶¶", ok2}, "kept kept", "", false},
	{"a body that does not wait for 100", "POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶hello", nil, []string{"POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶hello"}, []string{ok2}, "kept kept", "", false},
	{"no body to wait with", "GET / HTTP/1.1¶Host: a¶Expect: 100-continue¶¶", nil, []string{plainGet + " || GET / HTTP/1.1¶Host: a¶Expect: 100-continue¶¶"}, []string{ok2}, "kept kept", "", false},
	{"refused before the body", "POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶⟨got 417⟩hello", []string{"⟨head⟩HTTP/1.1 417 No¶Content-Length: 0¶¶"}, []string{"POST / HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 5¶¶*…any"}, []string{"417 No¶Content-Length: 0¶¶"}, "told any", "", false},
	{"answered early, the rest comes later", "POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶⟨got early⟩hello", []string{"⟨head⟩" + head11("Content-Length: 5") + "early"}, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "told any", "", false},
	{"answered early, the rest comes chunked", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶2¶he¶⟨got early⟩3¶llo¶0¶¶", []string{"⟨head⟩" + head11("Content-Length: 5") + "early"}, []string{chunkedTo + "*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "told any", "", false},
	{"answered early and closed", "POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶⟨got early⟩hello", []string{"⟨head⟩" + head11("Connection: close|Content-Length: 5") + "early⟨close⟩"}, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "told cut", "", false},
	{"answered early and reset", "POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶⟨got early⟩hello", []string{"⟨head⟩" + head11("Content-Length: 5") + "early⟨got early⟩⟨rst⟩"}, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 5¶¶*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "told cut", "", false},
	{"answered early, a request in the rest", "POST / HTTP/1.1¶Host: a¶Content-Length: 37¶¶⟨got early⟩GET /evil HTTP/1.1¶Host: a¶X: y¶¶", []string{"⟨head⟩" + head11("Content-Length: 5") + "early"}, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 37¶¶*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "told any", "", false},
	{"answered early, a broken rest", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶⟨got early⟩x¶GET /evil HTTP/1.1¶Host: a¶¶", []string{"⟨head⟩" + head11("Content-Length: 5") + "early"}, []string{chunkedTo + "*…any"}, []string{"200 OK¶Content-Length: 5¶¶early"}, "cut any", "", false},
	{"both at once", "POST / HTTP/1.1¶Host: a¶Content-Length: 6¶¶one⟨got two⟩six", []string{"⟨head⟩" + head11("Content-Length: 6") + "two⟨seen six⟩ten"}, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 6¶¶onesix"}, []string{"200 OK¶Content-Length: 6¶¶twoten"}, "kept kept", "", false},
}

// RFC 9110 7.8, RFC 6455.
var upgrades = []httpCase{
	{"WebSocket", wsAsk + "⟨got 101⟩ping⟨got ping⟩⟨fin⟩", []string{wsAnswer + "⟨echo⟩"}, []string{wsAsked + "ping"}, []string{wsGot, "raw:ping"}, "closed closed", "", false},
	{"the server speaks first", wsAsk + "⟨got hello⟩ping⟨got ping⟩⟨fin⟩", []string{wsAnswer + "hello⟨echo⟩"}, []string{wsAsked + "ping"}, []string{wsGot, "raw:helloping"}, "closed closed", "", false},
	{"the client speaks before the answer", wsAsk + "ping⟨got ping⟩⟨fin⟩", []string{wsAnswer + "⟨echo⟩"}, []string{wsAsked + "ping"}, []string{wsGot, "raw:ping"}, "closed closed", "", false},
	{"the server ends the tunnel", wsAsk + "⟨got bye⟩", []string{wsAnswer + "bye⟨fin⟩"}, []string{wsAsked}, []string{wsGot, "raw:bye"}, "closed any", "", false},
	{"the server resets the tunnel", wsAsk + "⟨got bye⟩", []string{wsAnswer + "bye⟨got bye⟩⟨rst⟩"}, []string{wsAsked}, []string{wsGot, "raw:bye"}, "cut cut", "", false},
	{"the client resets the tunnel", wsAsk + "⟨got bye⟩⟨rst⟩", []string{wsAnswer + "bye⟨echo⟩"}, []string{wsAsked}, []string{wsGot, "raw:bye"}, "gone cut", "", false},
	{"requests in a tunnel are its bytes", wsAsk + "⟨got 101⟩GET /x HTTP/1.1¶¶⟨got GET /x⟩⟨fin⟩", []string{wsAnswer + "⟨echo⟩"}, []string{wsAsked + "GET /x HTTP/1.1\r\n\r\n"}, []string{wsGot, "raw:GET /x HTTP/1.1\r\n\r\n"}, "closed closed", "", false},
	{"the server refuses to upgrade", wsAsk, []string{"HTTP/1.1 403 No¶Content-Length: 2¶¶no"}, []string{wsAsked}, []string{"403 No¶Content-Length: 2¶¶no"}, "kept kept", "", false},
	{"the server ignores the upgrade", wsAsk, nil, []string{wsAsked}, []string{ok2}, "kept kept", "", false},
	{"the server asks for another upgrade", wsAsk, []string{"HTTP/1.1 426 Upgrade¶Connection: Upgrade¶Upgrade: other¶Content-Length: 2¶¶no"}, []string{wsAsked}, []string{"426 Upgrade¶Upgrade: other¶Content-Length: 2¶¶no || 426 Upgrade¶Content-Length: 2¶¶no"}, "kept kept", "", false},
	{"101 to another protocol", wsAsk, []string{"HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: other¶¶evil"}, []string{wsAsked}, []string{"502"}, "told cut", "", false},
	{"101 to h2c", wsAsk, []string{"HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: h2c¶¶evil"}, []string{wsAsked}, []string{"502"}, "told cut", "", false},
	{"101 without Connection", wsAsk, []string{"HTTP/1.1 101 Switching Protocols¶Upgrade: websocket¶¶evil"}, []string{wsAsked}, []string{"502"}, "told cut", "", false},
	{"101 without Upgrade", wsAsk, []string{"HTTP/1.1 101 Switching Protocols¶¶evil"}, []string{wsAsked}, []string{"502"}, "told cut", "", false},
	{"another protocol", "GET / HTTP/1.1¶Host: a¶Connection: upgrade¶Upgrade: foo/2¶¶⟨got 101⟩ping⟨got ping⟩⟨fin⟩", []string{"HTTP/1.1 101 So¶Connection: Upgrade¶Upgrade: foo/2¶¶⟨echo⟩"}, []string{"GET / HTTP/1.1¶Host: a¶Upgrade: foo/2¶¶ping"}, []string{"101 So¶Upgrade: foo/2¶¶", "raw:ping"}, "closed closed", "", false},
	{"behind a request", good + wsAsk + "⟨got 101⟩ping⟨got ping⟩⟨fin⟩", []string{answered, wsAnswer + "⟨echo⟩"}, []string{goodIt, wsAsked + "ping"}, []string{ok2, wsGot, "raw:ping"}, "closed closed", "", false},
	{"early hints before the upgrade", wsAsk + "⟨got 101⟩ping⟨got ping⟩⟨fin⟩", []string{"HTTP/1.1 103 Early Hints¶¶" + wsAnswer + "⟨echo⟩"}, []string{wsAsked + "ping"}, []string{"103 Early Hints¶¶", wsGot, "raw:ping"}, "closed closed", "", false},
}

// The door's own answers at the end of Max-Forwards, RFC 9110 7.6.2.
var maxForwards = []httpCase{
	{"OPTIONS with none left", "OPTIONS / HTTP/1.1¶Host: a¶Max-Forwards: 0¶¶", nil, nil, []string{"200|204|405|501"}, "told none", "", false},
	{"OPTIONS * with none left", "OPTIONS * HTTP/1.1¶Host: a¶Max-Forwards: 0¶¶", nil, nil, []string{"200|204|405|501"}, "told none", "", false},
	{"TRACE with none left", "TRACE / HTTP/1.1¶Host: a¶Max-Forwards: 0¶¶", nil, nil, []string{"200|405|501"}, "told none", "", false},
}

func TestHTTP_Connections(t *testing.T) {
	t.Parallel()
	lanes := startLanes(t, 8, "")
	for _, table := range []struct {
		name string
		rows []httpCase
	}{{"persistence", persistence}, {"early answers", early}, {"upgrades", upgrades}, {"Max-Forwards", maxForwards}} {
		t.Run(table.name, func(t *testing.T) { runTable(t, lanes, table.rows) })
	}
}

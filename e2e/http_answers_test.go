package e2e

import (
	"strings"
	"testing"
)

const (
	answered = "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok"
	bodyless = "POST / HTTP/1.1¶Host: a¶¶"
)

// head11 is an answer's head of 200 with these fields, separated by |.
func head11(fields string) string {
	return "HTTP/1.1 200 OK¶" + strings.ReplaceAll(fields, "|", "¶") + "¶¶"
}

// What a server may answer with, and what becomes of it.
var answersThatPass = []httpCase{
	{"a plain answer", plainGet, []string{answered}, []string{plainGet}, []string{ok2}, "kept kept", "", false},
	{"an answer without a body", plainGet, []string{head11("Content-Length: 0")}, []string{plainGet}, []string{"200 OK¶Content-Length: 0¶¶"}, "kept kept", "", false},
	{"no reason", plainGet, []string{"HTTP/1.1 200 ¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{"200 ¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"no reason and no space", plainGet, []string{"HTTP/1.1 200¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{"200 ¶Content-Length: 2¶¶ok || 200 OK¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"another reason", plainGet, []string{"HTTP/1.1 404 Nicht da \xe4!¶Content-Length: 2¶¶no"}, []string{plainGet}, []string{"404 Nicht da \xe4!¶Content-Length: 2¶¶no"}, "kept kept", "", false},
	{"a 500 of the server's", plainGet, []string{"HTTP/1.1 500 Oh¶Content-Length: 2¶¶no"}, []string{plainGet}, []string{"500 Oh¶Content-Length: 2¶¶no"}, "kept kept", "", false},
	{"a 503 of the server's", plainGet, []string{"HTTP/1.1 503 Busy¶Retry-After: 3¶Content-Length: 0¶¶"}, []string{plainGet}, []string{"503 Busy¶Retry-After: 3¶Content-Length: 0¶¶"}, "kept kept", "", false},
	{"a code of no name", plainGet, []string{"HTTP/1.1 299 So¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{"299 So¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"599", plainGet, []string{"HTTP/1.1 599 So¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{"599 So¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"fields in their order, as they came", plainGet, []string{head11("B: 1|A: 2|b:3|Set-Cookie: x=1|Set-Cookie: y=2|E:|T: a\tb|Content-Length: 2") + "ok"}, []string{plainGet}, []string{"200 OK¶B: 1¶A: 2¶b: 3¶Set-Cookie: x=1¶Set-Cookie: y=2¶E: ¶T: a\tb¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"Date stays", plainGet, []string{head11("Date: Tue, 15 Nov 1994 08:12:31 GMT|Content-Length: 2") + "ok"}, []string{plainGet}, []string{"200 OK¶Date: Tue, 15 Nov 1994 08:12:31 GMT¶Content-Length: 2¶¶ok"}, "kept kept", "Date", false},
	{"Server stays", plainGet, []string{head11("Server: x/1|Content-Length: 2") + "ok"}, []string{plainGet}, []string{"200 OK¶Server: x/1¶Content-Length: 2¶¶ok"}, "kept kept", "Server", false},
	{"space before a colon is removed", plainGet, []string{head11("X : y|Content-Length : 2") + "ok"}, []string{plainGet}, []string{"502 || 200 OK¶X: y¶Content-Length: 2¶¶ok"}, "told any", "", false},
	{"a head of 20 KiB", plainGet, []string{head11("X: "+strings.Repeat("v", 20<<10)+"|Content-Length: 2") + "ok"}, []string{plainGet}, []string{"200 OK¶X: " + strings.Repeat("v", 20<<10) + "¶Content-Length: 2¶¶ok"}, "kept kept", "", false},

	// RFC 9112 6.3.
	{"chunked", plainGet, []string{head11("Transfer-Encoding: chunked") + "2¶ok¶0¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶ok"}, "kept kept", "", false},
	{"chunked of nothing", plainGet, []string{head11("Transfer-Encoding: chunked") + "0¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶"}, "kept kept", "", false},
	{"chunked with extensions", plainGet, []string{head11("Transfer-Encoding: Chunked") + "2;x=\"y\"¶ok¶00;z¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶ok"}, "kept kept", "", false},
	{"chunked with sizes that old servers pad", plainGet, []string{head11("Transfer-Encoding: chunked") + "2      ¶ok¶1\t¶!¶0 ¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶ok!"}, "kept kept", "", false},
	{"chunked with trailers", plainGet, []string{head11("Trailer: X|Transfer-Encoding: chunked") + "2¶ok¶0¶X: y¶Content-Length: 7¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶ok || 200 OK¶Trailer: X¶Transfer-Encoding: chunked¶¶ok⟨X: y⟩ || 200 OK¶Transfer-Encoding: chunked¶¶ok⟨X: y⟩"}, "kept kept", "", false},
	{"a body until the end", plainGet, []string{"HTTP/1.1 200 OK¶X: y¶¶hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶X: y¶¶hello || 200 OK¶X: y¶Transfer-Encoding: chunked¶¶hello"}, "told cut", "", false},
	{"an empty body until the end", plainGet, []string{"HTTP/1.1 200 OK¶X: y¶¶⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶X: y¶¶ || 200 OK¶X: y¶Transfer-Encoding: chunked¶¶"}, "told cut", "", false},
	{"1.0 until the end", plainGet, []string{"HTTP/1.0 200 OK¶X: y¶¶hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶X: y¶¶hello || 200 OK¶X: y¶Transfer-Encoding: chunked¶¶hello"}, "told cut", "", false},
	{"1.0 with a length", plainGet, []string{"HTTP/1.0 200 OK¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{ok2}, "kept closed", "", false},
	{"1.0 kept alive", plainGet, []string{"HTTP/1.0 200 OK¶Connection: keep-alive¶Content-Length: 2¶¶ok"}, []string{plainGet}, []string{ok2}, "kept kept", "", false},
	{"the server says close", plainGet, []string{head11("Connection: close|Content-Length: 2") + "ok"}, []string{plainGet}, []string{ok2}, "kept closed", "", false},
	{"the server says close and closes", plainGet, []string{head11("Connection: close|Content-Length: 2") + "ok⟨fin⟩"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},
	{"the server closes without a word", plainGet, []string{head11("Content-Length: 2") + "ok⟨fin⟩"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},

	// RFC 9110 9.3.2, 15.3.5, 15.4.5: no body, whatever the fields say.
	{"HEAD", "HEAD / HTTP/1.1¶Host: a¶¶", []string{head11("Content-Length: 5")}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶Content-Length: 5¶¶"}, "kept kept", "", false},
	{"HEAD of a chunked body", "HEAD / HTTP/1.1¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked")}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶Transfer-Encoding: chunked¶¶ || HEAD 200 OK¶¶"}, "kept kept", "", false},
	{"HEAD of an unknown length", "HEAD / HTTP/1.1¶Host: a¶¶", []string{head11("X: y")}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶X: y¶¶"}, "kept kept", "", false},
	{"HEAD with a body all the same", "HEAD / HTTP/1.1¶Host: a¶¶", []string{head11("Content-Length: 5") + "hello"}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶Content-Length: 5¶¶"}, "kept cut", "", false},
	{"HEAD with an answer in its body", "HEAD / HTTP/1.1¶Host: a¶¶", []string{head11("Content-Length: 40") + "HTTP/1.1 200 OK¶Content-Length: 4¶¶evil"}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶Content-Length: 40¶¶"}, "kept cut", "", false},
	{"HEAD between others", "HEAD / HTTP/1.1¶Host: a¶¶" + good, []string{head11("Content-Length: 5"), answered}, []string{"HEAD / HTTP/1.1¶Host: a¶¶", good}, []string{"HEAD 200 OK¶Content-Length: 5¶¶", ok2}, "kept kept", "", false},
	{"204", plainGet, []string{"HTTP/1.1 204 No Content¶¶"}, []string{plainGet}, []string{"204 No Content¶¶"}, "kept kept", "", false},
	{"204 with a length", plainGet, []string{"HTTP/1.1 204 No Content¶Content-Length: 0¶¶"}, []string{plainGet}, []string{"204 No Content¶¶"}, "kept kept", "", false},
	{"204 with a body", plainGet, []string{"HTTP/1.1 204 No Content¶Content-Length: 5¶¶hello"}, []string{plainGet}, []string{"204 No Content¶¶"}, "kept cut", "", false},
	{"204 with chunks", plainGet, []string{"HTTP/1.1 204 No Content¶Transfer-Encoding: chunked¶¶2¶hi¶0¶¶"}, []string{plainGet}, []string{"204 No Content¶¶"}, "kept cut", "", false},
	{"304", plainGet, []string{"HTTP/1.1 304 Not Modified¶ETag: \"x\"¶¶"}, []string{plainGet}, []string{"304 Not Modified¶ETag: \"x\"¶¶"}, "kept kept", "", false},
	{"304 with a length", plainGet, []string{"HTTP/1.1 304 Not Modified¶Content-Length: 5¶¶"}, []string{plainGet}, []string{"304 Not Modified¶Content-Length: 5¶¶"}, "kept kept", "", false},
	{"304 with a body", plainGet, []string{"HTTP/1.1 304 Not Modified¶Content-Length: 5¶¶hello"}, []string{plainGet}, []string{"304 Not Modified¶Content-Length: 5¶¶"}, "kept cut", "", false},
	{"304 of chunks", plainGet, []string{"HTTP/1.1 304 Not Modified¶Transfer-Encoding: chunked¶¶"}, []string{plainGet}, []string{"304 Not Modified¶Transfer-Encoding: chunked¶¶ || 304 Not Modified¶¶"}, "kept kept", "", false},

	// Bytes behind the answer: nobody gets them.
	{"surplus bytes", plainGet, []string{answered + "evil"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},
	{"a second answer", plainGet, []string{answered + "HTTP/1.1 200 OK¶Content-Length: 4¶¶evil"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},
	{"a second answer, later", plainGet, []string{answered + "⟨got ok⟩HTTP/1.1 200 OK¶Content-Length: 4¶¶evil"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},
	{"a second answer behind chunks", plainGet, []string{head11("Transfer-Encoding: chunked") + "2¶ok¶0¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶evil"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶ok"}, "kept cut", "", false},
	{"a second answer behind 304", plainGet, []string{"HTTP/1.1 304 Not Modified¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶evil"}, []string{plainGet}, []string{"304 Not Modified¶¶"}, "kept cut", "", false},
	{"CRLF behind an answer", plainGet, []string{answered + "¶"}, []string{plainGet}, []string{ok2}, "kept cut", "", false},
	{"surplus bytes for the next of a pipeline", good + plainGet, []string{answered + "HTTP/1.1 200 OK¶Content-Length: 4¶¶evil", answered}, []string{good, plainGet}, []string{ok2, ok2}, "kept cut,kept", "", false},

	// RFC 9110 7.6.1.
	{"hop-by-hop fields of an answer", plainGet, []string{head11("Keep-Alive: timeout=5|Proxy-Connection: keep-alive|Connection: X, keep-alive|X: 1|Y: 2|Content-Length: 2") + "ok"}, []string{plainGet}, []string{"200 OK¶Y: 2¶Content-Length: 2¶¶ok"}, "kept kept", "", false},
	{"an offer of h2c", plainGet, []string{head11("Upgrade: h2,h2c|Connection: Upgrade|Content-Length: 2") + "ok"}, []string{plainGet}, []string{ok2}, "kept kept", "", false},

	// RFC 9110 15.2.
	{"100 nobody asked for", plainGet, []string{"HTTP/1.1 100 Continue¶¶" + answered}, []string{plainGet}, []string{"100 Continue¶¶", ok2}, "kept kept", "", false},
	{"early hints", plainGet, []string{"HTTP/1.1 103 Early Hints¶Link: </x>; rel=preload¶¶" + answered}, []string{plainGet}, []string{"103 Early Hints¶Link: </x>; rel=preload¶¶", ok2}, "kept kept", "", false},
	{"early hints at once", plainGet, []string{"HTTP/1.1 103 Early Hints¶X: y¶¶⟨got 103⟩" + answered}, []string{plainGet}, []string{"103 Early Hints¶X: y¶¶", ok2}, "kept kept", "", false},
	{"several interim answers", plainGet, []string{"HTTP/1.1 102 Processing¶¶HTTP/1.1 103 Early Hints¶X: y¶¶HTTP/1.1 150 So¶¶" + answered}, []string{plainGet}, []string{"102 Processing¶¶", "103 Early Hints¶X: y¶¶", "150 So¶¶", ok2}, "kept kept", "", false},
	{"interim answers to 1.0 are dropped", "GET / HTTP/1.0¶Host: a¶¶", []string{"HTTP/1.1 103 Early Hints¶X: y¶¶" + answered}, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"interim answers with framing have none", plainGet, []string{"HTTP/1.1 103 Early Hints¶Content-Length: 5¶¶" + answered}, []string{plainGet}, []string{"502 || 103 Early Hints¶¶", ok2}, "told any", "", false},

	// HTTP/1.0 clients.
	{"1.0", "GET / HTTP/1.0¶Host: a¶¶", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.0 without Host", "GET / HTTP/1.0¶¶", nil, []string{"GET / HTTP/1.1¶Host: ¶¶"}, []string{ok2}, "closed kept", "", false},
	{"1.0 kept alive", "GET / HTTP/1.0¶Host: a¶Connection: keep-alive¶¶", nil, []string{plainGet}, []string{"200 OK¶Connection: keep-alive¶Content-Length: 2¶¶ok"}, "kept kept", "Connection", false},
	{"1.0 Keep-Alive in other letters", "GET / HTTP/1.0¶Host: a¶Connection: Keep-Alive¶¶", nil, []string{plainGet}, []string{ok2}, "kept kept", "", false},
	{"1.0 that says both", "GET / HTTP/1.0¶Host: a¶Connection: keep-alive, close¶¶", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.0 with a second request behind it", "GET / HTTP/1.0¶Host: a¶¶GET /evil HTTP/1.0¶Host: a¶¶", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.0 gets no chunks", "GET / HTTP/1.0¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked") + "2¶ok¶0¶¶"}, []string{plainGet}, []string{"200 OK¶¶ok"}, "closed kept", "", false},
	{"1.0 kept alive gets no chunks", "GET / HTTP/1.0¶Host: a¶Connection: keep-alive¶¶", []string{head11("Transfer-Encoding: chunked") + "2¶ok¶1¶!¶0¶X: y¶¶"}, []string{plainGet}, []string{"200 OK¶¶ok!"}, "closed kept", "", false},
	{"1.0 until the end", "GET / HTTP/1.0¶Host: a¶Connection: keep-alive¶¶", []string{"HTTP/1.1 200 OK¶X: y¶¶hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶X: y¶¶hello"}, "closed cut", "", false},
	{"1.0 expects nothing", "POST / HTTP/1.0¶Host: a¶Expect: 100-continue¶Content-Length: 2¶¶hi", nil, []string{"POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"}, []string{ok2}, "closed kept", "", false},
	{"1.0 upgrades nothing", "GET / HTTP/1.0¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶¶", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.0 HEAD", "HEAD / HTTP/1.0¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked")}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 200 OK¶¶"}, "closed kept", "", false},
	{"1.1 that says close", withFields("Connection: close"), nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.1 that says Close in a list", withFields("Connection: x, Close"), nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
	{"1.1 that says close, with a request behind it", withFields("Connection: close") + "GET /evil HTTP/1.1¶Host: a¶¶", nil, []string{plainGet}, []string{ok2}, "closed kept", "", false},
}

func TestHTTP_AnswersThatPass(t *testing.T) {
	t.Parallel()
	runTable(t, startLanes(t, 8, ""), answersThatPass)
}

// RFC 9112 4, 5, 6.3: what a server must not answer is a 502, and nothing of it reaches the client.
func TestHTTP_AnswersThatMustNotPass(t *testing.T) {
	t.Parallel()
	var cases []httpCase
	for _, r := range []struct{ name, answer string }{
		{"CL and TE", head11("Content-Length: 5|Transfer-Encoding: chunked") + "0¶¶"},
		{"TE and CL", head11("Transfer-Encoding: chunked|Content-Length: 3") + "0¶¶"},
		{"CL twice, different", head11("Content-Length: 2|Content-Length: 3") + "abc"},
		{"CL twice, equal", head11("Content-Length: 2|Content-Length: 2") + "ab"},
		{"CL list", head11("Content-Length: 2, 3") + "abc"},
		{"CL negative", head11("Content-Length: -1")},
		{"CL with a sign", head11("Content-Length: +2") + "ab"},
		{"CL a word", head11("Content-Length: two") + "ab"},
		{"CL empty", head11("Content-Length:")},
		{"CL 2^63", head11("Content-Length: 9223372036854775808") + "x"},
		{"CL 2^64+2", head11("Content-Length: 18446744073709551618") + "ab"},
		{"CL hexadecimal", head11("Content-Length: 0x2") + "ab"},
		{"TE gzip", head11("Transfer-Encoding: gzip") + "x⟨fin⟩"},
		{"TE gzip, chunked", head11("Transfer-Encoding: gzip, chunked") + "1¶x¶0¶¶"},
		{"TE chunked, chunked", head11("Transfer-Encoding: chunked, chunked") + "1¶x¶0¶¶"},
		{"TE twice", head11("Transfer-Encoding: chunked|Transfer-Encoding: chunked") + "1¶x¶0¶¶"},
		{"TE xchunked", head11("Transfer-Encoding: xchunked") + "1¶x¶0¶¶"},
		{"TE in 1.0", "HTTP/1.0 200 OK¶Transfer-Encoding: chunked¶¶1¶x¶0¶¶"},
		{"a code of two digits", "HTTP/1.1 20 OK¶Content-Length: 2¶¶ok"},
		{"a code of four digits", "HTTP/1.1 2000 OK¶Content-Length: 2¶¶ok"},
		{"a code of letters", "HTTP/1.1 abc OK¶Content-Length: 2¶¶ok"},
		{"code 099", "HTTP/1.1 099 OK¶Content-Length: 2¶¶ok"},
		{"code 000", "HTTP/1.1 000 OK¶Content-Length: 2¶¶ok"},
		{"code 600", "HTTP/1.1 600 OK¶Content-Length: 2¶¶ok"},
		{"code 999", "HTTP/1.1 999 OK¶Content-Length: 2¶¶ok"},
		{"no code", "HTTP/1.1¶Content-Length: 2¶¶ok"},
		{"two spaces before the code", "HTTP/1.1  200 OK¶Content-Length: 2¶¶ok"},
		{"a tab before the code", "HTTP/1.1\t200 OK¶Content-Length: 2¶¶ok"},
		{"a reason without a space", "HTTP/1.1 200OK¶Content-Length: 2¶¶ok"},
		{"HTTP/2.0", "HTTP/2.0 200 OK¶Content-Length: 2¶¶ok"},
		{"HTTP/2", "HTTP/2 200 OK¶Content-Length: 2¶¶ok"},
		{"HTTP/0.9", "HTTP/0.9 200 OK¶Content-Length: 2¶¶ok"},
		{"http/1.1", "http/1.1 200 OK¶Content-Length: 2¶¶ok"},
		{"ICY", "ICY 200 OK¶Content-Length: 2¶¶ok"},
		{"no head at all", "hello, world¶¶"},
		{"HTML", "<html>hello</html>⟨fin⟩"},
		{"bytes before the status line", "x" + answered},
		{"an empty line before the status line", "¶" + answered},
		{"NUL before the status line", "\x00" + answered},
		{"a request", "GET / HTTP/1.1¶Host: a¶¶"},
		{"TLS", "\x15\x03\x01\x00\x02\x02\x50⟨fin⟩"},
		{"bare LFs", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
		{"a bare LF in the head", "HTTP/1.1 200 OK¶X: y\nContent-Length: 2¶¶ok"},
		{"a bare CR in a value", head11("X: y\rz|Content-Length: 2") + "ok"},
		{"NUL in a value", head11("X: y\x00z|Content-Length: 2") + "ok"},
		{"a control byte in a value", head11("X: y\x01z|Content-Length: 2") + "ok"},
		{"a control byte in the reason", "HTTP/1.1 200 O\x01K¶Content-Length: 2¶¶ok"},
		{"a line without a colon", head11("XY|Content-Length: 2") + "ok"},
		{"an empty name", head11(": y|Content-Length: 2") + "ok"},
		{"a name with a space", head11("X Y: z|Content-Length: 2") + "ok"},
		{"space before the first field", "HTTP/1.1 200 OK¶ X: y¶Content-Length: 2¶¶ok"},
		{"Connection names Content-Length", head11("Connection: content-length|Content-Length: 2") + "ok"},
		{"a head too large", head11("X: "+strings.Repeat("v", 1<<20)+"|Content-Length: 2") + "ok"},
		{"too many fields", head11(strings.Repeat("X: y|", 20_000)+"Content-Length: 2") + "ok"},
		{"a head without end", "HTTP/1.1 200 OK¶X: " + strings.Repeat("v", 1<<20)},
		{"101 nobody asked for", "HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: websocket¶¶evil"},
		{"101 without Upgrade", "HTTP/1.1 101 Switching Protocols¶¶evil"},
		{"no answer, closed", "⟨fin⟩"},
		{"half a status line", "HTTP/1.1 2⟨fin⟩"},
		{"half a head", "HTTP/1.1 200 OK¶Content-Length: 2¶⟨fin⟩"},
		{"half a head, reset", "HTTP/1.1 200 OK¶Content-Length: 2¶⟨rst⟩"},
		{"an interim answer and the end", "HTTP/1.1 100 Continue¶⟨fin⟩"},
	} {
		cases = append(cases,
			httpCase{r.name, bodyless, []string{r.answer}, []string{bodyless + " || POST / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"}, []string{"502"}, "told cut", "", false},
			httpCase{r.name + ", to HEAD", "HEAD / HTTP/1.1¶Host: a¶¶", []string{r.answer}, []string{"HEAD / HTTP/1.1¶Host: a¶¶"}, []string{"HEAD 502"}, "told cut", "", false})
	}
	runTable(t, startLanes(t, 8, ""), cases)
}

// RFC 9112 8: what is cut short is never made to look whole.
var cutShort = []httpCase{
	{"a short body", plainGet, []string{head11("Content-Length: 10") + "hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Content-Length: 10¶¶hello…cut"}, "cut cut", "", false},
	{"a short body, reset", plainGet, []string{head11("Content-Length: 10") + "hello⟨got hello⟩⟨rst⟩"}, []string{plainGet}, []string{"200 OK¶Content-Length: 10¶¶hello…cut"}, "cut cut", "", false},
	{"no body", plainGet, []string{head11("Content-Length: 10") + "⟨fin⟩"}, []string{plainGet}, []string{"502 || 200 OK¶Content-Length: 10¶¶…cut"}, "told any", "", false},
	{"no last chunk", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"half a chunk", plainGet, []string{head11("Transfer-Encoding: chunked") + "a¶hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a chunk without an end", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"half a last chunk", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶0¶⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"half a trailer", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶0¶X: y¶⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a bad chunk size", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶x¶evil"}, []string{plainGet}, []string{"502 || 200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a chunk size that overflows", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello¶10000000000000005¶hello¶0¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a chunk that goes on", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello!¶0¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a bare LF behind a chunk", plainGet, []string{head11("Transfer-Encoding: chunked") + "5¶hello\n0¶¶"}, []string{plainGet}, []string{"200 OK¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a reset body until the end is not whole", plainGet, []string{"HTTP/1.1 200 OK¶X: y¶¶hello⟨got hello⟩⟨rst⟩"}, []string{plainGet}, []string{"200 OK¶X: y¶¶hello…rst || 200 OK¶X: y¶Transfer-Encoding: chunked¶¶hello…cut"}, "cut cut", "", false},
	{"a reset body for 1.0 is not whole", "GET / HTTP/1.0¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked") + "5¶hello¶⟨got hello⟩⟨rst⟩"}, []string{plainGet}, []string{"200 OK¶¶hello…rst"}, "cut cut", "", false},
	{"a cut chunked body for 1.0 is not whole", "GET / HTTP/1.0¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked") + "5¶hello¶⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶¶hello…rst"}, "cut cut", "", false},
	{"a bad chunk for 1.0 is not whole", "GET / HTTP/1.0¶Host: a¶¶", []string{head11("Transfer-Encoding: chunked") + "5¶hello¶x¶"}, []string{plainGet}, []string{"502 || 200 OK¶¶hello…rst"}, "cut cut", "", false},
	{"a pipeline ends with a cut answer", plainGet + good, []string{head11("Content-Length: 10") + "hello⟨fin⟩"}, []string{plainGet}, []string{"200 OK¶Content-Length: 10¶¶hello…cut"}, "cut cut", "", false},
}

func TestHTTP_CutShort(t *testing.T) { t.Parallel(); runTable(t, startLanes(t, 8, ""), cutShort) }

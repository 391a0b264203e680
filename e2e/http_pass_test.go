package e2e

import (
	"strings"
	"testing"
)

// passed is a request that reaches the server, as it must; the answer is plain and both connections are kept.
type passed struct{ name, send, server string }

func passing(rows []passed) (cases []httpCase) {
	for _, r := range rows {
		cases = append(cases,
			httpCase{r.name, r.send, nil, []string{r.server}, []string{ok2}, "kept kept", "", false},
			httpCase{r.name + ", between others", good + r.send + good, nil, []string{good, r.server, good}, []string{ok2, ok2, ok2}, "kept kept", "", true},
		)
	}
	return cases
}

const (
	plainGet  = "GET / HTTP/1.1¶Host: a¶¶"
	chunkedTo = "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶"
)

var whatPasses = []passed{
	{"a plain request", plainGet, plainGet},
	{"an empty line first", "¶" + plainGet, plainGet},
	{"HTTP/1.2 is 1.1", "GET / HTTP/1.2¶Host: a¶¶", plainGet},
	{"HTTP/1.9 is 1.1", "GET / HTTP/1.9¶Host: a¶¶", plainGet},
	{"an unknown method", "BREW /pot HTTP/1.1¶Host: a¶¶", "BREW /pot HTTP/1.1¶Host: a¶¶"},
	{"an unknown method with a body", "BREW / HTTP/1.1¶Host: a¶Content-Length: 3¶¶tea", "BREW / HTTP/1.1¶Host: a¶Content-Length: 3¶¶tea"},
	{"a method with a hyphen", "M-SEARCH / HTTP/1.1¶Host: a¶¶", "M-SEARCH / HTTP/1.1¶Host: a¶¶"},
	{"PROPFIND", "PROPFIND / HTTP/1.1¶Host: a¶Depth: 1¶¶", "PROPFIND / HTTP/1.1¶Host: a¶Depth: 1¶¶"},
	{"a longest method of the registry", "UPDATEREDIRECTREF / HTTP/1.1¶Host: a¶¶", "UPDATEREDIRECTREF / HTTP/1.1¶Host: a¶¶"},
	{"PUT", "PUT /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi", "PUT /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},
	{"DELETE", "DELETE /x HTTP/1.1¶Host: a¶¶", "DELETE /x HTTP/1.1¶Host: a¶¶"},
	{"DELETE with a body", "DELETE /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi", "DELETE /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},
	{"PATCH", "PATCH /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi", "PATCH /x HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},
	{"GET with a body", "GET / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi", "GET / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},
	{"GET with a chunked body", "GET / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶2¶hi¶0¶¶", "GET / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶hi"},
	{"POST without a body", "POST / HTTP/1.1¶Host: a¶¶", "POST / HTTP/1.1¶Host: a¶¶ || POST / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"},
	{"POST of nothing", "POST / HTTP/1.1¶Host: a¶Content-Length: 0¶¶", "POST / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"},
	{"a body that looks like a request", post("Content-Length: 34", "GET /evil HTTP/1.1¶Host: evil¶¶"), "POST / HTTP/1.1¶Host: a¶Content-Length: 34¶¶GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"},
	{"a body of CRLFs", post("Content-Length: 8", "¶¶¶¶"), "POST / HTTP/1.1¶Host: a¶Content-Length: 8¶¶\r\n\r\n\r\n\r\n"},
	{"a body of NULs", post("Content-Length: 3", "\x00\x00\x00"), "POST / HTTP/1.1¶Host: a¶Content-Length: 3¶¶\x00\x00\x00"},
	{"CL with leading zeros", post("Content-Length: 0002", "hi"), "POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi || POST / HTTP/1.1¶Host: a¶Content-Length: 0002¶¶hi"},
	{"CL with space around", post("Content-Length: \t 2 \t", "hi"), "POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},
	{"CL in other letters", post("cOnTeNt-LeNgTh: 2", "hi"), "POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},

	{"the asterisk", "OPTIONS * HTTP/1.1¶Host: a¶¶", "OPTIONS * HTTP/1.1¶Host: a¶¶"},
	{"OPTIONS of a path", "OPTIONS /x HTTP/1.1¶Host: a¶¶", "OPTIONS /x HTTP/1.1¶Host: a¶¶"},
	{"absolute OPTIONS without a path", "OPTIONS http://b HTTP/1.1¶Host: b¶¶", "OPTIONS * HTTP/1.1¶Host: b¶¶"},
	{"absolute OPTIONS with a path", "OPTIONS http://b/ HTTP/1.1¶Host: b¶¶", "OPTIONS / HTTP/1.1¶Host: b¶¶"},
	{"absolute form", "GET http://a/x?y HTTP/1.1¶Host: a¶¶", "GET /x?y HTTP/1.1¶Host: a¶¶"},
	{"absolute form wins over Host", "GET http://b/x HTTP/1.1¶Host: a¶¶", "GET /x HTTP/1.1¶Host: b¶¶"},
	{"absolute form with a port", "GET http://b:8080/x HTTP/1.1¶Host: a¶¶", "GET /x HTTP/1.1¶Host: b:8080¶¶"},
	{"absolute form without a path", "GET http://b HTTP/1.1¶Host: a¶¶", "GET / HTTP/1.1¶Host: b¶¶"},
	{"absolute form with only a query", "GET http://b?q HTTP/1.1¶Host: a¶¶", "GET /?q HTTP/1.1¶Host: b¶¶"},
	{"absolute form of IPv6", "GET http://[::1]:80/x HTTP/1.1¶Host: a¶¶", "GET /x HTTP/1.1¶Host: [::1]:80¶¶"},
	{"absolute form in other letters", "GET HTTP://b/x HTTP/1.1¶Host: a¶¶", "GET /x HTTP/1.1¶Host: b¶¶"},
	{"absolute form in the path", "GET /http://b/ HTTP/1.1¶Host: a¶¶", "GET /http://b/ HTTP/1.1¶Host: a¶¶"},
	{"two slashes", "GET //b/x HTTP/1.1¶Host: a¶¶", "GET //b/x HTTP/1.1¶Host: a¶¶"},
	{"dots and escapes are carried as they came", "GET /a/../b/./%2e%2e/%2F?x=%00&y=%zz;z HTTP/1.1¶Host: a¶¶", "GET /a/../b/./%2e%2e/%2F?x=%00&y=%zz;z HTTP/1.1¶Host: a¶¶"},
	{"punctuation in the target", "GET /-._~!$&'()*+,;=:@/?/? HTTP/1.1¶Host: a¶¶", "GET /-._~!$&'()*+,;=:@/?/? HTTP/1.1¶Host: a¶¶"},
	{"a question mark", "GET /? HTTP/1.1¶Host: a¶¶", "GET /? HTTP/1.1¶Host: a¶¶"},
	{"a target of 4000 bytes", "GET /" + strings.Repeat("x", 4000) + " HTTP/1.1¶Host: a¶¶", "GET /" + strings.Repeat("x", 4000) + " HTTP/1.1¶Host: a¶¶"},

	{"Host with a port", "GET / HTTP/1.1¶Host: a:80¶¶", "GET / HTTP/1.1¶Host: a:80¶¶"},
	{"Host with an empty port", "GET / HTTP/1.1¶Host: a:¶¶", "GET / HTTP/1.1¶Host: a:¶¶ || GET / HTTP/1.1¶Host: a¶¶"},
	{"Host in upper case", "GET / HTTP/1.1¶HOST: Example.ORG¶¶", "GET / HTTP/1.1¶Host: Example.ORG¶¶ || GET / HTTP/1.1¶Host: example.org¶¶"},
	{"Host with a dot behind", "GET / HTTP/1.1¶Host: a.b.¶¶", "GET / HTTP/1.1¶Host: a.b.¶¶"},
	{"Host with IPv4", "GET / HTTP/1.1¶Host: 127.0.0.1:1¶¶", "GET / HTTP/1.1¶Host: 127.0.0.1:1¶¶"},
	{"Host with IPv6", "GET / HTTP/1.1¶Host: [::1]¶¶", "GET / HTTP/1.1¶Host: [::1]¶¶"},
	{"Host with IPv6 and a port", "GET / HTTP/1.1¶Host: [2001:db8::1]:443¶¶", "GET / HTTP/1.1¶Host: [2001:db8::1]:443¶¶"},
	{"Host with an underscore", "GET / HTTP/1.1¶Host: a_b-c.d¶¶", "GET / HTTP/1.1¶Host: a_b-c.d¶¶"},
	{"Host behind other fields", "GET / HTTP/1.1¶X: y¶Host: a¶¶", "GET / HTTP/1.1¶Host: a¶X: y¶¶"},
	{"Host with space around", "GET / HTTP/1.1¶Host: \t a \t¶¶", plainGet},
	{"Host without space", "GET / HTTP/1.1¶Host:a¶¶", plainGet},

	{"values are trimmed", withFields("X:y|Z: \t w \t|Q:\tr"), "GET / HTTP/1.1¶Host: a¶X: y¶Z: w¶Q: r¶¶"},
	{"an empty value", withFields("X:|Y: "), "GET / HTTP/1.1¶Host: a¶X: ¶Y: ¶¶"},
	{"the same name in its order", withFields("X: 1|Y: 2|X: 3|x: 4"), "GET / HTTP/1.1¶Host: a¶X: 1¶Y: 2¶X: 3¶x: 4¶¶"},
	{"names of all token bytes", "GET / HTTP/1.1¶Host: a¶!#$%&'*+-.^_`|~09azAZ: y¶¶", "GET / HTTP/1.1¶Host: a¶!#$%&'*+-.^_`|~09azAZ: y¶¶"},
	{"space, tab and colons inside a value", withFields("X: a b\tc: d:e"), "GET / HTTP/1.1¶Host: a¶X: a b\tc: d:e¶¶"},
	{"a value above ASCII", withFields("X: \xe4\xff\x80"), "GET / HTTP/1.1¶Host: a¶X: \xe4\xff\x80¶¶"},
	{"a value of 6000 bytes", withFields("X: " + strings.Repeat("v", 6000)), "GET / HTTP/1.1¶Host: a¶X: " + strings.Repeat("v", 6000) + "¶¶"},
	{"100 fields", withFields(strings.Repeat("X: y|", 99) + "Z: z"), "GET / HTTP/1.1¶Host: a¶" + strings.Repeat("X: y¶", 99) + "Z: z¶¶"},
	{"cookies, credentials and ranges", withFields("Cookie: a=b; c=d|Cookie: e=f|Authorization: Basic eDp5|Range: bytes=0-1|Accept-Encoding: gzip, br|If-None-Match: \"x\""), "GET / HTTP/1.1¶Host: a¶Cookie: a=b; c=d¶Cookie: e=f¶Authorization: Basic eDp5¶Range: bytes=0-1¶Accept-Encoding: gzip, br¶If-None-Match: \"x\"¶¶"},

	// RFC 9110 7.6.1.
	{"what Connection names ends here", withFields("Connection: X, y|X: 1|Y: 2|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection on two lines", withFields("Connection: X|X: 1|Connection: keep-alive, Y|Y: 2|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection names what comes twice", withFields("X: 1|Connection: x|X: 2|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection with empty elements", withFields("Connection: , ,X,,|X: 1|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection names nothing that is there", withFields("Connection: nothing|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection empty", withFields("Connection:|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"Connection names Cookie", withFields("Connection: cookie|Cookie: a=b"), plainGet},
	{"hop-by-hop fields", withFields("Keep-Alive: timeout=5|Proxy-Connection: keep-alive|Proxy-Authorization: Basic eDp5|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"TE speaks to the door", withFields("TE: gzip;q=0.5|Connection: TE|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶"},
	{"TE trailers", withFields("TE: trailers|Connection: TE|Z: 3"), "GET / HTTP/1.1¶Host: a¶Z: 3¶¶ || GET / HTTP/1.1¶Host: a¶Z: 3¶TE: trailers¶¶"},
	{"Upgrade without Connection", withFields("Upgrade: websocket"), plainGet},
	{"h2c never", withFields("Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAAP__"), plainGet},
	{"h2c never, in other letters", withFields("Connection: upgrade, http2-settings|Upgrade: H2C|HTTP2-Settings: AAMAAABkAAQAAP__"), plainGet},
	{"h2c among others never", withFields("Connection: Upgrade|Upgrade: websocket, h2c"), plainGet},
	{"h2c and websocket on two lines never", withFields("Connection: Upgrade|Upgrade: websocket|Upgrade: h2c"), plainGet},
	{"TLS inside never", withFields("Connection: Upgrade|Upgrade: TLS/1.0"), plainGet},
	{"HTTP2-Settings alone", withFields("HTTP2-Settings: AAMAAABkAAQAAP__"), plainGet},
	{"an upgrade with a body is none", post("Connection: Upgrade|Upgrade: websocket|Content-Length: 2", "hi"), "POST / HTTP/1.1¶Host: a¶Content-Length: 2¶¶hi"},

	// RFC 9110 7.6.2.
	{"Max-Forwards of OPTIONS counts down", "OPTIONS * HTTP/1.1¶Host: a¶Max-Forwards: 5¶¶", "OPTIONS * HTTP/1.1¶Host: a¶Max-Forwards: 4¶¶"},
	{"Max-Forwards of TRACE counts down", "TRACE / HTTP/1.1¶Host: a¶Max-Forwards: 1¶¶", "TRACE / HTTP/1.1¶Host: a¶Max-Forwards: 0¶¶"},
	{"TRACE", "TRACE / HTTP/1.1¶Host: a¶¶", "TRACE / HTTP/1.1¶Host: a¶¶"},
	{"Max-Forwards of GET", withFields("Max-Forwards: 0"), "GET / HTTP/1.1¶Host: a¶Max-Forwards: 0¶¶ || " + plainGet},

	// RFC 9112 7.1.
	{"a chunked body", post("Transfer-Encoding: chunked", "5¶hello¶0¶¶"), chunkedTo + "hello"},
	{"a chunked body of nothing", post("Transfer-Encoding: chunked", "0¶¶"), chunkedTo},
	{"several chunks", post("Transfer-Encoding: chunked", "1¶a¶2¶bc¶3¶def¶0¶¶"), chunkedTo + "abcdef"},
	{"Chunked in other letters", post("transfer-encoding: cHuNkEd", "2¶hi¶0¶¶"), chunkedTo + "hi"},
	{"chunked with space around", post("Transfer-Encoding: \t chunked \t", "2¶hi¶0¶¶"), chunkedTo + "hi"},
	{"sizes in upper case", post("Transfer-Encoding: chunked", "A¶0123456789¶0¶¶"), chunkedTo + "0123456789"},
	{"sizes in lower case", post("Transfer-Encoding: chunked", "a¶0123456789¶0¶¶"), chunkedTo + "0123456789"},
	{"sizes with leading zeros", post("Transfer-Encoding: chunked", "0002¶hi¶000¶¶"), chunkedTo + "hi"},
	{"chunk extensions", post("Transfer-Encoding: chunked", "2;a;b=c;d=\"e;\\\"f\"¶hi¶0;last¶¶"), chunkedTo + "hi"},
	{"chunk data that looks like framing", post("Transfer-Encoding: chunked", "5¶0¶¶¶0¶¶"), chunkedTo + "0\r\n\r\n"},
	{"trailers", post("Transfer-Encoding: chunked", "2¶hi¶0¶X-Sum: 1¶¶"), chunkedTo + "hi || " + chunkedTo + "hi⟨X-Sum: 1⟩"},
	{"trailers that would be framing are dropped", post("Transfer-Encoding: chunked", "2¶hi¶0¶Content-Length: 3¶Transfer-Encoding: chunked¶Host: b¶¶"), chunkedTo + "hi"},
	{"trailers that would be credentials are dropped", post("Transfer-Encoding: chunked", "2¶hi¶0¶Authorization: Basic eDp5¶Cookie: a=b¶X-Forwarded-For: 1.2.3.4¶Connection: x¶¶"), chunkedTo + "hi"},
}

func TestHTTP_RequestsThatPass(t *testing.T) {
	t.Parallel()
	runTable(t, startLanes(t, 8, ""), passing(whatPasses))
}

// Bodies that are wrong may have gone on in part when that is seen: the server must not take them for whole, and no
// request may come out of what is behind.
func TestHTTP_BrokenChunks(t *testing.T) {
	t.Parallel()
	var cases []httpCase
	for _, r := range []struct{ name, body string }{
		{"size not hex", "x¶hello¶0¶¶"},
		{"size empty", "¶hello¶0¶¶"},
		{"size with sign", "+5¶hello¶0¶¶"},
		{"size negative", "-5¶hello¶0¶¶"},
		{"size with 0x", "0x5¶hello¶0¶¶"},
		{"size with a space before", " 5¶hello¶0¶¶"},
		{"size with a tab before", "\t5¶hello¶0¶¶"},
		{"size with a space behind", "5 ¶hello¶0¶¶"},
		{"size with an underscore", "1_0¶0123456789abcdef¶0¶¶"},
		{"size with a point", "5.0¶hello¶0¶¶"},
		{"size with a comma", "5,5¶hello¶0¶¶"},
		{"size 2^63", "8000000000000000¶hello¶0¶¶"},
		{"size 2^64-1", "ffffffffffffffff¶hello¶0¶¶"},
		{"size 2^64", "10000000000000000¶hello¶0¶¶"},
		{"size 2^64+5", "10000000000000005¶hello¶0¶¶"},
		{"size 2^32+5", "100000000000000000000005¶hello¶0¶¶"},
		{"size of many zeros", strings.Repeat("0", 5000) + "5¶hello¶0¶¶"},
		{"size ends with LF", "5\nhello¶0¶¶"},
		{"size ends with CR", "5\rhello¶0¶¶"},
		{"size ends with CR CR LF", "5\r¶hello¶0¶¶"},
		{"data ends with LF", "5¶hello\n0¶¶"},
		{"data ends with CR", "5¶hello\r0¶¶"},
		{"data without an end", "5¶hello0¶¶"},
		{"data too long", "5¶hello!¶0¶¶"},
		{"data too short", "6¶hello¶0¶¶"},
		{"last chunk ends with LF", "5¶hello¶0\n¶"},
		{"end with LF", "5¶hello¶0¶\n"},
		{"end with CR and more", "5¶hello¶0¶\rX¶¶"},
		{"extension with a bare LF", "5;a\nb¶hello¶0¶¶"},
		{"extension with a bare CR", "5;a\rb¶hello¶0¶¶"},
		{"extension with NUL", "5;a\x00¶hello¶0¶¶"},
		{"extension too long", "5;" + strings.Repeat("a", 64<<10) + "¶hello¶0¶¶"},
		{"extension in open quotes", "5;a=\"b¶hello¶0¶¶"},
		{"trailer with space before its colon", "5¶hello¶0¶X : y¶¶"},
		{"trailer without a colon", "5¶hello¶0¶XY¶¶"},
		{"trailer folded", "5¶hello¶0¶X: y¶ z¶¶"},
		{"trailer with an empty name", "5¶hello¶0¶: y¶¶"},
		{"trailer with NUL", "5¶hello¶0¶X: \x00¶¶"},
		{"trailer with a bare LF", "5¶hello¶0¶X: y\n¶"},
		{"trailer with a bare CR", "5¶hello¶0¶X: y\rz¶¶"},
		{"trailers too long", "5¶hello¶0¶" + strings.Repeat("X: y¶", 50_000) + "¶"},
	} {
		for _, behind := range []struct{ name, send string }{{"", ""}, {", more behind it", "GET /evil HTTP/1.1¶Host: a¶¶"}} {
			status := "400"
			if strings.Contains(r.name, "trailers too long") {
				status = "400|431"
			}
			send := post("Transfer-Encoding: chunked", r.body+behind.send)
			cases = append(cases,
				httpCase{r.name + behind.name, send, nil, []string{"?" + chunkedTo + "*…cut"}, []string{status}, "closed any", "", false},
				httpCase{r.name + behind.name + ", behind a good one", good + send, nil, []string{good, "?" + chunkedTo + "*…cut"}, []string{ok2, status}, "closed any", "", true})
		}
	}
	runTable(t, startLanes(t, 8, ""), cases)
}

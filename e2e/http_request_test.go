package e2e

import (
	"strings"
	"testing"
)

// refusal is a request that must not reach the server.
type refusal struct{ name, send, status string }

const good = "GET /good HTTP/1.1¶Host: a¶¶"

var ok2 = "200 OK¶Content-Length: 2¶¶ok"

// refused makes four cases of each: alone, with a request behind it in the same bytes, behind a good one, and both.
func refused(rows []refusal) (cases []httpCase) {
	for _, r := range rows {
		goodOne := []string{"GET /good HTTP/1.1¶Host: a¶¶"}
		behind := r.send + "GET /evil HTTP/1.1¶Host: a¶¶"
		cases = append(cases,
			httpCase{r.name, r.send, nil, nil, []string{r.status}, "closed none", "", false},
			httpCase{r.name + ", more behind it", behind, nil, nil, []string{r.status}, "closed none", "", true},
			httpCase{r.name + ", behind a good one", good + r.send, nil, goodOne, []string{ok2, r.status}, "closed kept", "", true},
			httpCase{r.name + ", in the middle", good + behind, nil, goodOne, []string{ok2, r.status}, "closed kept", "", true},
		)
	}
	return cases
}

func post(fields, body string) string {
	return "POST / HTTP/1.1¶Host: a¶" + strings.ReplaceAll(fields, "|", "¶") + "¶¶" + body
}

func withFields(fields string) string {
	return "GET / HTTP/1.1¶Host: a¶" + strings.ReplaceAll(fields, "|", "¶") + "¶¶"
}

// RFC 9112 6.1-6.3: what says two things of where it ends, or says it in words that others read otherwise.
var smuggling = []refusal{
	{"CL and TE", post("Content-Length: 5|Transfer-Encoding: chunked", "0¶¶"), "400"},
	{"TE and CL", post("Transfer-Encoding: chunked|Content-Length: 5", "0¶¶"), "400"},
	{"CL 0 and TE", post("Content-Length: 0|Transfer-Encoding: chunked", "0¶¶"), "400"},
	{"bad CL and TE", post("Content-Length: x|Transfer-Encoding: chunked", "0¶¶"), "400"},
	{"CL and TE identity", post("Content-Length: 2|Transfer-Encoding: identity", "ok"), "400"},
	{"CL and empty TE", post("Content-Length: 2|Transfer-Encoding:", "ok"), "400"},
	{"CL twice, different", post("Content-Length: 2|Content-Length: 3", "abc"), "400"},
	{"CL twice, equal", post("Content-Length: 2|Content-Length: 2", "ab"), "400"},
	{"CL twice, 0", post("Content-Length: 0|Content-Length: 0", ""), "400"},
	{"CL twice in other letters", post("Content-Length: 2|content-length: 2", "ab"), "400"},
	{"CL far apart", post("Content-Length: 2|A: b|C: d|Content-Length: 1", "ab"), "400"},
	{"CL list, equal", post("Content-Length: 2, 2", "ab"), "400"},
	{"CL list, different", post("Content-Length: 2, 3", "abc"), "400"},
	{"CL with plus", post("Content-Length: +5", "hello"), "400"},
	{"CL with minus", post("Content-Length: -5", "hello"), "400"},
	{"CL minus zero", post("Content-Length: -0", ""), "400"},
	{"CL plus zero", post("Content-Length: +0", ""), "400"},
	{"CL hexadecimal", post("Content-Length: 0x5", "hello"), "400"},
	{"CL hex digits", post("Content-Length: a", "0123456789"), "400"},
	{"CL with point", post("Content-Length: 5.0", "hello"), "400"},
	{"CL with exponent", post("Content-Length: 5e0", "hello"), "400"},
	{"CL with underscore", post("Content-Length: 1_0", "0123456789"), "400"},
	{"CL with space inside", post("Content-Length: 1 0", "0123456789"), "400"},
	{"CL with tab inside", post("Content-Length: 1\t0", "0123456789"), "400"},
	{"CL with comma", post("Content-Length: 5,", "hello"), "400"},
	{"CL with comma before", post("Content-Length: ,5", "hello"), "400"},
	{"CL with semicolon", post("Content-Length: 5;", "hello"), "400"},
	{"CL in quotes", post(`Content-Length: "5"`, "hello"), "400"},
	{"CL empty", post("Content-Length:", ""), "400"},
	{"CL only spaces", post("Content-Length:   ", ""), "400"},
	{"CL a word", post("Content-Length: five", "hello"), "400"},
	{"CL 2^63", post("Content-Length: 9223372036854775808", "x"), "400"},
	{"CL 2^64", post("Content-Length: 18446744073709551616", "x"), "400"},
	{"CL 2^64+5", post("Content-Length: 18446744073709551621", "hello"), "400"},
	{"CL 2^32 too long", post("Content-Length: 99999999999999999999999999999999", "x"), "400"},
	{"CL with NUL", post("Content-Length: 5\x00", "hello"), "400"},
	{"CL with full-width digit", post("Content-Length: \xef\xbc\x95", "hello"), "400"},
	{"CL with VT", post("Content-Length: \v5", "hello"), "400"},
	{"CL with non-breaking space", post("Content-Length: \xa05", "hello"), "400"},
	{"CL in GET twice", withFields("Content-Length: 0|Content-Length: 5"), "400"},
	{"TE chunked twice in a list", post("Transfer-Encoding: chunked, chunked", "0¶¶"), "400|501"},
	{"TE chunked on two lines", post("Transfer-Encoding: chunked|Transfer-Encoding: chunked", "0¶¶"), "400|501"},
	{"TE chunked and identity lines", post("Transfer-Encoding: chunked|Transfer-Encoding: identity", "0¶¶"), "400|501"},
	{"TE identity and chunked lines", post("Transfer-Encoding: identity|Transfer-Encoding: chunked", "0¶¶"), "400|501"},
	{"TE gzip, chunked", post("Transfer-Encoding: gzip, chunked", "0¶¶"), "501"},
	{"TE chunked, gzip", post("Transfer-Encoding: chunked, gzip", "0¶¶"), "400|501"},
	{"TE chunked, identity", post("Transfer-Encoding: chunked, identity", "0¶¶"), "400|501"},
	{"TE identity", post("Transfer-Encoding: identity", ""), "501|400"},
	{"TE identity, chunked", post("Transfer-Encoding: identity, chunked", "0¶¶"), "501|400"},
	{"TE gzip", post("Transfer-Encoding: gzip", ""), "501|400"},
	{"TE xchunked", post("Transfer-Encoding: xchunked", "0¶¶"), "501"},
	{"TE chunkedx", post("Transfer-Encoding: chunkedx", "0¶¶"), "501"},
	{"TE with a comma behind", post("Transfer-Encoding: chunked,", "0¶¶"), "400|501"},
	{"TE with a comma before", post("Transfer-Encoding: ,chunked", "0¶¶"), "400|501"},
	{"TE with a parameter", post("Transfer-Encoding: chunked;q=1", "0¶¶"), "400|501"},
	{"TE in quotes", post(`Transfer-Encoding: "chunked"`, "0¶¶"), "400|501"},
	{"TE empty", post("Transfer-Encoding:", "0¶¶"), "400|501"},
	{"TE with VT", post("Transfer-Encoding: \vchunked", "0¶¶"), "400"},
	{"TE with NUL", post("Transfer-Encoding: chunked\x00", "0¶¶"), "400"},
	{"TE with bytes above ASCII", post("Transfer-Encoding: chunked\xff", "0¶¶"), "400|501"},
	{"TE with two words", post("Transfer-Encoding: chunked identity", "0¶¶"), "400|501"},
	{"TE cut by a space", post("Transfer-Encoding: chun ked", "0¶¶"), "400|501"},
	{"TE with space before the colon", post("Transfer-Encoding : chunked", "0¶¶"), "400"},
	{"CL and TE with space before the colon", post("Content-Length: 3|Transfer-Encoding : chunked", "0¶¶"), "400"},
	{"CL with space before the colon", post("Content-Length : 5", "hello"), "400"},
	{"CL with tab before the colon", post("Content-Length\t: 5", "hello"), "400"},
	{"TE folded", "POST / HTTP/1.1¶Host: a¶Transfer-Encoding:¶ chunked¶¶0¶¶", "400"},
	{"TE behind a folded field", "POST / HTTP/1.1¶Host: a¶X: y¶ Transfer-Encoding: chunked¶Content-Length: 3¶¶0¶¶", "400"},
	{"TE behind a bare CR", "POST / HTTP/1.1¶Host: a¶X: y\rTransfer-Encoding: chunked¶Content-Length: 3¶¶0¶¶", "400"},
	{"TE behind a bare LF", "POST / HTTP/1.1¶Host: a¶X: y\nTransfer-Encoding: chunked¶Content-Length: 3¶¶0¶¶", "400"},
	{"TE in 1.0", "POST / HTTP/1.0¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶", "400"},
	{"TE in 1.0 kept alive", "POST / HTTP/1.0¶Host: a¶Connection: keep-alive¶Transfer-Encoding: chunked¶¶0¶¶", "400"},
	{"TE and CL in 1.0", "POST / HTTP/1.0¶Host: a¶Content-Length: 3¶Transfer-Encoding: chunked¶¶0¶¶", "400"},
	{"Connection names Content-Length", post("Connection: Content-Length|Content-Length: 5", "hello"), "400"},
	{"Connection names Transfer-Encoding", post("Connection: keep-alive, transfer-encoding|Transfer-Encoding: chunked", "0¶¶"), "400"},
	{"Connection names Host", withFields("Connection: Host"), "400"},
	{"Connection names what is not there", withFields("Connection: content-length"), "400"},
}

// RFC 9112 2.2, 5: lines and field lines.
var lines = []refusal{
	{"bare LF ends the request line", "GET / HTTP/1.1\nHost: a¶¶", "400"},
	{"bare LF ends a field", "GET / HTTP/1.1¶Host: a\nX: y¶¶", "400"},
	{"bare LF ends the head", "GET / HTTP/1.1¶Host: a¶\n", "400"},
	{"bare LFs only", "GET / HTTP/1.1\nHost: a\n\n", "400"},
	{"LF and CRLF end the head", "GET / HTTP/1.1¶Host: a\n¶", "400"},
	{"bare LF first", "\nGET / HTTP/1.1¶Host: a¶¶", "400"},
	{"bare CR first", "\rGET / HTTP/1.1¶Host: a¶¶", "400"},
	{"CR CR LF", "GET / HTTP/1.1¶Host: a\r\r\n¶", "400"},
	{"bare CR in a value", withFields("X: y\rz"), "400"},
	{"bare CR in the request line", "GET /\r HTTP/1.1¶Host: a¶¶", "400"},
	{"bare CR for line ends", "GET / HTTP/1.1\rHost: a\r\r¶¶", "400"},
	{"NUL in a value", withFields("X: y\x00z"), "400"},
	{"NUL in a name", withFields("X\x00: y"), "400"},
	{"NUL in the target", "GET /\x00 HTTP/1.1¶Host: a¶¶", "400"},
	{"NUL in the method", "G\x00T / HTTP/1.1¶Host: a¶¶", "400"},
	{"NUL first", "\x00GET / HTTP/1.1¶Host: a¶¶", "400"},
	{"control byte in a value", withFields("X: y\x01z"), "400"},
	{"DEL in a value", withFields("X: y\x7fz"), "400"},
	{"ESC in a value", withFields("X: \x1b[31m"), "400"},
	{"VT in a value", withFields("X: y\vz"), "400"},
	{"FF in a value", withFields("X: y\fz"), "400"},
	{"backspace in a value", withFields("X: y\bz"), "400"},
	{"obs-fold with a space", withFields("X: y| z"), "400"},
	{"obs-fold with a tab", withFields("X: y|\tz"), "400"},
	{"obs-fold of nothing", withFields("X: y| "), "400"},
	{"obs-fold of Host", "GET / HTTP/1.1¶Host:¶ a¶¶", "400"},
	{"space before the first field", "GET / HTTP/1.1¶ Host: a¶¶", "400"},
	{"space before the first field, Host behind", "GET / HTTP/1.1¶ X: y¶Host: a¶¶", "400"},
	{"tab before the first field", "GET / HTTP/1.1¶\tX: y¶Host: a¶¶", "400"},
	{"space before a colon", withFields("X : y"), "400"},
	{"tab before a colon", withFields("X\t: y"), "400"},
	{"space in a name", withFields("X Y: z"), "400"},
	{"empty name", withFields(": y"), "400"},
	{"no colon", withFields("XY"), "400"},
	{"only a space", "GET / HTTP/1.1¶Host: a¶ ¶¶", "400"},
	{"name with a bracket", withFields("X(Y): z"), "400"},
	{"name with a slash", withFields("X/Y: z"), "400"},
	{"name with quotes", withFields(`"X": z`), "400"},
	{"name with an at", withFields("X@Y: z"), "400"},
	{"name with a comma", withFields("X,Y: z"), "400"},
	{"name with a semicolon", withFields("X;Y: z"), "400"},
	{"name with braces", withFields("X{Y}: z"), "400"},
	{"name with a backslash", withFields(`X\Y: z`), "400"},
	{"name above ASCII", withFields("X\xc3\xa4: z"), "400"},
	{"name with DEL", withFields("X\x7f: z"), "400"},
	{"name with VT", withFields("X\v: z"), "400"},
	{"two empty lines first", "¶¶GET / HTTP/1.1¶Host: a¶¶", "400"},
	{"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03¶¶", "400"},
	{"an SSH banner", "SSH-2.0-OpenSSH_9.6¶¶", "400"},
	{"the HTTP/2 preface", "PRI * HTTP/2.0¶¶SM¶¶", "400|505"},
	{"Connection with a bad option", withFields("Connection: a b"), "400"},
	{"Expect something else", post("Expect: 200-ok|Content-Length: 2", "ok"), "417"},
	{"Expect a list", post("Expect: 100-continue, x|Content-Length: 2", "ok"), "417"},
	{"TRACE with a body", "TRACE / HTTP/1.1¶Host: a¶Content-Length: 2¶¶ok", "400"},
	{"TRACE chunked", "TRACE / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶", "400"},
	{"OPTIONS with bad Max-Forwards", "OPTIONS * HTTP/1.1¶Host: a¶Max-Forwards: x¶¶", "400"},
	{"TRACE with negative Max-Forwards", "TRACE / HTTP/1.1¶Host: a¶Max-Forwards: -1¶¶", "400"},
}

// RFC 9112 3: the request line.
var requestLines = []refusal{
	{"no version", "GET /¶Host: a¶¶", "400"},
	{"HTTP/0.9 with nothing behind", "GET /¶", "400"},
	{"HTTP/0.9", "GET / HTTP/0.9¶Host: a¶¶", "505|400"},
	{"HTTP/2.0", "GET / HTTP/2.0¶Host: a¶¶", "505"},
	{"HTTP/2", "GET / HTTP/2¶Host: a¶¶", "505|400"},
	{"HTTP/3.0", "GET / HTTP/3.0¶Host: a¶¶", "505"},
	{"HTTP/9.9", "GET / HTTP/9.9¶Host: a¶¶", "505"},
	{"HTTP/1", "GET / HTTP/1¶Host: a¶¶", "400|505"},
	{"HTTP/1.", "GET / HTTP/1.¶Host: a¶¶", "400|505"},
	{"HTTP/1.1.1", "GET / HTTP/1.1.1¶Host: a¶¶", "400|505"},
	{"HTTP/1.10", "GET / HTTP/1.10¶Host: a¶¶", "400|505"},
	{"HTTP/01.1", "GET / HTTP/01.1¶Host: a¶¶", "400|505"},
	{"HTTP/11.1", "GET / HTTP/11.1¶Host: a¶¶", "400|505"},
	{"HTTP/+1.1", "GET / HTTP/+1.1¶Host: a¶¶", "400"},
	{"HTTP/1,1", "GET / HTTP/1,1¶Host: a¶¶", "400"},
	{"HTTP 1.1", "GET / HTTP 1.1¶Host: a¶¶", "400"},
	{"HTTP/1.x", "GET / HTTP/1.x¶Host: a¶¶", "400"},
	{"http/1.1", "GET / http/1.1¶Host: a¶¶", "400"},
	{"Http/1.1", "GET / Http/1.1¶Host: a¶¶", "400"},
	{"HTTPS/1.1", "GET / HTTPS/1.1¶Host: a¶¶", "400"},
	{"ICY/1.1", "GET / ICY/1.1¶Host: a¶¶", "400"},
	{"two spaces before the target", "GET  / HTTP/1.1¶Host: a¶¶", "400"},
	{"two spaces behind the target", "GET /  HTTP/1.1¶Host: a¶¶", "400"},
	{"tab before the target", "GET\t/ HTTP/1.1¶Host: a¶¶", "400"},
	{"tab behind the target", "GET /\tHTTP/1.1¶Host: a¶¶", "400"},
	{"space behind the version", "GET / HTTP/1.1 ¶Host: a¶¶", "400"},
	{"tab behind the version", "GET / HTTP/1.1\t¶Host: a¶¶", "400"},
	{"space first", " GET / HTTP/1.1¶Host: a¶¶", "400"},
	{"tab first", "\tGET / HTTP/1.1¶Host: a¶¶", "400"},
	{"four words", "GET / x HTTP/1.1¶Host: a¶¶", "400"},
	{"no target", "GET HTTP/1.1¶Host: a¶¶", "400"},
	{"an empty target", "GET  HTTP/1.1¶Host: a¶¶", "400"},
	{"a word only", "GET¶Host: a¶¶", "400"},
	{"no method", "/ HTTP/1.1¶Host: a¶¶", "400"},
	{"method with a bracket", "G(T / HTTP/1.1¶Host: a¶¶", "400"},
	{"method with a colon", "GET: / HTTP/1.1¶Host: a¶¶", "400"},
	{"method above ASCII", "G\xc3\x84T / HTTP/1.1¶Host: a¶¶", "400"},
	{"a method too long", strings.Repeat("M", 300) + " / HTTP/1.1¶Host: a¶¶", "501|400"},
	{"a status line", "HTTP/1.1 200 OK¶Host: a¶¶", "400"},
	{"CONNECT", "CONNECT a:443 HTTP/1.1¶Host: a:443¶¶", "405|501"},
	{"CONNECT without a port", "CONNECT a HTTP/1.1¶Host: a¶¶", "400|405|501"},
	{"CONNECT with a path", "CONNECT / HTTP/1.1¶Host: a¶¶", "400|405|501"},
	{"target with a fragment", "GET /a#b HTTP/1.1¶Host: a¶¶", "400"},
	{"target that is a fragment", "GET #b HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute target with a fragment", "GET http://a/#b HTTP/1.1¶Host: a¶¶", "400"},
	{"asterisk with GET", "GET * HTTP/1.1¶Host: a¶¶", "400"},
	{"asterisk with POST", "POST * HTTP/1.1¶Host: a¶Content-Length: 0¶¶", "400"},
	{"asterisk and more", "OPTIONS ** HTTP/1.1¶Host: a¶¶", "400"},
	{"asterisk with a query", "OPTIONS *?a HTTP/1.1¶Host: a¶¶", "400"},
	{"a relative target", "GET a HTTP/1.1¶Host: a¶¶", "400"},
	{"a query only", "GET ?a HTTP/1.1¶Host: a¶¶", "400"},
	{"a target with a dot", "GET ./ HTTP/1.1¶Host: a¶¶", "400"},
	{"a backslash for a target", `GET \ HTTP/1.1¶Host: a¶¶`, "400"},
	{"authority form with GET", "GET a:80 HTTP/1.1¶Host: a¶¶", "400"},
	{"another scheme", "GET ftp://a/ HTTP/1.1¶Host: a¶¶", "400"},
	{"a file", "GET file:///etc/passwd HTTP/1.1¶Host: a¶¶", "400"},
	{"javascript", "GET javascript:1 HTTP/1.1¶Host: a¶¶", "400"},
	{"scheme without slashes", "GET http:a HTTP/1.1¶Host: a¶¶", "400"},
	{"scheme with one slash", "GET http:/a HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute without a host", "GET http:// HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with an empty host", "GET http:///x HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with only a port", "GET http://:80/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with userinfo", "GET http://user@a/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a password", "GET http://user:pass@a/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a bad port", "GET http://a:b/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a port too high", "GET http://a:65536/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a space in the host", "GET http://a b/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a bad address", "GET http://[::1/ HTTP/1.1¶Host: a¶¶", "400"},
	{"absolute with a backslash", `GET http://a\b/ HTTP/1.1¶Host: a¶¶`, "400"},
	{"absolute without Host", "GET http://a/ HTTP/1.1¶¶", "400"},
	{"absolute with two Hosts", "GET http://a/ HTTP/1.1¶Host: a¶Host: a¶¶", "400"},
	{"absolute with a bad Host", "GET http://a/ HTTP/1.1¶Host: a b¶¶", "400"},
	{"target above ASCII", "GET /\xc3\xa4 HTTP/1.1¶Host: a¶¶", "400"},
	{"target with DEL", "GET /\x7f HTTP/1.1¶Host: a¶¶", "400"},
	{"target with a control byte", "GET /\x01 HTTP/1.1¶Host: a¶¶", "400"},
}

// RFC 9112 3.2, RFC 9110 7.2.
var hosts = []refusal{
	{"no Host in 1.1", "GET / HTTP/1.1¶¶", "400"},
	{"no Host in 1.1, other fields", "GET / HTTP/1.1¶X: y¶¶", "400"},
	{"no Host in 1.2", "GET / HTTP/1.2¶¶", "400"},
	{"two Hosts, equal", "GET / HTTP/1.1¶Host: a¶Host: a¶¶", "400"},
	{"two Hosts, different", "GET / HTTP/1.1¶Host: a¶Host: b¶¶", "400"},
	{"two Hosts in other letters", "GET / HTTP/1.1¶Host: a¶HOST: b¶¶", "400"},
	{"two Hosts far apart", "GET / HTTP/1.1¶Host: a¶X: y¶Z: w¶host: b¶¶", "400"},
	{"two Hosts in 1.0", "GET / HTTP/1.0¶Host: a¶Host: b¶¶", "400"},
	{"an empty and a full Host", "GET / HTTP/1.1¶Host:¶Host: b¶¶", "400"},
	{"Host list", "GET / HTTP/1.1¶Host: a, b¶¶", "400"},
	{"Host with a space", "GET / HTTP/1.1¶Host: a b¶¶", "400"},
	{"Host with a tab", "GET / HTTP/1.1¶Host: a\tb¶¶", "400"},
	{"Host with a path", "GET / HTTP/1.1¶Host: a/b¶¶", "400"},
	{"Host with a query", "GET / HTTP/1.1¶Host: a?b¶¶", "400"},
	{"Host with a fragment", "GET / HTTP/1.1¶Host: a#b¶¶", "400"},
	{"Host with userinfo", "GET / HTTP/1.1¶Host: u@a¶¶", "400"},
	{"Host with a password", "GET / HTTP/1.1¶Host: u:p@a¶¶", "400"},
	{"Host with a scheme", "GET / HTTP/1.1¶Host: http://a¶¶", "400"},
	{"Host with a bad port", "GET / HTTP/1.1¶Host: a:b¶¶", "400"},
	{"Host with a port too high", "GET / HTTP/1.1¶Host: a:65536¶¶", "400"},
	{"Host with a huge port", "GET / HTTP/1.1¶Host: a:18446744073709551696¶¶", "400"},
	{"Host with a negative port", "GET / HTTP/1.1¶Host: a:-1¶¶", "400"},
	{"Host with a signed port", "GET / HTTP/1.1¶Host: a:+80¶¶", "400"},
	{"Host with two ports", "GET / HTTP/1.1¶Host: a:80:80¶¶", "400"},
	{"Host with only a port", "GET / HTTP/1.1¶Host: :80¶¶", "400"},
	{"Host a colon", "GET / HTTP/1.1¶Host: :¶¶", "400"},
	{"Host with an address without brackets", "GET / HTTP/1.1¶Host: ::1¶¶", "400"},
	{"Host with an open bracket", "GET / HTTP/1.1¶Host: [::1¶¶", "400"},
	{"Host with empty brackets", "GET / HTTP/1.1¶Host: []¶¶", "400"},
	{"Host with words in brackets", "GET / HTTP/1.1¶Host: [example]¶¶", "400"},
	{"Host with bytes behind brackets", "GET / HTTP/1.1¶Host: [::1]x¶¶", "400"},
	{"Host with a backslash", `GET / HTTP/1.1¶Host: a\b¶¶`, "400"},
	{"Host with quotes", `GET / HTTP/1.1¶Host: "a"¶¶`, "400"},
	{"Host with a bracket", "GET / HTTP/1.1¶Host: <a>¶¶", "400"},
	{"Host above ASCII", "GET / HTTP/1.1¶Host: \xc3\xa4¶¶", "400"},
	{"Host with NUL", "GET / HTTP/1.1¶Host: a\x00b¶¶", "400"},
	{"Host with a bad escape", "GET / HTTP/1.1¶Host: a%zz¶¶", "400"},
	{"Host with space before the colon", "GET / HTTP/1.1¶Host : a¶¶", "400"},
	{"a bad Host in 1.0", "GET / HTTP/1.0¶Host: a b¶¶", "400"},
}

func limits() []refusal {
	long := strings.Repeat("x", 256<<10)
	many := strings.Repeat("X: y¶", 20_000)
	return []refusal{
		{"a target too long", "GET /" + long + " HTTP/1.1¶Host: a¶¶", "414"},
		{"a query too long", "GET /?" + long + " HTTP/1.1¶Host: a¶¶", "414"},
		{"a target without end", "GET /" + long, "414"},
		{"a value too long", withFields("X: " + long), "431"},
		{"a name too long", withFields(long + ": y"), "431"},
		{"a field without end", "GET / HTTP/1.1¶Host: a¶X: " + long, "431"},
		{"too many fields", withFields(many + "Z: z"), "431"},
		{"a Host too long", "GET / HTTP/1.1¶Host: " + strings.Repeat("a", 2000) + "¶¶", "400|431"},
	}
}

func TestHTTP_RequestsThatMustNotPass(t *testing.T) {
	t.Parallel()
	lanes := startLanes(t, 8, "")
	for _, table := range []struct {
		name string
		rows []refusal
	}{
		{"framing", smuggling}, {"lines", lines}, {"request lines", requestLines}, {"Host", hosts}, {"limits", limits()},
	} {
		t.Run(table.name, func(t *testing.T) { runTable(t, lanes, refused(table.rows)) })
	}
}

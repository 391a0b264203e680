package h1

import (
	"net/netip"
	"strings"
	"testing"
)

var (
	peer4 = netip.MustParseAddr("192.0.2.7")
	peer6 = netip.MustParseAddr("2001:db8::7%eth0")
)

// us is what is written for a request of peer4 to host h when nothing else is said.
func us(host string) string {
	s := "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
	if host == "" {
		return s + "Forwarded: for=192.0.2.7;proto=http\r\n"
	}
	return s + "X-Forwarded-Host: " + host + "\r\nForwarded: for=192.0.2.7;host=\"" + host + "\";proto=http\r\n"
}

func TestRequest_IsRewritten(t *testing.T) {
	r := NewRequest(Limits{})
	trusted := RequestOut{Peer: peer4, Trusted: true}
	for _, x := range []struct {
		name, raw, want string
		out             RequestOut
	}{
		{"plain", head("A: b", "C:d"), "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n" + us("h"), RequestOut{}},
		{"space is made regular", head("A:  b ", "B: c", "C:\td\t", "D:"), "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nB: c\r\nC: d\r\nD: \r\n" + us("h"), RequestOut{}},
		{"Host comes first", message("GET / HTTP/1.1", "A: b", "HOST:H:80", "C: d"), "GET / HTTP/1.1\r\nHost: H:80\r\nA: b\r\nC: d\r\n" + us("H:80"), RequestOut{}},
		{"Host is replaced", head(), "GET / HTTP/1.1\r\nHost: i:81\r\n" + us("h"), RequestOut{Host: "i:81"}},
		{"Host is empty", hosted(""), "GET / HTTP/1.1\r\nHost: \r\n" + us(""), RequestOut{}},
		{"1.0 becomes 1.1", "GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1\r\nHost: \r\n" + us("") + "Via: 1.0 door\r\n", RequestOut{By: "door"}},
		{"absolute becomes origin", start("GET http://A:80/b?c HTTP/1.1"), "GET /b?c HTTP/1.1\r\nHost: A:80\r\n" + us("A:80"), RequestOut{}},
		{"absolute without path", start("GET http://a HTTP/1.1"), "GET / HTTP/1.1\r\nHost: a\r\n" + us("a"), RequestOut{}},
		{"absolute with query only", start("GET http://a?b HTTP/1.1"), "GET /?b HTTP/1.1\r\nHost: a\r\n" + us("a"), RequestOut{}},
		{"asterisk", start("OPTIONS * HTTP/1.1"), "OPTIONS * HTTP/1.1\r\nHost: h\r\n" + us("h"), RequestOut{}},
		{"absolute asterisk", start("OPTIONS http://a HTTP/1.1"), "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + us("a"), RequestOut{}},
		{"hop-by-hop", head("Connection: keep-alive, X", "Keep-Alive: 1", "Proxy-Connection: close", "Proxy-Authorization: x", "TE: gzip", "Trailer: T", "X: y", "Z: z", "HTTP2-Settings: a"),
			"GET / HTTP/1.1\r\nHost: h\r\nZ: z\r\n" + us("h"), RequestOut{}},
		{"length", post("Content-Length: 007"), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n" + us("h"), RequestOut{}},
		{"length 0", post("Content-Length: 0"), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + us("h"), RequestOut{}},
		{"chunked", post("transfer-encoding:\tCHUNKED", "Trailer: T"), "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + us("h"), RequestOut{}},
		{"trailers", post("Transfer-Encoding: chunked", "Trailer: T", "TE: gzip, trailers"), "POST / HTTP/1.1\r\nHost: h\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\nConnection: TE\r\nTE: trailers\r\n" + us("h"), RequestOut{Trailers: true}},
		{"expect", post("Expect: 100-Continue", "Content-Length: 1"), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n" + us("h"), RequestOut{}},
		{"hops", message("TRACE / HTTP/1.1", "Host: h", "Max-Forwards: 5"), "TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 4\r\n" + us("h"), RequestOut{}},
		{"hops of GET", head("Max-Forwards: 5"), "GET / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 5\r\n" + us("h"), RequestOut{}},
		{"upgrade", head("Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k"), "GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + us("h"), RequestOut{}},
		{"h2c", head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: k"), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h"), RequestOut{}},
		{"close", head("Connection: keep-alive"), "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + us("h"), RequestOut{Close: true}},
		{"Via is added to", head("Via: 1.0 a"), "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.0 a\r\n" + us("h") + "Via: 1.1 door\r\n", RequestOut{By: "door"}},
		{"spoofed", head("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: e", "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1", "X-Forwarded-Port: 1", "X_Forwarded_For: 1.1.1.1", "x-forwarded-server: e", "X-Forwarded-Prefix: /"),
			"GET / HTTP/1.1\r\nHost: h\r\n" + us("h"), RequestOut{}},
		{"framing for CGI alone", post("Content_Length: 9", "content_length: 1", "Transfer_Encoding: chunked", "Content-Length: 2", "Content_Type: x", "Content_Lengths: x"),
			"POST / HTTP/1.1\r\nHost: h\r\nContent_Type: x\r\nContent_Lengths: x\r\nContent-Length: 2\r\n" + us("h"), RequestOut{}},
		{"trusted", head("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "x-forwarded-for:2.2.2.2", "X-Forwarded-Host: e", "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1"),
			"GET / HTTP/1.1\r\nHost: h\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: e\r\nForwarded: for=1.1.1.1, for=192.0.2.7;host=\"h\";proto=http\r\n", trusted},
		{"trusted who says nothing", head(), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h"), trusted},
		{"IPv6 and TLS", head(), "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nForwarded: for=\"[2001:db8::7]\";host=\"h\";proto=https\r\n", RequestOut{Peer: peer6, HTTPS: true}},
		{"request id is made", head("X-Request-Id: theirs"), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h") + "X-Request-Id: ours\r\n", RequestOut{RequestID: []byte("ours")}},
		{"request id is kept", head("X-Request-ID: a.b-c"), "GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: a.b-c\r\n" + us("h"), RequestOut{}},
		{"bad request id", head("X-Request-ID: a\"b"), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h"), RequestOut{}},
		{"extra", head(), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h") + "E: x\r\n", RequestOut{Extra: []byte("E: x\r\n")}},
		{"Connection cannot take away what we say", head("Connection: X-Forwarded-For, Via, Forwarded", "X-Forwarded-For: 9.9.9.9", "Forwarded: for=x"), "GET / HTTP/1.1\r\nHost: h\r\n" + us("h") + "Via: 1.1 door\r\n",
			RequestOut{By: "door", Trusted: true, Peer: peer4}},
	} {
		buf := []byte(x.raw)
		var p Progress
		n, e := r.Parse(buf, &p)
		if n != len(buf) {
			t.Errorf("%s: parsed %d, %v", x.name, n, e)
			continue
		}
		if !x.out.Peer.IsValid() {
			x.out.Peer = peer4
		}
		got := r.AppendTo(nil, buf, &x.out)
		if want := x.want + "\r\n"; string(got) != want {
			t.Errorf("%s\n got %q\nwant %q", x.name, got, want)
		}
		if most := r.MaxOut(n, &x.out); len(got) > most {
			t.Errorf("%s: %d bytes, MaxOut said %d", x.name, len(got), most)
		}
		if string(buf) != x.raw {
			t.Errorf("%s: the buffer was changed", x.name)
		}
	}
}

func TestRequest_OfAUnixSocketHasNoAddress(t *testing.T) {
	r := NewRequest(Limits{})
	buf := []byte(head())
	var p Progress
	r.Parse(buf, &p)
	want := "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=unknown;host=\"h\";proto=http\r\n\r\n"
	if got := string(r.AppendTo(nil, buf, &RequestOut{})); got != want {
		t.Errorf("got %q", got)
	}
}

func TestRequestID_IsTakenOnlyWhenItIsOneAndClean(t *testing.T) {
	r := NewRequest(Limits{})
	for _, x := range []struct{ lines, want string }{
		{"A: b", ""},
		{"X-Request-Id: a-B_9.~:+/=@", "a-B_9.~:+/=@"},
		{"X-Request-Id: a b", ""},
		{"X-Request-Id: a,b", ""},
		{"X-Request-Id:", ""},
		{"X-Request-Id: a\r\nX-Request-Id: a", ""},
		{"Connection: x-request-id\r\nX-Request-Id: a", ""},
		{"X-Request-Id: " + strings.Repeat("a", 128), strings.Repeat("a", 128)},
		{"X-Request-Id: " + strings.Repeat("a", 129), ""},
	} {
		buf := []byte(head(x.lines))
		var p Progress
		r.Parse(buf, &p)
		if got := string(r.RequestID(buf)); got != x.want {
			t.Errorf("%q: %q", x.lines, got)
		}
	}
	if id := AppendRequestID(nil, 1, 0xabc); string(id) != "00000000000000010000000000000abc" || !validID(id) {
		t.Errorf("made %s", id)
	}
}

func TestResponse_IsRewritten(t *testing.T) {
	r := NewResponse(Limits{})
	for _, x := range []struct {
		name      string
		q         Info
		raw, want string
		out       ResponseOut
		mustClose bool
	}{
		{"length", asGet, answer("A: b", "Content-Length: 02"), "200 OK\r\nA: b\r\nContent-Length: 2\r\n", ResponseOut{}, false},
		{"length 0", asGet, answer("Content-Length: 0"), "200 OK\r\nContent-Length: 0\r\n", ResponseOut{}, false},
		{"space before colon", asGet, answer("A : b", "Content-Length : 2"), "200 OK\r\nA: b\r\nContent-Length: 2\r\n", ResponseOut{}, false},
		{"hop-by-hop", asGet, answer("Connection: X, keep-alive", "Keep-Alive: 1", "X: y", "Proxy-Authenticate: z", "Upgrade: h2", "Content-Length: 2"), "200 OK\r\nContent-Length: 2\r\n", ResponseOut{}, false},
		{"chunked", asGet, answer("Transfer-Encoding: chunked", "Trailer: T"), "200 OK\r\nTransfer-Encoding: chunked\r\n", ResponseOut{}, false},
		{"chunked with trailers", asGet, answer("Transfer-Encoding: chunked", "Trailer: T"), "200 OK\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n", ResponseOut{Trailers: true}, false},
		{"chunked to 1.0", Info{Method: MethodGet}, answer("Transfer-Encoding: chunked"), "200 OK\r\nConnection: close\r\n", ResponseOut{}, true},
		{"length to 1.0", Info{Method: MethodGet}, answer("Content-Length: 2"), "200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n", ResponseOut{}, false},
		{"until close", asGet, answer(), "200 OK\r\nConnection: close\r\n", ResponseOut{}, true},
		{"close wanted", asGet, answer("Content-Length: 2"), "200 OK\r\nContent-Length: 2\r\nConnection: close\r\n", ResponseOut{Close: true}, false},
		{"HEAD", asHead, answer("Content-Length: 2"), "200 OK\r\nContent-Length: 2\r\n", ResponseOut{}, false},
		{"HEAD chunked", asHead, answer("Transfer-Encoding: chunked"), "200 OK\r\nTransfer-Encoding: chunked\r\n", ResponseOut{}, false},
		{"HEAD chunked to 1.0", Info{Method: MethodHead}, answer("Transfer-Encoding: chunked"), "200 OK\r\nConnection: keep-alive\r\n", ResponseOut{}, false},
		{"204 loses its length", asGet, message("HTTP/1.1 204 No", "Content-Length: 2"), "204 No\r\n", ResponseOut{}, false},
		{"304 keeps its length", asGet, message("HTTP/1.1 304 No", "Content-Length: 2"), "304 No\r\nContent-Length: 2\r\n", ResponseOut{}, false},
		{"304 without length", asGet, message("HTTP/1.1 304 No"), "304 No\r\n", ResponseOut{}, false},
		{"103", asGet, message("HTTP/1.1 103 E", "Link: x", "Connection: close"), "103 E\r\nLink: x\r\n", ResponseOut{}, false},
		{"101", asWS, message("HTTP/1.1 101 S", "Upgrade: WebSocket", "Connection: upgrade", "Sec-WebSocket-Accept: a"), "101 S\r\nSec-WebSocket-Accept: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", ResponseOut{}, false},
		{"426", asGet, message("HTTP/1.1 426 U", "Upgrade: websocket", "Connection: upgrade", "Content-Length: 0"), "426 U\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", ResponseOut{}, false},
		{"Date is kept", asGet, answer("Date: then", "Content-Length: 0"), "200 OK\r\nDate: then\r\nContent-Length: 0\r\n", ResponseOut{Date: []byte("now")}, false},
		{"Date is added", asGet, answer("Content-Length: 0"), "200 OK\r\nDate: now\r\nContent-Length: 0\r\n", ResponseOut{Date: []byte("now")}, false},
		{"Via", asGet, message("HTTP/1.0 200 OK", "Via: 1.1 a", "Content-Length: 0"), "200 OK\r\nVia: 1.1 a\r\nContent-Length: 0\r\nVia: 1.0 door\r\nSet-Cookie: x\r\n", ResponseOut{By: "door", Extra: []byte("Set-Cookie: x\r\n")}, false},
	} {
		buf := []byte(x.raw)
		var p Progress
		n, e := r.Parse(buf, &p, &x.q)
		if n != len(buf) {
			t.Errorf("%s: parsed %d, %v", x.name, n, e)
			continue
		}
		out, mustClose := x.out, false
		out.Minor = x.q.Minor
		out.Body, mustClose = r.ForClient(x.q.Minor)
		out.Close = out.Close || mustClose
		got := r.AppendTo(nil, buf, &out)
		if want := "HTTP/1.1 " + x.want + "\r\n"; string(got) != want || mustClose != x.mustClose {
			t.Errorf("%s\n got %q %v\nwant %q %v", x.name, got, mustClose, want, x.mustClose)
		}
		if most := r.MaxOut(n, &out); len(got) > most {
			t.Errorf("%s: %d bytes, MaxOut said %d", x.name, len(got), most)
		}
	}
}

func TestErr_EachSaysWhatToAnswer(t *testing.T) {
	for e := ErrBareLF; e < numErrs; e++ {
		if e.Reason() == "" || StatusText(e.Status()) == "" {
			t.Errorf("Err %d: status %d, %q", e, e.Status(), e.Reason())
		}
		if s := ofServer(e).Status(); s != 502 {
			t.Errorf("Err %d of a server: status %d", e, s)
		}
	}
}

package h1

import "testing"

var typical = []byte("GET /v2/status?verbose=1 HTTP/1.1\r\n" +
	"Host: api.example.org:8080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Accept-Language: en-US,en;q=0.9\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Referer: https://api.example.org/v2/\r\n" +
	"X-Request-Id: 0123456789abcdef0123456789abcdef\r\n\r\n")

var small = []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-A: b\r\n\r\n")

var typicalAnswer = []byte("HTTP/1.1 200 OK\r\n" +
	"Server: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"Content-Length: 1234\r\nConnection: keep-alive\r\nETag: \"abcdef\"\r\nVary: Accept-Encoding\r\n\r\n")

var chunkedBody = []byte("10;a=\"b\"\r\n0123456789abcdef\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n")

func TestNothingIsAllocated(t *testing.T) {
	r, s, tr := NewRequest(Limits{}), NewResponse(Limits{}), NewTrailer(Limits{})
	dst := make([]byte, 0, 64<<10)
	out := RequestOut{Peer: peer6, Trusted: true, By: "door", RequestID: []byte("x"), Close: true}
	toClient := ResponseOut{Minor: 1, Body: BodyLength, By: "door", Date: []byte("now")}
	v6 := []byte("POST http://[2001:db8::1]:80/ HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nConnection: x, te\r\nTE: trailers\r\nX-Forwarded-For: a\r\nX: y\r\n\r\n")
	wrong := []byte("GET / HTTP/1.1\r\n\r\n")
	for name, f := range map[string]func(){
		"request": func() {
			var p Progress
			r.Parse(typical, &p)
			dst = r.AppendHost(dst[:0], typical)
			dst = r.AppendTo(dst[:0], typical, &out)
		},
		"request in pieces": func() {
			var p Progress
			for i := range typical {
				r.Parse(typical[:i+1], &p)
			}
		},
		"absolute IPv6": func() {
			var p Progress
			if n, _ := r.Parse(v6, &p); n == 0 {
				t.Error("refused")
			}
			dst = r.AppendTo(dst[:0], v6, &out)
		},
		"response": func() {
			var p Progress
			s.Parse(typicalAnswer, &p, &asGet)
			dst = s.AppendTo(dst[:0], typicalAnswer, &toClient)
		},
		"chunked body": func() {
			b := StartBody(BodyChunked, 0, false, false)
			for in := chunkedBody; !b.Done(); {
				payload, n, _ := b.Next(in)
				in = in[n:]
				dst = AppendChunk(dst[:0], payload)
			}
		},
		"trailers": func() {
			var p Progress
			tr.Parse([]byte("A: b\r\n\r\n"), &p, false)
		},
		"error": func() {
			var p Progress
			_, e := r.Parse(wrong, &p)
			dst = append(dst[:0], e.Reason()...)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func benchRequest(b *testing.B, raw []byte) {
	r := NewRequest(Limits{})
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		var p Progress
		if n, e := r.Parse(raw, &p); n == 0 {
			b.Fatal(e)
		}
	}
}

func BenchmarkRequestParse4Fields(b *testing.B)  { benchRequest(b, small) }
func BenchmarkRequestParse10Fields(b *testing.B) { benchRequest(b, typical) }

func BenchmarkRequestParseByteByByte(b *testing.B) {
	raw := []byte(exactly(32 << 10))
	r := NewRequest(Limits{})
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var p Progress
		for i := range raw {
			r.Parse(raw[:i+1], &p)
		}
	}
}

func benchRewrite(b *testing.B, raw []byte) {
	r := NewRequest(Limits{})
	var p Progress
	r.Parse(raw, &p)
	dst := make([]byte, 0, 4096)
	out := RequestOut{Peer: peer4, By: "turnout", RequestID: []byte("0123456789abcdef0123456789abcdef")}
	b.ReportAllocs()
	for b.Loop() {
		dst = r.AppendTo(dst[:0], raw, &out)
	}
}

func BenchmarkRequestAppend4Fields(b *testing.B)  { benchRewrite(b, small) }
func BenchmarkRequestAppend10Fields(b *testing.B) { benchRewrite(b, typical) }

func BenchmarkResponseParse(b *testing.B) {
	r := NewResponse(Limits{})
	b.SetBytes(int64(len(typicalAnswer)))
	b.ReportAllocs()
	for b.Loop() {
		var p Progress
		if n, e := r.Parse(typicalAnswer, &p, &asGet); n == 0 {
			b.Fatal(e)
		}
	}
}

func BenchmarkResponseAppend(b *testing.B) {
	r := NewResponse(Limits{})
	var p Progress
	r.Parse(typicalAnswer, &p, &asGet)
	dst := make([]byte, 0, 4096)
	out := ResponseOut{Minor: 1, Body: BodyLength, By: "turnout"}
	b.ReportAllocs()
	for b.Loop() {
		dst = r.AppendTo(dst[:0], typicalAnswer, &out)
	}
}

func BenchmarkChunked(b *testing.B) {
	raw := append(AppendChunk(nil, make([]byte, 1024)), LastChunk...)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		body := StartBody(BodyChunked, 0, false, false)
		for in := raw; !body.Done(); {
			_, n, e := body.Next(in)
			if e != ErrNone {
				b.Fatal(e)
			}
			in = in[n:]
		}
	}
}

package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
)

// What we take and net/http refuses. Each line is a part of net/http's error and the reason why we differ.
var explained = []struct{ part, reason string }{
	{"invalid URL escape", "percent-encoding is carried as it came; net/url decodes it"},
	{"invalid character", "bytes such as '<' or '^' in a target's host or path: carried, VCHAR is all that framing needs"},
	{"invalid URI for request", "same, and ':' in a first path segment"},
	{"invalid host", "net/url has its own idea of a host in an absolute target"},
	{"invalid IP", "same"},
	{"too much non-data", "net/http bounds the sum of chunk lines; we bound each"},
	{"bad trailer key", "net/http refuses framing names in Trailer, which we drop with the trailers"},
	{"http: suspiciously long trailer", "net/http has its own bound of a trailer section"},
	{"invalid byte in chunk length", "space before a chunk extension's ';', which RFC 9112 7.1.1 has a recipient skip"},
}

func isExplained(err error) bool {
	for _, e := range explained {
		if strings.Contains(err.Error(), e.part) {
			return true
		}
	}
	return false
}

func canonical(buf []byte, fields []Field, skip ...string) string {
	h := http.Header{}
	for _, f := range fields {
		h.Add(string(f.Name.In(buf)), string(f.Value.In(buf)))
	}
	return printHeader(h, skip...)
}

func printHeader(h http.Header, skip ...string) string {
	h = h.Clone()
	// ReadRequest and ReadResponse take these out, or add to them.
	for _, name := range append(skip, "Host", "Transfer-Encoding", "Trailer", "Pragma", "Cache-Control") {
		h.Del(name)
	}
	var b bytes.Buffer
	h.Write(&b)
	return b.String()
}

// endToEnd prints what must survive rewriting.
func endToEnd(buf []byte, fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		if f.id == idOther && f.flags&named == 0 && !fold(f.Name.In(buf), "via") {
			fmt.Fprintf(&b, "%s: %s\n", f.Name.In(buf), f.Value.In(buf))
		}
	}
	return b.String()
}

// readBody decodes what is left of data; whole tells that the body ended.
func readBody(b Body, data []byte) (payload []byte, whole bool) {
	for len(data) > 0 && !b.Done() {
		p, n, e := b.Next(data)
		if e != ErrNone {
			return nil, false
		}
		payload = append(payload, p...)
		data = data[n:]
	}
	return payload, b.AtEOF() == ErrNone
}

func sameInPieces(t *testing.T, data []byte, parse func([]string) string) {
	whole := parse([]string{string(data)})
	grow := []string{""}
	step := 1 + len(data)/300
	for i := step; i < len(data); i += step {
		grow = append(grow, string(data[:i]))
	}
	if pieces := parse(append(grow, string(data))); pieces != whole {
		t.Fatalf("in pieces %s\nwhole %s", pieces, whole)
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range requestRows {
		if len(r.raw) < 1000 {
			f.Add([]byte(r.raw))
		}
	}
	for _, r := range chunkRows {
		if len(r.raw) < 1000 {
			f.Add([]byte(post("Transfer-Encoding: chunked") + r.raw))
		}
	}
	f.Add(typical)
	r, again := NewRequest(Limits{}), NewRequest(Limits{Head: maxHead, Target: maxHead, Fields: 256})
	out := RequestOut{Peer: peer4, By: "door"}
	f.Fuzz(func(t *testing.T, data []byte) {
		sameInPieces(t, data, parseRequest(r))
		var p Progress
		n, e := r.Parse(data, &p)
		if n == 0 {
			if e == ErrNone && p.phase == phaseBegin && len(data) > 1 {
				t.Fatal("no progress")
			}
			return
		}
		requestRoundTrip(t, r, again, data[:n], &out)
		body, whole := readBody(r.NewBody(false), data[n:])

		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\r\n")))))
		if err != nil {
			if !isExplained(err) {
				t.Fatalf("net/http refuses: %v", err)
			}
			return
		}
		if theirs.Method != string(r.MethodName.In(data)) || theirs.RequestURI != string(r.Target.In(data)) {
			t.Fatalf("net/http reads %s %s", theirs.Method, theirs.RequestURI)
		}
		if theirs.Host != string(r.authority.In(data)) {
			t.Fatalf("net/http has host %q, we %q", theirs.Host, r.authority.In(data))
		}
		if a, b := canonical(data, r.Fields()), printHeader(theirs.Header); a != b {
			t.Fatalf("fields\n%q\nnet/http\n%q", a, b)
		}
		compareBodies(t, body, whole, theirs.Body)
	})
}

func compareBodies(t *testing.T, body []byte, whole bool, theirs io.Reader) {
	if !whole {
		return
	}
	b, err := io.ReadAll(theirs)
	if err != nil {
		if !isExplained(err) {
			t.Fatalf("net/http refuses the body: %v", err)
		}
		return
	}
	if !bytes.Equal(body, b) {
		t.Fatalf("body %q\nnet/http %q", body, b)
	}
}

func requestRoundTrip(t *testing.T, r, again *Request, data []byte, out *RequestOut) {
	sent := r.AppendTo(nil, data, out)
	var p Progress
	n, e := again.Parse(sent, &p)
	if n != len(sent) {
		t.Fatalf("rewritten %q: %d of %d, %v", sent, n, len(sent), e)
	}
	if most := r.MaxOut(len(data), out); len(sent) > most {
		t.Fatalf("%d bytes, MaxOut said %d", len(sent), most)
	}
	path := string(r.rest.In(data))
	if r.Asterisk {
		path = "*"
	} else if r.Path.Len() == 0 {
		path = "/" + path
	}
	if got := string(again.Target.In(sent)); got != path {
		t.Fatalf("target %q became %q", path, got)
	}
	if !bytes.Equal(again.MethodName.In(sent), r.MethodName.In(data)) || !bytes.Equal(again.authority.In(sent), r.authority.In(data)) ||
		again.Body != r.Body || again.Length != r.Length || again.Expect != r.Expect || again.Upgrade != r.Upgrade || !again.KeepAlive {
		t.Fatalf("%q became %q", data, sent)
	}
	if a, b := endToEnd(data, r.Fields()), endToEnd(sent, again.Fields()); a != b {
		t.Fatalf("fields\n%q\nbecame\n%q", a, b)
	}
	if theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(sent))); err == nil {
		if cl := theirs.ContentLength; cl != r.Length && !(r.Body == BodyChunked && cl == -1) {
			t.Fatalf("net/http reads length %d of %q", cl, sent)
		}
	} else if !isExplained(err) {
		t.Fatalf("net/http refuses what we send: %v", err)
	}
}

func FuzzResponse(f *testing.F) {
	for _, r := range responseRows {
		if len(r.raw) < 1000 {
			f.Add([]byte(r.raw), r.q.Method == MethodHead, r.q.Upgrade.Wanted())
		}
	}
	f.Add(append([]byte(answer("Transfer-Encoding: chunked")), chunkedBody...), false, false)
	f.Add(typicalAnswer, false, false)
	r, again := NewResponse(Limits{}), NewResponse(Limits{Head: maxHead, Fields: 256})
	f.Fuzz(func(t *testing.T, data []byte, head, upgrade bool) {
		q := asGet
		if head {
			q.Method = MethodHead
		} else if upgrade {
			q = asWS
		}
		sameInPieces(t, data, parseResponse(r, &q))
		var p Progress
		n, _ := r.Parse(data, &p, &q)
		if n == 0 {
			return
		}
		responseRoundTrip(t, r, again, data, &q)
		body, whole := readBody(r.NewBody(false), data[n:])
		for _, f := range r.Fields() {
			if isSpace(data[f.Name.End]) {
				return // RFC 9112 5.1 has a proxy remove it; net/http makes it part of the name, or refuses
			}
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
		if err != nil {
			if !isExplained(err) {
				t.Fatalf("net/http refuses: %v", err)
			}
			return
		}
		if theirs.StatusCode != r.Code {
			t.Fatalf("net/http reads status %d", theirs.StatusCode)
		}
		// net/http itself drops a Content-Length that does not count, and Connection: close.
		if a, b := canonical(data, r.Fields(), "Content-Length", "Connection"), printHeader(theirs.Header, "Content-Length", "Connection"); a != b {
			t.Fatalf("fields\n%q\nnet/http\n%q", a, b)
		}
		compareBodies(t, body, whole, theirs.Body)
	})
}

func responseRoundTrip(t *testing.T, r, again *Response, data []byte, q *Info) {
	out := ResponseOut{Minor: q.Minor, By: "door"}
	out.Body, out.Close = r.ForClient(q.Minor)
	sent := r.AppendTo(nil, data, &out)
	var p Progress
	n, e := again.Parse(sent, &p, q)
	if n != len(sent) {
		t.Fatalf("rewritten %q: %d of %d, %v", sent, n, len(sent), e)
	}
	if again.Code != r.Code || again.Body != r.Body || r.Body != BodyNone && again.Length != r.Length ||
		again.Interim != r.Interim || again.Switched != r.Switched ||
		again.KeepAlive != (r.Body != BodyUntilClose && !r.Switched) {
		t.Fatalf("%q became %q", data, sent)
	}
	if a, b := endToEnd(data, r.Fields()), endToEnd(sent, again.Fields()); a != b {
		t.Fatalf("fields\n%q\nbecame\n%q", a, b)
	}
}

func FuzzChunked(f *testing.F) {
	for _, r := range chunkRows {
		if len(r.raw) < 2000 {
			f.Add([]byte(r.raw), uint8(3))
		}
	}
	f.Add(chunkedBody, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		start := StartBody(BodyChunked, 0, false, false)
		sameInPieces(t, data, decode(start))
		payload, whole := readBody(start, data)
		if !whole {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err != nil && !isExplained(err) {
			t.Fatalf("net/http refuses: %v", err)
		}
		if err == nil && !bytes.Equal(payload, theirs) {
			t.Fatalf("payload %q\nnet/http %q", payload, theirs)
		}
		var sent []byte
		for rest := payload; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			sent = AppendChunk(sent, rest[:n])
			rest = rest[n:]
		}
		sent = append(sent, LastChunk...)
		if again, whole := readBody(start, sent); !whole || !bytes.Equal(again, payload) {
			t.Fatalf("%q became %q", payload, sent)
		}
	})
}

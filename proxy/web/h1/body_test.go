package h1

import (
	"fmt"
	"strings"
	"testing"
)

func chunkedRow(name, raw, want string) row { return row{name, raw, 0, want} }
func badChunk(name, raw string, e Err) row  { return row{name, raw, e, ""} }

var chunkRows = []row{
	// RFC 9112 7.1.
	chunkedRow("empty", "0\r\n\r\n", `"" done`),
	chunkedRow("one", "3\r\nabc\r\n0\r\n\r\n", `"abc" done`),
	chunkedRow("two", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", `"abcde" done`),
	chunkedRow("surplus", "1\r\na\r\n0\r\n\r\nGET /", `"a" done +5`),
	chunkedRow("upper and lower hex", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", `"01234567890123456789" done`),
	chunkedRow("leading zeros", "0003\r\nabc\r\n000\r\n\r\n", `"abc" done`),
	chunkedRow("data like framing", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", `"0\r\n\r\n" done`),
	chunkedRow("unfinished data", "3\r\nab", `"ab" more`),
	chunkedRow("unfinished size", "3", `"" more`),
	chunkedRow("no last chunk", "3\r\nabc\r\n", `"abc" more`),
	chunkedRow("no end", "0\r\n", `"" more`),
	chunkedRow("nothing", "", `"" more`),
	chunkedRow("huge and unfinished", "3fffffffffffffff\r\na", `"a" more`),
	badChunk("size empty", "\r\n", ErrChunkSize),
	badChunk("size missing", "x\r\n", ErrChunkSize),
	badChunk("size negative", "-1\r\n", ErrChunkSize),
	badChunk("size plus", "+3\r\nabc", ErrChunkSize),
	badChunk("size hex prefix", "0x3\r\nabc", ErrChunkSize),
	badChunk("size underscore", "1_0\r\n", ErrChunkSize),
	badChunk("size space before", " 3\r\nabc", ErrChunkSize),
	badChunk("size tab before", "\t3\r\nabc", ErrChunkSize),
	badChunk("size space behind", "3 \r\nabc", ErrChunkExtension),
	badChunk("size tab behind", "3\t\r\nabc", ErrChunkExtension),
	badChunk("size comma", "3,\r\nabc", ErrChunkSize),
	badChunk("size dot", "3.0\r\nabc", ErrChunkSize),
	badChunk("size NUL", "3\x00\r\nabc", ErrChunkSize),
	badChunk("size two words", "3 3\r\nabc", ErrChunkExtension),
	badChunk("size overflow", "4000000000000000\r\n", ErrChunkSize),
	badChunk("size 2^64+3", "10000000000000003\r\nabc", ErrChunkSize),
	badChunk("size ffffffffffffffff", "ffffffffffffffff\r\n", ErrChunkSize),
	badChunk("size 17 zeros", "00000000000000003\r\n", ErrChunkSize),
	badChunk("size bare LF", "3\nabc\r\n0\r\n\r\n", ErrBareLF),
	badChunk("size bare CR", "3\rabc\r\n0\r\n\r\n", ErrBareLF),
	badChunk("size CR CR LF", "3\r\r\nabc", ErrBareLF),
	badChunk("data too long", "3\r\nabcd\r\n0\r\n\r\n", ErrChunkEnd),
	badChunk("data without end", "3\r\nabc0\r\n\r\n", ErrChunkEnd),
	badChunk("data with LF", "3\r\nabc\n0\r\n\r\n", ErrChunkEnd),
	badChunk("data with CR", "3\r\nabc\r0\r\n\r\n", ErrChunkEnd),
	badChunk("data too short", "5\r\nabc\r\n0\r\n\r\n", ErrChunkEnd),

	// Extensions: RFC 9112 7.1.1.
	chunkedRow("extension", "3;a\r\nabc\r\n0\r\n\r\n", `"abc" done`),
	chunkedRow("extension with value", "3;a=b\r\nabc\r\n0;c\r\n\r\n", `"abc" done`),
	chunkedRow("extensions", "3;a=b;c;d=e\r\nabc\r\n0\r\n\r\n", `"abc" done`),
	chunkedRow("extension quoted", "3;a=\"b;\\\"\\\\ c\"\r\nabc\r\n0\r\n\r\n", `"abc" done`),
	chunkedRow("extension with space", "3 ; a = b\t;\tc\r\nabc\r\n0\r\n\r\n", `"abc" done`),
	badChunk("extension empty", "3;\r\nabc", ErrChunkExtension),
	badChunk("extension empty name", "3;=b\r\nabc", ErrChunkExtension),
	badChunk("extension empty value", "3;a=\r\nabc", ErrChunkExtension),
	badChunk("extension space at end", "3;a \r\nabc", ErrChunkExtension),
	badChunk("extension two names", "3;a b\r\nabc", ErrChunkExtension),
	badChunk("extension two values", "3;a=b=c\r\nabc", ErrChunkExtension),
	badChunk("extension bad name", "3;a[]\r\nabc", ErrChunkExtension),
	badChunk("extension NUL", "3;a\x00\r\nabc", ErrChunkExtension),
	badChunk("extension control", "3;a=\x01\r\nabc", ErrChunkExtension),
	badChunk("extension bare LF", "3;a\nabc", ErrBareLF),
	badChunk("extension bare LF behind ;", "3;\nabc", ErrChunkExtension),
	badChunk("extension bare CR", "3;a\rb\r\nabc", ErrBareLF),
	badChunk("extension LF in quotes", "3;a=\"\n\"\r\nabc", ErrChunkExtension),
	badChunk("extension CRLF in quotes", "3;a=\"\r\n\"\r\nabc", ErrChunkExtension),
	badChunk("extension NUL escaped", "3;a=\"\\\x00\"\r\nabc", ErrChunkExtension),
	badChunk("extension behind quotes", "3;a=\"b\"c\r\nabc", ErrChunkExtension),
	badChunk("extension not ASCII", "3;\xc3\xa9\r\nabc", ErrChunkExtension),
	badChunk("extension too long", "3;"+strings.Repeat("a", 600)+"\r\nabc", ErrChunkLong),
	badChunk("extension endless", "3;"+strings.Repeat("a", 600), ErrChunkLong),

	// Trailers: RFC 9112 7.1.2.
	chunkedRow("trailer", "0\r\nA: b\r\n\r\n", `"" done`),
	chunkedRow("trailers and surplus", "1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\nx", `"a" done +1`),
	chunkedRow("framing trailer is dropped", "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n", `"" done`),
	chunkedRow("unfinished trailer", "0\r\nA: b\r\n", `"" more`),
	badChunk("trailer bare LF", "0\r\nA: b\n\r\n", ErrBareLF),
	badChunk("trailer bare LF end", "0\r\n\n", ErrBareLF),
	badChunk("trailer bare CR", "0\r\nA: b\rc\r\n\r\n", ErrBareLF),
	badChunk("trailer CR end", "0\r\n\rX", ErrBareLF),
	badChunk("trailer NUL", "0\r\nA: \x00\r\n\r\n", ErrTrailer),
	badChunk("trailer no colon", "0\r\nA\r\n\r\n", ErrTrailer),
	badChunk("trailer no name", "0\r\n: b\r\n\r\n", ErrTrailer),
	badChunk("trailer space before colon", "0\r\nA : b\r\n\r\n", ErrTrailer),
	badChunk("trailer fold", "0\r\nA: b\r\n c\r\n\r\n", ErrTrailer),
	badChunk("trailer is a request", "0\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", ErrTrailer),
	badChunk("trailers too long", "0\r\n"+strings.Repeat("A: b\r\n", 1500)+"\r\n", ErrTrailerLong),
	badChunk("trailer endless", "0\r\nA: "+strings.Repeat("b", 9000), ErrTrailerLong),
}

// decode feeds a body the bytes that every prefix adds, which is how an engine has them: consumed ones gone.
func decode(b Body) func([]string) string {
	return func(prefixes []string) string {
		b := b
		var payload strings.Builder
		at, used := 0, 0
		for _, s := range prefixes {
			in := []byte(s[at:])
			for len(in) > 0 && !b.Done() {
				data, n, e := b.Next(in)
				if e != ErrNone {
					return refusal(e)
				}
				payload.Write(data)
				used += n
				in = in[n:]
			}
			at = len(s)
		}
		state := "more"
		if b.Done() {
			state = "done"
		}
		if (b.AtEOF() == ErrNone) != (b.Done() || b.state == bodyUntilClose) {
			return "AtEOF disagrees"
		}
		return fmt.Sprintf("%q %s", payload.String(), state) + surplus(prefixes[len(prefixes)-1][used:])
	}
}

func TestBody_RowsHaveOneOutcomeHoweverTheyAreCut(t *testing.T) {
	for _, r := range chunkRows {
		checkRow(t, r, decode(StartBody(BodyChunked, 0, false, false)))
	}
	checkRow(t, row{"length", "abcde", 0, `"abc" done +2`}, decode(StartBody(BodyLength, 3, false, false)))
	checkRow(t, row{"length unfinished", "ab", 0, `"ab" more`}, decode(StartBody(BodyLength, 3, false, false)))
	checkRow(t, row{"none", "ab", 0, `"" done +2`}, decode(StartBody(BodyNone, 0, false, false)))
	checkRow(t, row{"until close", "ab", 0, `"ab" more`}, decode(StartBody(BodyUntilClose, 0, true, false)))
	for c := range 256 {
		r := row{fmt.Sprintf("extension byte %#02x", c), "1;a" + string([]byte{byte(c)}) + "b\r\nx\r\n0\r\n\r\n", ErrChunkExtension, `"x" done`}
		switch {
		case class[c]&isToken != 0, c == ';', c == '=':
			r.err = 0
		case c == '\r', c == '\n':
			r.err = ErrBareLF
		}
		checkRow(t, r, decode(StartBody(BodyChunked, 0, false, false)))
	}
}

func TestBody_ServerMistakesAre502AndCutsAreToldFromEnds(t *testing.T) {
	b := StartBody(BodyChunked, 0, true, false)
	if _, _, e := b.Next([]byte("x")); e.Status() != 502 || e.Reason() != ErrChunkSize.Reason() {
		t.Errorf("bad chunk of a server: %v", e)
	}
	b = StartBody(BodyLength, 3, true, false)
	b.Next([]byte("ab"))
	if e := b.AtEOF(); e.Status() != 502 || b.Left() != 1 {
		t.Errorf("cut: %v, %d left", e, b.Left())
	}
	b.Skip(1)
	if e := b.AtEOF(); e != ErrNone || !b.Done() {
		t.Errorf("whole after Skip: %v", e)
	}
}

func TestTrailer_PassesOnWhatIsAllowed(t *testing.T) {
	b := StartBody(BodyChunked, 0, true, true)
	in := []byte("1\r\na\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 9\r\ntransfer-encoding:chunked\r\nHost: h\r\nSet-Cookie: a\r\nX:y\r\n\r\nnext")
	for !b.AtTrailer() {
		_, n, e := b.Next(in)
		if e != ErrNone {
			t.Fatal(e)
		}
		in = in[n:]
	}
	trailer := NewTrailer(Limits{Head: 1024})
	var p Progress
	n := 0
	for i := 1; n == 0; i++ {
		var e Err
		if n, e = trailer.Parse(in[:i], &p, true); e != ErrNone {
			t.Fatal(e)
		}
	}
	b.EndTrailer()
	if got, want := string(trailer.AppendTo(nil, in)), "0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n"; got != want || !b.Done() {
		t.Errorf("got %q want %q", got, want)
	}
	if string(in[n:]) != "next" {
		t.Errorf("surplus %q", in[n:])
	}
	p = Progress{}
	if n, e := trailer.Parse([]byte("\r\n"), &p, false); n != 2 || e != ErrNone || string(trailer.AppendTo(nil, nil)) != LastChunk {
		t.Errorf("no trailers: %d %v", n, e)
	}
	if _, e := trailer.Parse([]byte("A: "+strings.Repeat("b", 2000)), &p, false); e != ErrTrailerLong {
		t.Errorf("long: %v", e)
	}
}

func TestAppendChunk_IsReadBack(t *testing.T) {
	for _, n := range []int{1, 9, 10, 15, 16, 255, 256, 65535} {
		data := strings.Repeat("x", n)
		raw := append(AppendChunk(nil, []byte(data)), LastChunk...)
		if got := decode(StartBody(BodyChunked, 0, false, false))([]string{string(raw)}); got != fmt.Sprintf("%q done", data) {
			t.Errorf("%d bytes: %.80s", n, got)
		}
	}
	if got := string(AppendChunkSize(nil, 1<<64-1)); len(got) != MaxChunkSize || len(AppendChunk(nil, nil)) != 0 {
		t.Errorf("largest %q", got)
	}
}

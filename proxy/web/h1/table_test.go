package h1

import (
	"fmt"
	"strings"
	"testing"
)

// row is a message and what must come of it: an Err, or the outcome as describe… prints it.
type row struct {
	name, raw string
	err       Err
	want      string
}

// more is the outcome of a head that is not complete.
const more = "more"

// checkRow runs one row whole, byte by byte, and split at every position. parse is given growing prefixes and
// says what came of it.
func checkRow(t *testing.T, r row, parse func(prefixes []string) string) {
	t.Helper()
	want := r.want
	if r.err != ErrNone {
		want = fmt.Sprintf("%d %s", r.err.Status(), r.err.Reason())
	}
	if got := parse([]string{r.raw}); got != want {
		t.Errorf("%s: %.200q\n got %s\nwant %s", r.name, r.raw, got, want)
		return
	}
	grow := []string{""}
	for i := range r.raw {
		grow = append(grow, r.raw[:i+1])
	}
	if got := parse(grow); got != want {
		t.Errorf("%s byte by byte: %.200q\n got %s\nwant %s", r.name, r.raw, got, want)
	}
	step := 1 + len(r.raw)/512
	for i := 1; i < len(r.raw); i += step {
		if got := parse([]string{r.raw[:i], r.raw}); got != want {
			t.Errorf("%s split at %d: %.200q\n got %s\nwant %s", r.name, i, r.raw, got, want)
			return
		}
	}
}

func refusal(e Err) string { return fmt.Sprintf("%d %s", e.Status(), e.Reason()) }

func parseRequest(r *Request) func([]string) string {
	return func(prefixes []string) string {
		var p Progress
		for _, s := range prefixes {
			buf := []byte(s)
			n, e := r.Parse(buf, &p)
			if e != ErrNone {
				return refusal(e)
			}
			if n > 0 {
				if p != (Progress{}) {
					return "progress left behind"
				}
				return describeRequest(r, buf) + surplus(prefixes[len(prefixes)-1][n:])
			}
			// Another connection's head goes through the same table between two reads.
			var q Progress
			if n, e := r.Parse([]byte("POST /other HTTP/1.1\r\nHost: other\r\nContent-Length: 9\r\nA: b\r\n\r\n"), &q); n == 0 || e != 0 {
				return "the other head failed"
			}
		}
		return more
	}
}

func surplus(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(" +%d", len(s))
}

func describeRequest(r *Request, buf []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s 1.%d", r.MethodName.In(buf), r.Target.In(buf), r.Minor)
	if r.absolute || r.Asterisk {
		fmt.Fprintf(&b, " path=%s", r.Path.In(buf))
	}
	fmt.Fprintf(&b, " host=%s", r.AppendHost(nil, buf))
	if r.Port >= 0 {
		fmt.Fprintf(&b, ":%d", r.Port)
	}
	describeBody(&b, r.Body, r.Length)
	flag := func(yes bool, s string) {
		if yes {
			b.WriteString(" " + s)
		}
	}
	flag(!r.KeepAlive, "close")
	flag(r.Expect, "expect")
	flag(r.Upgrade.Wanted(), "upgrade="+string(r.Upgrade.AppendTo(nil)))
	flag(r.MaxForwards >= 0, fmt.Sprintf("hops=%d", r.MaxForwards))
	flag(r.HTTPS, "https")
	for _, f := range r.Fields() {
		if f.id == idOther {
			fmt.Fprintf(&b, " {%s:%s}", f.Name.In(buf), f.Value.In(buf))
			if f.flags&named != 0 {
				b.WriteString("dropped")
			}
		}
	}
	return b.String()
}

func describeBody(b *strings.Builder, f Framing, length int64) {
	switch f {
	case BodyLength:
		fmt.Fprintf(b, " len=%d", length)
	case BodyChunked:
		b.WriteString(" chunked")
	case BodyUntilClose:
		b.WriteString(" untilclose")
	}
}

func parseResponse(r *Response, q *Info) func([]string) string {
	return func(prefixes []string) string {
		var p Progress
		for _, s := range prefixes {
			buf := []byte(s)
			n, e := r.Parse(buf, &p, q)
			if e != ErrNone {
				if e.Status() != 502 {
					return "not 502"
				}
				return refusal(e &^ errServer)
			}
			if n > 0 {
				return describeResponse(r, buf) + surplus(prefixes[len(prefixes)-1][n:])
			}
			var o Progress
			if n, e := r.Parse([]byte("HTTP/1.0 404 No\r\nA: b\r\n\r\n"), &o, &Info{}); n == 0 || e != 0 {
				return "the other head failed"
			}
		}
		return more
	}
}

func describeResponse(r *Response, buf []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d 1.%d %q", r.Code, r.Minor, r.Reason.In(buf))
	describeBody(&b, r.Body, r.Length)
	if !r.KeepAlive {
		b.WriteString(" close")
	}
	if r.Interim {
		b.WriteString(" interim")
	}
	if r.Switched {
		b.WriteString(" switched")
	}
	for _, f := range r.Fields() {
		if f.id == idOther {
			fmt.Fprintf(&b, " {%s:%s}", f.Name.In(buf), f.Value.In(buf))
		}
	}
	return b.String()
}

package e2e

import (
	"fmt"
	"slices"
	"strings"
)

// message is a head that was received: the start line and the field lines as they came.
type message struct {
	start  string
	fields []field
	raw    string
}

type field struct{ name, value string }

func parseMessage(raw string) (m message) {
	m.raw = raw
	lines := strings.Split(strings.TrimSuffix(raw, "\r\n\r\n"), "\r\n")
	m.start = lines[0]
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		m.fields = append(m.fields, field{name, strings.Trim(value, " \t")})
	}
	return m
}

// get is the value of the only field of that name.
func (m *message) get(name string) (string, bool) {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

func (m *message) all(name string) (values []string) {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

// options are the connection options, lower case.
func (m *message) options() (all []string) {
	for _, v := range m.all("connection") {
		for o := range strings.SplitSeq(v, ",") {
			all = append(all, strings.ToLower(strings.TrimSpace(o)))
		}
	}
	return all
}

// What a door adds by itself, which the tables do not repeat in every row.
var (
	addedToRequests  = []string{"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded", "x-request-id", "x-real-ip", "connection"}
	addedToResponses = []string{"via", "date", "x-request-id", "connection", "server", "keep-alive"}
	// Those of which the place among the others has no meaning come last, in this order.
	placed = []string{"Expect", "TE", "Max-Forwards", "Trailer", "Upgrade", "Transfer-Encoding", "Content-Length"}
)

// canon is the head in the form of the tables: Host first, then the others as they came, then those that are placed.
func (m *message) canon(without, keep []string) string {
	var host, rest strings.Builder
	last := make([]string, len(placed))
	for _, f := range m.fields {
		name := strings.ToLower(f.name)
		if slices.Contains(without, name) && !slices.ContainsFunc(keep, func(k string) bool { return strings.EqualFold(k, name) }) {
			continue
		}
		if i := slices.IndexFunc(placed, func(p string) bool { return strings.EqualFold(p, name) }); i >= 0 {
			last[i] += placed[i] + ": " + f.value + "¶"
			continue
		}
		if name == "host" {
			fmt.Fprintf(&host, "Host: %s¶", f.value)
			continue
		}
		fmt.Fprintf(&rest, "%s: %s¶", f.name, f.value)
	}
	return m.start + "¶" + host.String() + rest.String() + strings.Join(last, "") + "¶"
}

// faults are what no head of a door may have, whatever it was asked.
func (m *message) faults() (all []string) {
	bad := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	body := strings.TrimSuffix(m.raw, "\r\n\r\n")
	for l := range strings.SplitSeq(body, "\r\n") {
		if strings.ContainsAny(l, "\r\n\x00") {
			bad("a bare CR, LF or NUL")
		}
	}
	for _, f := range m.fields {
		if f.name == "" || strings.ContainsAny(f.name, " \t\"(),/;<=>?@[]{}\\") {
			bad("field name %q", f.name)
		}
	}
	lengths, codings := m.all("content-length"), m.all("transfer-encoding")
	if len(lengths) > 1 || len(codings) > 1 || len(lengths)+len(codings) > 1 {
		bad("framing twice: %q %q", lengths, codings)
	}
	for _, hop := range []string{"keep-alive", "proxy-connection", "http2-settings", "proxy-authorization", "proxy-authenticate"} {
		if v, ok := m.get(hop); ok {
			bad("%s: %s", hop, v)
		}
	}
	up, hasUp := m.get("upgrade")
	if slices.Contains(m.options(), "upgrade") != hasUp {
		bad("Connection %q with Upgrade %q", m.options(), up)
	}
	return all
}

func (m *message) faultsOfRequest() []string {
	all := m.faults()
	if !strings.HasSuffix(m.start, " HTTP/1.1") || strings.Count(m.start, " ") != 2 {
		all = append(all, "start line")
	}
	if n := len(m.all("host")); n != 1 {
		all = append(all, fmt.Sprintf("%d Host", n))
	}
	for _, o := range m.options() {
		if !slices.Contains([]string{"close", "keep-alive", "upgrade", "te"}, o) {
			all = append(all, "connection option "+o)
		}
	}
	for name, want := range map[string]int{"via": 1, "x-forwarded-for": 1, "x-forwarded-proto": 1, "forwarded": 1} {
		if n := len(m.all(name)); n < want || name != "via" && n > want {
			all = append(all, fmt.Sprintf("%d × %s", n, name))
		}
	}
	return all
}

func (m *message) faultsOfResponse() []string {
	all := m.faults()
	if len(m.start) < 13 || !strings.HasPrefix(m.start, "HTTP/1.1 ") || m.start[12] != ' ' {
		return append(all, "status line")
	}
	code := m.start[9:12]
	_, length := m.get("content-length")
	_, coding := m.get("transfer-encoding")
	if (code[0] == '1' || code == "204") && (length || coding) {
		all = append(all, "framing in "+code)
	}
	if code[0] != '1' {
		if len(m.all("date")) != 1 {
			all = append(all, fmt.Sprintf("%d Date", len(m.all("date"))))
		}
	}
	return all
}

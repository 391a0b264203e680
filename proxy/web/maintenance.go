package web

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// form is what a page of the door's looks like.
type form uint8

const (
	formText form = iota
	formHTML
	formJSON
)

// accepts reads which form a client wants: the first of HTML and JSON that its Accept names; neither, and it does not
// care.
func (w *worker) accepts(buf []byte) form {
	v, ok := w.request.Get(buf, "accept")
	if !ok {
		return formText
	}
	html, json := bytes.Index(v, []byte("text/html")), bytes.Index(v, []byte("json"))
	switch {
	case json >= 0 && (html < 0 || json < html):
		return formJSON
	case html >= 0:
		return formHTML
	}
	return formText
}

// bypass is the field that shows a token of those who pass a maintenance; cookieBypass is the cookie that does.
const (
	bypass       = "x-turnout-bypass"
	cookieBypass = "turnout_bypass"
	cookieKnown  = "turnout_known"
)

// way is how Claimer.Start finds the service of the request's claim.
func (c *client) way() int {
	if c.flags&past != 0 {
		return proxy.BehindServer
	}
	return proxy.ByServer
}

// passes tells whether a request goes on in spite of its service's maintenance: operators by token or address; in a
// soft maintenance also clients that were there before it: on their old connection, or with a cookie that says so.
func (w *worker) passes(svc *proxy.Service, c *client, buf []byte) bool {
	m := &svc.Spec.Maintenance
	if w.operates(m, c, buf) {
		return true
	}
	if !svc.Maintenance.Soft {
		return false
	}
	if loop.Wall(c.arrived).Before(svc.Maintenance.Since) {
		return true
	}
	if m.KnownKey == "" {
		return false
	}
	until, ok := knownUntil(w.cookie(buf, cookieKnown), m.KnownKey)
	return ok && time.Now().Before(until)
}

// operates tells whether a request is of an operator, by token or address.
func (w *worker) operates(m *proxy.MaintenanceSpec, c *client, buf []byte) bool {
	if m.Token != "" {
		if v, ok := w.request.Get(buf, bypass); ok && same(v, m.Token) {
			return true
		}
		if v := w.cookie(buf, cookieBypass); v != nil && same(v, m.Token) {
			return true
		}
	}
	if len(m.Addresses) > 0 {
		ip := c.peer.IP().Unmap().WithZone("")
		for _, p := range m.Addresses {
			if p.Contains(ip) {
				return true
			}
		}
	}
	return false
}

func same(a []byte, b string) bool { return subtle.ConstantTimeCompare(a, []byte(b)) == 1 }

// cookie finds a cookie by name, in whichever line it is; nil: there is none.
func (w *worker) cookie(buf []byte, name string) []byte {
	for i := range w.request.Fields() {
		f := &w.request.Fields()[i]
		if f.Name.Len() != len("cookie") || !bytes.EqualFold(f.Name.In(buf), []byte("cookie")) {
			continue
		}
		for rest := f.Value.In(buf); len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte(";"))
			pair = bytes.TrimLeft(pair, " ")
			if k, v, ok := bytes.Cut(pair, []byte("=")); ok && string(k) == name {
				return v
			}
		}
	}
	return nil
}

// A known client's cookie is until when it is known (seconds, big endian) and an HMAC-SHA256 of that, in base64url.

const knownLen = 8 + sha256.Size

func sign(key string, at time.Time) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))
	h := hmac.New(sha256.New, []byte(key))
	h.Write(b)
	return h.Sum(b)
}

// knownUntil reads a cookie; false: it is not ours.
func knownUntil(cookie []byte, key string) (until time.Time, ok bool) {
	var b [knownLen]byte
	if base64.RawURLEncoding.DecodedLen(len(cookie)) != knownLen {
		return until, false
	}
	if n, err := base64.RawURLEncoding.Decode(b[:], cookie); err != nil || n != knownLen {
		return until, false
	}
	until = time.Unix(int64(binary.BigEndian.Uint64(b[:])), 0)
	return until, hmac.Equal(b[:], sign(key, until))
}

// stranger tells whether a request's client is to be made known: it has shown no cookie that is good for at least half
// of its time.
func (w *worker) stranger(m *proxy.MaintenanceSpec, buf []byte) bool {
	if m.KnownKey == "" {
		return false
	}
	until, ok := knownUntil(w.cookie(buf, cookieKnown), m.KnownKey)
	return !ok || time.Now().Add(m.KnownFor/2).After(until)
}

// introduction is the line that makes a client known.
func introduction(m *proxy.MaintenanceSpec) []byte {
	b := []byte("Set-Cookie: " + cookieKnown + "=")
	b = base64.RawURLEncoding.AppendEncode(b, sign(m.KnownKey, time.Now().Add(m.KnownFor)))
	b = append(b, "; Path=/; HttpOnly; SameSite=Lax; Max-Age="...)
	b = strconv.AppendInt(b, int64(m.KnownFor/time.Second), 10)
	return append(b, "\r\n"...)
}

// turnAway answers a request of a service in maintenance, or one that would write to a service that is read-only.
func (w *worker) turnAway(slot uint32, c *client, svc *proxy.Service) {
	m := &svc.Spec.Maintenance
	if !c.body.Done() {
		c.flags |= closing
	}
	why := notice{status: m.Status, reason: "maintenance", title: "Maintenance", heading: "Down for maintenance", text: "This service is being worked on.", page: m.Page}
	switch {
	case svc.Maintenance != nil && c.flags&past == 0:
		why.until, why.message = svc.Maintenance.Until, svc.Maintenance.Message
	default:
		why = notice{status: 503, reason: "read-only", title: "Read only", heading: "Read only for the moment", text: "Nothing was changed.", until: svc.ReadOnly.Until, message: svc.ReadOnly.Message}
	}
	retry := m.RetryAfter
	if !why.until.IsZero() {
		retry = max(time.Until(why.until), time.Second)
	}
	page, kind := w.page(&why, c.accepts, seconds(retry))
	out := w.beginPage(why.status)
	out = append(out, "\r\nX-Turnout-Reason: "...)
	out = append(out, why.reason...)
	out = append(out, "\r\nRetry-After: "...)
	out = strconv.AppendInt(out, seconds(retry), 10)
	out = append(out, "\r\nCache-Control: no-store\r\nVary: Accept"...)
	w.finishPage(slot, c, why.status, out, kind, page)
}

// notice is what a client that is turned away is told.
type notice struct {
	status               int
	reason               string // for X-Turnout-Reason and JSON
	title, heading, text string // of the door's own HTML
	page                 string // HTML in their place; "": there is none
	until                time.Time
	message              string // of the operator, for the public
}

const untilLayout = "15:04 MST on 2 January 2006"

// page is what a client sees, in the reply buffer. A page of the operator's is also for clients that do not care.
func (w *worker) page(why *notice, as form, retry int64) (page []byte, kind string) {
	b := w.reply[:0]
	switch {
	case as == formJSON:
		b = append(b, `{"status":`...)
		b = strconv.AppendInt(b, int64(why.status), 10)
		b = append(b, `,"reason":"`...)
		b = append(b, why.reason...)
		b = append(b, `","retry_after":`...)
		b = strconv.AppendInt(b, retry, 10)
		if !why.until.IsZero() {
			b = append(b, `,"until":"`...)
			b = why.until.UTC().AppendFormat(b, time.RFC3339)
			b = append(b, '"')
		}
		if why.message != "" {
			b = append(b, `,"message":"`...)
			b = appendJSON(b, why.message)
			b = append(b, '"')
		}
		return append(b, "}\n"...), "application/json"
	case why.page != "":
		return w.fill(b, why), "text/html; charset=utf-8"
	case as == formHTML:
		return why.appendHTML(b), "text/html; charset=utf-8"
	}
	b = strconv.AppendInt(b, int64(why.status), 10)
	b = append(b, ' ')
	b = append(b, why.reason...)
	b = append(b, ": "...)
	if why.message != "" {
		b = append(b, why.message...)
		b = append(b, "; "...)
	}
	b = append(b, "try again "...)
	b = why.appendWhen(b)
	return append(b, '\n'), "text/plain; charset=utf-8"
}

// appendWhen says when to come again.
func (why *notice) appendWhen(b []byte) []byte {
	if why.until.IsZero() {
		return append(b, "later"...)
	}
	b = append(b, "after "...)
	return why.until.UTC().AppendFormat(b, untilLayout)
}

func (why *notice) appendHTML(b []byte) []byte {
	b = append(b, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>"...)
	b = append(b, why.title...)
	b = append(b, "</title>\n<body style=\"font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto; padding: 0 1rem\"><h1>"...)
	b = append(b, why.heading...)
	b = append(b, "</h1>\n<p>"...)
	if why.message != "" {
		b = appendEscaped(b, why.message)
		b = append(b, "</p>\n<p>"...)
	}
	b = append(b, why.text...)
	b = append(b, " Please try again "...)
	b = why.appendWhen(b)
	return append(b, ".</p></body></html>\n"...)
}

// Places of a page of the operator's that are filled in.
const (
	placeUntil   = "{{until}}"
	placeMessage = "{{message}}"
)

// fill writes an operator's page with what it wants to be told. What would not fit is left out: config bounds the page, but
// not how often it asks.
func (w *worker) fill(b []byte, why *notice) []byte {
	rest := why.page
	for {
		i := strings.Index(rest, "{{")
		if i < 0 {
			return append(b, rest...)
		}
		b = append(b, rest[:i]...)
		rest = rest[i:]
		room := len(b)+len(rest)+maxFilled <= maxPage
		switch {
		case strings.HasPrefix(rest, placeUntil):
			if rest = rest[len(placeUntil):]; room && !why.until.IsZero() {
				b = why.until.UTC().AppendFormat(b, untilLayout)
			}
		case strings.HasPrefix(rest, placeMessage):
			if rest = rest[len(placeMessage):]; room {
				b = appendEscaped(b, why.message)
			}
		default:
			b, rest = append(b, '{'), rest[1:]
		}
	}
}

// maxPage is what a page may come to: with its head it fits into one block of a loop.
const maxPage = 60 << 10

// maxFilled is what one place of a page becomes at most: a message all of whose bytes are escaped.
const maxFilled = proxy.MaxMessage * len("&#34;")

// appendEscaped writes text into HTML.
func appendEscaped(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; c {
		case '&':
			b = append(b, "&amp;"...)
		case '<':
			b = append(b, "&lt;"...)
		case '>':
			b = append(b, "&gt;"...)
		case '"':
			b = append(b, "&#34;"...)
		case '\'':
			b = append(b, "&#39;"...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendJSON writes text into a string of JSON. It is one line of valid UTF-8, as whoever takes it in sees to.
func appendJSON(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return b
}

package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strconv"

	"github.com/turnout-proxy/turnout/proxy"
)

// Names of what a preview says and what a split remembers a client by.
const (
	PoolField   = "x-turnout-pool"
	TokenField  = "x-turnout-token"
	splitCookie = "turnout_split"
)

// Token entitles the door itself to previews of any service, for as long as this process lives.
type Token struct {
	Text string
	hash [32]byte
}

func newToken() Token {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	text := hex.EncodeToString(b[:])
	return Token{text, sha256.Sum256([]byte(text))}
}

// wishes reads out of a request's head, which was just parsed, where it is to be led. False: it is a preview of a place
// that does not exist.
func (w *worker) wishes(c *client, snap *proxy.Snapshot, svc *proxy.Service, buf []byte) bool {
	c.wish = proxy.Wish{}
	spec := svc.Spec
	if spec.Preview != nil || w.request.ToDoor() {
		if place, entitled := w.preview(c, snap, svc, buf); entitled {
			var known bool
			c.wish, known = svc.Preview(place)
			return known
		}
	}
	if spec.Sticky != nil {
		if id, err := strconv.ParseUint(string(w.request.Cookie(buf, spec.Sticky.Cookie)), 16, 64); err == nil {
			c.wish = proxy.Session(id)
		}
	}
	if svc.Split != nil {
		if n, err := strconv.ParseUint(string(w.request.Cookie(buf, splitCookie)), 10, 16); err == nil && n > 0 && n <= uint64(proxy.Whole) {
			c.wish.Place = uint16(n)
		}
	}
	return true
}

// preview finds the place that a request names, and whether it is entitled to it. A wrong token, or none, makes it a
// request like any other.
func (w *worker) preview(c *client, snap *proxy.Snapshot, svc *proxy.Service, buf []byte) (place string, entitled bool) {
	p := svc.Spec.Preview
	if p != nil && snap.Previews(int(c.listener)) {
		if p.Header != "" {
			if b, ok := w.request.Get(buf, p.Header); ok {
				return string(b), true
			}
		}
		if pool := svc.PreviewPool(); pool != nil {
			return pool.Name, true
		}
		return svc.Active.Name, true
	}
	if w.request.ToDoor() {
		if token, ok := w.request.Get(buf, TokenField); ok && entitles(token, &w.plane.token.hash) {
			b, _ := w.request.Get(buf, PoolField)
			return string(b), true
		}
	}
	if p == nil {
		return "", false
	}
	if p.Header != "" {
		if b, ok := w.request.Get(buf, p.Header); ok {
			token, _ := w.request.Get(buf, p.TokenHeader)
			return string(b), entitles(token, &p.TokenHash)
		}
	}
	if p.Cookie != "" {
		value := w.request.Cookie(buf, p.Cookie)
		for i, b := range value {
			if b == ':' {
				return string(value[:i]), entitles(value[i+1:], &p.TokenHash)
			}
		}
	}
	return "", false
}

// entitles compares without telling by its time how much of the token is right.
func entitles(token []byte, hash *[32]byte) bool {
	sum := sha256.Sum256(token)
	return subtle.ConstantTimeCompare(sum[:], hash[:]) == 1
}

// hide keeps from the server what is between the client and the door. It returns what goes to the server instead.
func (w *worker) hide(svc *proxy.Service, buf []byte) []byte {
	if svc == nil {
		return nil
	}
	preview, pass := "", ""
	if p := svc.Spec.Preview; p != nil {
		if p.Header != "" {
			w.request.Hide(buf, p.Header)
			w.request.Hide(buf, p.TokenHeader)
		}
		preview = p.Cookie
	}
	if svc.Spec.Maintenance.Token != "" { // its field is X-Turnout-…, none of which are sent on
		pass = cookieBypass
	}
	if w.request.Cookie(buf, preview) == nil && w.request.Cookie(buf, pass) == nil {
		return nil
	}
	w.extra = w.request.AppendCookiesBut(w.extra[:0], buf, preview, pass)
	return w.extra
}

// gifts are the lines that the head of a server's answer gets: the cookies that the client is to be known by, and for a
// preview who answered.
func (w *worker) gifts(c *client, t *target) []byte {
	svc, srv := t.service, t.server
	if c.wish.Only() {
		b := append(w.extra[:0], "X-Turnout-Pool: "...)
		b = append(b, srv.Pool...)
		b = append(b, "\r\nX-Turnout-Server: "...)
		b = append(b, srv.Name...)
		w.extra = append(b, "\r\n"...)
		return w.extra
	}
	if svc == nil || svc.Split == nil && svc.Spec.Sticky == nil {
		return nil
	}
	b := w.extra[:0]
	if s := svc.Spec.Sticky; s != nil && !c.wish.On(srv) {
		b = appendCookie(b, s.Cookie)
		b = strconv.AppendUint(b, srv.ID(), 16)
		b = endCookie(b, c)
	}
	if c.wish.Place == 0 && svc.Spec.Balance != proxy.SourceHash {
		if place := w.claims.SharePlace(svc, srv); place > 0 {
			b = appendCookie(b, splitCookie)
			b = strconv.AppendUint(b, uint64(place), 10)
			b = endCookie(b, c)
		}
	}
	w.extra = b
	return b
}

func appendCookie(b []byte, name string) []byte {
	b = append(b, "Set-Cookie: "...)
	b = append(b, name...)
	return append(b, '=')
}

// endCookie: a session cookie, which scripts need not see. RFC 6265 4.1.2.
func endCookie(b []byte, c *client) []byte {
	b = append(b, "; Path=/; HttpOnly; SameSite=Lax"...)
	if c.flags&overTLS != 0 {
		b = append(b, "; Secure"...)
	}
	return append(b, "\r\n"...)
}

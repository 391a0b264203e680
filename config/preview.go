package config

import (
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

type previewKeys struct {
	header, tokenHeader, cookie value[string]
	token                       value[secret]
	listen                      value[proxy.ListenSpec]
	pool                        value[string]
}

const tokenPattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"

// httpToken is a token of RFC 9110 5.6.2.
func httpToken(what string) shape[string] {
	want := what + " of letters, digits and !#$%&'*+-.^_`|~"
	return text(want, object{"pattern": tokenPattern}, func(s string) (string, string) {
		for _, c := range []byte(s) {
			if !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) && !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
				return "", "want " + want
			}
		}
		return s, ""
	})
}

var previewShape = keysOf(
	key("header", "Field by which a request names the pool, or POOL/SERVER, that it is to be led to.",
		httpToken("a field name").or("X-Turnout-Pool"), func(p *previewKeys) *value[string] { return &p.header }),
	key("token_header", "Field that has the token.",
		httpToken("a field name").or("X-Turnout-Token"), func(p *previewKeys) *value[string] { return &p.tokenHeader }),
	key("token", "Entitles to previews by header and cookie. Write it as ${NAME} or file:PATH. Without it there are none by them.",
		secretText(wantSecret), func(p *previewKeys) *value[secret] { return &p.token }),
	key("cookie", "Cookie with POOL:TOKEN, for browsers. Without it there is none.",
		httpToken("a cookie name"), func(p *previewKeys) *value[string] { return &p.cookie }),
	key("listen", "A listener of its own, all of whose requests are previews: whoever reaches it needs no token.",
		listenShape, func(p *previewKeys) *value[proxy.ListenSpec] { return &p.listen }),
	key("pool", "Where the requests of that listener are led. Default: the first pool that is not active.",
		name(), func(p *previewKeys) *value[string] { return &p.pool }),
)

type stickyKeys struct{ cookie value[string] }

var stickyShape = keysOf(
	key("cookie", "Name of the cookie that keeps a client on its server.",
		httpToken("a cookie name"), func(s *stickyKeys) *value[string] { return &s.cookie }).mustBe(),
)

// preview checks services.*.preview and sticky.
func (c *checker) preview(k *serviceKeys, spec *proxy.ServiceSpec, pools []string) {
	if k.mode.v != proxy.HTTP && !k.mode.bad {
		for _, at := range []place{k.preview.place, k.sticky.place, k.drain.v.bySession.place} {
			if at.line > 0 {
				c.refuse(at, "", "of no use in mode tcp; want mode: http in this service, or no such key")
			}
		}
		return
	}
	if k.sticky.written && !k.sticky.bad {
		spec.Sticky = &proxy.StickySpec{Cookie: k.sticky.v.cookie.v}
	}
	if by := &k.drain.v.bySession; by.v && !k.sticky.written {
		c.refuse(by.place, by.raw, "of no use without sticky, which tells whose requests belong together; want sticky: {cookie: NAME} in this service")
	} else if by.v && k.exclusive.v {
		c.refuse(by.place, by.raw, "the service is exclusive: sessions that stay would be on two pools at once with the new clients")
	}
	p := &k.preview.v
	if !k.preview.written || k.preview.bad {
		return
	}
	if k.exclusive.v {
		c.refuse(k.preview.place, "", "the service is exclusive: a preview would give clients to two pools at once")
		return
	}
	if p.pool.written && !p.pool.bad && len(pools) > 0 {
		if !p.listen.written {
			c.refuse(p.pool.place, p.pool.raw, "of no use without preview.listen: header and cookie name the pool themselves")
		}
		if !slices.Contains(pools, p.pool.v) {
			c.unknown(p.pool, "no such pool in this service", pools)
		}
	}
	out := &proxy.PreviewSpec{Pool: p.pool.v}
	switch {
	case p.token.written:
		out.Header, out.TokenHeader, out.Cookie = strings.ToLower(p.header.v), strings.ToLower(p.tokenHeader.v), p.cookie.v
		out.TokenHash = sha256.Sum256([]byte(p.token.v.text))
		if out.Header == out.TokenHeader && !p.header.bad {
			c.refuse(p.header.place, p.header.raw, "header and token_header are the same; want two fields")
		}
	case p.cookie.written || p.header.written || p.tokenHeader.written:
		c.refuse(k.preview.place, "", "there is no token, without which header and cookie entitle to nothing; want token: ${NAME}")
	case !p.listen.written:
		c.refuse(k.preview.place, "", "leads to no preview; want a token, or a listen of its own")
	}
	if p.listen.written && !p.listen.bad {
		out.Listen = &p.listen.v
		if !p.token.written {
			out.Header = strings.ToLower(p.header.v)
		}
	}
	spec.Preview = out
}

func (d *diff) preview(old, next *proxy.PreviewSpec) {
	switch {
	case old == nil && next == nil:
		return
	case old == nil:
		d.say("preview added")
		return
	case next == nil:
		d.say("preview removed")
		return
	}
	d.words("preview.header", old.Header, next.Header)
	d.words("preview.token_header", old.TokenHeader, next.TokenHeader)
	d.words("preview.cookie", old.Cookie, next.Cookie)
	if old.TokenHash != next.TokenHash {
		d.say("preview.token changed")
	}
	address := func(l *proxy.ListenSpec) string {
		if l == nil {
			return ""
		}
		return l.String()
	}
	d.words("preview.listen", address(old.Listen), address(next.Listen))
	d.words("preview.pool", old.Pool, next.Pool)
}

func (d *diff) sticky(old, next *proxy.StickySpec) {
	cookie := func(s *proxy.StickySpec) string {
		if s == nil {
			return ""
		}
		return s.Cookie
	}
	d.words("sticky.cookie", cookie(old), cookie(next))
}

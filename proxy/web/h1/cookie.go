package h1

import "bytes"

// ToDoor tells whether the request has a field X-Turnout-…. Such fields are never sent on.
func (r *Request) ToDoor() bool { return r.door }

// Hide keeps fields of this lower case name from being sent on, until the next Parse.
func (r *Request) Hide(buf []byte, name string) {
	for i := range r.fields {
		if f := &r.fields[i]; fold(f.Name.In(buf), name) {
			f.flags |= named
		}
	}
}

// Cookie is the value of the first cookie of this name: RFC 6265 5.4 puts the one that fits best first. It refers to
// buf; nil: there is none.
func (r *Request) Cookie(buf []byte, name string) []byte {
	if !r.cookies {
		return nil
	}
	for i := range r.fields {
		if f := &r.fields[i]; f.id == idCookie && f.flags&named == 0 {
			for pair, rest := nextPair(f.Value.In(buf)); pair != nil; pair, rest = nextPair(rest) {
				if value, is := valueOf(pair, name); is {
					return value
				}
			}
		}
	}
	return nil
}

// AppendCookiesBut hides the Cookie fields and appends one that has their cookies but those of these two names ("": none);
// none are left: nothing.
func (r *Request) AppendCookiesBut(dst, buf []byte, a, b string) []byte {
	mark := len(dst)
	dst = append(dst, "Cookie: "...)
	begin := len(dst)
	for i := range r.fields {
		f := &r.fields[i]
		if f.id != idCookie || f.flags&named != 0 {
			continue
		}
		f.flags |= named
		for pair, rest := nextPair(f.Value.In(buf)); pair != nil; pair, rest = nextPair(rest) {
			_, isA := valueOf(pair, a)
			_, isB := valueOf(pair, b)
			if isA || isB {
				continue
			}
			if len(dst) > begin {
				dst = append(dst, "; "...)
			}
			dst = append(dst, pair...)
		}
	}
	return endOrDrop(dst, mark, begin)
}

// nextPair takes the first cookie-pair off a cookie-string, RFC 6265 4.2.1; nil: there are no more.
func nextPair(b []byte) (pair, rest []byte) {
	for len(b) > 0 {
		pair, rest, _ = bytes.Cut(b, []byte{';'})
		if pair = bytes.Trim(pair, " \t"); len(pair) > 0 {
			return pair, rest
		}
		b = rest
	}
	return nil, nil
}

func valueOf(pair []byte, name string) (value []byte, is bool) {
	if name == "" || len(pair) <= len(name) || pair[len(name)] != '=' || string(pair[:len(name)]) != name {
		return nil, false
	}
	return pair[len(name)+1:], true
}

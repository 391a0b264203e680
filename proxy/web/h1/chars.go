package h1

import (
	"bytes"
	"encoding/binary"
	"math"
)

const (
	isToken  = 1 << iota // tchar, RFC 9110 5.6.2
	isMethod             // tchar without lower case letters
	isHost               // unreserved, RFC 3986 2.3: what we take in a host name
	isTarget             // VCHAR without '#': RFC 9112 3.2, RFC 3986 3.5
	isText               // HTAB, SP, VCHAR, obs-text: field values and reasons, RFC 9110 5.5
	isDigit
	isHex
	isQuoted // qdtext, RFC 9110 5.6.4
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		lower, upper := b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z'
		digit := b >= '0' && b <= '9'
		token := lower || upper || digit || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0
		text := b == '\t' || b >= ' ' && b != 0x7f
		for _, is := range []struct {
			yes bool
			bit uint8
		}{
			{token, isToken},
			{token && !lower, isMethod},
			{lower || upper || digit || bytes.IndexByte([]byte("-._~"), b) >= 0, isHost},
			{b > ' ' && b < 0x7f && b != '#', isTarget},
			{text, isText},
			{digit, isDigit},
			{digit || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F', isHex},
			{text && b != '"' && b != '\\', isQuoted},
		} {
			if is.yes {
				t[c] |= is.bit
			}
		}
	}
	return t
}()

func all(b []byte, bit uint8) bool {
	for _, c := range b {
		if class[c]&bit == 0 {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text tells that b holds no control byte but HTAB. Eight bytes at a time: a word with a suspect in it (HTAB
// is one) is looked at byte by byte.
func text(b []byte) bool {
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		del := w ^ 0x7f*ones
		suspect := (w-0x20*ones)&^w | (del-ones)&^del
		if suspect&highs != 0 && !all(b[:8], isText) {
			return false
		}
		b = b[8:]
	}
	return all(b, isText)
}

func indexLF(b []byte, from int) int {
	if from >= len(b) {
		return -1
	}
	i := bytes.IndexByte(b[from:], '\n')
	if i < 0 {
		return -1
	}
	return from + i
}

func lower(c byte) byte {
	if c-'A' < 26 {
		return c | 0x20
	}
	return c
}

// fold compares b with a lower case ASCII name.
func fold(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if lower(c) != name[i] {
			return false
		}
	}
	return true
}

func foldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && fold(b[:len(prefix)], prefix)
}

// number reads 1*DIGIT, RFC 9110 8.6. Not ok: empty, another byte, or more than an int64 holds. Leading
// zeros are digits like others; what we send on is written anew without them.
func number(b []byte) (n int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		d := c - '0'
		if d > 9 || n > (math.MaxInt64-int64(d))/10 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, true
}

func trim(b []byte, s Span) Span {
	for s.Off < s.End && isSpace(b[s.Off]) {
		s.Off++
	}
	for s.Off < s.End && isSpace(b[s.End-1]) {
		s.End--
	}
	return s
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// element cuts the first element off a comma separated list (RFC 9110 5.6.1), without the space around it.
func element(b []byte, list Span) (first, rest Span) {
	i := bytes.IndexByte(list.In(b), ',')
	if i < 0 {
		return trim(b, list), Span{list.End, list.End}
	}
	comma := list.Off + uint16(i)
	return trim(b, Span{list.Off, comma}), Span{comma + 1, list.End}
}

// Package proxyproto reads and writes the header by which a proxy before the door says who its client is, and the door
// says so to servers: the PROXY protocol, https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. Version 1 is a line
// (section 2.1), version 2 is binary (2.2). Parsing needs the whole header at hand and does no I/O.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// MaxHeader bounds a header. A line has at most 107 bytes; of version 2, 4 KiB leaves room for any TLVs
// in use, though the length field could say 64 KiB.
const MaxHeader = 4096

const maxLine = 107

var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

var (
	ErrShort = errors.New("the PROXY header is not complete")
	errBad   = errors.New("not a valid PROXY header")
)

// Header is a parsed header.
type Header struct {
	Length   int       // bytes it takes
	Src, Dst loop.Addr // not valid: UNKNOWN or LOCAL, the connection's own addresses count
}

// Parse parses the header that b begins with. ErrShort: more bytes are needed; any other
// error is final.
func Parse(b []byte) (Header, error) {
	n := min(len(b), len(signature))
	if bytes.Equal(b[:n], signature[:n]) {
		return parseV2(b)
	}
	const v1 = "PROXY "
	if n = min(len(b), len(v1)); string(b[:n]) == v1[:n] {
		return parseV1(b)
	}
	return Header{}, errBad
}

func parseV1(b []byte) (Header, error) {
	// The first LF ends the line and must follow a CR: so the verdict is the same however much of the line, or
	// of what follows it, is at hand.
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n') - 1
	switch {
	case end < 0 && len(b) < maxLine:
		return Header{}, ErrShort
	case end < 0 || b[end] != '\r':
		return Header{}, errBad
	}
	h := Header{Length: end + 2}
	fields := bytes.Split(b[:end], []byte(" "))
	if len(fields) >= 2 && string(fields[1]) == "UNKNOWN" { // 2.1: the rest of the line is ignored
		return h, nil
	}
	if len(fields) != 6 {
		return Header{}, errBad
	}
	v4 := string(fields[1]) == "TCP4"
	if !v4 && string(fields[1]) != "TCP6" {
		return Header{}, errBad
	}
	src, ok1 := v1Addr(fields[2], fields[4], v4)
	dst, ok2 := v1Addr(fields[3], fields[5], v4)
	if !ok1 || !ok2 {
		return Header{}, errBad
	}
	h.Src, h.Dst = src, dst
	return h, nil
}

func v1Addr(ip, port []byte, v4 bool) (loop.Addr, bool) {
	a, err := netip.ParseAddr(string(ip))
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return loop.Addr{}, false
	}
	p, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' || port[0] == '+' {
		return loop.Addr{}, false
	}
	addr, err := loop.AddrFrom(netip.AddrPortFrom(a, uint16(p)))
	return addr, err == nil
}

func parseV2(b []byte) (Header, error) {
	if len(b) < 16 {
		return Header{}, ErrShort
	}
	h := Header{Length: 16 + int(binary.BigEndian.Uint16(b[14:]))}
	command := b[12] & 0x0f
	if b[12]>>4 != 2 || command > 1 || h.Length > MaxHeader {
		return Header{}, errBad
	}
	if len(b) < h.Length {
		return Header{}, ErrShort
	}
	family, transport := b[13]>>4, b[13]&0x0f
	if family > 3 || transport > 2 {
		return Header{}, errBad
	}
	if command == 0 { // LOCAL: a health check of the sender's own
		return h, nil
	}
	body := b[16:h.Length]
	var size int
	switch family {
	case 1:
		size = 4
	case 2:
		size = 16
	default: // AF_UNSPEC and AF_UNIX: accepted, and nothing is learnt from them
		return h, nil
	}
	if len(body) < 2*size+4 {
		return Header{}, errBad
	}
	src, _ := netip.AddrFromSlice(body[:size])
	dst, _ := netip.AddrFromSlice(body[size : 2*size])
	var err1, err2 error
	h.Src, err1 = loop.AddrFrom(netip.AddrPortFrom(src, binary.BigEndian.Uint16(body[2*size:])))
	h.Dst, err2 = loop.AddrFrom(netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2*size+2:])))
	if err1 != nil || err2 != nil {
		return Header{}, errBad
	}
	return h, nil
}

// AppendV1 appends a header line. What is not a pair of IP addresses is UNKNOWN.
func AppendV1(b []byte, src, dst loop.Addr) []byte {
	s, d, v4, ok := pairOf(src, dst)
	if !ok {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if v4 {
		family = "TCP4 "
	}
	b = append(append(b, "PROXY "...), family...)
	b = append(s.Addr().AppendTo(b), ' ')
	b = append(d.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(s.Port()), 10), ' ')
	return append(strconv.AppendUint(b, uint64(d.Port()), 10), "\r\n"...)
}

// AppendV2 appends a binary header. What is not a pair of IP addresses is AF_UNSPEC.
func AppendV2(b []byte, src, dst loop.Addr) []byte {
	b = append(append(b, signature...), 0x21) // version 2, PROXY
	s, d, v4, ok := pairOf(src, dst)
	switch {
	case !ok:
		return append(b, 0, 0, 0)
	case v4:
		b = append(b, 0x11, 0, 12)
	default:
		b = append(b, 0x21, 0, 36)
	}
	b = append(b, s.Addr().AsSlice()...)
	b = append(b, d.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, s.Port())
	return binary.BigEndian.AppendUint16(b, d.Port())
}

// pairOf brings two addresses into one family.
func pairOf(src, dst loop.Addr) (s, d netip.AddrPort, v4, ok bool) {
	s, d = src.AddrPort(), dst.AddrPort()
	if !s.IsValid() || !d.IsValid() {
		return s, d, false, false
	}
	if s.Addr().Is4() && d.Addr().Is4() {
		return s, d, true, true
	}
	six := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()).WithZone(""), a.Port())
	}
	return six(s), six(d), false, true
}

package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// The PROXY protocol, https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt: version 1 is a line
// (section 2.1), version 2 is binary (2.2). Parsing needs the whole header at hand and does no I/O.

// maxProxyHeader bounds a header. A line has at most 107 bytes; of version 2, 4 KiB leaves room for any TLVs
// in use, though the length field could say 64 KiB.
const maxProxyHeader = 4096

const maxProxyLine = 107

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

var (
	errShortHeader = errors.New("the PROXY header is not complete")
	errBadHeader   = errors.New("not a valid PROXY header")
)

// proxyHeader is a parsed header.
type proxyHeader struct {
	length   int       // bytes it takes
	src, dst loop.Addr // not valid: UNKNOWN or LOCAL, the connection's own addresses count
}

// parseProxyHeader parses the header that b begins with. errShortHeader: more bytes are needed; any other
// error is final.
func parseProxyHeader(b []byte) (proxyHeader, error) {
	n := min(len(b), len(proxyV2Signature))
	if bytes.Equal(b[:n], proxyV2Signature[:n]) {
		return parseProxyV2(b)
	}
	const v1 = "PROXY "
	if n = min(len(b), len(v1)); string(b[:n]) == v1[:n] {
		return parseProxyV1(b)
	}
	return proxyHeader{}, errBadHeader
}

func parseProxyV1(b []byte) (proxyHeader, error) {
	// The first LF ends the line and must follow a CR: so the verdict is the same however much of the line, or
	// of what follows it, is at hand.
	end := bytes.IndexByte(b[:min(len(b), maxProxyLine)], '\n') - 1
	switch {
	case end < 0 && len(b) < maxProxyLine:
		return proxyHeader{}, errShortHeader
	case end < 0 || b[end] != '\r':
		return proxyHeader{}, errBadHeader
	}
	h := proxyHeader{length: end + 2}
	fields := bytes.Split(b[:end], []byte(" "))
	if len(fields) >= 2 && string(fields[1]) == "UNKNOWN" { // 2.1: the rest of the line is ignored
		return h, nil
	}
	if len(fields) != 6 {
		return proxyHeader{}, errBadHeader
	}
	v4 := string(fields[1]) == "TCP4"
	if !v4 && string(fields[1]) != "TCP6" {
		return proxyHeader{}, errBadHeader
	}
	src, ok1 := proxyV1Addr(fields[2], fields[4], v4)
	dst, ok2 := proxyV1Addr(fields[3], fields[5], v4)
	if !ok1 || !ok2 {
		return proxyHeader{}, errBadHeader
	}
	h.src, h.dst = src, dst
	return h, nil
}

func proxyV1Addr(ip, port []byte, v4 bool) (loop.Addr, bool) {
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

func parseProxyV2(b []byte) (proxyHeader, error) {
	if len(b) < 16 {
		return proxyHeader{}, errShortHeader
	}
	h := proxyHeader{length: 16 + int(binary.BigEndian.Uint16(b[14:]))}
	command := b[12] & 0x0f
	if b[12]>>4 != 2 || command > 1 || h.length > maxProxyHeader {
		return proxyHeader{}, errBadHeader
	}
	if len(b) < h.length {
		return proxyHeader{}, errShortHeader
	}
	family, transport := b[13]>>4, b[13]&0x0f
	if family > 3 || transport > 2 {
		return proxyHeader{}, errBadHeader
	}
	if command == 0 { // LOCAL: a health check of the sender's own
		return h, nil
	}
	body := b[16:h.length]
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
		return proxyHeader{}, errBadHeader
	}
	src, _ := netip.AddrFromSlice(body[:size])
	dst, _ := netip.AddrFromSlice(body[size : 2*size])
	var err1, err2 error
	h.src, err1 = loop.AddrFrom(netip.AddrPortFrom(src, binary.BigEndian.Uint16(body[2*size:])))
	h.dst, err2 = loop.AddrFrom(netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2*size+2:])))
	if err1 != nil || err2 != nil {
		return proxyHeader{}, errBadHeader
	}
	return h, nil
}

// appendProxyV1 appends a header line. What is not a pair of IP addresses is UNKNOWN.
func appendProxyV1(b []byte, src, dst loop.Addr) []byte {
	s, d, v4, ok := proxyPair(src, dst)
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

// appendProxyV2 appends a binary header. What is not a pair of IP addresses is AF_UNSPEC.
func appendProxyV2(b []byte, src, dst loop.Addr) []byte {
	b = append(append(b, proxyV2Signature...), 0x21) // version 2, PROXY
	s, d, v4, ok := proxyPair(src, dst)
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

// proxyPair brings two addresses into one family.
func proxyPair(src, dst loop.Addr) (s, d netip.AddrPort, v4, ok bool) {
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

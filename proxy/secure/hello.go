package secure

import "errors"

// MaxHello bounds a client's greeting with its record headers. Those of today, with post-quantum keys, have about 2 KiB.
const MaxHello = 16 << 10

// ErrShort says that a greeting is not complete.
var ErrShort = errors.New("the ClientHello is not complete")

var errHello = errors.New("not a ClientHello")

// Hello is what the door reads of a client's greeting. Its fields are parts of the bytes that were parsed, or copies.
type Hello struct {
	ServerName []byte // as the client wrote it; nil: it named no host
}

// ParseHello parses the ClientHello that b begins with: one handshake message in one or more records (RFC 8446 4.1.2,
// 5.1). ErrShort: more bytes are needed. Any other error is final. It does no I/O.
func ParseHello(b []byte) (Hello, error) {
	body, err := message(b)
	if err != nil {
		return Hello{}, err
	}
	return parseHello(body)
}

const (
	recordHeader    = 5
	typeHandshake   = 22
	typeClientHello = 1
	maxFragment     = 1 << 14 // RFC 8446 5.1
)

// message puts the handshake message together that the records in b begin with, without its header. It copies only if
// there are several.
func message(b []byte) ([]byte, error) {
	var whole []byte
	for records := 0; ; records++ {
		switch {
		case len(b) > 0 && b[0] != typeHandshake, len(b) > 1 && b[1] != 3: // RFC 8446 5.1: legacy_record_version 0x03xx
			return nil, errHello
		case len(b) < recordHeader:
			return nil, ErrShort
		}
		n := int(b[3])<<8 | int(b[4])
		if n == 0 || n > maxFragment { // RFC 8446 5.1: no empty fragments of a handshake
			return nil, errHello
		}
		part := b[recordHeader:min(len(b), recordHeader+n)]
		switch {
		case records == 0:
			whole = part
		case records == 1: // of its own from here on: what follows the first part in b is a record's header
			whole = append(append(make([]byte, 0, len(whole)+len(b)), whole...), part...)
		default:
			whole = append(whole, part...)
		}
		if len(whole) > 0 && whole[0] != typeClientHello {
			return nil, errHello
		}
		if len(whole) >= 4 {
			size := 4 + (int(whole[1])<<16 | int(whole[2])<<8 | int(whole[3]))
			switch {
			case size > MaxHello:
				return nil, errHello
			case len(whole) >= size:
				return whole[4:size], nil
			}
		}
		if len(b) < recordHeader+n {
			return nil, ErrShort
		}
		b = b[recordHeader+n:]
	}
}

// parseHello reads the message's body.
func parseHello(b []byte) (Hello, error) {
	r := reader(b)
	r.skip(2 + 32) // legacy_version, random
	r.vector8()    // legacy_session_id
	r.vector16()   // cipher_suites
	r.vector8()    // legacy_compression_methods
	var h Hello
	if r.failed() {
		return h, errHello
	}
	if len(r) == 0 { // RFC 5246 7.4.1.2: before extensions there were none
		return h, nil
	}
	extensions := r.vector16()
	if r.failed() || len(r) != 0 {
		return h, errHello
	}
	for e := reader(extensions); len(e) > 0; {
		kind := e.uint16()
		data := reader(e.vector16())
		if e.failed() {
			return Hello{}, errHello
		}
		if kind != 0 {
			continue
		}
		name, ok := serverName(data)
		if !ok || h.ServerName != nil {
			return Hello{}, errHello
		}
		h.ServerName = name
	}
	return h, nil
}

// serverName reads the extension server_name (RFC 6066 3): a list with at most one name of type host_name.
func serverName(r reader) (name []byte, ok bool) {
	list := reader(r.vector16())
	if r.failed() || len(r) != 0 || len(list) == 0 {
		return nil, false
	}
	for len(list) > 0 {
		kind := list.uint8()
		n := list.vector16()
		if list.failed() || len(n) == 0 {
			return nil, false
		}
		if kind != 0 {
			continue
		}
		if name != nil {
			return nil, false
		}
		name = n
	}
	return name, true
}

// reader takes a message apart. After a failure it is nil; an empty one that has not failed is not.
type reader []byte

func (r *reader) failed() bool { return *r == nil }

func (r *reader) skip(n int) []byte {
	if len(*r) < n || *r == nil {
		*r = nil
		return nil
	}
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b
}

func (r *reader) uint8() int {
	b := r.skip(1)
	if b == nil {
		return 0
	}
	return int(b[0])
}

func (r *reader) uint16() int {
	b := r.skip(2)
	if b == nil {
		return 0
	}
	return int(b[0])<<8 | int(b[1])
}

func (r *reader) vector8() []byte  { return r.skip(r.uint8()) }
func (r *reader) vector16() []byte { return r.skip(r.uint16()) }

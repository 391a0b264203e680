package h2

import (
	"errors"
	"sync"
)

// most is how many bytes wait in each direction between a request to a server and the plane.
const most = 64 << 10

var errGone = errors.New("the stream is over")

// buffers are what answers of servers are read into, used again.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// take appends as much of a and b to out as it has room for, and tells how much that was, and whether there was too little room.
func take(out, a, b []byte) (grown []byte, n int, full bool) {
	room := max(0, most-len(out))
	wanted := len(a) + len(b)
	a = a[:min(len(a), room)]
	b = b[:min(len(b), room-len(a))]
	n = len(a) + len(b)
	return append(append(out, a...), b...), n, n < wanted || room == 0
}

func appendField(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

package web

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/turnout-proxy/turnout/proxy/loop"
	"github.com/turnout-proxy/turnout/proxy/web/h1"
)

// date is the value of Date, written anew once a second. RFC 9110 5.6.7.
type date struct {
	until int64
	text  [len(dateFormat)]byte
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

func (d *date) at(now int64) []byte {
	if now >= d.until {
		t := loop.Wall(now).UTC()
		d.until = now + int64(t.Truncate(time.Second).Add(time.Second).Sub(t))
		t.AppendFormat(d.text[:0], dateFormat)
	}
	return d.text[:]
}

// ids makes request ids: 128 bits, unique by a random beginning and a random, odd step.
type ids struct {
	hi, lo, step uint64
	text         [32]byte
}

func newIDs() (i ids) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	i.hi, i.lo, i.step = binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])|1
	return i
}

func (i *ids) next() []byte {
	i.lo += i.step
	return h1.AppendRequestID(i.text[:0], i.hi, i.lo)
}

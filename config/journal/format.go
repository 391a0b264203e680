package journal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

const (
	format = 1

	// MaxPayload bounds one record, so that a damaged length cannot ask for all memory.
	MaxPayload = 16 << 20

	headerWord = "turnout-journal "
	headerText = headerWord + "%d base %012d" // then " crc\n"
	headerSize = len(headerWord) + len("1 base 000000000000 00000000\n")
)

// Kind tells what a payload of Replay is.
type Kind string

const (
	// Checkpoint stands for everything before it; only the first payload of Replay can be one.
	Checkpoint Kind = "checkpoint"
	// Record is one appended payload.
	Record Kind = "record"

	// joined is a Record written before the line above it was known to be durable.
	joined Kind = "joined"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort = errors.New("line is cut short")
	errForm  = errors.New("not a journal line")
	errSum   = errors.New("checksum does not match")
	errOrder = errors.New("sequence number out of order")
	errHead  = errors.New("first line is not a journal header")
	errSize  = errors.New("file is shorter than when it was made")
)

// line is one parsed line, without the header.
type line struct {
	seq     uint64
	kind    Kind
	payload []byte
	offset  int // in the file
}

// newFile returns the bytes a file begins with: header, and a checkpoint line or nothing. All of it is
// durable before the file gets its name.
func newFile(checkpoint []byte) []byte {
	base := headerSize + len(checkpoint)
	return append(header(base), checkpoint...)
}

func header(base int) []byte {
	b := fmt.Appendf(nil, headerText, format, base)
	return fmt.Appendf(b, " %08x\n", crc32.Checksum(b, castagnoli))
}

func appendLine(b []byte, seq uint64, kind Kind, payload []byte) []byte {
	start := len(b)
	b = append(b, "00000000 "...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ' ')
	b = append(b, kind...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	b = append(b, payload...)
	putHex(b[start:start+8], crc32.Checksum(b[start+9:], castagnoli))
	return append(b, '\n')
}

// parseLine reads the line at the start of b and tells its length. It accepts only what appendLine writes.
func parseLine(b []byte) (line, int, error) {
	if len(b) < 9 {
		return line{}, 0, errShort
	}
	sum, ok := hex(b[:8])
	if !ok || b[8] != ' ' {
		return line{}, 0, errForm
	}
	at := 9
	seq, at, err := number(b, at)
	if err != nil {
		return line{}, 0, err
	}
	kind, at, err := word(b, at)
	if err != nil {
		return line{}, 0, err
	}
	size, at, err := number(b, at)
	if err != nil {
		return line{}, 0, err
	}
	if size > MaxPayload {
		return line{}, 0, errForm
	}
	end := at + int(size)
	if end >= len(b) {
		return line{}, 0, errShort
	}
	if b[end] != '\n' {
		return line{}, 0, errForm
	}
	if crc32.Checksum(b[9:end], castagnoli) != sum {
		return line{}, 0, errSum
	}
	return line{seq: seq, kind: kind, payload: b[at:end:end]}, end + 1, nil
}

// number reads digits and the space after them; no sign, no leading zero.
func number(b []byte, at int) (uint64, int, error) {
	rest := b[at:min(len(b), at+21)] // 20 digits of a uint64, and the space
	space := bytes.IndexByte(rest, ' ')
	if space < 0 {
		if len(rest) < 21 {
			return 0, 0, errShort
		}
		return 0, 0, errForm
	}
	digits := rest[:space]
	if space == 0 || (digits[0] == '0' && space > 1) {
		return 0, 0, errForm
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0, 0, errForm
	}
	return n, at + space + 1, nil
}

// word reads a kind and the space after it.
func word(b []byte, at int) (Kind, int, error) {
	rest := b[at:]
	for _, kind := range []Kind{Record, joined, Checkpoint} {
		if len(rest) > len(kind) && rest[len(kind)] == ' ' && string(rest[:len(kind)]) == string(kind) {
			return kind, at + len(kind) + 1, nil
		}
	}
	if len(rest) <= len(Checkpoint) {
		return "", 0, errShort
	}
	return "", 0, errForm
}

// parseHeader reads the first line and tells how many bytes cannot be torn.
func parseHeader(b []byte) (base int, err error) {
	if !bytes.HasPrefix(b, []byte(headerWord)) {
		return 0, errHead
	}
	if v, _, err := number(b, len(headerWord)); err == nil && v > format {
		return 0, newerError(v)
	}
	if len(b) < headerSize || b[headerSize-1] != '\n' {
		return 0, errHead
	}
	digits := b[headerSize-len("000000000000 00000000\n"):][:12]
	base, err = strconv.Atoi(string(digits))
	if err != nil || !bytes.Equal(b[:headerSize], header(base)) {
		return 0, errHead
	}
	return base, nil
}

// contents is what one file holds.
type contents struct {
	lines []line // the good ones, up to the first that is not
	end   int    // where they end
	base  int    // nothing before it can be torn
	// fault is why the bytes from end on are no good line; nil when there are none.
	fault error
	// damaged: the bytes at end were durable once, so this is no torn tail.
	damaged bool
	// after has the good lines behind the fault, for history and for counting.
	after []line
}

// scan reads the bytes of one file. It never fails: what is wrong stands in the answer.
func scan(data []byte) contents {
	var c contents
	if c.base, c.fault = parseHeader(data); c.fault != nil {
		c.damaged = true
		c.after = salvage(data, 0)
		return c
	}
	c.end = headerSize
	for c.end < len(data) {
		l, size, err := parseLine(data[c.end:])
		if err == nil && !c.follows(l) {
			err = errOrder
		}
		if err != nil {
			c.fault = err
			c.after = salvage(data, c.end)
			c.damaged = c.end < c.base || proves(c.after)
			return c
		}
		l.offset = c.end
		c.lines = append(c.lines, l)
		c.end += size
	}
	if c.end < c.base {
		c.fault, c.damaged = errSize, true
	}
	return c
}

// follows tells whether l may stand after the lines so far: a checkpoint or record 1 first, then
// records one by one.
func (c *contents) follows(l line) bool {
	if len(c.lines) == 0 && l.kind == Checkpoint {
		return true
	}
	return l.kind != Checkpoint && l.seq == c.last()+1
}

// last is the number of the last record held or stood for.
func (c *contents) last() uint64 {
	if len(c.lines) == 0 {
		return 0
	}
	return c.lines[len(c.lines)-1].seq
}

// first is the number of the first record this file has or will have; false if damage hides it.
func (c *contents) first() (uint64, bool) {
	lines := c.lines
	if len(lines) == 0 {
		lines = c.after
	}
	switch {
	case len(lines) == 0:
		return 1, !c.damaged
	case lines[0].kind == Checkpoint:
		return lines[0].seq + 1, true
	default:
		return lines[0].seq, true
	}
}

// lastBatch is the offset from which lines may have been written and not synced, by whoever wrote them.
func (c *contents) lastBatch() int {
	for i := len(c.lines) - 1; i >= 0; i-- {
		if c.lines[i].kind != joined {
			return max(c.lines[i].offset, c.base)
		}
	}
	return min(c.end, c.base)
}

// salvage finds the good lines in data from offset on. It tries every byte, as a damaged
// newline hides the line after it.
func salvage(data []byte, offset int) []line {
	var lines []line
	for at := offset; at < len(data); {
		l, size, err := parseLine(data[at:])
		if err != nil {
			at++
			continue
		}
		l.offset = at
		lines = append(lines, l)
		at += size
	}
	return lines
}

// proves tells whether lines behind a bad one show that it had been durable.
func proves(after []line) bool {
	for _, l := range after {
		if l.kind != joined {
			return true
		}
	}
	return false
}

const hexDigits = "0123456789abcdef"

func putHex(b []byte, v uint32) {
	for i := 7; i >= 0; i-- {
		b[i] = hexDigits[v&15]
		v >>= 4
	}
}

func hex(b []byte) (v uint32, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uint32(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

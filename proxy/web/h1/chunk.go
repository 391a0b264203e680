package h1

// A chunked body is written as AppendChunkSize, the bytes, ChunkEnd, and so on, then LastChunk or
// Trailer.AppendTo: RFC 9112 7.1. Sizes and extensions are never carried over, they are per hop.
const (
	ChunkEnd  = "\r\n"
	LastChunk = "0\r\n\r\n"
)

// MaxChunkSize is the most bytes that AppendChunkSize writes.
const MaxChunkSize = 18

// AppendChunkSize writes the line before n bytes of payload; n must not be 0, which would end the body.
func AppendChunkSize(dst []byte, n uint64) []byte {
	if n == 0 {
		panic("h1: BUG: empty chunk")
	}
	const hex = "0123456789abcdef"
	shift := 60
	for n>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, hex[n>>shift&15])
	}
	return append(dst, "\r\n"...)
}

// AppendChunk writes a whole chunk; nothing when data is empty.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = AppendChunkSize(dst, uint64(len(data)))
	dst = append(dst, data...)
	return append(dst, ChunkEnd...)
}

package h2

import "encoding/binary"

// Frame types, RFC 9113 6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings, RFC 9113 6.5.2.
const (
	settingTableSize  = 0x1
	settingPush       = 0x2
	settingMaxStreams = 0x3
	settingWindow     = 0x4
	settingFrameSize  = 0x5
	settingListSize   = 0x6
)

// code is an error code, RFC 9113 7.
type code uint32

const (
	codeNone        code = 0x0
	codeProtocol    code = 0x1
	codeInternal    code = 0x2
	codeFlowControl code = 0x3
	codeClosed      code = 0x5
	codeFrameSize   code = 0x6
	codeRefused     code = 0x7
	codeCompression code = 0x9
	codeCalm        code = 0xb
)

const (
	preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHead   = 9
	maxFrame    = 16 << 10  // of frames in either direction: what RFC 9113 6.5.2 begins with
	startWindow = 65535     // of a connection, and of a stream until SETTINGS say otherwise: RFC 9113 6.9.2
	maxWindow   = 1<<31 - 1 // RFC 9113 6.9.1
	lastStream  = 1<<31 - 1
	tableSize   = 4096 // of a dynamic table, RFC 9113 6.5.2
)

func appendFrameHead(b []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags, byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

func appendWindow(b []byte, stream uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(b, 4, frameWindow, 0, stream), uint32(n))
}

func appendReset(b []byte, stream uint32, why code) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(b, 4, frameReset, 0, stream), uint32(why))
}

func appendGoAway(b []byte, last uint32, why code) []byte {
	b = binary.BigEndian.AppendUint32(appendFrameHead(b, 8, frameGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(b, uint32(why))
}

// appendBlock writes a head's block in HEADERS, and CONTINUATION for what does not fit.
func appendBlock(b, block []byte, stream uint32, last bool) []byte {
	kind, flags := byte(frameHeaders), byte(0)
	if last {
		flags = flagEndStream
	}
	for {
		piece := block[:min(len(block), maxFrame)]
		if block = block[len(piece):]; len(block) == 0 {
			flags |= flagEndHeaders
		}
		b = append(appendFrameHead(b, len(piece), kind, flags, stream), piece...)
		if len(block) == 0 {
			return b
		}
		kind, flags = frameContinuation, 0
	}
}

// unpad takes the padding of a frame away, RFC 9113 6.1.
func unpad(payload []byte, flags byte) (rest []byte, ok bool) {
	if flags&flagPadded == 0 {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) > len(payload)-1 {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

package loop

// Token names what a descriptor belongs to. The kernel carries it and gives it back with each event, so
// that an event finds its owner without a map: bits 63..56 kind, 55..33 generation, 32..1 slot, 0 side.
type Token uint64

// GenBits is how many bits of a generation a Token carries; Slab's generations fit.
const GenBits = 23

const genMask = 1<<GenBits - 1

// wakeToken is what the loop's own wake descriptor is registered with. Kind 255 is the loop's.
const wakeToken = ^Token(0)

// MakeToken packs its parts. Of gen, the low GenBits count; of side, the lowest bit. Kind 255 belongs to
// the loop itself.
func MakeToken(kind uint8, gen uint32, slot uint32, side uint8) Token {
	return Token(kind)<<56 | Token(gen&genMask)<<33 | Token(slot)<<1 | Token(side&1)
}

// Kind says whose handler gets the event.
func (t Token) Kind() uint8 { return uint8(t >> 56) }

// Gen is the generation of the slot when the descriptor was added; an event whose generation is not the
// slot's own any more came too late and must be ignored.
func (t Token) Gen() uint32 { return uint32(t>>33) & genMask }

// Slot is the index in the owner's Slab.
func (t Token) Slot() uint32 { return uint32(t >> 1) }

// Side tells the two descriptors of one slot apart.
func (t Token) Side() uint8 { return uint8(t & 1) }

// WithSide is t for the other descriptor of the same slot.
func (t Token) WithSide(side uint8) Token { return t&^1 | Token(side&1) }

// Events is what epoll reported, or what it is asked to report. The values are Linux's.
type Events uint32

// Bits of Events.
const (
	In    Events = 0x1
	Out   Events = 0x4
	Err   Events = 0x8
	Hup   Events = 0x10
	RDHUP Events = 0x2000

	Exclusive Events = 1 << 28 // wake one of the loops that wait, not all
	ET        Events = 1 << 31 // edge-triggered
)

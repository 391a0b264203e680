package loop

import "math/bits"

const (
	chunkShift = 8
	chunkSize  = 1 << chunkShift
	chunkMask  = chunkSize - 1
)

// Slab keeps values of T in chunks of 256 that never move, each at a slot number that fits in a Token.
// If T has no pointers, neither has a chunk, and the garbage collector passes it by. Every operation is
// O(1). The zero Slab is ready; it belongs to one goroutine.
//
// A chunk without a value is given back, except for one that stays for the next Alloc, so that a
// number of values that goes up and down around a boundary allocates nothing.
type Slab[T any] struct {
	chunks []*slabChunk[T] // nil where a chunk was given back; the last one is not nil

	// room has a bit per entry of chunks: set if the next Alloc can find a slot there, be it by
	// making the chunk anew. Invariant: words below low are zero.
	room []uint64
	low  int

	spare int32  // index+1 of the chunk that is kept though it is empty; 0 for none
	gen   uint32 // the last generation given out, 1..genMask

	n int
}

type slabChunk[T any] struct {
	items [chunkSize]T
	gens  [chunkSize]uint32 // 0: free
	next  [chunkSize]uint8  // free list, by index
	free  uint8             // its head; counts only while used < chunkSize
	used  uint16
}

// Alloc takes a slot and returns its zeroed value. Lower slots are taken first, so that higher chunks run
// empty.
func (s *Slab[T]) Alloc() (slot uint32, p *T) {
	ci := s.findRoom()
	c := s.chunks[ci]
	if c == nil {
		c = new(slabChunk[T])
		for i := range c.next {
			c.next[i] = uint8(i + 1)
		}
		s.chunks[ci] = c
	} else if c.used == 0 {
		s.spare = 0
	}
	i := c.free
	c.free = c.next[i]
	c.used++
	if c.used == chunkSize {
		s.room[ci>>6] &^= 1 << (ci & 63)
	}
	// One counter for all slots: a generation does not come back soon when its chunk was given back
	// and made anew in between.
	s.gen = s.gen&genMask + 1
	if s.gen > genMask {
		s.gen = 1
	}
	c.gens[i] = s.gen
	s.n++
	return uint32(ci)<<chunkShift | uint32(i), &c.items[i]
}

// findRoom returns the index of the lowest chunk with a free slot, which may have to be made.
func (s *Slab[T]) findRoom() int {
	for ; s.low < len(s.room); s.low++ {
		if w := s.room[s.low]; w != 0 {
			return s.low<<6 + bits.TrailingZeros64(w)
		}
	}
	ci := len(s.chunks)
	s.chunks = append(s.chunks, nil)
	if ci>>6 == len(s.room) {
		s.room = append(s.room, 0)
	}
	s.low = ci >> 6
	s.room[s.low] |= 1 << (ci & 63)
	return ci
}

// Get returns the value at slot, which must be taken.
func (s *Slab[T]) Get(slot uint32) *T {
	return &s.chunks[slot>>chunkShift].items[slot&chunkMask]
}

// Gen is the generation of slot, to be put into a Token; 0 if the slot is free.
func (s *Slab[T]) Gen(slot uint32) uint32 {
	ci := int(slot >> chunkShift)
	if ci >= len(s.chunks) || s.chunks[ci] == nil {
		return 0
	}
	return s.chunks[ci].gens[slot&chunkMask]
}

// Check tells whether slot is taken and still has the generation gen. Any slot may be asked for.
func (s *Slab[T]) Check(slot uint32, gen uint32) bool {
	return gen != 0 && s.Gen(slot) == gen
}

// Free gives slot back. Its value is zeroed at once and must not be used any more; its generation ends.
func (s *Slab[T]) Free(slot uint32) {
	ci, i := int(slot>>chunkShift), uint8(slot)
	c := s.chunks[ci]
	if c.gens[i] == 0 {
		panic("loop: BUG: a slot was freed twice")
	}
	var zero T
	c.items[i] = zero
	c.gens[i] = 0
	c.next[i] = c.free
	c.free = i
	c.used--
	s.n--
	s.room[ci>>6] |= 1 << (ci & 63)
	s.low = min(s.low, ci>>6)
	if c.used == 0 {
		s.release(ci)
	}
}

// release gives back the chunk ci, which has just become empty, or the spare one if that is higher.
func (s *Slab[T]) release(ci int) {
	spare := int(s.spare) - 1
	switch {
	case spare < 0:
		s.spare = int32(ci) + 1
		return
	case ci < spare:
		s.spare = int32(ci) + 1
		ci = spare
	}
	s.chunks[ci] = nil
	n := len(s.chunks)
	for n > 0 && s.chunks[n-1] == nil {
		n--
		s.room[n>>6] &^= 1 << (n & 63)
	}
	s.chunks = s.chunks[:n]
	s.room = s.room[:(n+63)>>6]
}

// Len is the number of slots that are taken.
func (s *Slab[T]) Len() int { return s.n }

// All calls f for every slot that is taken, in order, until f returns false. f may Free the slot it is
// called for, and Alloc; what it allocates may or may not be visited.
func (s *Slab[T]) All(f func(slot uint32, p *T) bool) {
	for ci := 0; ci < len(s.chunks); ci++ {
		c := s.chunks[ci]
		if c == nil {
			continue
		}
		for i := range c.gens {
			if c.gens[i] != 0 && !f(uint32(ci)<<chunkShift|uint32(i), &c.items[i]) {
				return
			}
		}
	}
}

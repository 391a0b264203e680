package loop

import (
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

func TestToken_KeepsEveryPartApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind, gen := rapid.Uint8().Draw(t, "kind"), rapid.Uint32Range(0, genMask).Draw(t, "gen")
		slot, side := rapid.Uint32().Draw(t, "slot"), rapid.Uint8Range(0, 1).Draw(t, "side")
		tok := MakeToken(kind, gen, slot, side)
		if tok.Kind() != kind || tok.Gen() != gen || tok.Slot() != slot || tok.Side() != side {
			t.Fatalf("%d %d %d %d became %d %d %d %d", kind, gen, slot, side, tok.Kind(), tok.Gen(), tok.Slot(), tok.Side())
		}
		if other := tok.WithSide(1 - side); other.Side() == side || other.Slot() != slot || other.Gen() != gen {
			t.Fatalf("other side of %x is %x", tok, other)
		}
	})
}

// The slab against a map, with chunks that come and go.
func TestSlab_BehavesLikeAMapWithGenerations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type value struct{ v int }
		type held struct {
			gen uint32
			p   *value
		}
		var s Slab[value]
		live := map[uint32]held{}
		var order []uint32
		var dead []Token
		steps := rapid.SliceOfN(rapid.IntRange(-600, 600), 1, 20).Draw(t, "steps")
		seed := 0
		for _, step := range steps {
			for ; step > 0; step-- {
				slot, p := s.Alloc()
				if _, taken := live[slot]; taken {
					t.Fatalf("slot %d was given out twice", slot)
				}
				if p.v != 0 || p != s.Get(slot) {
					t.Fatalf("slot %d: value %d, pointer %p and %p", slot, p.v, p, s.Get(slot))
				}
				seed++
				p.v = seed
				live[slot] = held{s.Gen(slot), p}
				order = append(order, slot)
			}
			for ; step < 0 && len(order) > 0; step++ {
				seed = seed*31 + 7
				k := int(uint32(seed)) % len(order)
				slot := order[k]
				order[k] = order[len(order)-1]
				order = order[:len(order)-1]
				dead = append(dead, MakeToken(0, live[slot].gen, slot, 0))
				delete(live, slot)
				s.Free(slot)
			}
			if s.Len() != len(live) {
				t.Fatalf("Len %d, want %d", s.Len(), len(live))
			}
			for slot, h := range live {
				if !s.Check(slot, h.gen) || s.Get(slot) != h.p {
					t.Fatalf("slot %d lost its generation or has moved", slot)
				}
			}
			for _, tok := range dead {
				if s.Check(tok.Slot(), tok.Gen()) {
					t.Fatalf("a freed slot still passes for generation %d", tok.Gen())
				}
			}
			n := 0
			s.All(func(slot uint32, p *value) bool {
				if live[slot].p != p {
					t.Fatalf("All showed slot %d, which is not taken", slot)
				}
				n++
				return true
			})
			if n != len(live) {
				t.Fatalf("All showed %d, want %d", n, len(live))
			}
		}
	})
}

func TestSlab_ChecksAnySlotWithoutPanic(t *testing.T) {
	var s Slab[int]
	if s.Check(0, 0) || s.Check(1<<32-1, 5) || s.Gen(77) != 0 {
		t.Fatal("an empty slab knows a slot")
	}
	slot, _ := s.Alloc()
	if s.Check(slot+1, 0) {
		t.Fatal("a free slot passes with generation 0")
	}
}

func TestSlab_GenerationComesRoundWithoutZero(t *testing.T) {
	var s Slab[int]
	s.gen = genMask
	if slot, _ := s.Alloc(); s.Gen(slot) != 1 {
		t.Fatalf("after the last generation came %d, want 1", s.Gen(slot))
	}
}

func TestSlab_FreeingTwiceIsABug(t *testing.T) {
	var s Slab[int]
	slot, _ := s.Alloc()
	s.Free(slot)
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	s.Free(slot)
}

func TestSlab_MemoryComesBackAfterACrowd(t *testing.T) {
	var s Slab[[512]byte]
	before := heap()
	for range 10_000 {
		s.Alloc()
	}
	full := heap()
	for slot := range uint32(10_000) {
		s.Free(slot)
	}
	after := heap()
	if full-before < 10_000*512 {
		t.Fatalf("10,000 values of 512 bytes take %d bytes?", full-before)
	}
	if left := after - before; left > 300<<10 {
		t.Fatalf("%d bytes stay", left)
	}
	runtime.KeepAlive(&s)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestSlab_KeepsTheLowerOfTwoEmptyChunks(t *testing.T) {
	for _, order := range [][]uint32{{0, 256, 512}, {512, 256, 0}, {256, 0, 512}} {
		var s Slab[int]
		for range 3 * chunkSize {
			s.Alloc()
		}
		for _, first := range order {
			for slot := range uint32(chunkSize) {
				s.Free(first + slot)
			}
		}
		if len(s.chunks) != 1 || s.chunks[0] == nil || len(s.room) != 1 {
			t.Errorf("freed in the order %v, %d chunks stay", order, len(s.chunks))
		}
	}
}

func TestSlab_AllocatesNothingWhenNumbersGoUpAndDown(t *testing.T) {
	var s Slab[[64]byte]
	for range 256 {
		s.Alloc()
	}
	if n := testing.AllocsPerRun(1000, func() {
		slot, _ := s.Alloc() // the first of the second chunk
		s.Free(slot)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkSlab(b *testing.B) {
	var s Slab[[128]byte]
	b.ReportAllocs()
	for b.Loop() {
		slot, _ := s.Alloc()
		s.Check(slot, s.Gen(slot))
		s.Free(slot)
	}
}

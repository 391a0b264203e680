package loop

// Sizes of the blocks that GetBuf lends.
const (
	TinyBuf  = 2 << 10
	SmallBuf = 16 << 10
	LargeBuf = 64 << 10
)

// NoBuf is the handle of no block: what a zeroed slot has.
const NoBuf int32 = 0

const (
	idleTinyBufs  = 512 // kept for the next GetBuf: 1 MiB
	idleSmallBufs = 64  // 1 MiB
	idleLargeBufs = 32  // 2 MiB
)

// bufPool hands out blocks by number, so that who holds one needs no pointer. A handle is 1 + the index
// in blocks. What is lent is bounded by those who borrow; what is kept idle is bounded here.
type bufPool struct {
	blocks [][]byte // nil: not lent
	free   []int32  // indexes in blocks that are nil
	tiny   [][]byte
	small  [][]byte
	large  [][]byte
}

// GetBuf lends a block of TinyBuf, SmallBuf or LargeBuf bytes, whichever is enough for size. Its content is
// whatever was left in it.
func (l *Loop) GetBuf(size int) (handle int32) {
	pool := &l.bufs
	var b []byte
	switch {
	case size <= TinyBuf:
		b = takeBuf(&pool.tiny, TinyBuf)
	case size <= SmallBuf:
		b = takeBuf(&pool.small, SmallBuf)
	case size <= LargeBuf:
		b = takeBuf(&pool.large, LargeBuf)
	default:
		panic("loop: BUG: GetBuf of more than LargeBuf")
	}
	if n := len(pool.free); n > 0 {
		i := pool.free[n-1]
		pool.free = pool.free[:n-1]
		pool.blocks[i] = b
		return i + 1
	}
	pool.blocks = append(pool.blocks, b)
	return int32(len(pool.blocks))
}

func takeBuf(idle *[][]byte, size int) []byte {
	if n := len(*idle); n > 0 {
		b := (*idle)[n-1]
		(*idle)[n-1] = nil
		*idle = (*idle)[:n-1]
		return b
	}
	return make([]byte, size)
}

// Bytes is the whole block.
func (l *Loop) Bytes(handle int32) []byte { return l.bufs.blocks[handle-1] }

// PutBuf takes a block back. NoBuf is allowed.
func (l *Loop) PutBuf(handle int32) {
	if handle == NoBuf {
		return
	}
	pool := &l.bufs
	i := handle - 1
	b := pool.blocks[i]
	switch {
	case b == nil:
		panic("loop: BUG: a buffer was put back twice")
	case len(b) == TinyBuf && len(pool.tiny) < idleTinyBufs:
		pool.tiny = append(pool.tiny, b)
	case len(b) == SmallBuf && len(pool.small) < idleSmallBufs:
		pool.small = append(pool.small, b)
	case len(b) == LargeBuf && len(pool.large) < idleLargeBufs:
		pool.large = append(pool.large, b)
	}
	pool.blocks[i] = nil
	pool.free = append(pool.free, i)
	if len(pool.free) == len(pool.blocks) && len(pool.blocks) > 4096 { // a storm is over
		pool.blocks, pool.free = nil, nil
	}
}

package loop

// Pipe is a pair of non-blocking descriptors for Splice.
type Pipe struct{ R, W int32 }

// Numbers of the pool of pipes.
const (
	// PipeSize is what a pipe is asked to hold; it may hold less, see openPipe.
	PipeSize = 1 << 20

	minPipeSize = 64 << 10 // below, splicing costs more than copying
	maxPipes    = 512      // of one loop, lent and idle
	idlePipes   = 32       // kept for the next GetPipe; an empty pipe has no pages, only two descriptors
)

type pipePool struct {
	idle []Pipe
	open int // lent and idle
	size int // the size that the last new pipe got
}

// GetPipe lends an empty pipe. False means that there are none to be had: too many are lent, descriptors
// have run out, or the kernel grants this user only small ones. Copying works without.
func (l *Loop) GetPipe() (p Pipe, ok bool) {
	pool := &l.pipes
	if n := len(pool.idle); n > 0 {
		p = pool.idle[n-1]
		pool.idle = pool.idle[:n-1]
		return p, true
	}
	if pool.open >= maxPipes {
		return Pipe{}, false
	}
	// Begin where it went well the last time, one step higher: a user's share of pipe memory
	// (pipe-user-pages-soft) may have become free again.
	want := PipeSize
	if pool.size > 0 {
		want = min(2*pool.size, PipeSize)
	}
	p, size, ok := openPipe(want)
	if !ok {
		return Pipe{}, false
	}
	if l.Crowded(int(max(p.R, p.W))) {
		Close(int(p.R))
		Close(int(p.W))
		return Pipe{}, false
	}
	pool.size = size
	pool.open++
	return p, true
}

// PutPipe takes p back, which must be empty: what is in it would come out at somebody else's.
func (l *Loop) PutPipe(p Pipe) {
	if len(l.pipes.idle) >= idlePipes {
		l.DropPipe(p)
		return
	}
	l.pipes.idle = append(l.pipes.idle, p)
}

// DropPipe closes p with whatever is in it.
func (l *Loop) DropPipe(p Pipe) {
	l.pipes.open--
	Close(int(p.R))
	Close(int(p.W))
}

func (pool *pipePool) closeAll() {
	for _, p := range pool.idle {
		pool.open--
		Close(int(p.R))
		Close(int(p.W))
	}
	pool.idle = nil
}

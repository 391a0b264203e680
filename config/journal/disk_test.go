package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

var errCrashed = errors.New("the process is dead")

// memDisk is a file system of one directory that can fail, die and lose power. It forgets what
// was not synced, as a real one may: any sector of an unsynced write, any unsynced directory
// change. After a failed sync it is as forgetful as Linux: the pages count as clean and are never written.
type memDisk struct {
	mu      sync.Mutex
	names   map[string]*inode // what processes see
	durable map[string]*inode // what survives a power loss
	changes []change          // of names, since the last syncDir
	// forgotten by a failed syncDir: later ones of this process do not bring them back. A new process
	// can rely on its own: file systems that keep a log stop, or carry them over.
	forgotten []change
	locked    bool

	// fail, if set, is asked before each operation; an error makes the operation fail without effect,
	// but for half of a write and the forgetting of a sync.
	fail func(op, name string) error
	// left counts operations down to the crash; negative: no crash.
	left int
	log  []string // operations so far
}

type change struct {
	name  string
	inode *inode // nil: removed
}

type inode struct {
	seen    []byte // what processes see
	durable []byte
	dirty   []patch // written since the last sync, not forgotten
}

type patch struct {
	at   int64
	data []byte
	cut  bool // truncate to at
}

const sector = 16 // small, so that one record spans several

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*inode{}, durable: map[string]*inode{}, left: -1}
}

// step must be called with d.mu held, at the start of each operation.
func (d *memDisk) step(op, path string) error {
	name := filepath.Base(path)
	if d.left == 0 {
		return errCrashed
	}
	if d.left > 0 {
		d.left--
	}
	d.log = append(d.log, op+" "+name)
	if d.fail != nil {
		if err := d.fail(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return nil
}

func (d *memDisk) makeDir(string) error { return nil }

func (d *memDisk) lock(path string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, &LockedError{Dir: filepath.Dir(path)}
	}
	d.locked = true
	return memLock{d}, nil
}

type memLock struct{ d *memDisk }

func (l memLock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.d.locked = false
	return nil
}

func (d *memDisk) open(path string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := d.step(op, path); err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	i := d.names[name]
	if i == nil {
		if flag&os.O_CREATE == 0 {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		i = &inode{}
		d.set(name, i)
	}
	if flag&os.O_TRUNC != 0 {
		i.apply(patch{cut: true})
	}
	return &memFile{d, i}, nil
}

// set must be called with d.mu held.
func (d *memDisk) set(name string, i *inode) {
	d.changes = append(d.changes, change{name, i})
	if i == nil {
		delete(d.names, name)
	} else {
		d.names[name] = i
	}
}

func (d *memDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename", to); err != nil {
		return err
	}
	from, to = filepath.Base(from), filepath.Base(to)
	if d.names[from] == d.names[to] {
		return nil // as POSIX has it
	}
	d.set(to, d.names[from])
	d.set(from, nil)
	return nil
}

func (d *memDisk) link(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("link", to); err != nil {
		return err
	}
	from, to = filepath.Base(from), filepath.Base(to)
	if d.names[to] != nil {
		return fs.ErrExist
	}
	d.set(to, d.names[from])
	return nil
}

func (d *memDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove", path); err != nil {
		return err
	}
	if d.names[filepath.Base(path)] == nil {
		return fs.ErrNotExist
	}
	d.set(filepath.Base(path), nil)
	return nil
}

func (d *memDisk) list(string) ([]listed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == 0 {
		return nil, errCrashed
	}
	var all []listed
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		all = append(all, listed{name, int64(len(d.names[name].seen))})
	}
	return all, nil
}

func (d *memDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncDir", "."); err != nil {
		if !errors.Is(err, errCrashed) {
			d.forgotten = append(d.forgotten, d.changes...)
			d.changes = nil
		}
		return err
	}
	for _, c := range d.changes {
		c.apply(d.durable)
	}
	d.changes = nil
	return nil
}

func (c change) apply(names map[string]*inode) {
	if c.inode == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.inode
	}
}

type memFile struct {
	d *memDisk
	i *inode
}

// name is what the file is called now. Must be called with d.mu held.
func (f *memFile) name() string {
	for _, name := range []string{liveName, freshName} {
		if f.d.names[name] == f.i {
			return name
		}
	}
	return "nameless"
}

func (f *memFile) Close() error { return nil }

func (f *memFile) size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.i.seen)), nil
}

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.left == 0 {
		return 0, errCrashed
	}
	n := copy(b, f.i.seen[min(at, int64(len(f.i.seen))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("write", f.name()); err != nil {
		if !errors.Is(err, errCrashed) {
			f.i.apply(patch{at: at, data: slices.Clone(b[:len(b)/2])})
		}
		return len(b) / 2, err
	}
	f.i.apply(patch{at: at, data: slices.Clone(b)})
	return len(b), nil
}

func (f *memFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("truncate", f.name()); err != nil {
		return err
	}
	f.i.apply(patch{at: size, cut: true})
	return nil
}

func (f *memFile) sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("sync", f.name()); err != nil {
		if !errors.Is(err, errCrashed) {
			f.i.dirty = nil // clean, and never written: fsyncgate
		}
		return err
	}
	for _, p := range f.i.dirty {
		f.i.durable = p.apply(f.i.durable)
	}
	f.i.dirty = nil
	return nil
}

func (i *inode) apply(p patch) {
	i.seen = p.apply(i.seen)
	i.dirty = append(i.dirty, p)
}

func (p patch) apply(b []byte) []byte {
	if p.cut {
		return slices.Clone(b[:min(p.at, int64(len(b)))])
	}
	end := p.at + int64(len(p.data))
	grown := make([]byte, max(end, int64(len(b))))
	copy(grown, b)
	copy(grown[p.at:], p.data)
	return grown
}

// kill ends the process: the page cache stays, locks go.
func (d *memDisk) kill() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newMemDisk()
	next.names, next.durable = d.names, d.durable
	// In the order they were made, but for a name that a later syncDir has confirmed.
	for _, c := range append(d.forgotten, d.changes...) {
		if c.inode == d.names[c.name] {
			next.changes = append(next.changes, c)
		}
	}
	return next
}

// losePower keeps what was synced, and of the rest what luck keeps: each sector, each change of a
// name. luck 0 keeps nothing, 1 everything.
func (d *memDisk) losePower(luck float64, random *rand.Rand) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	lucky := func() bool { return random.Float64() < luck }
	next := newMemDisk()
	names := maps.Clone(d.durable)
	for _, c := range d.changes {
		// A rename is two changes here and one on disk: the removal of the temporary name may be
		// lost alone, which is harder than life.
		if lucky() {
			c.apply(names)
		}
	}
	twins := map[*inode]*inode{} // hard links stay links
	for _, name := range slices.Sorted(maps.Keys(names)) {
		i := names[name]
		if twins[i] == nil {
			b := slices.Clone(i.durable)
			for _, p := range i.dirty {
				b = p.survive(b, lucky)
			}
			twins[i] = &inode{seen: b, durable: slices.Clone(b)}
		}
		next.names[name], next.durable[name] = twins[i], twins[i]
	}
	return next
}

// survive applies what is left of p after a power loss; a lost sector before a kept one reads as zeros.
func (p patch) survive(b []byte, lucky func() bool) []byte {
	if p.cut {
		if lucky() {
			return p.apply(b)
		}
		return b
	}
	for at := 0; at < len(p.data); {
		edge := int(sector - (p.at+int64(at))%sector)
		end := min(len(p.data), at+edge)
		if lucky() {
			b = patch{at: p.at + int64(at), data: p.data[at:end]}.apply(b)
		}
		at = end
	}
	return b
}

// failOnce returns a fail hook that lets one operation fail: the n-th (from 0) that matches.
func failOnce(op, name string, n int, err error) func(string, string) error {
	return func(o, f string) error {
		if o != op || f != name {
			return nil
		}
		n--
		if n == -1 {
			return err
		}
		return nil
	}
}

func failAlways(op string, err error) func(string, string) error {
	return func(o, _ string) error {
		if o == op {
			return err
		}
		return nil
	}
}

const errIO, errFull = syscall.EIO, syscall.ENOSPC

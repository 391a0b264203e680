package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	liveName  = "journal.log"
	freshName = "journal.new"
	lockName  = "lock"

	defaultMaxSize     = 4 << 20
	defaultKeepHistory = 64 << 20

	// lazyLimit bounds the memory that lazy records take until a sync confirms them.
	lazyLimit = 256 << 10
)

// Options of Open and ReadOnly; the zero value is good.
type Options struct {
	// MaxSize in bytes: once the live file is larger, compaction is due. 0: 4 MiB.
	MaxSize int64

	// KeepHistory bounds the archives in bytes: Compact removes the oldest beyond it, but never
	// the newest. 0: 64 MiB; negative: keep all.
	KeepHistory int64

	// Warn is told what an operator should know: a constant message, then keys and values (it fits
	// slog.Logger.Warn and zap.SugaredLogger.Warnw). It must not call the journal. nil: nobody is told.
	Warn func(msg string, args ...any)

	disk disk // nil: the real one
}

func (o Options) withDefaults() Options {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.KeepHistory == 0 {
		o.KeepHistory = defaultKeepHistory
	}
	if o.Warn == nil {
		o.Warn = func(string, ...any) {}
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	return o
}

// Journal is an open journal, held by this process alone. All methods are safe for concurrent use.
type Journal struct {
	opts      Options
	disk      disk
	dir, path string // path of the live file
	lock      io.Closer

	// queue has the records that wait for mu; whoever gets it commits them all with one sync.
	// Its order is the order of the log.
	queueMu sync.Mutex // lock order: mu, then queueMu
	queue   []*entry

	// due is NeedsCompaction, kept beside mu so that asking does not wait for a sync.
	due atomic.Bool

	mu   sync.Mutex
	live file // nil once closed

	// size is where the next line goes. Invariant: every byte before it is a whole good line; a
	// byte behind it exists only while suspect is set or a commit is under way.
	size int64
	// synced is how much a sync has confirmed. Invariant: synced + len(unsynced) == size, and
	// unsynced has the very bytes, as a failed sync leaves no other good copy of them.
	synced   int64
	unsynced []byte

	// suspect is why the file or its name cannot be trusted; nil when it can. Invariant: while it
	// is set nothing is acknowledged, but for lazy records, which promise nothing yet.
	suspect error

	first uint64 // number of the first record that the live file has or will have
	last  uint64 // number of the last record taken
	base  int64  // size of header and checkpoint: what compaction cannot win back

	buf []byte // one batch, kept for the next
}

// entry is one record on its way into the file.
type entry struct {
	payload []byte
	lazy    bool
	done    bool // done and err: guarded by Journal.mu
	err     error
}

// Open takes the journal in dir, creating both if missing, and makes durable what it found. It answers
// with *LockedError if another door has it, *CorruptError if it is damaged, *NotFoundError if only history is there.
func Open(dir string, opts Options) (*Journal, error) {
	opts = opts.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := opts.disk.makeDir(dir); err != nil {
		return nil, fmt.Errorf("open journal: make state_dir: %w%s", err, advice(err))
	}
	lock, err := opts.disk.lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open journal: %w%s", err, advice(err))
	}
	j := &Journal{opts: opts, disk: opts.disk, dir: dir, path: filepath.Join(dir, liveName), lock: lock}
	if err := j.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w%s", err, advice(err)), j.release())
	}
	return j, nil
}

// open must be called with the lock file held, before anyone else has j.
func (j *Journal) open() error {
	err := j.removeIfThere(freshName)
	if err != nil {
		return err
	}
	j.live, err = j.disk.open(j.path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return j.create()
	}
	if err != nil {
		return err
	}
	data, err := readAll(j.live, -1)
	if err != nil {
		return fmt.Errorf("read %s: %w", j.path, err)
	}
	found := scan(data)
	if found.damaged {
		return corrupt(j.path, found)
	}
	j.first, _ = found.first()
	j.last = found.last()
	j.base = int64(found.base)
	j.setSize(int64(found.end))
	j.synced = j.size
	warnTorn(j.opts.Warn, j.path, data, found)
	if err := j.confirm(data, found); err != nil {
		// A door that carries traffic must not stay down because its disk is ill: it starts, says
		// so, and takes no change until the disk does.
		j.distrust("what was read may not survive a power loss", err)
	}
	return nil
}

// create begins an empty journal.
func (j *Journal) create() error {
	archives, err := listArchives(j.disk, j.dir)
	if err != nil {
		return err
	}
	if len(archives) > 0 {
		return &NotFoundError{Dir: j.dir, Archive: archives[len(archives)-1].path}
	}
	content := newFile(nil)
	fresh, err := j.writeFresh(content)
	if err != nil {
		return err
	}
	if err := j.disk.rename(j.in(freshName), j.path); err != nil {
		return errors.Join(err, fresh.Close())
	}
	j.adopt(fresh, content)
	j.first, j.base = 1, j.size
	return j.disk.syncDir(j.dir)
}

// confirm cuts a torn tail off and makes durable what was read. The last batch is written over
// itself first: its pages may be clean in memory though a sync of theirs failed (see doc.go).
func (j *Journal) confirm(data []byte, found contents) error {
	if found.end < len(data) {
		if err := j.live.Truncate(int64(found.end)); err != nil {
			return fmt.Errorf("truncate: %w", err)
		}
	}
	if from := found.lastBatch(); from < found.end {
		if _, err := j.live.WriteAt(data[from:found.end], int64(from)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := j.live.sync(); err != nil {
		return err
	}
	return j.disk.syncDir(j.dir)
}

// Append adds a record and returns once it is durable. Records of concurrent callers share a sync.
// After an error the record is not in the journal, which stays usable: a later Append works
// once the cause is gone.
func (j *Journal) Append(payload []byte) error {
	return j.enqueue(&entry{payload: payload})
}

// AppendLazy adds a record in its place but does not wait until it is durable: the next Append,
// Compact or Close sees to that. It survives kill -9, not a power loss before then. It may wait
// for a sync that is under way.
func (j *Journal) AppendLazy(payload []byte) error {
	return j.enqueue(&entry{payload: payload, lazy: true})
}

func (j *Journal) enqueue(e *entry) error {
	if err := checkPayload(e.payload); err != nil {
		return err
	}
	j.queueMu.Lock()
	j.queue = append(j.queue, e)
	j.queueMu.Unlock()

	j.mu.Lock()
	defer j.mu.Unlock()
	if !e.done { // else the one before us took it along
		j.commitQueue()
	}
	return e.err
}

// commitQueue must be called with j.mu held.
func (j *Journal) commitQueue() {
	j.queueMu.Lock()
	batch := j.queue
	j.queue = nil
	j.queueMu.Unlock()

	wait := false
	for _, e := range batch {
		wait = wait || !e.lazy
	}
	err := j.commit(batch, wait)
	if err != nil && !errors.Is(err, ErrClosed) {
		err = j.notTaken(err)
	}
	for _, e := range batch {
		e.done, e.err = true, err
	}
}

// commit writes batch and, if wait is set, makes it and all before it durable. Either all of batch
// is taken or nothing is. The order of events after a failed sync is in doc.go.
// Must be called with j.mu held.
func (j *Journal) commit(batch []*entry, wait bool) error {
	if j.live == nil {
		return ErrClosed
	}
	for again := false; ; again = true {
		if j.suspect != nil {
			if err := j.rewrite(); err != nil {
				return err
			}
		}
		lines := j.encode(batch)
		if err := j.write(lines); err != nil {
			return err
		}
		if !wait && len(j.unsynced)+len(lines) <= lazyLimit {
			j.unsynced = append(j.unsynced, lines...)
			j.take(batch, lines)
			return nil
		}
		err := j.live.sync()
		if err == nil {
			j.take(batch, lines)
			j.confirmed()
			return nil
		}
		_ = j.live.Truncate(j.size) // the file is suspect either way; this keeps the batch from the next Open
		j.distrust("a sync failed; the journal is copied to a fresh file before anything more is acknowledged", err)
		if again {
			return err
		}
	}
}

// encode must be called with j.mu held; the answer is good until the next call.
func (j *Journal) encode(batch []*entry) []byte {
	kind := Record
	if len(j.unsynced) > 0 {
		kind = joined
	}
	b := j.buf[:0]
	for i, e := range batch {
		b = appendLine(b, j.last+1+uint64(i), kind, e.payload)
		kind = joined
	}
	if cap(b) <= lazyLimit { // one huge record is not kept in memory for ever
		j.buf = b
	}
	return b
}

// write puts lines at the end, or takes what was written of them back, durably, so that not even a power loss
// brings a refused record into sight. Must be called with j.mu held.
func (j *Journal) write(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := j.live.WriteAt(lines, j.size)
	if err == nil {
		return nil
	}
	undo := j.live.Truncate(j.size)
	if undo == nil {
		undo = j.live.sync()
	}
	if undo == nil {
		j.confirmed()
	} else {
		j.distrust("a record could not be written, nor taken back; the journal is copied to a fresh file before the next", undo)
	}
	return fmt.Errorf("write: %w", err)
}

// take must be called with j.mu held.
func (j *Journal) take(batch []*entry, lines []byte) {
	j.last += uint64(len(batch))
	j.setSize(j.size + int64(len(lines)))
}

// confirmed notes that all of the live file is durable. Must be called with j.mu held.
func (j *Journal) confirmed() {
	j.synced = j.size
	j.unsynced = j.unsynced[:0]
}

// distrust must be called with j.mu held.
func (j *Journal) distrust(what string, err error) {
	j.suspect = err
	j.opts.Warn("journal is suspect", "file", j.path, "what", what, "error", err)
}

// rewrite copies what was confirmed, and the lazy records, to a fresh file in place of the suspect
// one. Must be called with j.mu held.
func (j *Journal) rewrite() error {
	cause := j.suspect
	data, err := readAll(j.live, j.synced)
	if err != nil {
		return fmt.Errorf("copy to a fresh file: read: %w (copied because of: %w)", err, cause)
	}
	if found := scan(data); found.fault != nil {
		return corrupt(j.path, found)
	}
	content := append(data, j.unsynced...)
	if again := scan(content); again.fault != nil || again.last() != j.last {
		return fmt.Errorf("copy to a fresh file: %s has records up to %d, want %d (copied because of: %w)", j.path, again.last(), j.last, cause)
	}
	fresh, err := j.writeFresh(content)
	if err != nil {
		return fmt.Errorf("copy to a fresh file: %w (copied because of: %w)", err, cause)
	}
	if err := j.replaceLive(fresh, content); err != nil {
		return fmt.Errorf("copy to a fresh file: %w (copied because of: %w)", err, cause)
	}
	j.opts.Warn("journal was copied to a fresh file and is sound again", "file", j.path, "records", j.last, "cause", cause)
	return nil
}

// writeFresh makes journal.new with content, durable but for its name.
func (j *Journal) writeFresh(content []byte) (file, error) {
	return writeDurable(j.disk, j.in(freshName), content)
}

func writeDurable(d disk, path string, content []byte) (file, error) {
	f, err := d.open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(content, 0); err != nil {
		err = fmt.Errorf("write %s: %w", path, err)
	} else if err = f.sync(); err == nil {
		return f, nil
	}
	// Space is short or the disk is ill: do not leave the copy behind.
	return nil, errors.Join(err, f.Close(), d.remove(path))
}

// replaceLive gives fresh the name of the live file. Once renamed it is the live file, whatever the
// directory sync says; if that fails the name is suspect. Must be called with j.mu held.
func (j *Journal) replaceLive(fresh file, content []byte) error {
	if err := j.disk.rename(j.in(freshName), j.path); err != nil {
		return errors.Join(err, fresh.Close(), j.disk.remove(j.in(freshName)))
	}
	_ = j.live.Close() // all that counts in it is in fresh, and confirmed there
	j.adopt(fresh, content)
	if err := j.disk.syncDir(j.dir); err != nil {
		err = fmt.Errorf("sync directory: %w", err)
		j.distrust("its new name may not survive a power loss", err)
		return err
	}
	j.suspect = nil
	return nil
}

// adopt must be called with j.mu held, once fresh has the name of the live file.
func (j *Journal) adopt(fresh file, content []byte) {
	j.live = fresh
	j.setSize(int64(len(content)))
	j.confirmed()
}

func (j *Journal) setSize(size int64) {
	j.size = size
	// A checkpoint of more than half the size would make compaction due for ever.
	j.due.Store(size > j.opts.MaxSize && size > 2*j.base)
}

// NeedsCompaction tells whether the live file has grown past MaxSize. It never waits.
func (j *Journal) NeedsCompaction() bool { return j.due.Load() }

// Compact begins a new live file with checkpoint, which stands for every record so far; the old
// one becomes history. The caller sees to it that no Append is under way whose effect checkpoint lacks.
// After an error the journal is usable, and Replay and History tell what they told before, or, if
// only the last step failed, what they would have told after.
//
// The order, and what a crash after each step leaves:
//
//	1 sync the live file                       as before
//	2 write and sync journal.new               as before; Open removes it
//	3 give the live file its history name too  as before; history skips an archive that
//	  and sync the directory                   begins where the live file begins
//	4 rename journal.new to journal.log        the old or the new live file, both whole;
//	                                           the archive is there in both cases
//	5 sync the directory                       the new live file
//	6 remove archives beyond KeepHistory       the next Compact removes them
func (j *Journal) Compact(checkpoint []byte) error {
	if err := checkPayload(checkpoint); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.compact(checkpoint); err != nil {
		if errors.Is(err, ErrClosed) {
			return err
		}
		return fmt.Errorf("compact %s: %w; no record is lost%s", j.path, err, advice(err))
	}
	return nil
}

// compact must be called with j.mu held.
func (j *Journal) compact(checkpoint []byte) error {
	if err := j.settle(); err != nil {
		return err
	}
	content := newFile(appendLine(nil, j.last, Checkpoint, checkpoint))
	fresh, err := j.writeFresh(content)
	if err != nil {
		return err
	}
	if j.last >= j.first { // it has records
		if err := j.archive(); err != nil {
			return errors.Join(err, fresh.Close(), j.disk.remove(j.in(freshName)))
		}
	}
	before := j.live
	err = j.replaceLive(fresh, content)
	if j.live == before {
		return err
	}
	j.first, j.base = j.last+1, int64(len(content))
	j.setSize(j.size)
	if err != nil {
		return err
	}
	if err := prune(j.disk, j.dir, j.opts.KeepHistory, j.first); err != nil {
		j.opts.Warn("old history not removed", "dir", j.dir, "error", err)
	}
	return nil
}

// settle makes all taken records durable, in a file that can be trusted. Must be called with j.mu held.
func (j *Journal) settle() error {
	if j.live == nil {
		return ErrClosed
	}
	if j.suspect == nil && len(j.unsynced) == 0 {
		return nil
	}
	return j.commit(nil, true)
}

// Replay calls f with the checkpoint, if there is one, and each record after it, in order: what a
// door that opened now would start from. It stops at the first error of f and returns it. f may
// keep the payload and may call the journal.
func (j *Journal) Replay(f func(kind Kind, payload []byte) error) error {
	data, _, err := j.view()
	if err != nil {
		return err
	}
	return replay(j.path, scan(data), f)
}

// History calls f with every record still kept, archives first, oldest first, each once; no
// checkpoints. What is damaged is passed over and told in the error at the end. It stops at the
// first error of f and returns it. Appends go on meanwhile and are not seen.
func (j *Journal) History(f func(payload []byte) error) error {
	data, archives, err := j.view()
	if err != nil {
		return err
	}
	return tell(j.disk, archives, j.path, data, f)
}

// view is the live file and the archives at one instant.
func (j *Journal) view() ([]byte, []archive, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live == nil {
		return nil, nil, ErrClosed
	}
	data, err := readAll(j.live, j.size)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w%s", j.path, err, advice(err))
	}
	archives, err := listArchives(j.disk, j.dir)
	return data, archives, err
}

// Close makes lazy records durable and lets another door have the journal. A second Close answers
// ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.settle()
	if errors.Is(err, ErrClosed) {
		return err
	}
	return errors.Join(err, j.release())
}

// release closes the files. Must be called with j.mu held, or before anyone else has j.
func (j *Journal) release() error {
	var err error
	if j.live != nil {
		err = j.live.Close()
		j.live = nil
	}
	return errors.Join(err, j.lock.Close())
}

func (j *Journal) in(name string) string { return filepath.Join(j.dir, name) }

func (j *Journal) removeIfThere(name string) error {
	if err := j.disk.remove(j.in(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func checkPayload(payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("record of %d bytes not taken: at most %d fit", len(payload), MaxPayload)
	}
	if at := bytes.IndexByte(payload, '\n'); at >= 0 {
		return fmt.Errorf("record not taken: newline at byte %d: a record is one line", at)
	}
	return nil
}

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const (
	archivePrefix = "history-"
	archiveSuffix = ".log"
)

// archive is a live file of former times, whole and never written again (but see listArchives).
type archive struct {
	path  string
	first uint64 // number of its first record
	size  int64
}

func archiveName(first uint64) string {
	return fmt.Sprintf("%s%020d%s", archivePrefix, first, archiveSuffix)
}

// listArchives returns the archives in dir, oldest first. The last may be the live file under
// a second name, if Compact ended half way: it begins where the live file begins.
func listArchives(d disk, dir string) ([]archive, error) {
	entries, err := d.list(dir)
	if err != nil {
		return nil, err
	}
	var all []archive
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.name, archivePrefix)
		if !ok {
			continue
		}
		digits, ok = strings.CutSuffix(digits, archiveSuffix)
		first, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || archiveName(first) != e.name {
			continue // not ours: an operator's copy
		}
		all = append(all, archive{filepath.Join(dir, e.name), first, e.size})
	}
	sort.Slice(all, func(a, b int) bool { return all[a].first < all[b].first })
	return all, nil
}

// archive gives the live file its history name as well, durably. An older file of that name is left
// from a Compact that ended half way and has nothing that the live file lacks. It is removed, not kept, even
// if it is the live file: its name may be what a failed directory sync has forgotten.
// Must be called with j.mu held.
func (j *Journal) archive() error {
	name := archiveName(j.first)
	if err := j.removeIfThere(name); err != nil {
		return err
	}
	linked := j.disk.link(j.path, j.in(name))
	if linked != nil { // not every file system has hard links
		if err := j.copyLive(j.in(name)); err != nil {
			return errors.Join(linked, err)
		}
	}
	return j.disk.syncDir(j.dir)
}

// copyLive must be called with j.mu held.
func (j *Journal) copyLive(path string) error {
	data, err := readAll(j.live, j.size)
	if err != nil {
		return err
	}
	f, err := writeDurable(j.disk, path, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// prune removes the oldest archives until the rest fits into keep bytes; the newest stays.
func prune(d disk, dir string, keep int64, liveFirst uint64) error {
	if keep < 0 {
		return nil
	}
	archives, err := listArchives(d, dir)
	if err != nil {
		return err
	}
	archives = before(archives, liveFirst)
	var total int64
	for _, a := range archives {
		total += a.size
	}
	for ; total > keep && len(archives) > 1; archives = archives[1:] {
		if err := d.remove(archives[0].path); err != nil {
			return err
		}
		total -= archives[0].size
	}
	return nil
}

// before returns the archives that hold something the live file does not.
func before(archives []archive, liveFirst uint64) []archive {
	n := sort.Search(len(archives), func(i int) bool { return archives[i].first >= liveFirst })
	return archives[:n]
}

// replay calls f with the good lines of a live file, then says what is wrong with it.
func replay(path string, found contents, f func(Kind, []byte) error) error {
	for _, l := range found.lines {
		kind := l.kind
		if kind == joined {
			kind = Record
		}
		if err := f(kind, l.payload); err != nil {
			return err
		}
	}
	if found.damaged {
		return corrupt(path, found)
	}
	return nil
}

// history gives records to f, each once; it passes over what is damaged and remembers it.
type history struct {
	f      func([]byte) error
	told   uint64 // number of the last record given to f
	broken []error
}

// tell gives the records of archives and live file to f, then says what was damaged.
func tell(d disk, archives []archive, livePath string, liveData []byte, f func([]byte) error) error {
	h := history{f: f}
	live := scan(liveData)
	if first, known := live.first(); known {
		archives = before(archives, first)
	}
	if err := h.archives(d, archives); err != nil {
		return err
	}
	if err := h.lines(live.lines); err != nil {
		return err
	}
	if live.damaged { // else the lines after a torn one were never acknowledged
		if err := h.lines(live.after); err != nil {
			return err
		}
		h.broken = append(h.broken, corrupt(livePath, live))
	}
	return errors.Join(h.broken...)
}

func (h *history) archives(d disk, archives []archive) error {
	for _, a := range archives {
		data, err := readFile(d, a.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned since: the oldest, so the rest is still without a gap
		}
		if err != nil {
			h.broken = append(h.broken, fmt.Errorf("read %s: %w", a.path, err))
			continue
		}
		found := scan(data)
		if err := h.lines(found.lines); err != nil {
			return err
		}
		if err := h.lines(found.after); err != nil {
			return err
		}
		if found.fault != nil {
			e := corrupt(a.path, found)
			e.archive = true
			h.broken = append(h.broken, e)
		}
	}
	return nil
}

func (h *history) lines(lines []line) error {
	for _, l := range lines {
		if l.kind == Checkpoint || l.seq <= h.told {
			continue
		}
		if err := h.f(l.payload); err != nil {
			return err
		}
		h.told = l.seq
	}
	return nil
}

func readFile(d disk, path string) ([]byte, error) {
	f, err := d.open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f, -1)
	return data, errors.Join(err, f.Close())
}

func corrupt(path string, found contents) *CorruptError {
	return &CorruptError{
		File:   path,
		Offset: int64(found.end),
		Reason: found.fault.Error(),
		Before: len(found.lines),
		After:  len(found.after),
	}
}

// warnTorn tells of a torn tail, if there is one, with the beginning of the bytes, so that nothing is
// lost unseen.
func warnTorn(warn func(string, ...any), path string, data []byte, found contents) {
	if found.fault == nil || found.damaged {
		return
	}
	tail := data[found.end:]
	warn("torn last record ignored: it was never acknowledged", "file", path, "offset", found.end,
		"bytes", len(tail), "reason", found.fault.Error(), "begins", fmt.Sprintf("%.64q", tail[:min(len(tail), 64)]))
}

// Reader reads a journal without holding it, be a door up or down.
type Reader struct {
	opts      Options
	disk      disk
	dir, path string
}

// ReadOnly reads the journal in dir without the lock and without changing anything; each call of
// its methods reads anew. It answers with *NotFoundError if there is nothing to read.
func ReadOnly(dir string, opts Options) (*Reader, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	opts = opts.withDefaults()
	r := &Reader{opts: opts, disk: opts.disk, dir: dir, path: filepath.Join(dir, liveName)}
	_, archives, err := r.view()
	if errors.Is(err, fs.ErrNotExist) && len(archives) > 0 {
		return r, nil // History can still tell something
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return r, nil
}

// Replay is [Journal.Replay]; of a damaged journal it gives what is readable before the damage,
// then the *CorruptError.
func (r *Reader) Replay(f func(kind Kind, payload []byte) error) error {
	data, _, err := r.view()
	if err != nil {
		return err
	}
	found := scan(data)
	warnTorn(r.opts.Warn, r.path, data, found)
	return replay(r.path, found, f)
}

// History is [Journal.History]; without a live file it gives the archives, then a *NotFoundError.
func (r *Reader) History(f func(payload []byte) error) error {
	data, archives, missing := r.view()
	if errors.Is(missing, fs.ErrNotExist) {
		h := history{f: f}
		if err := h.archives(r.disk, archives); err != nil {
			return err
		}
		return errors.Join(append(h.broken, missing)...)
	}
	if missing != nil {
		return missing
	}
	return tell(r.disk, archives, r.path, data, f)
}

// view reads the live file first: a Compact in between then shows it twice, not never, and an
// archive that begins where the live file begins is skipped.
func (r *Reader) view() ([]byte, []archive, error) {
	data, err := readFile(r.disk, r.path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, nil, fmt.Errorf("read %s: %w%s", r.path, err, advice(err))
	}
	archives, err := listArchives(r.disk, r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if missing {
		e := &NotFoundError{Dir: r.dir}
		if len(archives) > 0 {
			e.Archive = archives[len(archives)-1].path
		}
		return nil, archives, e
	}
	return data, archives, nil
}

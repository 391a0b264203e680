package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what the journal asks of a file system. Tests put one in its place that fails, forgets
// and loses power.
type disk interface {
	makeDir(dir string) error // durable; fine if it exists
	lock(path string) (io.Closer, error)
	open(path string, flag int) (file, error)
	rename(from, to string) error
	link(from, to string) error
	remove(path string) error
	list(dir string) ([]listed, error)
	syncDir(dir string) error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	sync() error // data, and the size that is needed to read it
	size() (int64, error)
}

type listed struct {
	name string
	size int64
}

type osDisk struct{}

func (osDisk) lock(path string) (io.Closer, error) { return lockFile(path) }
func (osDisk) rename(from, to string) error        { return os.Rename(from, to) }
func (osDisk) link(from, to string) error          { return os.Link(from, to) }
func (osDisk) remove(path string) error            { return os.Remove(path) }

func (d osDisk) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := d.makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(parent)
}

func (osDisk) open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) list(dir string) ([]listed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []listed
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, listed{e.Name(), info.Size()})
	}
	return all, nil
}

func (osDisk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

type osFile struct{ *os.File }

func (f osFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	return n, nameless(err)
}

func (f osFile) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(b, at)
	return n, nameless(err)
}

func (f osFile) Truncate(size int64) error { return nameless(f.File.Truncate(size)) }

// nameless takes the path off an error: the file was renamed since it was opened, and os.File
// would blame journal.new. Callers know the name.
func nameless(err error) error {
	if err == nil {
		return nil // without the allocation below
	}
	var named *fs.PathError
	if errors.As(err, &named) {
		return named.Err
	}
	return err
}

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readAll reads f up to limit, or all of it if limit is negative.
func readAll(f file, limit int64) ([]byte, error) {
	if limit < 0 {
		size, err := f.size()
		if err != nil {
			return nil, err
		}
		limit = size
	}
	b := make([]byte, limit)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil // shorter than it was: scan says what is missing
	}
	return b[:n], err
}

package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollEvery is how often the file is looked at without being told, which finds what inotify does not tell:
// changes made by another host on a network file system, a folder that was away for a while.
const pollEvery = 10 * time.Second

// Watch calls changed each time the bytes of the file at path are others than before, once it has been quiet
// for the debounce time (or ten times that, where it never is). It sees a write, a rename over the file, as
// editors do, and another target of a symbolic link on the way, as Kubernetes swaps ..data. A file that is
// away, or written anew with the same bytes, is no change.
//
// The watch stands when Watch returns; so call it before Load, and no change is lost between. Calls come one
// after the other, from one goroutine, which ends with ctx; done is closed after it.
func Watch(ctx context.Context, path string, debounce time.Duration, changed func()) (done <-chan struct{}, err error) {
	return watch(ctx, path, debounce, pollEvery, changed)
}

func watch(ctx context.Context, path string, debounce, poll time.Duration, changed func()) (<-chan struct{}, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	notes, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &watcher{path: path, debounce: debounce, changed: changed, notes: notes}
	err = w.follow()
	if err == nil {
		w.last, err = w.sum()
	}
	if err != nil {
		_ = notes.Close()
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	done := make(chan struct{})
	go w.run(ctx, poll, done) // ends with ctx
	return done, nil
}

type watcher struct {
	path     string
	debounce time.Duration
	changed  func()
	notes    *fsnotify.Watcher
	last     [sha256.Size]byte // of the bytes that were last told
}

func (w *watcher) run(ctx context.Context, poll time.Duration, done chan<- struct{}) {
	defer close(done)
	defer w.notes.Close() //nolint:errcheck // nothing is left to be done about it
	polled := time.NewTicker(poll)
	defer polled.Stop()
	quiet := time.NewTimer(0)
	quiet.Stop()
	var first time.Time // of the events that quiet waits out; zero: none
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.notes.Events:
			if e.Op == fsnotify.Chmod {
				continue
			}
			first = w.wait(quiet, first)
		case <-w.notes.Errors: // events were lost
			first = w.wait(quiet, first)
		case <-quiet.C:
			first = time.Time{}
			w.look()
		case <-polled.C:
			w.look()
		}
	}
}

// wait starts the quiet time anew, within its bound.
func (w *watcher) wait(quiet *time.Timer, first time.Time) time.Time {
	if first.IsZero() {
		first = time.Now()
	}
	quiet.Reset(min(w.debounce, time.Until(first.Add(10*w.debounce))))
	return first
}

// look first follows the path, then reads: what changes after the reading is noted by then.
func (w *watcher) look() {
	_ = w.follow() // what cannot be watched now is tried again at the next look
	sum, err := w.sum()
	if err != nil || sum == w.last {
		return
	}
	w.last = sum
	w.changed()
}

func (w *watcher) sum() (sum [sha256.Size]byte, err error) {
	text, err := readFile(w.path)
	return sha256.Sum256(text), err
}

// follow watches the folders on which the path depends now, and no others.
func (w *watcher) follow() error {
	want := folders(w.path)
	for _, old := range w.notes.WatchList() {
		if !slices.Contains(want, old) {
			_ = w.notes.Remove(old) // it may be gone
		}
	}
	var failed error
	for _, folder := range want {
		if err := w.notes.Add(folder); err != nil {
			failed = err
		}
	}
	return failed
}

// folders are those that hold the file, or a symbolic link on the way to it: a rename in any of them can put
// other bytes under the path. A folder is watched rather than the file, whose watch would go with the old file.
func folders(path string) []string {
	const maxLinks = 40 // as the kernel has it
	var found []string
	note := func(folder string) {
		if !slices.Contains(found, folder) {
			found = append(found, folder)
		}
	}
	at, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		step := rest[0]
		rest = rest[1:]
		if step == "" || step == "." {
			continue
		}
		next := filepath.Join(at, step) // also "..": at has no links in it
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			note(at) // where it would appear
			return found
		case info.Mode()&os.ModeSymlink == 0:
			if len(rest) == 0 {
				note(at)
			}
			at = next
		default:
			note(at)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return found
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	return found
}

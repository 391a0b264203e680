// Package toy is what the stand-in servers of the examples have in common: a record of what happened, in nanoseconds,
// and an HTTP server that ends what is under way before it stops.
package toy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// Record is a file with a line of JSON for each thing that happens. The zero value writes nothing.
type Record struct {
	name string
	mu   sync.Mutex
	file *os.File // guarded by mu; may be nil
}

// OpenRecord adds to a file, or to none when path is "". name is in each line.
func OpenRecord(path, name string) (*Record, error) {
	r := &Record{name: name}
	if path == "" {
		return r, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	r.file = f
	return r, err
}

// Note writes one line, in one write: what was written before a kill -9 is whole.
func (r *Record) Note(event string, more map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return
	}
	line := map[string]any{"node": r.name, "event": event, "at": time.Now().UnixNano()}
	maps.Copy(line, more)
	if b, err := json.Marshal(line); err == nil {
		_, _ = r.file.Write(append(b, '\n'))
	}
}

// Serve serves until ctx ends, and then until what is under way has its answer, for 5 s at most.
func Serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }() // ends with Shutdown, or an error
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(limit)
}

// WithPID runs f while a file has this process's number; path "": without. f calls opened when its ports are open, and
// whoever sees the file gone knows that they are closed again.
func WithPID(path string, f func(opened func() error) error) error {
	if path == "" {
		return f(func() error { return nil })
	}
	err := f(func() error {
		if err := os.WriteFile(path+".new", []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	})
	if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Exit says what ended a program, and ends it.
func Exit(program string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

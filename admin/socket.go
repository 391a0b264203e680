package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// maxSocketPath is what struct sockaddr_un has room for on Linux, without the final NUL. unix(7)
const maxSocketPath = 107

// socket is a listening Unix socket that knows its own file.
type socket struct {
	listener net.Listener
	path     string
	file     fs.FileInfo // as it was made
}

// openSocket listens at path, mode 0660. It is bound under another name first and renamed, so that nobody can
// open it before it has that mode, and so that path always leads to a door: the old one or this.
func openSocket(path string) (*socket, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%s: the path has %d bytes, the system allows %d: choose a shorter one in admin.socket", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := mayTake(path); err != nil {
		return nil, err
	}
	made := filepath.Join(filepath.Dir(path), ".s"+strconv.FormatInt(int64(os.Getpid()), 36))
	_ = os.Remove(made) // of a process that had our id before
	l, err := net.Listen("unix", made)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &socket{listener: l, path: path}
	if s.file, err = finish(made, path); err != nil {
		_, _ = l.Close(), os.Remove(made)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// finish gives the bound socket its mode and its name.
func finish(made, path string) (fs.FileInfo, error) {
	if err := os.Chmod(made, 0o660); err != nil {
		return nil, err
	}
	if err := os.Rename(made, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// mayTake tells whether path is free, or has a socket that nobody listens on.
func mayTake(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: there is a file that is not a socket; remove it or choose another admin.socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("%s: another door answers there; stop it, or choose another admin.socket and state_dir", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("%s: whether another door answers there cannot be told: %w", path, err)
}

// unlink removes the socket unless someone has put another in its place.
func (s *socket) unlink() error {
	now, err := os.Lstat(s.path)
	if err != nil || !os.SameFile(now, s.file) {
		return nil //nolint:nilerr // gone already, or not ours
	}
	return os.Remove(s.path)
}

package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnixPath is sizeof(sun_path) less the closing NUL.
const maxUnixPath = 107

// unixMode is the mode of a Unix socket's file: every user of the machine may connect.
const unixMode fs.FileMode = 0o666

func (s *Socket) openUnix() error {
	path := s.spec.Address
	if path == "" || path == "@" || len(path) > maxUnixPath {
		return fmt.Errorf("path has %d bytes: want 1 to %d, a limit of the kernel; a shorter directory helps", len(path), maxUnixPath)
	}
	abstract := strings.HasPrefix(path, "@") // a name without a file
	if !abstract {
		// Between looking whether the old socket is alive and listening at the new one, no other door
		// may do the same.
		unlock, err := lockDir(path)
		if err != nil {
			return err
		}
		defer unlock()
		if err := removeStale(path); err != nil {
			return err
		}
	}
	fd, err := newSocket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		if abstract && errors.Is(err, unix.EADDRINUSE) {
			return errServed
		}
		return os.NewSyscallError("bind", err)
	}
	if !abstract {
		var own unix.Stat_t
		// Nobody can connect before listen, so nobody gets in under the mode that the umask left.
		err := unix.Chmod(path, uint32(unixMode.Perm()))
		if err == nil {
			err = unix.Lstat(path, &own)
		}
		if err != nil {
			unix.Unlink(path)
			unix.Close(fd)
			return fmt.Errorf("chmod %v: %w", unixMode.Perm(), err)
		}
		s.cleanup = func() error { return unlinkOwn(path, own.Dev, own.Ino) }
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Unlink(path)
		unix.Close(fd)
		return os.NewSyscallError("listen", err)
	}
	s.fd, s.addr = fd, path
	return nil
}

var errServed = errors.New("another process serves this socket: stop it first, or choose another path (`ss -lxp` shows which)")

// removeStale makes way at path if a socket is there whose process is gone. Must be called with the
// directory locked.
func removeStale(path string) error {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return os.NewSyscallError("stat", err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("a file that is not a socket is in the way, and stays: move it, or choose another path")
	}
	fd, err := newSocket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case err == nil, errors.Is(err, unix.EAGAIN): // EAGAIN: its backlog is full, but it lives
		return errServed
	case errors.Is(err, unix.EPROTOTYPE): // a datagram socket that somebody has bound
		return errServed
	case errors.Is(err, unix.ECONNREFUSED):
		if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the stale socket: %w", err)
		}
		return nil
	case errors.Is(err, unix.ENOENT): // its owner has just removed it
		return nil
	default:
		return fmt.Errorf("a socket is in the way, and whether it is served cannot be told: %w", err)
	}
}

// unlinkOwn removes path if it still is the file that Open made. Its inode cannot have been given to
// another file meanwhile, since the bound socket holds it.
func unlinkOwn(path string, dev, ino uint64) error {
	unlock, err := lockDir(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer unlock()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Dev != dev || st.Ino != ino {
		return nil // removed or replaced: not ours to touch
	}
	return os.NewSyscallError("unlink", unix.Unlink(path))
}

// lockDir takes the lock of path's directory, which all doors use and which leaves no file behind.
func lockDir(path string) (unlock func(), err error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EACCES): // may be entered but not read: go without
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	// In a directory such as /tmp anybody may hold this lock for ever. A door does so for a moment: after a
	// second, and on a file system without locks, it goes without.
	for range 100 {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { unix.Close(fd) }, nil
}

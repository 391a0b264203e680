package listen

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstPassed is the descriptor that systemd's first socket has (SD_LISTEN_FDS_START).
const firstPassed = 3

// passed lists the descriptors that systemd opened for this process, with their names: see
// sd_listen_fds_with_names(3). A socket unit without FileDescriptorName= is called after the unit.
func passed() (fds []int, names []string) {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil, nil // meant for another process, or for none
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 {
		return nil, nil
	}
	given := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		name := "unknown" // as sd_listen_fds_with_names has it
		if i < len(given) && given[i] != "" {
			name = given[i]
		}
		fds, names = append(fds, firstPassed+i), append(names, name)
	}
	return fds, names
}

// openSystemd duplicates the passed socket. The original stays as it is, so that the name can be closed and
// opened again by reloads.
func (s *Socket) openSystemd() error {
	fds, names := passed()
	if len(fds) == 0 {
		return errors.New("systemd has passed no socket to this process (LISTEN_FDS is not set for it): start the door by a service with a .socket unit, or listen at host:port")
	}
	original := -1
	for i, name := range names {
		if name != s.spec.Address {
			continue
		}
		if original >= 0 {
			return fmt.Errorf("systemd has passed several sockets of this name: give each a .socket unit with its own FileDescriptorName=; there are %s", strings.Join(names, ", "))
		}
		original = fds[i]
	}
	if original < 0 {
		return fmt.Errorf("systemd has passed no socket of this name; there are %s (FileDescriptorName= of the .socket unit)", strings.Join(names, ", "))
	}
	if typ, err := unix.GetsockoptInt(original, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_STREAM {
		return fmt.Errorf("descriptor %d, which systemd has passed, is not a stream socket: want ListenStream= in the .socket unit", original)
	}
	if v, err := unix.GetsockoptInt(original, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v != 1 {
		return fmt.Errorf("descriptor %d, which systemd has passed, does not listen: want Accept=no in the .socket unit", original)
	}
	unix.CloseOnExec(original) // systemd leaves it open for children
	fd, err := unix.FcntlInt(uintptr(original), unix.F_DUPFD_CLOEXEC, firstPassed)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	_ = inherited(fd) // as far as it goes: it may be a Unix socket
	addr, err := localAddr(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.addr = fd, addr
	return nil
}

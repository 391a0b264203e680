package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rcvbuf makes sockets whose receive buffer is small; a listener hands it down to what it accepts.
func rcvbuf(bytes int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}); cerr != nil {
			return cerr
		}
		return err
	}
}

// dialSmall is door.dial with a small receive buffer.
func (d *door) dialSmall(service string, bytes int) *net.TCPConn {
	d.t.Helper()
	c, err := (&net.Dialer{Control: rcvbuf(bytes)}).Dial("tcp", d.addr(service))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c.(*net.TCPConn)
}

// dialFrom connects from a source address such as 127.0.0.7.
func (d *door) dialFrom(service, ip string) net.Conn {
	d.t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", d.addr(service))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c
}

// serveSmall is serve with small receive buffers.
func serveSmall(t testing.TB, name string, bytes int, handle func(c *net.TCPConn)) *toy {
	t.Helper()
	l, err := (&net.ListenConfig{Control: rcvbuf(bytes)}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, name, func(c net.Conn) { handle(c.(*net.TCPConn)) })
}

// serveOn serves on a listener of any kind.
func serveOn(t testing.TB, l net.Listener, name string, handle func(c net.Conn)) *toy {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			go handle(c)
		}
	}()
	return &toy{l, name}
}

// reset closes a connection with a reset.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// broken is what a write meets, or a read after an end of stream, when the peer has reset.
func broken(err error) bool { return isReset(err) || errors.Is(err, syscall.EPIPE) }

// waitAcked waits until the peer's kernel has acknowledged everything that was written.
func waitAcked(t testing.TB, c net.Conn) {
	t.Helper()
	waitFor(t, "everything acknowledged", func() bool {
		n, ok := outQueue(c)
		return !ok || n == 0
	})
}

func outQueue(c net.Conn) (n int, ok bool) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if info, ierr := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); ierr == nil && info.State == 7 {
			n = 0 // TCP_CLOSE: what is left will not be acknowledged
		}
	})
	return n, err == nil
}

// pattern is an endless stream of bytes in which a piece that is missing, doubled or moved shows: its period is a
// prime, so no buffer's size is a multiple of it. Cheap to make, also under the race detector.
type pattern struct {
	seed byte
	at   int64
}

const period = 65521

var block = func() []byte {
	b := make([]byte, 2*period)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b[:period])
	copy(b[period:], b[:period])
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	for i := 0; i < len(b); {
		from := (p.at + int64(p.seed)*251) % period
		n := copy(b[i:], block[from:from+period])
		i, p.at = i+n, p.at+int64(n)
	}
	return len(b), nil
}

// bytesOf are the first n bytes of a pattern.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = (&pattern{seed: seed}).Read(b)
	return b
}

// verify reads to the end of the stream and compares with the pattern. It returns how many bytes were right
// and what ended it; nil: an orderly end.
func verify(r io.Reader, seed byte) (int64, error) {
	want := &pattern{seed: seed}
	got, exp := make([]byte, 64<<10), make([]byte, 64<<10)
	var total int64
	for {
		n, err := r.Read(got)
		_, _ = want.Read(exp[:n])
		if string(got[:n]) != string(exp[:n]) {
			return total, fmt.Errorf("bytes differ within %d..%d", total, total+int64(n))
		}
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// deaf is a listener that never accepts, and whose backlog is full: dials to it hang.
func deaf(t testing.TB) (address string, revive func() net.Listener) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			unix.Close(fd)
		}
	})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	address = boundTo(t, fd)
	for { // until one hangs
		c, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { c.Close() })
	}
	return address, func() net.Listener {
		closed = true
		f := fileOf(fd)
		defer f.Close()
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}

// refused is an address at which nobody listens, nor can while the test runs.
func refused(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return boundTo(t, fd)
}

func boundTo(t testing.TB, fd int) string {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

// unixPath is a short path, for the limit of 107 bytes.
func unixPath(t testing.TB) string {
	t.Helper()
	return t.TempDir() + "/s"
}

// gone waits until the door has no client left.
func (d *door) gone() {
	d.t.Helper()
	waitFor(d.t, "no client left", func() bool { return d.plane.Connections() == 0 })
}

// counts adds up what is counted on the servers of an address.
func (d *door) counts(address string) (n struct{ Connections, Dialing, Failures, Total, Resteered int }) {
	for _, svc := range d.Current().Services {
		for _, p := range svc.Pools {
			for _, s := range p.Servers() {
				if s.Address == address {
					c := s.Counts()
					n.Connections += c.Connections
					n.Dialing += c.Dialing
					n.Failures += int(c.Failures)
					n.Total += int(c.Total)
					n.Resteered += int(c.Resteered)
				}
			}
		}
	}
	return n
}

// ask sends a line and reads one.
func ask(t testing.TB, c net.Conn, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatal(err)
	}
	return readLine(t, c)
}

// readAll reads to the end, whatever ends it.
func readAll(c net.Conn) (string, error) {
	var sb strings.Builder
	_, err := io.Copy(&sb, c)
	return sb.String(), err
}

func fileOf(fd int) *os.File { return os.NewFile(uintptr(fd), "listener") }

var errRefused = error(syscall.ECONNREFUSED)

func inQueue(c net.Conn) (n int, ok bool) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return n, err == nil
}

// sockErr tells whether a socket has heard of a reset; it leaves the socket as it is.
func sockErr(c net.Conn) (yes bool) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(p, 0)
		yes = p[0].Revents&unix.POLLERR != 0
	})
	return yes
}

// dialPatiently is dial by a blocking connect: net.Dial looks at the socket after it is connected, and would take a
// reset that has come by then for a failed connect.
func (d *door) dialPatiently(service string) *net.TCPConn {
	d.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	f := fileOf(fd)
	defer f.Close()
	to := netip.MustParseAddrPort(d.addr(service))
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		d.t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c.(*net.TCPConn)
}

// turnedAway connects and wants a reset. It may come so quickly that connect hears of it.
func (d *door) turnedAway(service string) {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr(service))
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		var n int
		if n, err = c.Read(make([]byte, 1)); n > 0 {
			d.t.Error("a byte came")
		}
	}
	if !isReset(err) {
		d.t.Errorf("want a reset, got %v", err)
	}
}

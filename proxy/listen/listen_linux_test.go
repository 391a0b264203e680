package listen

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/proxy"
)

func tcp(address string) proxy.ListenSpec {
	return proxy.ListenSpec{Network: proxy.NetTCP, Address: address}
}
func unixAt(path string) proxy.ListenSpec {
	return proxy.ListenSpec{Network: proxy.NetUnix, Address: path}
}

func open(t *testing.T, spec proxy.ListenSpec) *Socket {
	t.Helper()
	s, err := Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// refused opens spec and wants an error with all of the words.
func refused(t *testing.T, spec proxy.ListenSpec, words ...string) {
	t.Helper()
	before := openFDs(t)
	s, err := Open(spec)
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", spec)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before the refusal, %d after", before, after)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// knock connects to s, accepts, and returns the accepted descriptor and the client's address there.
func knock(t *testing.T, s *Socket, network, address string) (nfd int, from unix.Sockaddr) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := []unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(p, 10_000); err != unix.EINTR {
			break
		}
	}
	nfd, from, err = unix.Accept4(s.FD(), unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(nfd) })
	return nfd, from
}

func option(t *testing.T, fd, level, opt int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, opt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func flags(t *testing.T, fd int) {
	t.Helper()
	if f, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); f&unix.O_NONBLOCK == 0 {
		t.Error("the listener blocks")
	}
	if f, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); f&unix.FD_CLOEXEC == 0 {
		t.Error("children inherit the listener")
	}
}

func TestTCP_AcceptedConnectionsInheritTheListenersOptions(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			if strings.Contains(address, "::1") && !hasIPv6() {
				t.Skip("no IPv6 on this machine")
			}
			s := open(t, tcp(address))
			flags(t, s.FD())
			to := s.Addr()
			if address == ":0" {
				_, port, _ := net.SplitHostPort(to)
				to = "127.0.0.1:" + port
			}
			if s.Network() != proxy.NetTCP || s.Spec() != tcp(address) {
				t.Errorf("%s %v", s.Network(), s.Spec())
			}
			nfd, _ := knock(t, s, "tcp", to)
			if option(t, nfd, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 ||
				option(t, nfd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 ||
				option(t, nfd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 60 ||
				option(t, nfd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) != 15 ||
				option(t, nfd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT) != 4 {
				t.Error("an option was not inherited")
			}
		})
	}
}

func TestTCP_AnEmptyHostTakesBothFamilies(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	s := open(t, tcp(":0"))
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil || !strings.HasPrefix(s.Addr(), "[::]:") {
		t.Fatalf("bound at %s", s.Addr())
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		knock(t, s, "tcp", net.JoinHostPort(host, port))
	}
}

func TestTCP_AnEmptyHostWithoutIPv6IsIPv4(t *testing.T) {
	newSocket = func(domain, typ, proto int) (int, error) {
		if domain == unix.AF_INET6 {
			return -1, unix.EAFNOSUPPORT
		}
		return unix.Socket(domain, typ, proto)
	}
	defer func() { newSocket = unix.Socket }()
	s := open(t, tcp(":0"))
	if !strings.HasPrefix(s.Addr(), "0.0.0.0:") {
		t.Fatalf("bound at %s", s.Addr())
	}
}

func TestTCP_BothWildcardsStandSideBySide(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	six := open(t, tcp("[::]:0"))
	_, port, _ := net.SplitHostPort(six.Addr())
	four := open(t, tcp("0.0.0.0:"+port))
	knock(t, six, "tcp", "[::1]:"+port)
	knock(t, four, "tcp", "127.0.0.1:"+port)
}

func TestTCP_AnAddressCanBeOpenedAgainAfterConnections(t *testing.T) {
	s := open(t, tcp("127.0.0.1:0"))
	nfd, _ := knock(t, s, "tcp", s.Addr())
	unix.Shutdown(nfd, unix.SHUT_RDWR) // we close first: TIME_WAIT is ours
	at := s.Addr()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("second Close:", err)
	}
	open(t, tcp(at))
}

func TestTCP_ErrorsSayWhatToDo(t *testing.T) {
	s := open(t, tcp("127.0.0.1:0"))
	refused(t, tcp(s.Addr()), s.Addr(), "address already in use", "ss -ltnp")
	refused(t, tcp("192.0.2.77:0"), "no interface", "ip address")
	refused(t, tcp("nonsense"), "want host:port")
	refused(t, tcp(":99999"), `"99999"`, "want 0 to 65535")
	refused(t, tcp(":"), "want 0 to 65535")
	refused(t, tcp("no-such-host.invalid:80"), "no-such-host.invalid")
	refused(t, proxy.ListenSpec{Network: "udp", Address: ":80"}, `"udp"`, "want tcp")
}

func TestUnix_IsServedWithItsModeAndRemovedByClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, unixAt(path))
	flags(t, s.FD())
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o666 || s.Addr() != path {
		t.Fatalf("%v %v %s", fi.Mode(), err, s.Addr())
	}
	knock(t, s, "unix", path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("the file is still there: %v", err)
	}
}

func TestUnix_AStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as after kill -9
	dead.Close()
	s := open(t, unixAt(path))
	knock(t, s, "unix", path)
}

func TestUnix_ALiveSocketIsRefusedAndStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	live := open(t, unixAt(path))
	refused(t, unixAt(path), path, "another process serves this socket")
	knock(t, live, "unix", path)

	dgram := filepath.Join(t.TempDir(), "d")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dgram})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused(t, unixAt(dgram), "another process serves this socket")
}

func TestUnix_AnyOtherFileIsNeverRemoved(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		refused(t, unixAt(path), "not a socket", "stays")
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", path, err)
		}
	}
	refused(t, unixAt(filepath.Join(dir, "missing", "s")), "missing", "no such file or directory")
	refused(t, unixAt(filepath.Join(dir, strings.Repeat("x", 120))), "want 1 to 107")
	refused(t, unixAt(""), "want 1 to 107")
}

func TestUnix_CloseLeavesASuccessorsFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := open(t, unixAt(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := open(t, unixAt(path))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	knock(t, second, "unix", path)
}

func TestUnix_OfManyThatOpenAStaleSocketOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		var wg sync.WaitGroup
		won := make(chan *Socket, 8)
		for range 8 {
			wg.Go(func() {
				if s, err := Open(unixAt(path)); err == nil {
					won <- s
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d doors believe that they serve %s", len(won), path)
		}
		s := <-won
		knock(t, s, "unix", path)
		s.Close()
	}
}

func TestUnix_AnAbstractNameHasNoFile(t *testing.T) {
	name := fmt.Sprintf("@turnout-test-%d", os.Getpid())
	s := open(t, unixAt(name))
	if s.Addr() != name {
		t.Errorf("at %q", s.Addr())
	}
	knock(t, s, "unix", name)
	refused(t, unixAt(name), "another process serves this socket")
}

// What systemd does: the sockets are opened outside and passed to a new process as descriptors 3, 4, …
func TestSystemd_PassedSocketsAreServedByName(t *testing.T) {
	if os.Getenv("TURNOUT_TEST_SYSTEMD") != "" {
		systemdChild(t)
		return
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	path := filepath.Join(t.TempDir(), "s")
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	connected, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()

	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	for _, l := range []interface{ File() (*os.File, error) }{
		web.(*net.TCPListener), local.(*net.UnixListener), web.(*net.TCPListener), web.(*net.TCPListener), connected.(*net.UnixConn),
	} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(os.Environ(), "TURNOUT_TEST_SYSTEMD="+web.Addr().String(),
		"LISTEN_FDS=5", "LISTEN_FDNAMES=web:local:twin:twin:connected")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all served") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func systemdChild(t *testing.T) {
	web := proxy.ListenSpec{Network: proxy.NetSystemd, Address: "web"}
	refused(t, web, "LISTEN_FDS is not set for it")
	t.Setenv("LISTEN_PID", "1")
	refused(t, web, "LISTEN_FDS is not set for it")
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid())) // systemd knows it before exec; the test does not

	refused(t, proxy.ListenSpec{Network: proxy.NetSystemd, Address: "wbe"}, "systemd:wbe", "web, local, twin, twin, connected")
	refused(t, proxy.ListenSpec{Network: proxy.NetSystemd, Address: "twin"}, "several", "FileDescriptorName=")
	refused(t, proxy.ListenSpec{Network: proxy.NetSystemd, Address: "connected"}, "does not listen", "Accept=no")
	for range 2 { // closed and opened again, as by two reloads
		s := open(t, web)
		flags(t, s.FD())
		if s.Addr() != os.Getenv("TURNOUT_TEST_SYSTEMD") {
			t.Fatalf("at %s", s.Addr())
		}
		nfd, _ := knock(t, s, "tcp", s.Addr())
		if option(t, nfd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 60 {
			t.Error("options were not set")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	local := open(t, proxy.ListenSpec{Network: proxy.NetSystemd, Address: "local"})
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(local.Addr()); err != nil {
		t.Fatalf("systemd's own file was removed: %v", err)
	}
	fmt.Println("all served")
}

func TestNotify_TellsTheStatesInOneMessage(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(Ready); err != nil {
		t.Fatal("without systemd:", err)
	}
	path := filepath.Join(t.TempDir(), "n")
	for _, name := range []string{path, fmt.Sprintf("@turnout-notify-%d", os.Getpid())} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Setenv("NOTIFY_SOCKET", name)
		for _, tell := range []struct {
			states []string
			want   string
		}{
			{[]string{Ready, Status("212 connections\nrevision 41")}, "READY=1\nSTATUS=212 connections revision 41"},
			{[]string{Stopping}, "STOPPING=1"},
			{[]string{Reloading()}, "RELOADING=1\nMONOTONIC_USEC="},
		} {
			if err := Notify(tell.states...); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1000)
			n, err := c.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:n]), tell.want) {
				t.Fatalf("%q (%v), want %q", b[:n], err, tell.want)
			}
		}
	}
	t.Setenv("NOTIFY_SOCKET", path+"-gone")
	if err := Notify(Ready); err == nil {
		t.Fatal("nobody heard, and no error")
	}
}

func TestClose_ResetsWhoWasNotAccepted(t *testing.T) {
	s := open(t, tcp("127.0.0.1:0"))
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Fatalf("read: %v, want a reset", err)
	}
}

func hasIPv6() bool {
	s, err := Open(tcp("[::1]:0"))
	if err == nil {
		s.Close()
	}
	return err == nil
}

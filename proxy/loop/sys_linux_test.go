package loop

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenOn makes a listening socket on a loopback address and returns where it is.
func listenOn(t testing.TB, addr string) (fd int, at Sockaddr) {
	t.Helper()
	a, err := ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	fd, errno := Socket(a.Family(), SockStream, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { Close(fd) })
	sa := a.Sockaddr()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.b)), uintptr(sa.n)); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(fd, 128); err != nil {
		t.Fatal(err)
	}
	if errno := Getsockname(fd, &at); errno != 0 {
		t.Fatal(errno)
	}
	return fd, at
}

// waitFor blocks until fd has one of events (POLLIN, POLLOUT).
func waitFor(t testing.TB, fd int, events int16) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(p, 10_000); err != unix.EINTR {
			break
		}
	}
	if p[0].Revents == 0 {
		t.Fatalf("descriptor %d: nothing for 10 s", fd)
	}
}

// connected returns both ends of a TCP connection, and where the client is.
func connected(t testing.TB, addr string) (client, server int, from Sockaddr) {
	t.Helper()
	lfd, at := listenOn(t, addr)
	client, errno := Socket(at.Family(), SockStream, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { Close(client) })
	if errno := Connect(client, &at); errno != 0 && errno != syscall.EINPROGRESS {
		t.Fatal(errno)
	}
	waitFor(t, client, unix.POLLOUT)
	if errno := GetsockErr(client); errno != 0 {
		t.Fatal(errno)
	}
	waitFor(t, lfd, unix.POLLIN)
	server, errno = AcceptAddr(lfd, &from)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { Close(server) })
	if _, errno := Accept4(lfd); errno != syscall.EAGAIN {
		t.Fatalf("accept of nobody: %v", errno)
	}
	return client, server, from
}

func TestSys_AConnectionFromConnectToReset(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			if addr[0] == '[' && !hasIPv6() {
				t.Skip("no IPv6 on this machine")
			}
			client, server, from := connected(t, addr)
			var own, peer Sockaddr
			if errno := Getsockname(client, &own); errno != 0 || own.Addr() != from.Addr() {
				t.Fatalf("the client is %v, accepted as %v (%v)", own.Addr(), from.Addr(), errno)
			}
			if errno := Getpeername(server, &peer); errno != 0 || peer.Addr() != from.Addr() {
				t.Fatalf("peer %v, want %v (%v)", peer.Addr(), from.Addr(), errno)
			}

			b := make([]byte, 100)
			if _, errno := Recv(server, b); errno != syscall.EAGAIN {
				t.Fatalf("read of nothing: %v", errno)
			}
			if n, errno := Send(client, []byte("abc")); n != 3 || errno != 0 {
				t.Fatal(n, errno)
			}
			if n, errno := Sendv(client, []byte("de"), []byte("fgh")); n != 5 || errno != 0 {
				t.Fatal(n, errno)
			}
			waitFor(t, server, unix.POLLIN)
			if n, errno := Peek(server, b); errno != 0 || !strings.HasPrefix("abcdefgh", string(b[:n])) {
				t.Fatalf("peeked %q %v", b[:n], errno)
			}
			var got []byte
			for len(got) < 8 {
				waitFor(t, server, unix.POLLIN)
				n, errno := Recv(server, b)
				if errno != 0 {
					t.Fatal(errno)
				}
				got = append(got, b[:n]...)
			}
			if string(got) != "abcdefgh" {
				t.Fatalf("%q", got)
			}

			if errno := Shutdown(client, ShutWrite); errno != 0 {
				t.Fatal(errno)
			}
			waitFor(t, server, unix.POLLIN)
			if n, errno := Recv(server, b); n != 0 || errno != 0 {
				t.Fatalf("end of stream: %d %v", n, errno)
			}
			if errno := SetLinger0(server); errno != 0 {
				t.Fatal(errno)
			}
			Close(server)
			waitFor(t, client, unix.POLLIN)
			if _, errno := Recv(client, b); errno != syscall.ECONNRESET {
				t.Fatalf("after a reset: %v", errno)
			}
			if _, errno := Send(client, b); errno != syscall.EPIPE {
				t.Fatalf("send after that: %v, and no SIGPIPE", errno)
			}
		})
	}
}

func TestSys_ARefusedConnectIsToldByTheSocket(t *testing.T) {
	lfd, at := listenOn(t, "127.0.0.1:0")
	Close(lfd)
	fd, _ := Socket(AFInet, SockStream, 0)
	defer Close(fd)
	errno := Connect(fd, &at)
	if errno == syscall.EINPROGRESS {
		waitFor(t, fd, unix.POLLOUT)
		errno = GetsockErr(fd)
	}
	if errno != syscall.ECONNREFUSED {
		t.Fatal(errno)
	}
}

func TestSys_OutQueueCountsWhatThePeerHasNotTaken(t *testing.T) {
	client, server, _ := connected(t, "127.0.0.1:0")
	b := make([]byte, 64<<10)
	sent := 0
	for {
		n, errno := Send(client, b)
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		sent += n
	}
	out, errno := OutQueue(client)
	if errno != 0 {
		t.Fatal(errno)
	}
	in, errno := InQueue(server)
	if errno != 0 || out == 0 || in == 0 || in+out < sent {
		t.Fatalf("sent %d, out %d, in %d (%v)", sent, out, in, errno)
	}
	if errno := SetNodelay(server); errno != 0 {
		t.Fatal(errno)
	}
}

func TestSys_AUnixSocketIsConnectedByItsPath(t *testing.T) {
	path := t.TempDir() + "/s"
	lfd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(lfd)
	if err := unix.Bind(lfd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(lfd, 1); err != nil {
		t.Fatal(err)
	}
	sa, err := UnixSockaddr(path)
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := Socket(AFUnix, SockStream, 0)
	defer Close(fd)
	if errno := Connect(fd, &sa); errno != 0 {
		t.Fatal(errno)
	}
	var from, peer Sockaddr
	nfd, errno := AcceptAddr(lfd, &from)
	if errno != 0 || from.Addr().Family() != AFUnix || from.Path() != "" {
		t.Fatalf("from %v %q (%v)", from.Addr(), from.Path(), errno)
	}
	defer Close(nfd)
	if errno := Getpeername(fd, &peer); errno != 0 || peer.Path() != path {
		t.Fatalf("peer %q (%v)", peer.Path(), errno)
	}
}

func TestPipes_BytesGoThroughAndThePoolIsBounded(t *testing.T) {
	before := openFDs(t)
	a, b := pair(t)
	c, d := pair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 2048)
	l := start(t)
	l.Do(func() {
		p, ok := l.GetPipe()
		if !ok {
			t.Error("no pipe")
			return
		}
		if size, _ := unix.FcntlInt(uintptr(p.R), unix.F_GETPIPE_SZ, 0); size < minPipeSize {
			t.Errorf("a pipe of %d bytes", size)
		}
		Send(a, want)
		n, errno := Splice(b, int(p.W), 1<<20, SpliceMove|SpliceNonblock)
		if n != len(want) || errno != 0 {
			t.Errorf("into the pipe: %d %v", n, errno)
		}
		if n, errno = Splice(b, int(p.W), 1<<20, SpliceMove|SpliceNonblock); errno != syscall.EAGAIN {
			t.Errorf("of nothing: %d %v", n, errno)
		}
		if n, errno = Splice(int(p.R), c, 1<<20, SpliceMove|SpliceNonblock); n != len(want) || errno != 0 {
			t.Errorf("out of the pipe: %d %v", n, errno)
		}
		got := make([]byte, 1<<16)
		if n, errno := Recv(d, got); errno != 0 || !bytes.Equal(got[:n], want) {
			t.Errorf("%d bytes arrived (%v)", n, errno)
		}
		Shutdown(a, ShutWrite)
		if n, errno = Splice(b, int(p.W), 1<<20, SpliceMove|SpliceNonblock); n != 0 || errno != 0 {
			t.Errorf("end of stream: %d %v", n, errno)
		}
		l.PutPipe(p)
		if again, _ := l.GetPipe(); again != p {
			t.Error("an idle pipe is not used again")
		}
		lent := []Pipe{p}
		for {
			p, ok := l.GetPipe()
			if !ok {
				break
			}
			lent = append(lent, p)
		}
		if len(lent) != maxPipes {
			t.Errorf("%d pipes were lent, the bound is %d", len(lent), maxPipes)
		}
		for _, p := range lent[1:] {
			l.PutPipe(p)
		}
		l.DropPipe(lent[0])
		if len(l.pipes.idle) != idlePipes || l.pipes.open != idlePipes {
			t.Errorf("%d idle of %d open, want %d", len(l.pipes.idle), l.pipes.open, idlePipes)
		}
	})
	if after := openFDs(t); after > before+8+2*idlePipes {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestPipes_DescriptorsUsedUpAreNoPanic(t *testing.T) {
	var old, low unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	l := start(t)
	low = old
	low.Cur = uint64(openFDs(t))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	l.Do(func() {
		for range 10 {
			if _, ok := l.GetPipe(); !ok {
				return
			}
		}
		t.Error("pipes beyond the limit of descriptors")
	})
}

func TestBufs_HandlesAreDistinctAndKeepTheirBytes(t *testing.T) {
	l := start(t)
	l.Do(func() {
		var handles []int32
		for i := range 200 {
			h := l.GetBuf(i * 300)
			want := LargeBuf
			for _, size := range []int{SmallBuf, TinyBuf} {
				if i*300 <= size {
					want = size
				}
			}
			if h == NoBuf || len(l.Bytes(h)) != want {
				t.Errorf("handle %d, %d bytes", h, len(l.Bytes(h)))
			}
			if len(l.Bytes(h)) < i*300 {
				t.Errorf("asked for %d, got %d", i*300, len(l.Bytes(h)))
			}
			l.Bytes(h)[0] = byte(i)
			handles = append(handles, h)
		}
		for i, h := range handles {
			if l.Bytes(h)[0] != byte(i) {
				t.Errorf("buffer %d was written by another", i)
			}
			l.PutBuf(h)
		}
		l.PutBuf(NoBuf)
		if len(l.bufs.small) > idleSmallBufs || len(l.bufs.large) > idleLargeBufs {
			t.Error("more is kept idle than the bound")
		}
		defer func() {
			if recover() == nil {
				t.Error("a buffer could be put back twice")
			}
		}()
		l.PutBuf(handles[0])
	})
}

func TestSys_NothingAllocates(t *testing.T) {
	a, b := pair(t)
	lfd, at := listenOn(t, "127.0.0.1:0")
	buf := make([]byte, 1<<16)
	msg, more := []byte("abc"), []byte("def")
	var from Sockaddr
	if n := testing.AllocsPerRun(200, func() {
		Send(a, msg)
		Sendv(a, msg, more)
		Peek(b, buf)
		Recv(b, buf)
		OutQueue(a)
		fd, _ := Socket(AFInet, SockStream, 0)
		Connect(fd, &at)
		nfd, _ := AcceptAddr(lfd, &from)
		_ = from.Addr().As16()
		Getsockname(nfd, &from)
		SetNodelay(fd)
		SetLinger0(fd)
		GetsockErr(fd)
		Shutdown(fd, ShutWrite)
		Close(fd)
		Close(nfd)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

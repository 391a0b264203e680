package stream_test

import (
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy/loop"
)

// wire is a listener and a client made of raw system calls, so that what is allocated is the door's.
type wire struct {
	t        *testing.T
	listener int
	to       loop.Sockaddr // the door
	buf      [64]byte
}

// try repeats a call until there is something to do for it.
func (w *wire) try(what string, f func() bool) {
	for end := time.Now().Add(20 * time.Second); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// carry has 64 bytes go from one descriptor to another, through the door.
func (w *wire) carry(from, to int) {
	if n, err := loop.Send(from, w.buf[:]); n != len(w.buf) || err != 0 {
		w.t.Fatal(n, err)
	}
	got := 0
	w.try("64 bytes", func() bool {
		n, _ := loop.Recv(to, w.buf[got:])
		got += n
		return got == len(w.buf)
	})
}

// connect opens a connection through the door: the client's descriptor and the server's.
func (w *wire) connect() (client, server int) {
	client, err := loop.Socket(w.to.Family(), loop.SockStream, 0)
	if err != 0 {
		w.t.Fatal(err)
	}
	loop.Connect(client, &w.to)
	w.try("a connection at the server", func() bool {
		server, err = loop.Accept4(w.listener)
		return err == 0
	})
	return client, server
}

// allocated is how many allocations one call of f takes, of n.
func allocated(n int, f func()) float64 {
	f()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// Whatever is allocated per connection, or per message, is at least one. What the test and the runtime allocate
// now and then meanwhile is far less.
func TestStream_NeitherAConnectionNorAMessageAllocates(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := openDoor(t, pools([]string{"blue", ln.Addr().String()}))
	addr, err := loop.ParseAddr(d.addr("svc"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, listener: int(file.Fd()), to: addr.Sockaddr()}
	if err := syscall.SetNonblock(w.listener, true); err != nil {
		t.Fatal(err)
	}
	connection := func() {
		client, server := w.connect()
		w.carry(client, server)
		w.carry(server, client)
		loop.Close(client)
		loop.Close(server)
	}
	for range 600 { // slots, timers and lists are made
		connection()
	}
	if n := allocated(1000, connection); n > 0.5 {
		t.Errorf("%.2f allocations a connection, want none", n)
	}
	client, server := w.connect()
	if n := allocated(2000, func() { w.carry(client, server); w.carry(server, client) }); n > 0.2 {
		t.Errorf("%.2f allocations a message there and back, want none", n)
	}
	loop.Close(client)
	loop.Close(server)
}

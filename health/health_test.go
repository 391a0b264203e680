package health

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDial_ReachesAServerOnTCPAndOnAUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": path} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		address = l.Addr().String()
		if network == "unix" {
			address = "unix:" + address
		}
		if err := Dial(t.Context(), address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestDial_SaysInShortWhyNot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	_ = l.Close()
	for address, want := range map[string]string{
		refusing:           "connect: connection refused",
		"unix:/nowhere/at": "connect: no such file or directory",
		"127.0.0.1":        "connect: address 127.0.0.1: missing port in address",
	} {
		if err := Dial(t.Context(), address); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}

func TestDial_EndsWithItsContext(t *testing.T) {
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := Dial(late, "127.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "connect: no answer in time" {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Dial(gone, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestGlance_SeesWhoIsThereAndLeavesTheRestToDial(t *testing.T) {
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listening := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for address, want := range map[string]bool{
		listening("tcp", "127.0.0.1:0"):                      true,
		listening("tcp", "[::1]:0"):                          true,
		"unix:" + listening("unix", filepath.Join(dir, "s")): true,
		gone.Addr().String():                                 false,
		"unix:" + filepath.Join(dir, "nobody"):               false,
		"localhost:1":                                        false, // to be looked up first
		"127.0.0.1":                                          false,
	} {
		if got := Glance(address, time.Second); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

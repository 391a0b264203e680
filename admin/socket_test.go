package admin

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func closeSocket(t *testing.T, s *socket) {
	t.Helper()
	if err := s.unlink(); err != nil {
		t.Error(err)
	}
	if err := s.listener.Close(); err != nil {
		t.Error(err)
	}
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestSocket_IsForOwnerAndGroupAndRemovedAtTheEnd(t *testing.T) {
	path := filepath.Join(shortDir(t), "new", "s")
	s, err := openSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Error(err, info.Mode())
	}
	closeSocket(t, s)
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Error(err, left)
	}
}

func TestSocket_OfADoorThatDiedIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	s, err := openSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	closeSocket(t, s)
}

func TestSocket_OfALivingDoorIsRefusedAndGoesOn(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	s, err := openSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeSocket(t, s)
	if _, err := openSocket(path); err == nil || !strings.Contains(err.Error(), "another door answers there; stop it") {
		t.Error(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("the living door lost its socket: ", err)
	}
	_ = c.Close()
}

func TestSocket_NeverRemovesAFileThatIsNotOne(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSocket(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Error(err, text)
	}
}

func TestSocket_ThatAnotherTookIsLeftAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	s, err := openSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	closeSocket(t, s)
	if !isThere(path) {
		t.Error("the other door's socket was removed")
	}
}

func TestSocket_WithAPathTooLongSaysSo(t *testing.T) {
	_, err := openSocket("/" + strings.Repeat("x", 200))
	if err == nil || !strings.Contains(err.Error(), "the path has 201 bytes, the system allows 107") {
		t.Error(err)
	}
}

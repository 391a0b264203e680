package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal makes standard input one, and returns its other end.
func terminal(t *testing.T) *os.File {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { keys.Close() })
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdin
	os.Stdin = in
	t.Cleanup(func() {
		os.Stdin = old
		in.Close()
	})
	return keys
}

// Whoever types y twice has not read the second question.
func TestConfirm_AnAnswerTypedBeforeTheQuestionIsNone(t *testing.T) {
	keys := terminal(t)
	said, err := io.Pipe()
	c := &cli{ui: newUI(io.Discard, err)}
	questions := bufio.NewReader(said)
	for _, ask := range []struct {
		typed string
		want  bool
	}{{"y\ny\n", true}, {"n\n", false}, {"yes\nno\n", true}, {"yes\n", true}} {
		go func() { // ends with the question
			_, _ = questions.ReadString(']')
			_, _ = io.WriteString(keys, ask.typed)
		}()
		if got, err := c.confirm(t.Context(), "sure?"); err != nil || got != ask.want {
			t.Errorf("%q: %v, %v", ask.typed, got, err)
		}
	}
}

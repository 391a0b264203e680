//go:build linux

package proc

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func zombie(stat []byte) bool {
	i := bytes.LastIndexByte(stat, ')')
	return bytes.HasPrefix(stat[i+1:], []byte(" Z"))
}

// blocked is a stdin that neither delivers nor ends while the test runs.
func blocked(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}

package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkAppend compares with the least it could cost: the same bytes through write and
// fdatasync alone.
func BenchmarkAppend(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 200)
	b.Run("bare", func(b *testing.B) {
		f, err := osDisk{}.open(filepath.Join(b.TempDir(), "bare"), os.O_RDWR|os.O_CREATE)
		if err != nil {
			b.Fatal(err)
		}
		line := appendLine(nil, 1, Record, payload)
		for i := 0; b.Loop(); i++ {
			if _, err := f.WriteAt(line, int64(i*len(line))); err != nil {
				b.Fatal(err)
			}
			if err := f.sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		j := openReal(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := j.Append(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lazy", func(b *testing.B) {
		j := openReal(b)
		for b.Loop() {
			if err := j.AppendLazy(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("32 callers", func(b *testing.B) {
		j := openReal(b)
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := j.Append(payload); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func openReal(b *testing.B) *Journal {
	j, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close() })
	return j
}

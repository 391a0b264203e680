package journal

import (
	"slices"
	"strings"
	"testing"
)

// FuzzReplay opens whatever bytes stand in the live file: it opens or says why not, and if it
// opens, what it shows stays, and one more record fits behind it.
func FuzzReplay(f *testing.F) {
	d := newMemDisk()
	j := open(f, d)
	mustAppend(f, j, `{"a":1}`, "b")
	f.Add(slices.Clone(d.names[liveName].seen))
	if err := j.Compact([]byte("[]")); err != nil {
		f.Fatal(err)
	}
	_ = j.AppendLazy([]byte("lazy"))
	mustAppend(f, j, "c")
	whole := d.names[liveName].seen
	f.Add(slices.Clone(whole))
	f.Add(slices.Clone(whole[:len(whole)-3]))
	f.Add(append(slices.Clone(whole), make([]byte, 100)...))
	f.Add([]byte(strings.Replace(string(whole), "joined", "record", 1)))
	f.Add([]byte("turnout-journal 1 base 999999999999 00000000\n"))
	f.Add([]byte{})

	f.Fuzz(func(t *testing.T, data []byte) {
		d := newMemDisk()
		d.names[liveName] = &inode{seen: slices.Clone(data), durable: slices.Clone(data)}
		d.durable[liveName] = d.names[liveName]
		if r, err := ReadOnly("/state", options(d)); err == nil {
			_, _ = tryHistory(r)
			_ = r.Replay(func(Kind, []byte) error { return nil })
		}
		j, err := Open("/state", options(d))
		if err != nil {
			return
		}
		shown := raw(t, j)
		mustAppend(t, j, "one more")
		want(t, "after a power loss", raw(t, open(t, d.losePower(0, dice()))), append(shown, "record one more"))
	})
}

// raw is Replay without a look into checkpoints.
func raw(t tester, j *Journal) (all []string) {
	t.Helper()
	if err := j.Replay(func(kind Kind, payload []byte) error {
		all = append(all, string(kind)+" "+string(payload))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

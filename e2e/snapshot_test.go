package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What lies in the folder and is no snapshot is told, is never a comparison in which nothing is worse, and keeps neither the
// others nor a swap from anything.
func TestSnapshot_WhatIsNoneIsToldAndHarmsNothing(t *testing.T) {
	t.Parallel()
	a, b := startSide(t, 'a'), startSide(t, 'b')
	d := newDoor(t, fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n    require_snapshot: 1h\n", freePort(t), a.addr, b.addr)).start()
	folder := filepath.Join(d.state, "snapshots")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"torn": `{"name":"torn","services":{"web":nu`, "null": "null", "none": `{"name":"none","taken":"2026-01-01T00:00:00Z","services":{"web":null}}`,
		"renamed": `{"name":"other","taken":"2026-01-01T00:00:00Z","services":{}}`, "random": "\x00\xff\x1b",
	} {
		if err := os.WriteFile(filepath.Join(folder, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		exitsLike(t, d.cli("snapshot", "compare", name), 1, "it cannot be read: snapshot "+name, "the file was left as it is", "`turnout snapshot take "+name+" --force` puts one in its place")
	}
	if err := syscall.Mkfifo(filepath.Join(folder, "pipe.json"), 0o600); err != nil { // whoever opens it waits
		t.Fatal(err)
	}
	exitsLike(t, d.cli("snapshot", "compare", "pipe"), 1, "it cannot be read: snapshot pipe: ", " is no file")
	exitsLike(t, d.cli("swap", "web"), 4, "gate snapshot: there is no snapshot; want one of the last 1h0m0s")
	d.must("snapshot", "take", "first")
	d.must("snapshot", "take", "torn", "--force")
	if r := d.must("snapshot", "list"); !strings.Contains(r.out, "first") || strings.Contains(r.out, "torn is damaged") || !strings.Contains(r.out, "null is damaged: ") {
		t.Errorf("list: %s", r)
	}
	exitsLike(t, d.cli("snapshot", "compare", "torn", "--with", "first"), 2, "snapshot first is older than torn: it would be told the wrong way round; `turnout snapshot compare first --with torn`")
	exitsLike(t, d.cli("snapshot", "compare", "first", "--with", "torn"), 0, "nothing is worse than in snapshot first")
	for _, name := range []string{"..", ".", "a b", "ä", "a/b", "%2e%2e", "a?b", "x\ny"} {
		exitsLike(t, d.cli("snapshot", "take", name), 2, "want a name of letters, digits, '.', '_' and '-'")
	}
	d.must("swap", "web")
}

// The 200 newest are kept, whatever else is in the folder.
func TestSnapshot_TheNewestAreKept(t *testing.T) {
	t.Parallel()
	a := startSide(t, 'a')
	d := newDoor(t, fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q]}\n", freePort(t), a.addr)).start()
	for n := range 205 {
		text := fmt.Sprintf(`{"name":"old-%d","taken":"2026-01-01T00:%02d:%02dZ","services":{}}`, n, n/60, n%60)
		if n == 0 {
			d.must("snapshot", "take", "now")
		}
		if err := os.WriteFile(filepath.Join(d.state, "snapshots", fmt.Sprintf("old-%d.json", n)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.must("snapshot", "take", "last")
	r := d.must("snapshot", "list")
	if n := strings.Count(r.out, "\n") - 1; n != 200 || !strings.Contains(r.out, "now ") || !strings.Contains(r.out, "last ") || strings.Contains(r.out, "old-6 ") || !strings.Contains(r.out, "old-7 ") {
		t.Errorf("%d are kept: %s", n, r)
	}
}

// On a full disk none is taken, which is said, and what there is stays.
func TestSnapshot_OnAFullDiskIsNotTakenAndSaysSo(t *testing.T) {
	disk := tmpfs(t, "size=512k")
	a := startSide(t, 'a')
	d := newDoor(t, fmt.Sprintf("services:\n  web:\n    listen: %q\n    pools: {a: [%q]}\n", freePort(t), a.addr))
	if err := os.Mkdir(d.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, filepath.Join(d.state, "snapshots")); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.must("snapshot", "take", "first")
	fill := filepath.Join(disk, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	exitsLike(t, d.cli("snapshot", "take", "first", "--force"), 1, "snapshot first: write ", "no space left on device", "the snapshots that there are stay as they are", "make room in state_dir")
	exitsLike(t, d.cli("snapshot", "compare", "first"), 0, "nothing is worse than in snapshot first")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	d.must("snapshot", "take", "second")
}

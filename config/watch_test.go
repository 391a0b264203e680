package config

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const soon = 10 * time.Second // as long as a machine may take, not as long as it does

// watched starts a watch that never polls, and returns where it tells changes.
func watched(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	return watchedWith(t, path, time.Millisecond, time.Hour)
}

func watchedWith(t *testing.T, path string, debounce, poll time.Duration) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan struct{}, 100)
	done, err := watch(ctx, path, debounce, poll, func() { told <- struct{}{} })
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(soon):
			t.Error("the watch does not end with its context")
		}
	})
	return told
}

func awaitTold(t *testing.T, told <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(soon):
		t.Fatalf("%s is not told", what)
	}
}

// onlyThese does each harmless thing, then changes the file, many times over, and wants one call for each
// change: a call for the harmless thing would be one too many.
func onlyThese(t *testing.T, told <-chan struct{}, file string, harmless func()) {
	t.Helper()
	for i := range 100 {
		harmless()
		runtime.Gosched()
		replace(t, file, strconv.Itoa(i))
		awaitTold(t, told, "a change")
		select {
		case <-told:
			t.Fatal("told more often than the bytes changed")
		default:
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+"~", text)
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path+"~"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestWatch_TellsAWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turnout.yaml")
	write(t, file, "one")
	told := watched(t, file)
	for _, text := range []string{"two", "three", "two"} {
		replace(t, file, text) // whole at once: a reader between truncate and write would rightly see one more change
		awaitTold(t, told, text)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(" and more"); err != nil {
		t.Fatal(err)
	}
	awaitTold(t, told, "an appended line")
}

func TestWatch_TellsARenameOverTheFileEachTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turnout.yaml")
	write(t, file, "one")
	told := watched(t, file)
	for _, text := range []string{"two", "three", "four"} {
		replace(t, file, text)
		awaitTold(t, told, text)
	}
}

func TestWatch_TellsAFileThatWasAwayAndCameBackWithOtherBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turnout.yaml")
	write(t, file, "one")
	told := watched(t, file)
	if err := os.Rename(file, file+".bak"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".bak", file); err != nil {
		t.Fatal(err)
	}
	replace(t, file, "two")
	awaitTold(t, told, "the file that came back")
	select {
	case <-told:
		t.Error("a file that was only away is told as a change")
	default:
	}
}

func TestWatch_TellsTheSymlinkSwapOfKubernetes(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		mkdir(t, filepath.Join(dir, name))
		write(t, filepath.Join(dir, name, "turnout.yaml"), text)
		link(t, name, filepath.Join(dir, "..data"))
	}
	version("..2026_01", "one")
	file := filepath.Join(dir, "turnout.yaml")
	link(t, filepath.Join("..data", "turnout.yaml"), file)
	told := watched(t, file)
	last := "..2026_01"
	for _, name := range []string{"..2026_02", "..2026_03", "..2026_04"} {
		version(name, name)
		if err := os.RemoveAll(filepath.Join(dir, last)); err != nil {
			t.Fatal(err)
		}
		last = name
		awaitTold(t, told, name)
	}
}

func TestWatch_FollowsALinkedFolderToItsNewPlace(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		mkdir(t, filepath.Join(dir, "releases", v))
		write(t, filepath.Join(dir, "releases", v, "turnout.yaml"), v)
	}
	current := filepath.Join(dir, "current")
	link(t, "releases/v1", current)
	told := watched(t, filepath.Join(current, "turnout.yaml"))
	link(t, "releases/v2", current)
	awaitTold(t, told, "the folder's new target")
	replace(t, filepath.Join(dir, "releases", "v2", "turnout.yaml"), "v2b")
	awaitTold(t, told, "a change at the new target")
}

func TestWatch_SaysNothingWhenTheBytesAreTheSame(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "turnout.yaml")
	write(t, file, "one")
	told := watchedWith(t, file, 0, time.Hour) // each event has its own look
	onlyThese(t, told, file, func() {
		same, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, file, string(same))
		write(t, filepath.Join(dir, "another.yaml"), "x")
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWatch_TakesABusyFolderForNoReasonToWaitForEver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "turnout.yaml")
	write(t, file, "one")
	told := watchedWith(t, file, 50*time.Millisecond, time.Hour)
	replace(t, file, "two")
	deadline := time.After(soon)
	for {
		select {
		case <-told:
			return
		case <-deadline:
			t.Fatal("a folder in which something always changes hides the change of the file")
		default:
			replace(t, filepath.Join(dir, "busy"), "x")
		}
	}
}

func TestWatch_FindsByLookingWhatNoNoticeTells(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	mkdir(t, dir)
	file := filepath.Join(dir, "turnout.yaml")
	write(t, file, "one")
	told := watchedWith(t, file, time.Millisecond, 20*time.Millisecond)
	if err := os.Rename(dir, dir+".old"); err != nil { // the folder itself is not in a watched folder
		t.Fatal(err)
	}
	mkdir(t, dir)
	write(t, file, "two")
	awaitTold(t, told, "a file in a folder made anew")
}

func TestWatch_RefusesAFileThatIsNotThere(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		_, err := Watch(context.Background(), filepath.Join(t.TempDir(), "none.yaml"), time.Second, func() {})
		if err == nil || !strings.Contains(err.Error(), "none.yaml") {
			t.Fatalf("got %v", err)
		}
	}
	for end := time.Now().Add(soon); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before it were %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestFolders_AreThoseOfTheFileAndOfEachLinkOnTheWay(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(dir, "a", "b"))
	mkdir(t, filepath.Join(dir, "c"))
	write(t, filepath.Join(dir, "c", "real"), "")
	link(t, filepath.Join(dir, "a"), filepath.Join(dir, "to_a"))
	link(t, "../../c/real", filepath.Join(dir, "a", "b", "file"))
	link(t, "loop", filepath.Join(dir, "loop"))
	for path, want := range map[string][]string{
		"to_a/b/file": {"", "a/b", "c"},
		"a/b/file":    {"a/b", "c"},
		"c/real":      {"c"},
		"none/x":      {""},
		"loop":        {""},
	} {
		for i := range want {
			want[i] = filepath.Join(dir, want[i])
		}
		if got := folders(filepath.Join(dir, path)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

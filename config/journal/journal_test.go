package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tester is what the helpers need of testing.TB and rapid.T.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// open opens a journal on d; t fails if it does not open.
func open(t tester, d disk, change ...func(*Options)) *Journal {
	t.Helper()
	j, err := Open("/state", options(d, change...))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func options(d disk, change ...func(*Options)) Options {
	o := Options{KeepHistory: -1, disk: d}
	for _, c := range change {
		c(&o)
	}
	return o
}

func mustAppend(t tester, j *Journal, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := j.Append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// replayed is the state a door would start from: what the checkpoint stands for (checkpoints of
// these tests are JSON lists of payloads), then the records.
func replayed(t tester, j interface {
	Replay(func(Kind, []byte) error) error
}) []string {
	t.Helper()
	var all []string
	err := j.Replay(func(kind Kind, payload []byte) error {
		if kind == Checkpoint {
			return json.Unmarshal(payload, &all)
		}
		all = append(all, string(payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func told(t tester, j interface {
	History(func([]byte) error) error
}) []string {
	t.Helper()
	all, err := tryHistory(j)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func tryHistory(j interface {
	History(func([]byte) error) error
}) (all []string, err error) {
	err = j.History(func(payload []byte) error {
		all = append(all, string(payload))
		return nil
	})
	return all, err
}

func checkpointOf(payloads []string) []byte {
	b, err := json.Marshal(payloads)
	if err != nil {
		panic(err)
	}
	return b
}

func want(t tester, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// wantEverywhere checks Replay and History of j and of a reader beside it.
func wantEverywhere(t tester, d disk, j *Journal, all []string) {
	t.Helper()
	want(t, "replay", replayed(t, j), all)
	want(t, "history", told(t, j), all)
	r, err := ReadOnly("/state", options(d))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "read-only replay", replayed(t, r), all)
	want(t, "read-only history", told(t, r), all)
}

func wantText(t tester, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q: %v", p, err)
		}
	}
}

func TestJournal_ComesBackAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "state")
	opts := Options{}
	j, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, `{"a":1}`, "", `{"b":"é"}`)
	if err := j.AppendLazy([]byte("lazy")); err != nil {
		t.Fatal(err)
	}
	if err := j.Compact([]byte(`["{\"a\":1}","","{\"b\":\"é\"}","lazy"]`)); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "after")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(dir, opts); err != nil {
		t.Fatal(err)
	}
	all := []string{`{"a":1}`, "", `{"b":"é"}`, "lazy", "after"}
	want(t, "replay", replayed(t, j), all)
	want(t, "history", told(t, j), all)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("state_dir has mode %v (%v), want 0700", info.Mode(), err)
	}
}

// A file once written must be readable for ever, and doc.go shows what it looks like.
func TestFormat_IsWhatTheDocShows(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	for i := range 41 {
		mustAppend(t, j, fmt.Sprint(i))
	}
	if err := j.Compact([]byte(`{"active":"green"}`)); err != nil {
		t.Fatal(err)
	}
	if err := j.AppendLazy([]byte(`{"swap":"web"}`)); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, `{"note":"done"}`)
	text := string(d.names[liveName].seen)
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(text) {
		if !strings.Contains(string(doc), "//\t"+l) {
			t.Errorf("doc.go lacks %q", l)
		}
	}
}

func TestAppend_RefusesWhatIsNoLine(t *testing.T) {
	j := open(t, newMemDisk())
	wantText(t, j.Append([]byte("a\nb")), "newline at byte 1")
	wantText(t, j.Append(make([]byte, MaxPayload+1)), "at most 16777216")
	wantText(t, j.Compact([]byte("\n")), "newline")
	mustAppend(t, j, "a")
	want(t, "replay", replayed(t, j), []string{"a"})
}

func TestClosedJournal_AnswersErrClosed(t *testing.T) {
	j := open(t, newMemDisk())
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		j.Append(nil), j.AppendLazy(nil), j.Compact(nil), j.Close(),
		j.Replay(nil), j.History(nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
}

func TestJournal_TornLastRecordIsIgnored(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first", "second")
	whole := len(d.names[liveName].seen)
	mustAppend(t, j, strings.Repeat("third", 9))
	data := slices.Clone(d.names[liveName].seen)

	for _, kind := range []string{"short", "zeros", "flipped"} {
		for at := whole; at < len(data); at++ {
			torn := slices.Clone(data)
			switch kind {
			case "short":
				torn = torn[:at]
			case "zeros":
				clear(torn[at:])
			case "flipped":
				torn[at] ^= 1
			}
			d := newMemDisk()
			d.names[liveName] = &inode{seen: slices.Clone(torn), durable: torn}
			d.durable[liveName] = d.names[liveName]
			var warned []string
			warn := func(o *Options) {
				o.Warn = func(msg string, args ...any) { warned = append(warned, fmt.Sprint(msg, args)) }
			}
			j := open(t, d, warn)
			want(t, "replay", replayed(t, j), []string{"first", "second"})
			if len(torn) > whole {
				told := fmt.Sprintf("offset %d bytes %d", whole, len(torn)-whole)
				if len(warned) != 1 || !strings.Contains(warned[0], told) {
					t.Fatalf("%s at %d: warned %q, want %q", kind, at, warned, told)
				}
			} else if len(warned) != 0 {
				t.Fatalf("%s at %d: warned %q of a clean end", kind, at, warned)
			}
			mustAppend(t, j, "next")
			j = open(t, d.losePower(0, dice()))
			want(t, "after the next append", replayed(t, j), []string{"first", "second", "next"})
		}
	}
}

// A batch shares one sync, so power may go when its second record is on disk and its first is not.
// That is no damage: nobody was told yes.
func TestJournal_TornBatchIsIgnoredThoughItsEndIsGood(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	at := len(d.names[liveName].seen)
	for _, p := range []string{"lazy one", "lazy two"} {
		if err := j.AppendLazy([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	d = d.kill()
	d.names[liveName].seen[at+20] ^= 1
	j = open(t, d)
	want(t, "replay", replayed(t, j), []string{"first"})
	mustAppend(t, j, "next one") // as long as the bad one: what stood behind it must not come back
	d = d.kill()
	wantEverywhere(t, d, open(t, d), []string{"first", "next one"})
}

func TestJournal_DamageInTheMiddleIsAnError(t *testing.T) {
	all := []string{"first", "second", "third", "fourth"}
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, all...)
	data := slices.Clone(d.names[liveName].seen)
	last := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	for at := range last {
		bad := slices.Clone(data)
		bad[at] ^= 0x20
		d := newMemDisk()
		d.names[liveName] = &inode{seen: slices.Clone(bad)}
		_, err := Open("/state", options(d))
		var damage *CorruptError
		if !errors.As(err, &damage) {
			t.Fatalf("byte %d damaged: %v, want a CorruptError", at, err)
		}
		wantText(t, err, "/state/journal.log is damaged at byte", "turnout history", "restore the file from a backup")
		if !bytes.Equal(d.names[liveName].seen, bad) {
			t.Fatalf("byte %d damaged: Open changed the file", at)
		}
		if d.locked {
			t.Fatal("the lock is still held")
		}
		r, err := ReadOnly("/state", options(d))
		if err != nil {
			t.Fatal(err)
		}
		readable, err := tryHistory(r)
		if !errors.As(err, &damage) {
			t.Fatalf("byte %d damaged: history says %v", at, err)
		}
		if len(readable) < 3 || readable[len(readable)-1] != "fourth" {
			t.Fatalf("byte %d damaged: only %q readable", at, readable)
		}
	}
}

// The way out that the error names must work.
func TestCorruptError_ItsHintWorks(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first", "second")
	if err := j.Compact(checkpointOf([]string{"first", "second"})); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "third", "fourth", "fifth")
	live := d.names[liveName]
	live.seen[bytes.Index(live.seen, []byte("fourth"))] ^= 1
	d = d.kill()
	_, err := Open("/state", options(d))
	var damage *CorruptError
	if !errors.As(err, &damage) {
		t.Fatal(err)
	}
	wantText(t, err, fmt.Sprintf("head -c %d '/state/journal.log'", damage.Offset))
	live.seen = live.seen[:damage.Offset]
	j = open(t, d)
	wantEverywhere(t, d, j, []string{"first", "second", "third"})
}

// A checkpoint was durable before the file got its name: nothing of it can be torn.
func TestJournal_DamagedCheckpointIsNoTornTail(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	if err := j.Compact(checkpointOf([]string{"first"})); err != nil {
		t.Fatal(err)
	}
	data := slices.Clone(d.names[liveName].seen)
	for at := range data {
		for _, bad := range [][]byte{data[:at], append(slices.Clone(data[:at]), make([]byte, len(data)-at)...)} {
			d.names[liveName].seen = slices.Clone(bad)
			_, err := Open("/state", options(d.kill()))
			var damage *CorruptError
			if !errors.As(err, &damage) {
				t.Fatalf("cut at %d: %v, want a CorruptError", at, err)
			}
		}
	}
}

func TestOpen_RefusesANewerFormat(t *testing.T) {
	d := newMemDisk()
	d.names[liveName] = &inode{seen: []byte("turnout-journal 2 whatever\n")}
	_, err := Open("/state", options(d))
	wantText(t, err, "format 2 by a newer turnout", "run the newer one")
}

func TestOpen_RefusesHistoryWithoutALiveFile(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	if err := j.Compact(checkpointOf([]string{"first"})); err != nil {
		t.Fatal(err)
	}
	d = d.kill()
	delete(d.names, liveName)
	_, err := Open("/state", options(d))
	var missing *NotFoundError
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v, want a NotFoundError", err)
	}
	wantText(t, err, "cp /state/history-00000000000000000001.log /state/journal.log")
	r, err := ReadOnly("/state", options(d))
	if err != nil {
		t.Fatal(err)
	}
	all, err := tryHistory(r)
	want(t, "history", all, []string{"first"})
	if !errors.As(err, &missing) {
		t.Fatalf("history says %v", err)
	}
	// The hint works.
	d.names[liveName] = &inode{seen: slices.Clone(d.names[archiveName(1)].seen)}
	j = open(t, d)
	mustAppend(t, j, "second")
	wantEverywhere(t, d, j, []string{"first", "second"})
}

func TestReadOnly_SaysThatNoDoorHasRun(t *testing.T) {
	_, err := ReadOnly(filepath.Join(t.TempDir(), "none"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	wantText(t, err, "no door has run with this state_dir")
}

func TestReadOnly_ReadsBesideADoorAndLeavesATornTail(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	live := d.names[liveName]
	live.seen = append(live.seen, "0123abcd 2 rec"...)
	before := slices.Clone(live.seen)
	r, err := ReadOnly("/state", options(d))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "replay", replayed(t, r), []string{"first"})
	want(t, "history", told(t, r), []string{"first"})
	if !bytes.Equal(live.seen, before) {
		t.Fatal("a reader changed the file")
	}
}

func TestAppend_ConcurrentRecordsAllComeBackInOneOrder(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir, Options{MaxSize: 2 << 10})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				add := j.Append
				if n%5 == 4 {
					add = j.AppendLazy
				}
				if err := add(fmt.Appendf(nil, "%d %d", w, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { // and someone reads and compacts all the while
		for range 10 {
			told(t, j)
			if err := j.Compact([]byte("[]")); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	live := told(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	all := told(t, j)
	want(t, "history", all, live)
	next := make([]int, writers)
	for _, p := range all {
		var w, n int
		if _, err := fmt.Sscan(p, &w, &n); err != nil || next[w] != n {
			t.Fatalf("%q where writer %d is at %d", p, w, next[w])
		}
		next[w]++
	}
	if len(all) != writers*each {
		t.Fatalf("%d records, want %d", len(all), writers*each)
	}
}

// Those who wait while one syncs share the next sync: n writers need fewer than n syncs.
func TestAppend_WaitersShareASync(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	syncs := 0
	d.fail = func(op, _ string) error {
		if op == "sync" {
			syncs++
			once.Do(func() { close(entered); <-leave })
		}
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { mustAppend(t, j, "first") })
	select {
	case <-entered:
	case <-time.After(5 * time.Second):
		t.Fatal("an append did not sync")
	}
	for range 10 {
		wg.Go(func() { mustAppend(t, j, "waiter") })
	}
	for queued := 0; queued < 10; {
		j.queueMu.Lock()
		queued = len(j.queue)
		j.queueMu.Unlock()
	}
	close(leave)
	wg.Wait()
	if syncs != 2 {
		t.Fatalf("%d syncs for one append and ten that waited, want 2", syncs)
	}
	if n := len(replayed(t, j)); n != 11 {
		t.Fatalf("%d records, want 11", n)
	}
}

func TestAppendLazy_SurvivesAKillAndIsDurableWithTheNextAppend(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	syncs := len(d.log)
	if err := j.AppendLazy([]byte("lazy")); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(d.log[syncs:], "sync "+liveName) {
		t.Fatal("a lazy record waited for a sync")
	}
	random := dice()
	want(t, "after a kill", replayed(t, open(t, d.kill())), []string{"first", "lazy"})

	d = newMemDisk()
	j = open(t, d)
	if err := j.AppendLazy([]byte("lazy")); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "second")
	want(t, "after the next append", replayed(t, open(t, d.losePower(0, random))), []string{"lazy", "second"})

	if err := j.AppendLazy([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "after close", replayed(t, open(t, d.losePower(0, random))), []string{"lazy", "second", "last"})
}

func TestAppendLazy_IsSyncedBeforeItTakesMuchMemory(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	big := bytes.Repeat([]byte("x"), lazyLimit/4)
	for range 4 {
		if err := j.AppendLazy(big); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(replayed(t, open(t, d.losePower(0, dice())))); n != 4 {
		t.Fatalf("%d records durable, want 4", n)
	}
}

func TestCompact_KeepsAllHistoryAndBeginsAtTheCheckpoint(t *testing.T) {
	d := newMemDisk()
	j := open(t, d, func(o *Options) { o.MaxSize = 1000 })
	var all []string
	compactions := 0
	for i := range 100 {
		all = append(all, fmt.Sprintf("record %d %s", i, strings.Repeat("x", 40)))
		mustAppend(t, j, all[i])
		if j.NeedsCompaction() {
			if err := j.Compact([]byte(`["state"]`)); err != nil {
				t.Fatal(err)
			}
			compactions++
			if j.NeedsCompaction() {
				t.Fatal("compaction is due again at once")
			}
			if got := replayed(t, j); !slices.Equal(got, []string{"state"}) {
				t.Fatalf("replay after compaction: %q", got)
			}
		}
		want(t, "history", told(t, j), all)
	}
	if compactions < 4 {
		t.Fatalf("only %d compactions", compactions)
	}
	j = open(t, d.kill())
	want(t, "history of the next door", told(t, j), all)
	if got := replayed(t, j); got[0] != "state" || got[len(got)-1] != all[99] {
		t.Fatalf("replay of the next door: %q", got)
	}
}

func TestCompact_TwiceInARowMakesNoEmptyArchive(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	for range 3 {
		if err := j.Compact([]byte(`["a"]`)); err != nil {
			t.Fatal(err)
		}
	}
	if archives, _ := listArchives(d, "/state"); len(archives) != 0 {
		t.Fatalf("archives %v of nothing", archives)
	}
	mustAppend(t, j, "b")
	want(t, "replay", replayed(t, open(t, d.kill())), []string{"a", "b"})
}

func TestNeedsCompaction_IsNotDueForEverWhenTheCheckpointIsLarge(t *testing.T) {
	j := open(t, newMemDisk(), func(o *Options) { o.MaxSize = 100 })
	if err := j.Compact(checkpointOf([]string{strings.Repeat("x", 500)})); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "a")
	if j.NeedsCompaction() {
		t.Fatal("due, though compaction would win nothing")
	}
	mustAppend(t, j, strings.Repeat("y", 600))
	if !j.NeedsCompaction() {
		t.Fatal("not due, though half of the file could go")
	}
}

func TestCompact_RemovesTheOldestHistoryBeyondTheBound(t *testing.T) {
	d := newMemDisk()
	j := open(t, d, func(o *Options) { o.KeepHistory = 1000 })
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("%d %s", i, strings.Repeat("x", 200)))
		mustAppend(t, j, all[i])
		if err := j.Compact([]byte("[]")); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "history", told(t, j), all[17:])
	if _, err := os.Stat("/state"); err == nil {
		t.Fatal("the test wrote to the real disk")
	}
}

// Docker volumes on some systems have no hard links.
func TestCompact_CopiesWhereThereAreNoHardLinks(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	d.fail = failAlways("link", errors.ErrUnsupported)
	if err := j.Compact(checkpointOf([]string{"first"})); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "second")
	wantEverywhere(t, d, j, []string{"first", "second"})
	d = d.losePower(0, dice())
	wantEverywhere(t, d, open(t, d), []string{"first", "second"})
}

func TestHistory_PassesOverADamagedArchiveAndSaysSo(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first", "second", "third")
	if err := j.Compact([]byte("[]")); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "fourth")
	a := d.names[archiveName(1)]
	a.seen[bytes.Index(a.seen, []byte("second"))] ^= 1
	all, err := tryHistory(j)
	want(t, "history", all, []string{"first", "third", "fourth"})
	wantText(t, err, archiveName(1)+" is damaged at byte", "1 lines before it are readable and 1 after", "the door does not need it")
	open(t, d.kill()) // and the door opens
}

func TestReplayAndHistory_StopAtTheCallersError(t *testing.T) {
	j := open(t, newMemDisk())
	mustAppend(t, j, "first", "second")
	stop := errors.New("stop")
	calls := 0
	if err := j.Replay(func(Kind, []byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Fatalf("replay: %v after %d calls", err, calls)
	}
	if err := j.History(func([]byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 2 {
		t.Fatalf("history: %v after %d calls", err, calls)
	}
}

// dice is luck that is the same in each run.
func dice() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

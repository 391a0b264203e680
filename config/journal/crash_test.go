package journal

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// crashEach runs act with a crash before each of its disk operations in turn, from the state that
// prepare leaves, and gives check every disk that a kill or a power loss may leave.
func crashEach(t *testing.T, prepare func(*memDisk) *Journal, act func(*Journal) error, check func(d *memDisk, what string)) {
	t.Helper()
	random := dice()
	for step := 0; ; step++ {
		if step > 100 {
			t.Fatal("no end")
		}
		d := newMemDisk()
		j := prepare(d)
		d.fail = nil
		before := len(d.log)
		d.left = step
		err := act(j)
		if err == nil && d.left > 0 {
			if step < 2 {
				t.Fatalf("only %d steps to crash at", step)
			}
			return
		}
		at := fmt.Sprintf("crash at step %d, after %q", step, d.log[before:])
		for round := range 8 {
			luck := []float64{0, 1, 0.5, 0.5, 0.5, 0.5, 0.8, 0.2}[round]
			check(d.losePower(luck, random), fmt.Sprintf("%s, power lost, luck %v", at, luck))
		}
		check(d.kill(), at+", killed")
		// A killed door's successor must not show what a power loss then takes away.
		second := d.kill()
		shown := replayed(t, open(t, second))
		want(t, at+", killed, opened, power lost", replayed(t, open(t, second.losePower(0, random))), shown)
	}
}

func TestCompact_SurvivesACrashAtEachStep(t *testing.T) {
	all := []string{"first", "second", "third", "lazy"}
	prepare := func(d *memDisk) *Journal {
		j := open(t, d)
		mustAppend(t, j, all[0])
		if err := j.Compact(checkpointOf(all[:1])); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, all[1], all[2])
		return j
	}
	for _, links := range []bool{true, false} {
		for _, lazy := range []bool{false, true} {
			t.Run(fmt.Sprintf("hard links %v, lazy records %v", links, lazy), func(t *testing.T) {
				n := 3
				if lazy {
					n = 4
				}
				act := func(j *Journal) error {
					if !links {
						j.disk.(*memDisk).fail = failAlways("link", errors.ErrUnsupported)
					}
					return j.Compact(checkpointOf(all[:n]))
				}
				crashEach(t, func(d *memDisk) *Journal {
					j := prepare(d)
					if lazy {
						if err := j.AppendLazy([]byte(all[3])); err != nil {
							t.Fatal(err)
						}
					}
					return j
				}, act, func(d *memDisk, what string) {
					j := open(t, d)
					got := replayed(t, j)
					if len(got) < 3 || !slices.Equal(got, all[:len(got)]) {
						t.Fatalf("%s: replay %q", what, got)
					}
					want(t, what+": history", told(t, j), got)
					// Life goes on: append, compact and crash again.
					got = append(got, "next")
					mustAppend(t, j, "next")
					if err := j.Compact(checkpointOf(got)); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					d = d.losePower(0, dice())
					wantEverywhere(t, d, open(t, d), got)
				})
			})
		}
	}
}

func TestAppend_SurvivesACrashAtEachStepOfAFailedSync(t *testing.T) {
	crashEach(t, func(d *memDisk) *Journal {
		j := open(t, d)
		mustAppend(t, j, "first", "second")
		if err := j.AppendLazy([]byte("lazy")); err != nil {
			t.Fatal(err)
		}
		return j
	}, func(j *Journal) error {
		j.disk.(*memDisk).fail = failOnce("sync", liveName, 0, errIO)
		return j.Append([]byte("third"))
	}, func(d *memDisk, what string) {
		j := open(t, d)
		got := replayed(t, j)
		var rest []string
		if len(got) > 2 {
			rest = got[2:]
		}
		if len(got) < 2 || got[0] != "first" || got[1] != "second" ||
			(len(rest) > 0 && !slices.Equal(rest, []string{"lazy"}) && !slices.Equal(rest, []string{"lazy", "third"})) {
			t.Fatalf("%s: replay %q", what, got)
		}
		mustAppend(t, j, "next")
		want(t, what, replayed(t, open(t, d.losePower(0, dice()))), append(got, "next"))
	})
}

func TestOpen_SurvivesACrashAtEachStep(t *testing.T) {
	for step := range 12 {
		d := newMemDisk()
		d.left = step
		_, _ = Open("/state", options(d))
		for _, next := range []*memDisk{d.kill(), d.losePower(0, dice()), d.losePower(0.5, dice())} {
			j := open(t, next)
			mustAppend(t, j, "first")
			want(t, fmt.Sprint("crash at step ", step), replayed(t, open(t, next.losePower(0, dice()))), []string{"first"})
		}
	}
}

// fsyncgate: the second sync of the same file would succeed and mean nothing.
func TestAppend_AFailedSyncIsNeverTrustedAgain(t *testing.T) {
	d := newMemDisk()
	var warned []string
	j := open(t, d, func(o *Options) { o.Warn = func(msg string, _ ...any) { warned = append(warned, msg) } })
	mustAppend(t, j, "first")
	if err := j.AppendLazy([]byte("lazy")); err != nil {
		t.Fatal(err)
	}
	old := d.names[liveName]
	d.fail = failOnce("sync", liveName, 0, errIO)
	mustAppend(t, j, "second")
	if d.names[liveName] == old {
		t.Fatal("the record was acknowledged in the file whose sync had failed")
	}
	if len(warned) != 2 {
		t.Fatalf("warned %q, want of the failure and of the copy", warned)
	}
	all := []string{"first", "lazy", "second"}
	wantEverywhere(t, d, j, all)
	d = d.losePower(0, dice())
	wantEverywhere(t, d, open(t, d), all)
}

func TestAppend_WhenNoSyncWorksNothingChangesUntilOneDoes(t *testing.T) {
	for _, op := range []string{"sync", "syncDir", "create", "rename"} {
		d := newMemDisk()
		j := open(t, d)
		mustAppend(t, j, "first")
		if err := j.AppendLazy([]byte("lazy")); err != nil {
			t.Fatal(err)
		}
		broken := true
		d.fail = func(o, f string) error {
			if broken && (o == op || (o == "sync" && f == liveName)) {
				return errIO
			}
			return nil
		}
		for range 3 {
			err := j.Append([]byte("refused"))
			wantText(t, err, "record not taken", "input/output error", "all 2 acknowledged before are kept", "see dmesg")
			if !errors.Is(err, errIO) {
				t.Errorf("%v does not wrap the cause", err)
			}
			wantEverywhere(t, d, j, []string{"first", "lazy"})
		}
		killed := d.kill()
		wantEverywhere(t, killed, open(t, killed), []string{"first", "lazy"})
		broken = false
		mustAppend(t, j, "second")
		all := []string{"first", "lazy", "second"}
		wantEverywhere(t, d, j, all)
		d = d.losePower(0, dice())
		wantEverywhere(t, d, open(t, d), all)
	}
}

// The archive's name was forgotten by the directory sync that failed; found again, it must not be trusted.
func TestCompact_AnArchiveWhoseNameWasForgottenIsNamedAnew(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	d.fail = failOnce("syncDir", ".", 0, errIO)
	wantText(t, j.Compact(checkpointOf([]string{"first"})), "input/output error")
	if err := j.Compact(checkpointOf([]string{"first"})); err != nil {
		t.Fatal(err)
	}
	d = d.losePower(0, dice())
	wantEverywhere(t, d, open(t, d), []string{"first"})
}

// The name of a copied or compacted file is suspect until the directory is synced: an append that
// trusted it would be lost with the name.
func TestAppend_AFailedDirectorySyncIsNeverTrustedAgain(t *testing.T) {
	for n := range 2 {
		d := newMemDisk()
		j := open(t, d)
		mustAppend(t, j, "first")
		d.fail = failOnce("syncDir", ".", n, errIO)
		wantText(t, j.Compact(checkpointOf([]string{"first"})), "no record is lost", "input/output error")
		wantEverywhere(t, d, j, []string{"first"})
		mustAppend(t, j, "second")
		wantEverywhere(t, d, j, []string{"first", "second"})
		d = d.losePower(0, dice())
		want(t, "replay after power loss", replayed(t, open(t, d)), []string{"first", "second"})
	}
}

func TestAppend_AFullDiskRefusesAndLaterTakes(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	size := len(d.names[liveName].seen)
	d.fail = failAlways("write", errFull)
	for range 2 {
		err := j.Append([]byte("refused"))
		wantText(t, err, "no space left on device", "record not taken", "free some space and try again")
		if got := len(d.names[liveName].seen); got != size {
			t.Fatalf("%d bytes of the refused record are left", got-size)
		}
		wantText(t, j.AppendLazy([]byte("refused too")), "no space left")
		wantText(t, j.Compact([]byte("[]")), "no space left")
	}
	if _, there := d.names[freshName]; there {
		t.Fatal("a failed compaction holds space")
	}
	d.fail = nil
	for _, luck := range []float64{0, 0.5, 1} {
		lost := d.losePower(luck, dice())
		wantEverywhere(t, lost, open(t, lost), []string{"first"})
	}
	mustAppend(t, j, "second")
	wantEverywhere(t, d, j, []string{"first", "second"})
}

// Half of a batch fits: the record that fitted was refused with the others, so it must not come back
// when the power goes before the next record.
func TestAppend_ARefusedBatchDoesNotComeBackInPart(t *testing.T) {
	random := dice()
	for range 50 {
		d := newMemDisk()
		j := open(t, d)
		mustAppend(t, j, "first")
		d.fail = failOnce("write", liveName, 0, errFull)
		fits := &entry{payload: []byte("fits")}
		j.queue = append(j.queue, fits)
		wantText(t, j.Append([]byte(strings.Repeat("does not fit", 20))), "no space left")
		wantText(t, fits.err, "no space left")
		d = d.losePower(0.9, random)
		wantEverywhere(t, d, open(t, d), []string{"first"})
	}
}

// The torn part cannot even be taken back: the next record must not be written behind it.
func TestAppend_WhatCannotBeTakenBackIsLeftBehindInACopy(t *testing.T) {
	d := newMemDisk()
	j := open(t, d)
	mustAppend(t, j, "first")
	d.fail = func(op, name string) error {
		if name == liveName && (op == "write" || op == "truncate") {
			return errFull
		}
		return nil
	}
	j.queue = append(j.queue, &entry{payload: []byte("refused 1")}, &entry{payload: []byte("refused 2")})
	wantText(t, j.Append([]byte(strings.Repeat("refused 3", 20))), "no space left")
	d.fail = nil
	mustAppend(t, j, "as long 1") // written over "refused 1" it would bring "refused 2" back
	wantEverywhere(t, d, j, []string{"first", "as long 1"})
	d = d.kill()
	wantEverywhere(t, d, open(t, d), []string{"first", "as long 1"})
}

// Real truncation must take back what a full disk had taken of a record.
func TestAppend_AFullDiskUnderARealFile(t *testing.T) {
	dir := t.TempDir()
	full := &fullDisk{}
	j, err := Open(dir, Options{disk: full})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	mustAppend(t, j, "first")
	full.room = 7
	full.on = true
	err = j.Append([]byte("refused"))
	wantText(t, err, "journal.log: record not taken: write: no space left on device")
	if strings.Contains(err.Error(), freshName) {
		t.Fatalf("the error blames a file that is not there: %v", err)
	}
	full.on = false
	mustAppend(t, j, "second")
	want(t, "replay", replayed(t, j), []string{"first", "second"})
}

// fullDisk is the real disk with room for few bytes more.
type fullDisk struct {
	osDisk
	on   bool
	room int
}

type fullFile struct {
	file
	d *fullDisk
}

func (d *fullDisk) open(path string, flag int) (file, error) {
	f, err := d.osDisk.open(path, flag)
	return fullFile{f, d}, err
}

func (f fullFile) WriteAt(b []byte, at int64) (int, error) {
	if f.d.on && len(b) > f.d.room {
		n, _ := f.file.WriteAt(b[:f.d.room], at)
		return n, errFull
	}
	return f.file.WriteAt(b, at)
}

// A door that carries traffic must start though its disk is ill; only changes wait.
func TestOpen_StartsOnAnIllDiskAndTakesNothingUntilItIsWell(t *testing.T) {
	d := newMemDisk()
	mustAppend(t, open(t, d), "first")
	d = d.kill()
	d.fail = failAlways("sync", errIO)
	warned := 0
	j := open(t, d, func(o *Options) { o.Warn = func(string, ...any) { warned++ } })
	want(t, "replay", replayed(t, j), []string{"first"})
	if warned != 1 {
		t.Fatalf("%d warnings, want 1", warned)
	}
	wantText(t, j.Append([]byte("refused")), "input/output error")
	d.fail = nil
	mustAppend(t, j, "second")
	d = d.losePower(0, dice())
	wantEverywhere(t, d, open(t, d), []string{"first", "second"})
}

// Random appends, compactions, faults, kills and power losses: what comes back is all that was
// acknowledged, in order, and at most what was in doubt since.
func TestJournal_ReplayEqualsWhatWasAcknowledged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newMemDisk()
		j := open(t, d, func(o *Options) { o.MaxSize = 400 })
		var sure []string // acknowledged, or shown by an Open since
		var lazy []string // taken but not durable, after sure
		var doubt []string
		next := 0
		payload := func() string {
			next++
			return fmt.Sprint(next, strings.Repeat("x", rapid.IntRange(0, 40).Draw(t, "length")))
		}
		reopen := func(to *memDisk, keepsLazy bool) {
			d = to
			j = open(t, d, func(o *Options) { o.MaxSize = 400 })
			got := replayed(t, j)
			floor := sure
			if keepsLazy {
				floor = append(slices.Clone(sure), lazy...)
			}
			if len(got) < len(floor) || !slices.Equal(got[:len(floor)], floor) {
				t.Fatalf("acknowledged %q, came back %q", floor, got)
			}
			allowed := append(slices.Clone(lazy), doubt...)
			for _, p := range got[len(sure):] {
				at := slices.Index(allowed, p)
				if at < 0 {
					t.Fatalf("%q came back, nobody knows from where; sure %q, lazy %q, in doubt %q", got, sure, lazy, doubt)
				}
				allowed = allowed[at+1:]
			}
			sure, lazy, doubt = got, nil, nil
		}
		crash := func() {
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			if rapid.Bool().Draw(t, "power lost") {
				reopen(d.losePower(rapid.Float64Range(0, 1).Draw(t, "luck"), random), false)
			} else {
				reopen(d.kill(), true)
			}
		}
		acknowledged := func() { sure, lazy, doubt = append(sure, lazy...), nil, nil }
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				p := payload()
				if err := j.Append([]byte(p)); err != nil {
					doubt = append(doubt, p)
					return
				}
				lazy = append(lazy, p)
				acknowledged()
			},
			"lazy": func(t *rapid.T) {
				p := payload()
				if err := j.AppendLazy([]byte(p)); err != nil {
					doubt = append(doubt, p)
					return
				}
				lazy = append(lazy, p)
			},
			"compact": func(t *rapid.T) {
				if err := j.Compact(checkpointOf(append(slices.Clone(sure), lazy...))); err == nil {
					acknowledged()
				}
			},
			"fault": func(t *rapid.T) {
				op := rapid.SampledFrom([]string{"write", "sync", "syncDir", "truncate", "rename", "link", "remove", "create"}).Draw(t, "op")
				skip := rapid.IntRange(0, 3).Draw(t, "skip")
				times := rapid.IntRange(1, 3).Draw(t, "times")
				d.fail = func(o, _ string) error {
					if o != op || times == 0 {
						return nil
					}
					if skip > 0 {
						skip--
						return nil
					}
					times--
					return errIO
				}
			},
			"close": func(t *rapid.T) {
				err := j.Close()
				d.fail = nil
				reopen(d.kill(), err == nil)
			},
			"crash": func(t *rapid.T) { crash() },
			"crash under way": func(t *rapid.T) {
				d.left = rapid.IntRange(0, 12).Draw(t, "step")
				p := payload()
				switch rapid.IntRange(0, 2).Draw(t, "act") {
				case 0:
					if j.Append([]byte(p)) == nil {
						lazy = append(lazy, p)
						acknowledged()
					} else {
						doubt = append(doubt, p)
					}
				case 1:
					_ = j.Compact(checkpointOf(append(slices.Clone(sure), lazy...)))
				case 2:
					_ = j.Close()
				}
				crash()
			},
			"": func(t *rapid.T) {
				if d.left == 0 || j.live == nil {
					return
				}
				all := append(slices.Clone(sure), lazy...)
				wantEverywhere(t, d, j, all)
			},
		})
	})
}

// The child of this test is a real process that is really killed.
func TestJournal_KeepsWhatAKilledProcessAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var all []string
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := bufio.NewScanner(out)
		for range 20 {
			if !acknowledged.Scan() {
				t.Fatal("the child ended by itself")
			}
			all = append(all, acknowledged.Text())
		}

		_, err = Open(dir, Options{})
		var held *LockedError
		if !errors.As(err, &held) || held.PID != child.Process.Pid {
			t.Fatalf("second Open: %v, want a LockedError with pid %d", err, child.Process.Pid)
		}
		wantText(t, err, fmt.Sprintf("held by the door with pid %d on ", held.PID), "serves on undisturbed", fmt.Sprintf("kill %d", held.PID))

		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for acknowledged.Scan() { // what it said before it died
			all = append(all, acknowledged.Text())
		}
		_ = child.Wait() // it was killed
		j, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := told(t, j)
		if len(got) < len(all) || len(got) > len(all)+1 || !slices.Equal(got[:len(all)], all) {
			t.Fatalf("acknowledged %d records, came back %d, or others", len(all), len(got))
		}
		all = got
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const childVariable = "TURNOUT_JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		appendUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func appendUntilKilled(dir string) {
	j, err := Open(dir, Options{MaxSize: 1 << 10})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		p := fmt.Sprintf("pid %d record %d", os.Getpid(), i)
		if err := j.Append([]byte(p)); err != nil {
			panic(err)
		}
		fmt.Println(p)
		if j.NeedsCompaction() {
			if err := j.Compact([]byte("[]")); err != nil {
				panic(err)
			}
		}
	}
}

func TestOpen_ASecondOneIsRefusedUntilTheFirstIsClosed(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	var held *LockedError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("second Open: %v, want a LockedError with pid %d", err, os.Getpid())
	}
	mustAppend(t, first, "undisturbed")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "replay", replayed(t, second), []string{"undisturbed"})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

package runbook

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// Record is the file in which a run writes down where it is, one JSON object a line:
//
//	{"event":"run","hash":…,"variables":…}   a run begins, of this text with these values
//	{"event":"begin","step":3,"text":…}      a step begins; "done" or "failed" follows
//	{"event":"end","text":"done"}            the run has ended and is not to be resumed
//
// Each line is on the disk before what it announces is done. One that a crash cut short is ignored.
type Record struct {
	file  *os.File
	lines []entry
}

type entry struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"`
	Step      int       `json:"step,omitempty"`
	Text      string    `json:"text,omitempty"`
	Hash      string    `json:"hash,omitempty"`
	Salt      string    `json:"salt,omitempty"`
	Variables string    `json:"variables,omitempty"` // a hash with the salt: values may be secrets
	// Before is what served each service when the run began.
	Before map[string]string `json:"before,omitempty"`
}

// maxRecord is far more than many runs write.
const maxRecord = 8 << 20

// ErrRunning says that another run of the same file goes on.
var ErrRunning = errors.New("another run of this file is under way")

// OpenRecord opens the record at path and locks it until Close.
func OpenRecord(path string) (*Record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrRunning)
	}
	r := &Record{file: f}
	in := bufio.NewScanner(io.LimitReader(f, maxRecord))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var e entry
		if json.Unmarshal(in.Bytes(), &e) == nil {
			r.lines = append(r.lines, e)
		}
	}
	if err := errors.Join(in.Err(), mend(f)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// mend goes to the end of the file, and ends a line that a crash cut short, so that the next one is read.
func mend(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return err
	}
	last := []byte{0}
	if _, err := f.ReadAt(last, end-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.WriteString("\n")
	return err
}

// Close ends the lock.
func (r *Record) Close() error { return r.file.Close() }

func (r *Record) add(e entry) error {
	if r == nil {
		return nil
	}
	e.Time = time.Now().UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(b, '\n'))
	if err == nil {
		err = r.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("the run cannot be recorded, so it stops here: %w", err)
	}
	r.lines = append(r.lines, e)
	return nil
}

// Unfinished is a run that has not ended.
type Unfinished struct {
	Begun  time.Time
	Done   int    // steps recorded as done, from the first on
	Inside bool   // the next one had begun
	Text   string // what it was
	Same   bool   // the text and the variables are the same as now
	Failed int    // the step that failed, from 1; what was begun then is under on_failure. 0: none

	before map[string]string
}

// Unfinished looks at the latest run; nil when it has ended, or there is none.
func (r *Record) Unfinished(b *Book) *Unfinished {
	start := -1
	for i := range slices.Backward(r.lines) {
		if r.lines[i].Event == "run" {
			start = i
			break
		}
	}
	if start < 0 {
		return nil
	}
	head := r.lines[start]
	u := &Unfinished{Begun: head.Time, before: head.Before, Same: head.Hash == b.Hash && head.Variables == b.variablesHash(head.Salt)}
	for _, e := range r.lines[start+1:] {
		switch {
		case e.Event == "end":
			return nil
		case e.Step == 0: // under on_failure
			if e.Event == "begin" {
				u.Text = e.Text
			}
		case e.Event == "done":
			u.Done, u.Inside = max(u.Done, e.Step), false
		case e.Event == "begin":
			u.Inside, u.Failed, u.Text = true, 0, e.Text
		case e.Event == "failed":
			u.Inside, u.Failed, u.Text = false, e.Step, ""
		}
	}
	return u
}

// Begin records that a run begins at the door as it is. One that goes on keeps what was done before: u is what
// Unfinished said, and nil begins anew.
func (r *Record) Begin(b *Book, u *Unfinished, st *api.Status) error {
	if u != nil {
		b.before = u.before
		return nil
	}
	b.before = map[string]string{}
	for name, svc := range st.Services {
		b.before[name] = serving(svc)
	}
	salt := rand.Text()
	return r.add(entry{Event: "run", Hash: b.Hash, Salt: salt, Variables: b.variablesHash(salt), Before: b.before})
}

// serving names what gives a service its new work: the active pool and its servers that do.
func serving(svc api.Service) string {
	var servers []string
	for name, s := range svc.Pools[svc.Active].Servers {
		if s.State == "ready" {
			servers = append(servers, name)
		}
	}
	slices.Sort(servers)
	return svc.Active + "/" + strings.Join(servers, ",")
}

// variablesHash tells whether values are the same without keeping them.
func (b *Book) variablesHash(salt string) string {
	h := sha256.New()
	_, _ = io.WriteString(h, salt)
	for _, name := range b.Variables {
		_, _ = fmt.Fprintf(h, "%q=%q\n", name, b.values[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

package runbook

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
)

// errStepTime ends a step at its timeout; ErrInterrupted is the cause of a context that the operator ended.
var (
	errStepTime    = errors.New("the step's timeout is over")
	ErrInterrupted = errors.New("interrupted")
)

// Command is what exec runs.
type Command struct {
	Shell   string   // by sh -c, unless Command is set
	Command []string // without a shell
	Dir     string
	Env     []string // beside this process's own
}

// Options of a run.
type Options struct {
	Door *client.Client
	// Run runs a command to its end, and ends it with all it started when ctx does.
	Run func(ctx context.Context, c Command) error
	// Confirm asks a person; nil: nobody is there.
	Confirm func(ctx context.Context, question string) (bool, error)
	Say     func(format string, args ...any) // results
	Note    func(format string, args ...any) // what a person may want to know beside them

	Yes    bool // every question is answered with yes
	Record *Record
	Resume Resume
}

// Resume says how a run that was interrupted goes on.
type Resume struct {
	From int  // first step to do, from 0
	Skip bool // the step at From had begun: take it as done
}

// First is the first step that is done.
func (r Resume) First() int {
	if r.Skip {
		return r.From + 1
	}
	return r.From
}

// Outcome is how a run ended.
type Outcome struct {
	State  string `json:"state"`            // done | failed | interrupted
	Step   int    `json:"step,omitempty"`   // that failed or was interrupted, from 1
	Begun  bool   `json:"begun,omitempty"`  // that step had begun
	Words  string `json:"words,omitempty"`  // of that step
	Failed string `json:"failed,omitempty"` // why
	// RolledBack: on_failure went back to where it was.
	RolledBack bool `json:"rolled_back,omitempty"`
	// Undone says which steps under on_failure were not done, and why; in an operator's words.
	Undone []string      `json:"on_failure_undone,omitempty"`
	Took   time.Duration `json:"took_ns"`
	Err    *api.Error    `json:"error,omitempty"`
}

type run struct {
	book *Book
	opt  Options
	gone bool // the door did not come back
}

// Run carries the steps out. Its error is only of the record that cannot be written; how the run ended is in the
// Outcome. ctx ends it; its cause says why.
func (b *Book) Run(ctx context.Context, opt Options) (Outcome, error) {
	r := &run{book: b, opt: opt}
	begun := time.Now()
	r.tell("begun", "%s: %s from step %d", r.title(), plural(len(b.Steps), "step"), opt.Resume.From+1)
	for i := opt.Resume.From; i < len(b.Steps); i++ {
		s := &b.Steps[i]
		if opt.Resume.Skip && i == opt.Resume.From {
			r.opt.Say("step %d of %d, %s: skipped, taken as done", i+1, len(b.Steps), s.Words())
			if err := opt.Record.add(entry{Step: i + 1, Event: "done", Text: "taken as done by the operator"}); err != nil {
				return Outcome{}, err
			}
			continue
		}
		if ctx.Err() != nil { // between two steps: nobody need wonder whether this one was done
			why := asError(ctx, context.Cause(ctx))
			r.tell("interrupted", "%s: before step %d, %s", r.title(), i+1, s.Words())
			return Outcome{State: "interrupted", Step: i + 1, Words: s.Words(), Failed: why.Message, Err: why, Took: time.Since(begun)}, nil
		}
		failed, err := r.step(ctx, fmt.Sprintf("step %d of %d", i+1, len(b.Steps)), i+1, s)
		if err != nil {
			return Outcome{}, err
		}
		if failed == nil {
			continue
		}
		out := Outcome{State: "failed", Step: i + 1, Begun: true, Words: s.Words(), Failed: failed.Message, Err: failed}
		if ctx.Err() != nil {
			out.State = "interrupted"
			r.tell("interrupted", "%s: in step %d, %s", r.title(), out.Step, out.Words)
		} else {
			out.RolledBack, out.Undone = r.onFailure(ctx)
			r.tell("failed", "%s: step %d, %s: %s", r.title(), out.Step, out.Words, failed.Message)
			if err := opt.Record.add(entry{Event: "end", Text: "failed"}); err != nil {
				return Outcome{}, err
			}
		}
		out.Took = time.Since(begun)
		return out, nil
	}
	r.tell("done", "%s: %s done after %s", r.title(), plural(len(b.Steps), "step"), time.Since(begun).Round(time.Millisecond))
	return Outcome{State: "done", Took: time.Since(begun)}, opt.Record.add(entry{Event: "end", Text: "done"})
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (r *run) title() string {
	if r.book.Title != "" {
		return r.book.Title
	}
	return filepath.Base(r.book.File)
}

func (r *run) reason(s *Step) string { return r.title() + ": " + s.Words() }

func (r *run) dir() string { return filepath.Dir(r.book.File) }

// env is what commands find in their environment: the door's socket, and every variable.
func (r *run) env() []string {
	return append([]string{"TURNOUT_SOCKET=" + r.opt.Door.Socket(), "TURNOUT_RUNBOOK=" + r.title()}, r.book.env()...)
}

// env is every variable.
func (b *Book) env() (all []string) {
	for _, name := range b.Variables {
		all = append(all, name+"="+b.values[name])
	}
	return all
}

// step does one step and records its begin and its end.
func (r *run) step(ctx context.Context, label string, n int, s *Step) (*api.Error, error) {
	r.opt.Note("%s: %s", label, s.Words())
	if err := r.opt.Record.add(entry{Step: n, Event: "begin", Text: s.Words()}); err != nil {
		return nil, err
	}
	begun := time.Now()
	timed, cancel := context.WithTimeoutCause(ctx, s.Timeout, errStepTime)
	defer cancel()
	words, err := r.do(timed, s)
	took := time.Since(begun).Round(time.Millisecond)
	if err != nil {
		e := asError(timed, err)
		if ctx.Err() != nil { // whoever goes on says whether it was done
			r.opt.Say("%s, %s: %s after %s", label, s.Words(), e.Message, took)
			return e, nil
		}
		r.opt.Say("%s, %s: failed after %s: %s", label, s.Words(), took, e.Message)
		r.tell("failed", "%s: %s, %s: failed after %s: %s", r.title(), label, s.Words(), took, e.Message)
		return e, r.opt.Record.add(entry{Step: n, Event: "failed", Text: e.Message})
	}
	r.opt.Say("%s, %s: done after %s%s", label, s.Words(), took, because(words))
	if !s.isChange() { // a change is in the door's journal by itself
		r.tell("done", "%s: %s, %s: done after %s", r.title(), label, s.Words(), took)
	}
	return nil, r.opt.Record.add(entry{Step: n, Event: "done", Text: words})
}

func asError(ctx context.Context, err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	e = &api.Error{Code: api.CodeFailed, Message: err.Error()}
	if cause := context.Cause(ctx); cause != nil {
		e.Code, e.Message = codeOf(cause), cause.Error()
	}
	return e
}

func (s *Step) isChange() bool {
	switch s.Verb {
	case "confirm", "exec", "notify", "wait", "gate", "snapshot", "compare":
		return false
	}
	return true
}

// tell adds a line to the door's journal, so that `turnout history` has the whole story. A door that cannot be told
// stops nobody: the change that follows will say so.
func (r *run) tell(outcome, format string, args ...any) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.opt.Door.Note(ctx, api.NoteRequest{Target: "runbook", Outcome: outcome, Text: fmt.Sprintf(format, args...)}); err != nil {
		r.opt.Note("not in the door's history: %v", err)
	}
}

// do carries a step out and says what came of it.
func (r *run) do(ctx context.Context, s *Step) (string, error) {
	switch s.Verb {
	case "confirm", "exec", "notify", "wait":
	default:
		r.await(ctx)
	}
	switch s.Verb {
	case "confirm":
		return r.confirm(ctx, s)
	case "exec":
		return "", r.opt.Run(ctx, Command{Shell: s.Shell, Command: s.Command, Dir: r.dir(), Env: append(r.env(), "TURNOUT_STEP="+s.Words())})
	case "notify":
		words := r.notify(ctx, s)
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errStepTime) {
			return "", cause // a notification fails nothing, but whoever ends the run does
		}
		return words, nil
	case "wait":
		return "", r.wait(ctx, s)
	case "gate":
		return r.gate(ctx, s)
	case "snapshot":
		taken, err := r.opt.Door.TakeSnapshot(ctx, s.Snapshot, api.SnapshotRequest{Target: s.Target, Reason: r.reason(s), Replace: true})
		if err != nil {
			return "", err
		}
		words := fmt.Sprintf("%s, revision %d", plural(len(taken.Services), "service"), taken.Revision)
		if taken.Replaced != nil { // that of an earlier run
			words += ", in the place of that of " + taken.Replaced.Local().Format(time.DateTime)
		}
		return words, nil
	case "compare":
		return r.compare(ctx, s)
	}
	begun := time.Now()
	words, err := r.change(ctx, s)
	if err != nil || s.Verb != "swap" || s.NoWatch {
		return words, err
	}
	return words, r.watch(ctx, s, begun)
}

func (r *run) confirm(ctx context.Context, s *Step) (string, error) {
	if r.opt.Yes {
		return "by --yes", nil
	}
	yes, err := r.opt.Confirm(ctx, s.Text)
	switch {
	case err != nil:
		return "", err
	case !yes:
		return "", &api.Error{Code: api.CodeFailed, Message: "not confirmed"}
	}
	return "confirmed", nil
}

func (r *run) gate(ctx context.Context, s *Step) (string, error) {
	g, err := r.opt.Door.Gate(ctx, s.Target, s.Pool)
	switch {
	case err != nil:
		return "", err
	case !g.OK:
		return "", &api.Error{Code: api.CodeGate, Message: strings.Join(g.Missing, "; ")}
	}
	return plural(len(g.Gates), "answer") + ", all pass", nil
}

func (r *run) compare(ctx context.Context, s *Step) (string, error) {
	c, err := r.opt.Door.Compare(ctx, s.Snapshot, "")
	switch {
	case err != nil:
		return "", err
	case len(c.Worse) > 0:
		return "", &api.Error{Code: api.CodeGate, Message: strings.Join(c.Worse, "; ")}
	}
	return "nothing is worse", nil
}

// notifyWithin bounds a notification. One that cannot be delivered is said and fails nothing: a chat service that is
// down is no reason to roll back.
const notifyWithin = 10 * time.Second

// asBefore tells whether a target is served as it was when the run began. Then going back would lead to where it was
// before that.
func (r *run) asBefore(ctx context.Context, target string) bool {
	st, err := r.opt.Door.Status(ctx, "")
	if err != nil {
		return false
	}
	services := st.Groups[target]
	if _, ok := st.Services[target]; ok {
		services = []string{target}
	}
	for _, name := range services {
		if r.book.before[name] != serving(st.Services[name]) {
			return false
		}
	}
	return len(services) > 0 // else the door has no such target any more, and the step says so
}

// onFailure does the steps that were written for a failure, each whatever became of the one before it. It tells
// whether one of them went back, and which were not done.
func (r *run) onFailure(ctx context.Context) (back bool, undone []string) {
	for i := range r.book.OnFailure {
		s := &r.book.OnFailure[i]
		label := fmt.Sprintf("on failure %d of %d", i+1, len(r.book.OnFailure))
		if s.Verb == "back" && r.asBefore(ctx, s.Target) {
			r.opt.Say("%s, %s: not needed, %s is where it was when the run began", label, s.Words(), s.Target)
			continue
		}
		if ctx.Err() != nil {
			undone = append(undone, fmt.Sprintf("%s, %s: not begun", label, s.Words()))
			continue
		}
		failed, err := r.step(ctx, label, 0, s)
		switch {
		case err != nil:
			undone = append(undone, fmt.Sprintf("%s, %s: %v", label, s.Words(), err))
		case failed != nil:
			undone = append(undone, fmt.Sprintf("%s, %s: %s", label, s.Words(), failed.Message))
		}
		back = back || failed == nil && err == nil && s.Verb == "back"
	}
	return back, undone
}

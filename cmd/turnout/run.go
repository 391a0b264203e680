package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/admin/runbook"
)

// maxBook is far more than a runbook has.
const maxBook = 1 << 20

// runFlags are those of run.
type runFlags struct {
	set    []string
	dryRun bool
	yes    bool
	resume bool
	redo   bool
	skip   bool
	anew   bool
	from   int
	record string
}

func (c *cli) runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run RUNBOOK",
		Short: "Carry out a file of steps: check, confirm, move, wait; and what to do when one fails",
		Long: `Carry out the steps of a runbook, one after the other. The file is checked against the running door before step 1; what can be
known to fail is refused then, and nothing is done. When a step fails, the steps under on_failure are done, and the
command says what holds (exit 8 when one of them went back).

Where the run is, is recorded beside the file. One that was interrupted goes on with --resume; if it was inside a step,
--redo does that step again and --skip takes it as done. Commands run in the runbook's folder with your rights. docs/runbooks.md
has every step.`,
		Example: `  turnout run move.yaml --dry-run
  turnout run move.yaml --set TO=standby --yes
  turnout run move.yaml --resume --redo`,
		Args: c.wants(1, 1, "a RUNBOOK file"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.runBook(cmd, f, args[0]) },
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.set, "set", nil, "`NAME=VALUE` of a variable; may be given again")
	fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, checked against the running door, and do nothing")
	fs.BoolVar(&f.yes, "yes", false, "answer every confirm with yes")
	fs.BoolVar(&f.resume, "resume", false, "go on where an interrupted run stopped")
	fs.BoolVar(&f.redo, "redo", false, "with --resume: do the step again that was under way")
	fs.BoolVar(&f.skip, "skip", false, "with --resume: take the step that was under way as done")
	fs.BoolVar(&f.anew, "restart", false, "begin anew though an earlier run was interrupted")
	fs.IntVar(&f.from, "from", 0, "begin anew with this `step`, from 1")
	fs.StringVar(&f.record, "record", "", "`file` in which to record where the run is (default: RUNBOOK.run)")
	return cmd
}

// book reads the runbook with the values given.
func (c *cli) book(cmd *cobra.Command, f *runFlags, path string) (*runbook.Book, error) {
	set := map[string]string{}
	for _, s := range f.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, c.usage(cmd, "--set "+quote(s)+": want NAME=VALUE", "")
		}
		set[name] = value
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("runbook not read: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(in, maxBook+1))
	if err != nil {
		return nil, fmt.Errorf("runbook not read: %w", err)
	}
	if len(text) > maxBook {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxBook)
	}
	b, err := runbook.Parse(path, text, set, os.LookupEnv)
	if err != nil {
		return nil, mistakes(err, "in the runbook; nothing was done")
	}
	return b, nil
}

func (c *cli) runBook(cmd *cobra.Command, f *runFlags, path string) error {
	if f.redo && f.skip || (f.redo || f.skip) && !f.resume || f.resume && (f.anew || f.from != 0) {
		return c.usage(cmd, "--redo or --skip go with --resume; --restart and --from do not", "")
	}
	b, err := c.book(cmd, f, path)
	if err != nil {
		return err
	}
	if f.from < 0 || f.from > len(b.Steps) {
		return c.usage(cmd, fmt.Sprintf("--from %d: the runbook has %s", f.from, plural(len(b.Steps), "step")), "")
	}
	if f.record == "" {
		f.record = path + ".run"
	}
	w := newWait(c.timeout, syscall.SIGPIPE)
	defer w.stop()
	d := client.Dial(c.socket)
	defer d.Close()
	at := &begin{Resume: runbook.Resume{From: max(f.from-1, 0)}}
	defer at.close()
	if f.resume { // what is to be done is checked, not what is done
		if at, err = c.where(b, f); err != nil {
			return err
		}
		defer at.close()
	}
	steps, onFailure, err := b.Check(w.ctx, d, at.First(), f.dryRun)
	if f.dryRun && c.json() {
		c.writeJSON(map[string][]runbook.Preview{"steps": steps, "on_failure": onFailure})
	} else if f.dryRun {
		c.previews("step", len(b.Steps), steps)
		c.previews("on failure", len(b.OnFailure), onFailure)
	}
	if err != nil {
		return mistakes(err, "that the running door shows; nothing was done")
	}
	if f.dryRun {
		return nil
	}
	if b.Asks(at.First()) && !f.yes && !isTerminal(os.Stdin) {
		return &api.Error{Code: api.CodeUsage, Message: "the runbook asks for confirmation and nobody can answer: standard input is no terminal",
			Holds: "nothing was done", Hint: "--yes answers every confirm with yes"}
	}
	if !f.resume {
		if at, err = c.where(b, f); err != nil {
			return err
		}
		defer at.close()
	}
	st, err := d.Status(w.ctx, "")
	if err != nil {
		return err
	}
	if err := at.record.Begin(b, at.unfinished, st); err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if c.say(format, args...); c.lost { // nobody would see what comes next
			w.interrupt()
		}
	}
	out, err := b.Run(w.ctx, runbook.Options{Door: d, Run: c.runHere, Confirm: c.confirm, Say: say, Note: c.notef, Yes: f.yes, Record: at.record, Resume: at.Resume})
	if err != nil {
		return err
	}
	return c.ranBook(b, d, &out, path, w.early())
}

// mistakes gives each its line.
func mistakes(err error, where string) error {
	bad := badConfig(err)
	var e *api.Error
	if errors.As(bad, &e) && e.Details != nil {
		return &api.Error{Code: api.CodeFailed, Message: plural(len(e.Details), "mistake") + " " + where, Details: e.Details}
	}
	return err
}

// begin is where a run begins, and where that is recorded.
type begin struct {
	runbook.Resume
	record     *runbook.Record     // nil: it was not opened
	unfinished *runbook.Unfinished // that goes on; nil: none does
}

func (b *begin) close() {
	if b.record != nil {
		_ = b.record.Close() // each line is on the disk already
	}
}

// where opens the record and says with which step the run begins.
func (c *cli) where(b *runbook.Book, f *runFlags) (*begin, error) {
	refused := func(code, hint, format string, args ...any) error {
		return &api.Error{Code: code, Message: fmt.Sprintf(format, args...), Holds: "nothing was done", Hint: hint}
	}
	none := refused(api.CodeConflict, "leave out --resume", "there is no interrupted run of this file")
	if _, err := os.Stat(f.record); f.resume && errors.Is(err, fs.ErrNotExist) {
		return nil, none
	}
	record, err := runbook.OpenRecord(f.record)
	switch {
	case errors.Is(err, runbook.ErrRunning):
		return nil, refused(api.CodeConflict, "wait until it has ended, or end it with Ctrl-C where it runs", "%v", err)
	case err != nil:
		return nil, refused(api.CodeFailed, "--record names another file", "the run cannot be recorded: %v", err)
	}
	at := &begin{record: record}
	u := record.Unfinished(b)
	switch {
	case f.from > 0:
		at.From = f.from - 1
		return at, nil
	case u == nil && !f.resume, f.anew:
		return at, nil
	case u == nil:
		at.close()
		return nil, none
	}
	is := fmt.Sprintf("the run of %s %s", u.Begun.Local().Format(time.DateTime), whereWords(u))
	switch {
	case u.Failed > 0: // going on with that step would ignore what was undone after it
		err = refused(api.CodeConflict, "look at `turnout status`; then --restart begins anew, --from N with a step of your choice", "%s", is)
	case !f.resume:
		err = refused(api.CodeConflict, "--resume goes on there; --restart begins anew; --from N with a step of your choice", "%s", is)
	case !u.Same:
		err = refused(api.CodeConflict, "--from N goes on with a step of your choice", "%s, and the runbook or its variables are not the same any more", is)
	case u.Inside && !b.Repeatable(u.Done) && !f.redo && !f.skip:
		err = refused(api.CodeConflict, "--resume --redo does it again; --resume --skip takes it as done", "%s: nobody knows whether it was done", is)
	default:
		at.Resume, at.unfinished = runbook.Resume{From: u.Done, Skip: f.skip && u.Inside}, u
		return at, nil
	}
	at.close()
	return nil, err
}

// whereWords says where a run was interrupted.
func whereWords(u *runbook.Unfinished) string {
	switch {
	case u.Failed > 0 && u.Text == "":
		return fmt.Sprintf("failed in step %d, and was interrupted before it did what is under on_failure", u.Failed)
	case u.Failed > 0:
		return fmt.Sprintf("failed in step %d, and was interrupted under on_failure, at %s", u.Failed, u.Text)
	case u.Inside:
		return fmt.Sprintf("was interrupted inside step %d, %s", u.Done+1, u.Text)
	}
	return fmt.Sprintf("was interrupted after step %d", u.Done)
}

func (c *cli) previews(kind string, of int, list []runbook.Preview) {
	for i, p := range list {
		c.printf("%s %d of %d, %s", kind, of-len(list)+i+1, of, p.Does)
		for _, line := range p.Words {
			c.printf("  %s", line)
		}
	}
}

func (c *cli) say(format string, args ...any) {
	if !c.json() {
		c.printf(format, args...)
	}
}

// runHere runs a command of a runbook, as hooks are run.
func (c *cli) runHere(ctx context.Context, command runbook.Command) error {
	run := exec.Command("sh", "-c", command.Shell) //nolint:gosec // the operator's own command, with the operator's own rights
	if command.Command != nil {
		run = exec.Command(command.Command[0], command.Command[1:]...) //nolint:gosec // as above
	}
	run.Dir, run.Env = command.Dir, append(os.Environ(), command.Env...)
	if abs, err := filepath.Abs(c.socket); err == nil { // the command runs elsewhere
		run.Env = append(run.Env, "TURNOUT_SOCKET="+abs)
	}
	run.Stdout, run.Stderr = c.err, c.err
	ownGroup(run)
	if err := run.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }() // ends with the command
	select {
	case err := <-ended:
		if err != nil {
			return errors.New(hookFailure(err))
		}
		return nil
	case <-ctx.Done():
		killGroup(run)
		<-ended
		return context.Cause(ctx)
	}
}

// confirm asks on the terminal.
func (c *cli) confirm(ctx context.Context, question string) (bool, error) {
	c.wipe()
	forgetTyped()
	_, _ = fmt.Fprintf(c.err, "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // ends with a line, or with the process
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answers:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		_, _ = fmt.Fprintln(c.err) // what follows stands on a line of its own
		return false, context.Cause(ctx)
	}
}

// ranBook says how the run ended and what holds now.
func (c *cli) ranBook(b *runbook.Book, d *client.Client, out *runbook.Outcome, path string, early error) error {
	if c.json() {
		c.writeJSON(out)
	}
	if out.State == "done" {
		c.say("%s done after %s", plural(len(b.Steps), "step"), out.Took.Round(time.Millisecond))
		return nil
	}
	in := "in"
	if !out.Begun {
		in = "before"
	}
	e := &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s %s step %d of %d, %s: %s", out.State, in, out.Step, len(b.Steps), out.Words, out.Failed)}
	if out.Err != nil {
		e.Code, e.Details, e.Hint = out.Err.Code, out.Err.Details, out.Err.Hint
	}
	e.Details = append(slices.Clip(e.Details), out.Undone...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	st, err := d.Status(ctx, "")
	if err != nil {
		e.Holds = "what holds now the door does not say; what it has journalled holds when it is up again"
	} else {
		var parts []string
		for _, name := range sortedKeys(st.Services) {
			parts = append(parts, name+" "+stateAt(st.Services[name]))
		}
		e.Holds = fmt.Sprintf("now: %s, revision %d", strings.Join(parts, ", "), st.Revision)
	}
	switch {
	case out.State == "interrupted":
		resume := commandLine([]string{"run", path, "--resume"})
		e.Code, e.Hint = api.CodeFailed, resume+" goes on with this step"
		if out.Begun && !b.Repeatable(out.Step-1) {
			e.Hint = resume + " --redo does this step again; --resume --skip takes it as done"
		}
		if errors.Is(early, errTimedOut) {
			e.Code = api.CodeTimeout
		}
	case out.RolledBack:
		e.Code = api.CodeRolledBack
	}
	return e
}

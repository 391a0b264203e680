package runbook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
)

// Preview is what a step would do, in words.
type Preview struct {
	Step  *Step    `json:"-"`
	Does  string   `json:"does"`
	Words []string `json:"words"`
}

// Check holds a runbook against the running door: what each step would do now, and every mistake that shows before
// step 1. Steps before from are taken as done. A step is planned by the door itself unless an earlier one moves the same services; then its names are
// checked. With gates, a swap's are asked too, which takes as long as they do. The error, if any, is config.Errors, or the
// door's own when it cannot be asked.
func (b *Book) Check(ctx context.Context, door *client.Client, from int, gates bool) (steps, onFailure []Preview, err error) {
	st, err := door.Status(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	c := &check{book: b, door: door, gates: gates, st: st, moved: map[string]bool{}}
	for i := range b.Steps {
		if i < from {
			c.ran = c.ran || b.Steps[i].Verb == "exec"
			continue
		}
		steps = append(steps, c.step(ctx, &b.Steps[i], true))
	}
	for i := range b.OnFailure {
		onFailure = append(onFailure, c.step(ctx, &b.OnFailure[i], false))
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if c.found != nil {
		return steps, onFailure, c.found
	}
	return steps, onFailure, nil
}

type check struct {
	book  *Book
	door  *client.Client
	gates bool
	st    *api.Status
	moved map[string]bool // services that an earlier step changes
	taken []string        // snapshots that an earlier step takes
	ran   bool            // an earlier step runs a command
	found config.Errors
}

func (c *check) refuse(s *Step, format string, args ...any) {
	c.found = append(c.found, config.Issue{File: c.book.File, Line: s.Line, Column: s.Column, Path: s.Verb, Message: fmt.Sprintf(format, args...)})
}

// step previews one step. planned: as the door is now; else only names are checked.
func (c *check) step(ctx context.Context, s *Step, planned bool) Preview {
	p := Preview{Step: s, Does: s.Words()}
	if ctx.Err() != nil {
		return p
	}
	switch s.Verb {
	case "confirm":
		p.Words = []string{"asks: " + s.Text}
	case "exec", "notify":
		p.Words = []string{c.command(s)}
		c.ran = c.ran || s.Verb == "exec"
	case "gate":
		p.Words = []string{"asks what must hold before `turnout swap " + swapWords(s) + "`"}
		if names, ok := c.services(s, s.Target, true); ok {
			c.members(s, names)
		}
	case "snapshot":
		p.Words = []string{"writes down what " + orAll(s.Target) + " is like, as " + s.Snapshot}
		if s.Target != "" {
			c.services(s, s.Target, true)
		}
		c.taken = append(c.taken, s.Snapshot)
	case "compare":
		p.Words = []string{"fails if something got worse since snapshot " + s.Snapshot}
		c.snapshot(ctx, s)
	case "wait":
		p.Words = []string{"waits " + waitWords(s)}
		if s.Target != "" {
			c.services(s, s.Target, false)
		}
	default:
		p.Words = c.change(ctx, s, planned)
	}
	return p
}

func orAll(target string) string {
	if target == "" {
		return "every service"
	}
	return target
}

// snapshot looks whether one is there, or will be by an earlier step.
func (c *check) snapshot(ctx context.Context, s *Step) {
	all, err := c.door.Snapshots(ctx)
	known := slices.Clone(c.taken)
	for i := range all {
		if all[i].Damaged == "" {
			known = append(known, all[i].Name)
		}
	}
	if err == nil && !slices.Contains(known, s.Snapshot) {
		c.missing(s, "there is no snapshot", s.Snapshot, known)
	}
}

// command looks whether what is to be run can be.
func (c *check) command(s *Step) string {
	switch {
	case s.Webhook != "":
		return "posts to " + host(s.Webhook)
	case s.Shell != "":
		c.shell(s, "", s.Shell)
		return "runs: " + s.Shell
	}
	program, isPath := s.Command[0], strings.Contains(s.Command[0], "/")
	if isPath && !filepath.IsAbs(program) { // it runs there
		program = filepath.Join(c.dir(), program)
	}
	if _, err := exec.LookPath(program); err != nil && !(isPath && c.ran) { // an earlier command may put it there
		c.refuse(s, "no program %q: %v", s.Command[0], err)
	}
	return "runs: " + strings.Join(s.Command, " ")
}

// dir is where commands run.
func (c *check) dir() string {
	dir, err := filepath.Abs(filepath.Dir(c.book.File))
	if err != nil {
		return filepath.Dir(c.book.File)
	}
	return dir
}

// shell looks whether the shell can read a command, and whether there is what it begins with.
func (c *check) shell(s *Step, of, command string) {
	if out, err := exec.Command("sh", "-n", "-c", command).CombinedOutput(); err != nil { //nolint:gosec // -n reads it and runs nothing
		c.refuse(s, "%sthe shell cannot read it: %s", of, strings.TrimSpace(string(out)))
		return
	}
	word, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	if isPath := strings.Contains(word, "/"); !plainWord(word, "") || isPath && c.ran { // an earlier command may put it there
		return
	}
	look := exec.Command("sh", "-c", `command -v "$1"`, "sh", word) //nolint:gosec // it is looked for, not run
	look.Dir, look.Env = c.dir(), append(os.Environ(), c.book.env()...)
	if look.Run() != nil {
		c.refuse(s, "%sno program %q: the shell does not find it", of, word)
	}
}

// change checks the names of a step that changes the door and lets the door plan it.
func (c *check) change(ctx context.Context, s *Step, planned bool) []string {
	if s.StopOld != "" {
		c.shell(s, "stop_old: ", s.StopOld)
	}
	if s.StartNew != "" {
		c.shell(s, "start_new: ", s.StartNew)
	}
	grouped := s.Verb == "swap" || s.Verb == "back" || s.ofAll()
	names, ok := c.services(s, s.Target, grouped)
	if !ok || !c.members(s, names) {
		return []string{"cannot be done"}
	}
	if f := c.st.Frozen; f != nil && planned {
		c.refuse(s, "the door is frozen by %s%s: `turnout unfreeze` first", f.By, because(f.Reason))
		return []string{"cannot be done"}
	}
	if at, err := config.When(s.At, time.Now()); err == nil && !at.After(time.Now()) { // when its turn comes, all the more
		c.refuse(s, "at: %s has passed", s.At)
		return []string{"cannot be done"}
	}
	fresh := planned && !slices.ContainsFunc(names, func(n string) bool { return c.moved[n] })
	if planned {
		for _, n := range names {
			c.moved[n] = true
		}
	}
	if !fresh && s.RollbackIf == "" && s.WaitFor == "" {
		return later(s, planned)
	}
	plan := s.request()
	plan.Plan = true
	if !c.gates && (s.Verb == "swap" || s.Verb == "back") {
		plan.Force = true // of a swap it skips gates alone
	}
	op, err := s.ask(ctx, c.door, plan)
	var e *api.Error
	if err != nil && !errors.As(err, &e) {
		e = &api.Error{Message: err.Error()}
	}
	switch {
	case !fresh && !checkless(e): // how things are now says nothing of how they will be then
		return later(s, planned)
	case e != nil && e.Code == api.CodeConflict && e.Hint != "": // the way out is another command, not another runbook
		c.refuse(s, "%s; %s", e.Message, e.Hint)
		return []string{"cannot be done"}
	case err != nil:
		c.refuse(s, "%s", e.Message)
		return []string{"cannot be done"}
	}
	var out []string
	if typed := s.typed(); strings.Contains(typed, " --") { // what the door's own words need not repeat
		out = []string{"would: " + typed}
	}
	for _, line := range op.Plan {
		out = append(out, "would: "+line)
	}
	return out
}

// later says what a step would do that comes after others of the same services.
func later(s *Step, planned bool) []string {
	words := "would: " + s.typed()
	if planned {
		words += " (after the steps before it)"
	}
	return []string{words}
}

// checkless tells whether a change was refused for a check that there is not: that is so whatever steps come before.
func checkless(e *api.Error) bool {
	return e != nil && (strings.HasPrefix(e.Message, "the file has no check ") || strings.HasPrefix(e.Message, "rollback_if: "))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// ofAll tells whether the step's target may be all.
func (s *Step) ofAll() bool {
	return s.Verb == "hold" || s.Verb == "release" || s.Verb == "maintenance" || s.Verb == "read-only"
}

// services are those of a service, a group or all.
func (c *check) services(s *Step, name string, grouped bool) ([]string, bool) {
	if _, ok := c.st.Services[name]; ok {
		return []string{name}, true
	}
	members, ok := c.st.Groups[name]
	if grouped && ok {
		return members, true
	}
	if s.ofAll() && name == "all" {
		return slices.Sorted(maps.Keys(c.st.Services)), true
	}
	if ok {
		c.refuse(s, "%s is a group; %s takes a service", name, s.Verb)
		return nil, false
	}
	known := slices.Sorted(maps.Keys(c.st.Services))
	if grouped {
		known = append(known, slices.Sorted(maps.Keys(c.st.Groups))...)
	}
	c.missing(s, "no service or group is named", name, known)
	return nil, false
}

func (c *check) missing(s *Step, what, name string, known []string) {
	message := fmt.Sprintf("%s %q; there are: %s", what, name, strings.Join(known, ", "))
	if len(known) == 0 {
		message = fmt.Sprintf("%s %q; there are none", what, name)
	}
	c.found = append(c.found, config.Issue{File: c.book.File, Line: s.Line, Column: s.Column, Path: s.Verb, Message: message, Near: config.Nearest(name, known)})
}

// members checks that the pool and the servers a step names are there.
func (c *check) members(s *Step, services []string) bool {
	for _, name := range services {
		svc := c.st.Services[name]
		if s.Verb == "read-only" && svc.Mode != "http" {
			c.refuse(s, "%s is of mode %s: only of http the door knows what reads and what writes", name, svc.Mode)
			return false
		}
		pool := s.Pool
		if pool == "" && (s.Verb == "keep" || s.Servers != nil) {
			pool = svc.Active
		}
		if pool == "" {
			continue
		}
		p, ok := svc.Pools[pool]
		if !ok {
			c.missing(s, name+" has no pool", pool, slices.Sorted(maps.Keys(svc.Pools)))
			return false
		}
		named := s.Servers
		if s.Server != "" {
			named = []string{s.Server}
		}
		for _, n := range named {
			if _, ok := p.Servers[n]; !ok {
				c.missing(s, name+"/"+pool+" has no server", n, slices.Sorted(maps.Keys(p.Servers)))
				return false
			}
		}
	}
	return true
}

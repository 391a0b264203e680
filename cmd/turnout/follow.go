package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// Why a wait ended before what it waited for.
var (
	errInterrupted = errors.New("interrupted")
	errTimedOut    = errors.New("timed out")
)

// wait is a context that ends with the first SIGINT or SIGTERM, or when --timeout is over; also with SIGHUP, that of a
// terminal which is gone, unless that is ignored as under nohup. A second signal ends the process at once. For those who
// leave something under way, more is SIGPIPE: a reader of their output that is gone does not kill them in the middle of it.
type wait struct {
	ctx       context.Context
	stop      func()
	interrupt func() // as a signal does
}

func newWait(timeout time.Duration, more ...os.Signal) *wait {
	ctx, cancel := context.WithCancelCause(context.Background())
	free := func() {}
	if timeout > 0 {
		ctx, free = context.WithTimeoutCause(ctx, timeout, errTimedOut)
	}
	signals, ends := make(chan os.Signal, 2), []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	signal.Notify(signals, append(more, ends...)...)
	done := make(chan struct{})
	go func() { // ends with stop
		select {
		case <-signals:
			cancel(errInterrupted)
			signal.Reset(ends...)
		case <-done:
		}
	}()
	return &wait{ctx: ctx, interrupt: func() { cancel(errInterrupted) }, stop: func() {
		signal.Stop(signals)
		close(done)
		free()
		cancel(nil)
	}}
}

// early is why the wait ended; nil while it has not.
func (w *wait) early() error {
	if w.ctx.Err() == nil {
		return nil
	}
	return context.Cause(w.ctx)
}

// graceForAnswer is how long an interrupted command still waits for the answer to a request it has sent: it is
// better to know what the door did than to leave a moment earlier. A gate takes no longer than that.
const graceForAnswer = 5 * time.Second

// begin sends the request and has its answer, also when it is interrupted meanwhile.
func (ch *change) begin(w *wait) error {
	type answer struct {
		op  *api.Operation
		err error
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answers := make(chan answer, 1)
	go func() { // ends with the answer or ctx
		op, err := ch.ask(ctx)
		answers <- answer{op, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-w.ctx.Done():
		select {
		case a = <-answers:
		case <-time.After(graceForAnswer):
			return ch.unanswered(w)
		}
	}
	if a.op == nil {
		return a.err
	}
	ch.op = a.op // how it ended is in it, if it has ended already
	return nil
}

// unanswered says what holds when the door took the request and gave no answer.
func (ch *change) unanswered(w *wait) error {
	e := &api.Error{Code: api.CodeFailed, Message: "interrupted before the door had answered " + ch.name()}
	if errors.Is(w.early(), errTimedOut) {
		e.Code, e.Message = api.CodeTimeout, fmt.Sprintf("no answer from the door within %s to %s", ch.cli.timeout, ch.name())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if st, err := ch.door.Status(ctx, ""); err == nil {
		e.Holds = ch.holds(st)
	}
	e.Hint = "`turnout history` says whether it was done"
	return e
}

func (ch *change) name() string { return strings.TrimSpace(ch.verb + " " + ch.target) }

// holds says in words what is in force: "still serving primary, revision 41, 212 connections".
func (ch *change) holds(st *api.Status) string {
	var parts []string
	for _, name := range members(st, ch.target) {
		s := st.Services[name]
		parts = append(parts, fmt.Sprintf("%s %s %s", name, s.State, s.Active))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("revision %d is in force", st.Revision)
	}
	return fmt.Sprintf("%s, revision %d", strings.Join(parts, ", "), st.Revision)
}

// members are the services of a target that a status has, sorted.
func members(st *api.Status, target string) []string {
	if _, ok := st.Services[target]; ok {
		return []string{target}
	}
	names, group := st.Groups[target]
	if names = slices.Clone(names); !group && target == "all" {
		names = sortedKeys(st.Services)
	}
	names = slices.DeleteFunc(names, func(n string) bool { _, ok := st.Services[n]; return !ok })
	slices.Sort(names)
	return names
}

func ended(op *api.Operation) bool {
	return op.State == "done" || op.State == "failed" || op.State == "planned"
}

// inForce tells whether the change has happened, though drains of it may go on. A hand-over begins with a
// revision of its own, the hold; so only its proof says that it has committed.
func (ch *change) inForce() bool {
	if ended(ch.op) {
		return ch.op.State == "done"
	}
	if ch.verb == "swap" || ch.verb == "back" {
		return len(ch.op.Proofs) > 0
	}
	return ch.op.State == "draining"
}

// follow sees the operation through to its end and says how it went.
func (ch *change) follow(w *wait) error {
	for {
		ch.tellSteps()
		if ch.inForce() && !ch.announced {
			ch.announce()
			if ch.noWait {
				return nil
			}
		}
		if ended(ch.op) {
			return ch.finish()
		}
		if w.early() != nil {
			return ch.leave(w.early())
		}
		if err := ch.step(w); err != nil {
			if w.early() != nil {
				return ch.leave(w.early())
			}
			return ch.lost(err)
		}
	}
}

// step runs the hook that the door waits for, or waits until there is something new.
func (ch *change) step(w *wait) error {
	if ch.op.State == "waiting" {
		if command, ok := ch.hooks[ch.op.Waiting]; ok && !ch.hooked[ch.op.Waiting] {
			return ch.runHook(w, ch.op.Waiting, command)
		}
		// The hook has been answered and the door has not moved on yet: it answers at once while it
		// waits, so the asking is paced here.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-w.ctx.Done():
			return w.early()
		}
	}
	patience := 10 * time.Second
	if ch.cli.live {
		patience = 250 * time.Millisecond // the live line counts down
	}
	op, err := ch.door.Operation(w.ctx, ch.op.ID, len(ch.op.Steps), patience)
	if err != nil {
		return err
	}
	ch.op = op
	ch.showProgress(w.ctx)
	return nil
}

// tellSteps writes the steps that were not written yet, each once.
func (ch *change) tellSteps() {
	for ; ch.told < len(ch.op.Steps); ch.told++ {
		if s := ch.op.Steps[ch.told]; !ch.cli.json() && !ch.noWait {
			ch.cli.notef("%s: %s", s.Name, s.Text)
		}
	}
}

// announce writes what the change is, once it is in force.
func (ch *change) announce() {
	ch.announced = true
	if ch.cli.json() {
		if ch.noWait || ch.op.State == "planned" {
			ch.cli.writeJSON(ch.op)
		}
		return
	}
	op := ch.op
	switch {
	case op.State == "planned":
		for _, line := range op.Plan {
			ch.cli.printf("would: %s", line)
		}
	case len(op.Proofs) > 0 && op.Verb != "split":
		for i := range op.Proofs {
			p := &op.Proofs[i]
			ch.cli.printf("%s%s", moved(p, op.Revision), stillOn(p))
		}
	case !op.Changed:
		ch.lines(op.Plan)
	case len(op.Plan) == 1:
		ch.cli.printf("%s, revision %d", op.Plan[0], op.Revision)
	default:
		ch.lines(op.Plan)
		ch.cli.printf("%s: done, revision %d", ch.name(), op.Revision)
	}
}

func (ch *change) lines(plan []string) {
	for _, line := range plan {
		ch.cli.printf("%s", line)
	}
}

// finish says how the operation ended.
func (ch *change) finish() error {
	op := ch.op
	if ch.cli.json() {
		ch.cli.writeJSON(op)
	}
	for i := range op.Proofs {
		p := &op.Proofs[i]
		if ch.cli.json() {
			continue
		}
		label := "proof"
		if len(op.Proofs) > 1 {
			label = "proof of " + p.Service
		}
		ch.cli.printf("%s: %s", label, proof(p))
	}
	if op.Error != nil {
		return op.Error
	}
	if op.Cut > 0 { // also by drains that are no swap's, and so have no proof
		ch.cli.notef("done, but %s cut at the drain's deadline", wereCut(op.Cut))
		return errSaid{api.ExitCode(api.CodeCut)}
	}
	return nil
}

func wereCut(n int) string {
	if n == 1 {
		return "1 connection was"
	}
	return thousands(n) + " connections were"
}

// lost is when the door went away in the middle.
func (ch *change) lost(err error) error {
	ch.unseen = true
	var e *api.Error
	if !errors.As(err, &e) {
		e = &api.Error{Code: api.CodeUnreachable, Message: err.Error()}
	}
	lost := *e
	lost.Message = fmt.Sprintf("lost sight of %s: %s", ch.name(), e.Message)
	lost.Holds = "it was not in force when last seen"
	if ch.announced {
		lost.Holds = "it was in force when last seen"
	}
	lost.Hint = "`turnout history` says what became of it"
	return &lost
}

// leave ends a wait early and says which state holds. A change that is in force stays; a hand-over before its
// commit is taken back, since whoever would run its hooks is leaving.
func (ch *change) leave(why error) error {
	ctx, cancel := context.WithTimeout(context.Background(), graceForAnswer)
	defer cancel()
	if !ch.inForce() {
		if _, err := ch.door.Continue(ctx, ch.op.ID, api.ContinueRequest{Abort: true}); err != nil {
			return ch.lost(err)
		}
	}
	for !ch.inForce() && !ended(ch.op) {
		op, err := ch.door.Operation(ctx, ch.op.ID, len(ch.op.Steps), graceForAnswer)
		if err != nil {
			e := ch.lost(err).(*api.Error)
			e.Message, e.Holds = "the door was told to go back and has not done so yet", ""
			e.Hint = fmt.Sprintf("`turnout status %s` shows it", ch.target)
			return e
		}
		ch.op = op
		ch.tellSteps()
	}
	code := api.CodeFailed
	if errors.Is(why, errTimedOut) {
		code = api.CodeTimeout
	}
	if !ch.inForce() {
		if ch.cli.json() {
			ch.cli.writeJSON(ch.op)
		}
		e := &api.Error{Message: why.Error()}
		if ch.op.Error != nil {
			copied := *ch.op.Error
			e = &copied
		}
		e.Code = code
		return e
	}
	if !ch.announced {
		ch.announce()
	}
	if ended(ch.op) {
		return ch.finish()
	}
	if ch.cli.json() && !ch.noWait {
		ch.cli.writeJSON(ch.op)
	}
	if ch.watch {
		ch.tellWatches(ctx)
	}
	return &api.Error{
		Code:    code,
		Message: fmt.Sprintf("%s; the drain goes on in the door, %s left", past(ch.verb), plural(ch.remaining(ctx), "connection")),
		Hint:    fmt.Sprintf("`turnout status %s--wait drained` waits for it", spaced(ch.target)),
	}
}

// past is a verb as what has been done.
func past(verb string) string {
	switch verb {
	case "swap", "back":
		return "swapped"
	case "drain":
		return "sealed"
	case "reload":
		return "reloaded"
	}
	return verb + " is in force"
}

func spaced(target string) string {
	if target == "" {
		return ""
	}
	return target + " "
}

// remaining counts the connections that drains of the change still wait for.
func (ch *change) remaining(ctx context.Context) int {
	n := 0
	if len(ch.op.Proofs) > 0 {
		for i := range ch.op.Proofs {
			n += ch.op.Proofs[i].Remaining
		}
		return n
	}
	if st, err := ch.door.Status(ctx, ""); err == nil {
		for _, name := range members(st, ch.target) {
			for _, d := range draining(st.Services[name]) {
				n += d.connections
			}
		}
	}
	return n
}

// showProgress rewrites the live line: what is still waited for, and how long at most.
func (ch *change) showProgress(ctx context.Context) {
	if !ch.cli.live || ch.cli.json() || ended(ch.op) {
		return
	}
	st, err := ch.door.Status(ctx, "")
	if err != nil {
		return
	}
	names := members(st, ch.target)
	if ch.target == "" {
		names = sortedKeys(st.Services)
	}
	var parts []string
	for _, name := range names {
		parts = append(parts, progressOf(name, st.Services[name])...)
	}
	ch.cli.progress("%s", strings.Join(parts, "   "))
}

func progressOf(name string, s api.Service) []string {
	var parts []string
	if s.HeldUntil != nil {
		parts = append(parts, fmt.Sprintf("%s: %d held, %s at most", name, s.Held, left(s.HeldUntil)))
	}
	for _, d := range draining(s) {
		part := fmt.Sprintf("%s: %s left", name+"/"+d.name, plural(d.connections, "connection"))
		if d.until != nil {
			part += ", the drain ends in " + left(d.until)
		}
		parts = append(parts, part)
	}
	return parts
}

// drainOf is a pool, or a server of an active pool, that gets no new work and has connections.
type drainOf struct {
	name        string
	connections int
	until       *time.Time
}

func draining(s api.Service) []drainOf {
	var out []drainOf
	for _, pool := range sortedKeys(s.Pools) {
		p := s.Pools[pool]
		if p.State == "draining" {
			d := drainOf{pool, p.Connections, p.DrainUntil}
			if p.CloseUntil != nil {
				d.until = p.CloseUntil
			}
			out = append(out, d)
			continue
		}
		for _, server := range sortedKeys(p.Servers) {
			if sv := p.Servers[server]; sv.State == "draining" {
				out = append(out, drainOf{pool + "/" + server, sv.Connections, nil})
			}
		}
	}
	return out
}

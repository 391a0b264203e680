package proxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// State of an Operation.
type State string

// States of an operation.
const (
	StatePlanned  State = "planned"  // only worked out
	StateRunning  State = "running"  // a hand-over before its commit
	StateWaiting  State = "waiting"  // paused until Continue: see OperationView.Waiting
	StateDraining State = "draining" // the change is in force; old connections are ending
	StateDone     State = "done"
	StateFailed   State = "failed" // nothing changed, or it went back: see Err
)

// Step is something an operation did, in words.
type Step struct {
	At   time.Time
	Name string
	Text string
}

// Proof is what a swap can show for one service, or a split for a pool that gets no new work any more. From and To
// name several pools with a comma between, where a split had led new work to several or still does.
type Proof struct {
	Service       string        `json:"service"`
	From          string        `json:"from"`
	To            string        `json:"to"`
	At            time.Time     `json:"at"`                       // when the next snapshot was stored
	LastStartOld  time.Time     `json:"last_start_old,omitzero"`  // zero: none since the door started
	FirstStartNew time.Time     `json:"first_start_new,omitzero"` // zero: none yet
	Overlap       time.Duration `json:"overlap_ns"`               // from the first start on new to the last on old, if that came later; never negative
	Held          int           `json:"held"`                     // clients let in that had waited for this change
	Resteered     int           `json:"resteered"`                // dials to the old side taken back
	Remaining     int           `json:"remaining"`                // connections still there
	Cut           int           `json:"cut"`                      // connections cut at the deadline
	DrainUntil    time.Time     `json:"drain_until,omitzero"`
	Then          Then          `json:"then,omitempty"`
	BySession     bool          `json:"by_session,omitempty"` // requests of sessions started on the old side up to DrainUntil; see DrainSpec
	Drained       bool          `json:"drained"`
	Superseded    bool          `json:"superseded,omitempty"` // a later change ended the drain

	sealed                    []*Server // of From
	stored, lastOld, firstNew int64     // Clock instants; stored is At
	steerRev                  uint64
}

// settle derives the times and the overlap from the instants. A loop may have seen the next snapshot, and
// started a connection, before the clock was read behind the store: the store was before that.
func (p *Proof) settle() {
	if p.firstNew != 0 && p.firstNew < p.stored {
		p.At, p.stored = p.wall(p.firstNew), p.firstNew
	}
	p.LastStartOld, p.FirstStartNew = p.wall(p.lastOld), p.wall(p.firstNew)
	p.Overlap = 0
	if p.firstNew != 0 && p.lastOld > p.firstNew {
		p.Overlap = time.Duration(p.lastOld - p.firstNew)
	}
}

// wall is an instant as a time of day, by what the clock on the wall said at the swap.
func (p *Proof) wall(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return p.At.Add(time.Duration(ns - p.stored))
}

// Operation is one change from its start to the end of all that it set going. It is safe for concurrent use.
type Operation struct {
	id     string
	change Change

	mu     sync.Mutex
	view   OperationView // its Target and Started are never written after newOperation, so they are read without mu
	moved  chan struct{} // closed and replaced whenever view changes
	hook   chan hookAnswer
	abort  chan string      // a reason to go back; capacity 1
	drains int              // still going on
	record uint64           // Seq of its change in the journal; 0: none
	early  map[string]early // service → what a hand-over did to it before its commit

	handover bool          // a swap with steps, which Abort takes back until it has committed
	free     chan struct{} // closed when its services can be changed again; swap and back only
}

// early is what a hand-over did before its commit; the commit's proof counts it.
type early struct {
	resteered, cut int
}

// OperationView is a copy of an Operation's state.
type OperationView struct {
	ID       string
	Verb     Verb
	Target   string
	State    State
	Waiting  string // in StateWaiting: the step whose hook is waited for, "stop_old" or "start_new"
	Changed  bool   // false: it was so already, or was only planned, or was refused
	Revision uint64 // in force after the change
	Started  time.Time
	Ended    time.Time // zero: not yet
	Steps    []Step
	Proofs   []Proof
	Plan     []string
	Cut      int // connections cut so far by its drains, also those without a proof: of a drain, a maintenance, a reload
	Err      *Refusal
}

type hookAnswer struct {
	step string
	err  string
}

func newOperation(id uint64, ch Change) *Operation {
	op := &Operation{id: strconv.FormatUint(id, 10), change: ch, moved: make(chan struct{}), hook: make(chan hookAnswer), abort: make(chan string, 1), early: map[string]early{}, free: make(chan struct{})}
	target := ch.Target
	if ch.Pool != "" {
		target += "/" + ch.Pool
	}
	if ch.Server != "" {
		target += "/" + ch.Server
	}
	op.view = OperationView{ID: op.id, Verb: ch.Verb, Target: target, State: StateRunning, Started: time.Now()}
	return op
}

// update changes the view and wakes those that wait for it.
func (op *Operation) update(f func(v *OperationView)) {
	op.mu.Lock()
	defer op.mu.Unlock()
	f(&op.view)
	close(op.moved)
	op.moved = make(chan struct{})
}

func (op *Operation) step(name, format string, args ...any) {
	s := Step{At: time.Now(), Name: name, Text: fmt.Sprintf(format, args...)}
	op.update(func(v *OperationView) { v.Steps = append(v.Steps, s) })
}

// View copies the operation's state.
func (op *Operation) View() OperationView {
	op.mu.Lock()
	defer op.mu.Unlock()
	v := op.view
	v.Steps, v.Proofs = slices.Clone(v.Steps), slices.Clone(v.Proofs)
	return v
}

// ended tells whether nothing of the operation goes on any more.
func (v *OperationView) ended() bool {
	return v.State == StateDone || v.State == StateFailed || v.State == StatePlanned
}

// Wait returns when the operation has ended, waits for a hook, has more than after steps, or ctx is done.
// A negative after waits for the end or a hook alone.
func (op *Operation) Wait(ctx context.Context, after int) OperationView {
	for {
		op.mu.Lock()
		moved := op.moved
		ready := op.view.ended() || op.view.State == StateWaiting || after >= 0 && len(op.view.Steps) > after
		op.mu.Unlock()
		if ready {
			return op.View()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return op.View()
		}
	}
}

// Continue answers the hook that the operation waits for; a failure makes it go back.
func (op *Operation) Continue(step, failure string) error {
	v := op.View()
	if v.State != StateWaiting || v.Waiting != step {
		return refuse(CodeConflict, "operation %s does not wait for %s: it is %s", op.id, step, v.State)
	}
	select {
	case op.hook <- hookAnswer{step, failure}:
		return nil
	case <-time.After(time.Second):
		return refuse(CodeConflict, "operation %s no longer waits for %s", op.id, step)
	}
}

// Abort makes a hand-over go back to where it was, unless it has committed already.
func (op *Operation) Abort(why string) {
	select {
	case op.abort <- why:
	default:
	}
}

// operations remembers the latest ones for GET /v1/operations: those that began. A refused one is not kept.
type operations struct {
	mu   sync.Mutex
	last uint64
	kept uint64
	ring [256]*Operation
}

func (o *operations) new(ch Change) *Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	return newOperation(o.last, ch)
}

func (o *operations) keep(op *Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring[o.kept%uint64(len(o.ring))] = op
	o.kept++
}

func (o *operations) find(id string) *Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.ring {
		if op != nil && op.id == id {
			return op
		}
	}
	return nil
}

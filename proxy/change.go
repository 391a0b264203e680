package proxy

import (
	"fmt"
	"time"
)

// Verb names a change.
type Verb string

// Verbs, the same words as the CLI's.
const (
	VerbSwap        Verb = "swap"
	VerbBack        Verb = "back"
	VerbDrain       Verb = "drain"
	VerbReady       Verb = "ready"
	VerbWeight      Verb = "weight"
	VerbKeep        Verb = "keep"
	VerbSplit       Verb = "split"
	VerbWatch       Verb = "watch" // the end of one in which nothing was found
	VerbHold        Verb = "hold"
	VerbRelease     Verb = "release"
	VerbMaintenance Verb = "maintenance"
	VerbReadOnly    Verb = "read-only"
	VerbFreeze      Verb = "freeze"
	VerbUnfreeze    Verb = "unfreeze"
	VerbReload      Verb = "reload"
	VerbStart       Verb = "start" // the door itself
	VerbStop        Verb = "stop"
	VerbNote        Verb = "note" // something done beside the door, such as a runbook's step; it changes nothing
)

// Who asked for a change.
type Who struct {
	UID  int    `json:"uid"` // -1: the door itself
	GID  int    `json:"gid"`
	PID  int    `json:"pid,omitempty"`
	Name string `json:"name"` // user name, "signal" or "door"
}

// TheDoor is the door acting by itself, at a deadline.
var TheDoor = Who{UID: -1, GID: -1, Name: "door"}

// Change asks for something to become different. Fields that a verb does not use are ignored.
type Change struct {
	Verb       Verb
	Target     string // swap, back, split: service or group. hold, release, maintenance, read-only: these or All. Others: service
	Pool       string // drain, ready, weight
	Server     string // drain, ready: "" is the whole pool; weight
	Who        Who
	Reason     string
	Force      bool   // skip gates and guards; never a conflict
	IfRevision uint64 // refuse unless this is the revision in force; 0: any

	To        string        // swap; "" is the other one of two
	Servers   []string      // keep; swap: exactly these of the pool (of the active one when To is "") take new work
	Shares    []Share       // split; what they leave goes to the active pool; none: the split ends
	Drain     time.Duration // swap, split, keep, drain, maintenance: deadline; 0: the service's
	Then      Then          // swap, split, keep, drain; "": the service's
	Exclusive bool          // swap: never two at once, whatever the service says
	Hold      time.Duration // swap: the hold's deadline; 0: enough for the drain and the service's hold
	StopOld   bool          // swap: pause for a hook of that name
	StartNew  bool
	WaitFor   string // swap: a check that the new side must pass, asked again and again while clients wait
	Failback  bool   // swap: by the failover, back to where it came from

	Watch      time.Duration // swap, back, split with Steps: how long a breach swaps back; 0: as the service says; negative: not
	RollbackIf string        // what a breach is; "": as the service says
	Steps      []Percent     // split to one pool: the shares that follow, each after Every; the last one, Whole, is the swap
	Every      time.Duration
	Baseline   map[string]map[string]float64 // service → readings from before
	Wait       time.Duration                 // hold: the longest one client waits; 0: the service's
	For        time.Duration                 // hold, maintenance, read-only, split: its own deadline; 0: hold: the default, others: none
	Spare      time.Duration                 // hold: how much of For its maker means not to need
	On         bool                          // maintenance, read-only
	Soft       bool                          // maintenance
	At         time.Time                     // maintenance: announced to begin then; zero: it begins now
	Cancel     bool                          // maintenance: the one that is announced does not begin
	Message    string                        // maintenance, read-only: what the public is told
	Weight     int                           // weight
	SlowStart  time.Duration                 // ready: how long until a server that was drained has its whole share; 0: the service's; negative: at once
	Spec       *Spec                         // reload
	Detail     string                        // reload: what the file is, for history

	// Answered is closed when the answer is on its way to whoever asked, who does not wait for drains; nil: at once. See
	// Switch.letAnswer.
	Answered <-chan struct{}

	expiry   bool      // a deadline of the door's own: not refused by freeze, and made even when it cannot be journalled
	deadline time.Time // expiry: what ends later than this was set meanwhile and stays
	members  []string  // expiry: the services whose deadline it is, whatever Target says; nil: those of Target
	handover bool      // a step of a hand-over
	rollback *Watched  // ends a watch, for that reason
	staged   *Watch    // the next step of one
	// held are the holds that were in force before a hand-over began, by service: it ends with them.
	held map[string]*Hold
}

// Code says what kind of refusal it is; the CLI's exit codes come from it.
type Code string

// Codes of a Refusal.
const (
	CodeFailed   Code = "failed"
	CodeUsage    Code = "usage"
	CodeGate     Code = "gate"
	CodeTimeout  Code = "timeout"
	CodeConflict Code = "conflict"
	CodeNotFound Code = "not_found"
	CodeJournal  Code = "journal"
)

// Refusal says why a change was not made, what still holds, and what to do next.
type Refusal struct {
	Code    Code
	Message string
	Holds   string
	Hint    string
	Details []string
}

func (r *Refusal) Error() string { return r.Message }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (r *Refusal) hint(format string, args ...any) *Refusal {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}

func (r *Refusal) holds(text string) *Refusal {
	if r.Holds == "" {
		r.Holds = text
	}
	return r
}

// still says in words what holds: "still serving primary, revision 41, 212 connections".
func (s *Snapshot) still(svc *Service) string {
	if svc == nil {
		return fmt.Sprintf("nothing changed, revision %d", s.Revision)
	}
	doing := "serving " + svc.shareWords()
	switch {
	case svc.Maintenance != nil:
		doing = "in maintenance, " + svc.Active.Name + " active"
	case svc.Hold != nil:
		doing = fmt.Sprintf("held with %d waiting, %s active", svc.Held(), svc.Active.Name)
	}
	return fmt.Sprintf("still %s, revision %d, %s", doing, s.Revision, plural(svc.Connections(), "connection"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

package health

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// State is what a monitor says of a target.
type State int

const (
	Unknown State = iota // not yet asked often enough
	Ready                // every check passes
	Failing              // was ready, and a check fails
	Waiting              // a check fails, and it never was ready: a standby waits for its turn; no alarm
)

func (s State) String() string {
	return [...]string{"unknown", "ready", "failing", "waiting"}[s]
}

// Plan is how a target is watched. All its checks must pass.
type Plan struct {
	Target   Target
	Checks   []*Check
	Interval time.Duration // default 1s
	Fast     time.Duration // while an answer contradicts the state; default a fifth of Interval
	Timeout  time.Duration // of checks that have none; default the smaller of Interval and DefaultTimeout
	Rise     int           // passes in a row that make a check pass; default 2
	Fall     int           // failures in a row that make it fail; default 3
}

func (p Plan) withDefaults() Plan {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&p.Interval, time.Second)
	set(&p.Fast, p.Interval/5)
	set(&p.Timeout, min(p.Interval, DefaultTimeout))
	if p.Rise <= 0 {
		p.Rise = 2
	}
	if p.Fall <= 0 {
		p.Fall = 3
	}
	p.Checks = slices.Clone(p.Checks)
	return p
}

// Transition is a change of a target's state. From and To are the same when it changed and was back before it could
// be told.
type Transition struct {
	ID       string
	Target   Target
	From, To State
	Check    string // that fails; "" unless To is Failing or Waiting
	Reason   string
	At       time.Time
}

// Report is what is known of a target.
type Report struct {
	ID     string
	Target Target
	State  State
	Since  time.Time
	Check  string // that fails
	Reason string
	Checks []CheckReport
}

// CheckReport is what is known of one check of a target.
type CheckReport struct {
	Name, Kind    string
	State         State // Ready, Failing or Unknown: of this check alone
	Passes, Fails int   // in a row
	Last          []Answer
}

// lastAnswers are kept for people; only the newest keeps its body.
const lastAnswers = 5

// Monitor watches many targets, each under an ID of the caller's. Its methods may be called at any time and by
// anyone, its callback included, but for Close, which waits for the callback.
type Monitor struct {
	ctx    context.Context
	cancel context.CancelFunc
	tell   func(Transition)
	work   sync.WaitGroup
	wake   chan struct{} // something is in told; holds one
	asker  *asker        // of plain checks; nil before the first one. Guarded by mu

	mu      sync.Mutex
	targets map[string]*watched // guarded by mu, and so is all in them

	// told has at most one transition per target: a slow callback sees where it went from what it was told last,
	// not each step. So it is bounded, and no check waits for a callback. Guarded by mu.
	told []Transition
}

type watched struct {
	id     string
	plan   Plan
	state  State
	since  time.Time
	check  string
	reason string
	ready  bool // has been, since it was added or excused
	checks []*watch

	// stale says that the target is down by checks that it has no more: so it stays, with check and reason as they were,
	// until one of its new checks says something else.
	stale bool
}

// watch is one check of one target. A plain one is asked by the asker; another one has a goroutine, Monitor.run.
type watch struct {
	of       *watched
	check    *Check
	progress *Progress
	stop     context.CancelFunc
	poke     chan struct{} // ask now; holds one
	turn     *turn         // at the asker; nil: it has a goroutine

	fleeting bool // looks into failed dials: ends itself when it is ready

	state         State // of this check alone
	passes, fails int
	last          []Answer // newest last
}

// NewMonitor starts a monitor. tell is called with every transition, one at a time and in order; nil tells nobody.
func NewMonitor(tell func(Transition)) *Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Monitor{ctx: ctx, cancel: cancel, tell: tell, wake: make(chan struct{}, 1), targets: map[string]*watched{}}
	m.work.Go(m.deliver) // ends with ctx
	return m
}

// Close ends all checks and waits for them and for the callback. Nothing is told afterwards.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.cancel() // under mu: nobody adds work after Wait has begun
	if m.asker != nil {
		m.asker.close()
	}
	m.mu.Unlock()
	m.work.Wait()
}

// Set watches exactly these targets: others are removed, new ones added, those that stay are updated.
func (m *Monitor) Set(plans map[string]Plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.targets {
		if _, stays := plans[id]; !stays {
			m.remove(id)
		}
	}
	for id, p := range plans {
		m.put(id, p)
	}
}

// Put adds a target, or updates the one of that ID: with the same address each check that is the Same keeps what it
// has seen. A target that was ready and gets another check is Unknown until that has spoken; one that was down stays so
// until then.
func (m *Monitor) Put(id string, p Plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(id, p)
}

// Remove forgets a target. What was not yet told of it is not told.
func (m *Monitor) Remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(id)
}

// Excuse forgets that a target was ever ready: a failing one is waiting from now on. For a side that was stopped
// on purpose.
func (m *Monitor) Excuse(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.targets[id]; w != nil && w.state != Ready {
		w.ready = false
		m.settle(w)
	}
}

// Ask makes all checks of a target run now: someone has met a failure there, such as a refused dial. Checks that
// ran less than Plan.Fast ago wait for that.
func (m *Monitor) Ask(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.targets[id]; w != nil {
		for _, c := range w.checks {
			c.now()
		}
	}
}

// Suspect says that a connection to the target could not be made for a client: beside the target's own checks,
// which run now, one looks whether it can be connected to, at the pace of Plan.Fast, until it can.
func (m *Monitor) Suspect(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.targets[id]
	if w == nil || m.ctx.Err() != nil {
		return
	}
	for _, c := range w.checks {
		c.now()
	}
	if !slices.ContainsFunc(w.checks, func(c *watch) bool { return c.fleeting }) {
		c := m.start(w, connectCheck)
		c.fleeting = true
		c.state = w.state.ofCheck()
		w.checks = append(w.checks, c)
		c.now()
	}
}

// connectCheck looks into failed dials.
var connectCheck = func() *Check {
	c, err := NewCheck(Spec{Name: "connect", TCP: &TCP{}})
	if err != nil {
		panic("health: BUG: " + err.Error())
	}
	return c
}()

// ofCheck is what a check that is added says until it has spoken: nothing new.
func (s State) ofCheck() State {
	if s == Ready {
		return Ready
	}
	return Unknown
}

// Confirm says that all of the target's checks have just passed, asked by someone else, as the gate of a swap: the
// target is ready at once.
func (m *Monitor) Confirm(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.targets[id]
	if w == nil || len(w.checks) == 0 {
		return
	}
	w.checks = slices.DeleteFunc(w.checks, func(c *watch) bool {
		if c.fleeting {
			c.stop()
		}
		return c.fleeting
	})
	for _, c := range w.checks {
		c.state, c.passes, c.fails = Ready, max(c.passes, w.plan.Rise), 0
	}
	m.settle(w)
}

func (w *watch) now() {
	if w.turn != nil {
		w.turn.now()
		return
	}
	select {
	case w.poke <- struct{}{}:
	default: // asked already
	}
}

// Snapshot tells all that is known, by ID.
func (m *Monitor) Snapshot() []Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Report, 0, len(m.targets))
	for _, id := range slices.Sorted(maps.Keys(m.targets)) {
		all = append(all, m.targets[id].report())
	}
	return all
}

// Get tells what is known of one target.
func (m *Monitor) Get(id string) (Report, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.targets[id]
	if w == nil {
		return Report{}, false
	}
	return w.report(), true
}

func (w *watched) report() Report {
	r := Report{ID: w.id, Target: w.plan.Target, State: w.state, Since: w.since, Check: w.check, Reason: w.reason}
	for _, c := range w.checks {
		r.Checks = append(r.Checks, CheckReport{c.check.Name(), c.check.Kind(), c.state, c.passes, c.fails, slices.Clone(c.last)})
	}
	return r
}

// put must be called with m.mu held.
func (m *Monitor) put(id string, p Plan) {
	if m.ctx.Err() != nil {
		return
	}
	p = p.withDefaults()
	w := m.targets[id]
	if w != nil && w.plan.Target.Address != p.Target.Address {
		m.remove(id)
		w = nil
	}
	if w == nil {
		w = &watched{id: id, since: time.Now()}
		m.targets[id] = w
	}
	if w.plan.Target.Name != p.Target.Name || (w.plan.Target.TLS == nil) != (p.Target.TLS == nil) || w.plan.Target.H2 != p.Target.H2 { // expressions may have judged by the name
		w.halt()
	}
	w.plan = p
	old := w.checks
	w.checks = nil
	asked := map[*watch]bool{}
	for _, c := range p.Checks {
		i := slices.IndexFunc(old, func(o *watch) bool { return !o.fleeting && !asked[o] && o.check.Same(c) })
		if i < 0 {
			w.checks = append(w.checks, m.start(w, c))
			continue
		}
		w.checks = append(w.checks, old[i])
		asked[old[i]] = true
		old[i].now() // its interval may be another one
	}
	for _, o := range old {
		switch {
		case asked[o]:
		case o.fleeting: // what a client has met is no matter of the file
			w.checks = append(w.checks, o)
		default:
			o.stop()
		}
	}
	w.stale = w.state == Failing || w.state == Waiting
	m.settle(w)
}

func (w *watched) halt() {
	for _, c := range w.checks {
		c.stop()
	}
	w.checks = nil
}

// remove must be called with m.mu held.
func (m *Monitor) remove(id string) {
	if w := m.targets[id]; w != nil {
		w.halt()
		delete(m.targets, id)
	}
	m.told = slices.DeleteFunc(m.told, func(t Transition) bool { return t.ID == id })
}

// start must be called with m.mu held.
func (m *Monitor) start(of *watched, c *Check) *watch {
	ctx, stop := context.WithCancel(m.ctx)
	w := &watch{of: of, check: c, progress: c.NewProgress(nil), stop: stop, poke: make(chan struct{}, 1)}
	if m.askPlainly(ctx, w) {
		return w
	}
	m.work.Go(func() { m.run(ctx, w) }) // ends when it is stopped or the monitor closed
	return w
}

// run asks, again and again. The first time comes within Fast, so that many targets do not start in step; later
// ones up to a tenth early, so that they do not fall into step. A question that is not answered within the interval does
// not keep the next one from being asked, so that a server that hangs is found within fall x interval + timeout, however
// long the timeout is.
func (m *Monitor) run(ctx context.Context, w *watch) {
	m.mu.Lock()
	plan := w.of.plan
	m.mu.Unlock()
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(plan.Fast) + 1)))
	defer timer.Stop()
	answers := make(chan Answer)
	open := 0                   // questions that are not answered yet
	poked := false              // while one was
	var began, newest time.Time // the latest question, and the one whose answer was noted last
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-answers:
			open--
			pause := plan.Interval
			if !a.At.Before(newest) { // else a later question has been answered already
				newest = a.At
				if plan, pause = m.note(ctx, w, w.progress.Judge(a)); pause == 0 {
					return
				}
			}
			next := began.Add(pause - time.Duration(rand.Int64N(int64(pause)/10+1)))
			if poked {
				poked, next = false, began.Add(plan.Fast)
			}
			timer.Reset(max(time.Until(next), pause/10)) // a check that takes longer than its interval gets a breath
			continue
		case <-timer.C:
		case <-w.poke:
			if early := time.Until(began.Add(plan.Fast)); early > 0 && open == 0 {
				timer.Reset(early)
				continue
			}
			if open > 0 {
				poked = true
				continue
			}
		}
		if open > 0 && (!w.check.overlaps() || open >= plan.Fall) {
			continue // its answer sets the timer
		}
		began = time.Now()
		open++
		at, target, limit := began, plan.Target, w.check.timeout(plan.Timeout)
		m.work.Go(func() { // ends with the check's timeout or ctx
			run, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			a := w.check.Run(run, target)
			a.At = at
			select {
			case answers <- a:
			case <-ctx.Done():
			}
		})
		timer.Reset(plan.Interval)
	}
}

// overlaps tells whether the check may be asked again while it awaits an answer. A program or a query of somebody's may
// take its time, and a second one beside it would make that worse.
func (c *Check) overlaps() bool { return c.name != "exec" && c.name != "postgres" }

func (c *Check) timeout(otherwise time.Duration) time.Duration {
	if c.spec.Timeout > 0 {
		return c.spec.Timeout
	}
	return otherwise
}

// note takes an answer in, and says how the target is to be watched from now on; 0 when no more.
func (m *Monitor) note(ctx context.Context, w *watch, a Answer) (Plan, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return Plan{}, 0 // stopped meanwhile: the answer may be of the stopping itself
	}
	if n := len(w.last); n > 0 {
		w.last[n-1].Body = ""
	}
	w.last = append(w.last, a)
	w.last = w.last[max(0, len(w.last)-lastAnswers):]
	plan := w.of.plan
	if w.state == Unknown && (a.OK || a.Pending) {
		w.of.stale = false
	}
	switch {
	case a.OK:
		w.passes, w.fails = w.passes+1, 0
		if w.passes >= plan.Rise {
			w.state = Ready
			if w.fleeting {
				w.stop()
				w.of.checks = slices.DeleteFunc(w.of.checks, func(o *watch) bool { return o == w })
			}
		}
	case a.Pending: // no evidence; what was counted does not hold on either
		w.passes, w.fails = 0, 0
	default:
		w.passes, w.fails = 0, w.fails+1
		if w.fails >= plan.Fall {
			w.state = Failing
		}
	}
	m.settle(w.of)
	if w.fails > 0 && w.state != Failing || w.passes > 0 && w.state != Ready {
		return plan, plan.Fast
	}
	return plan, plan.Interval
}

// checksChanged is why a target that was ready is Unknown.
const checksChanged = "its checks have changed"

// settle makes the target's state of its checks' and tells a change. Must be called with m.mu held.
func (m *Monitor) settle(w *watched) {
	to := Ready
	check, reason := "", ""
	for _, c := range w.checks {
		switch {
		case c.state == Failing && to != Failing:
			to = Failing
			check, reason = c.check.Name(), c.last[len(c.last)-1].Reason
			if reason == "" {
				reason = fmt.Sprintf("passes, %d in a row", c.passes)
			}
		case c.state == Unknown && to == Ready:
			to = Unknown
		}
	}
	switch {
	case to == Ready && len(w.checks) == 0:
		to = Unknown
	case to == Unknown && w.stale:
		to, check, reason = Failing, w.check, w.reason
	case to == Unknown && w.state == Ready:
		reason = checksChanged
	case to == Unknown && w.state == Unknown:
		reason = w.reason
	}
	w.stale = w.stale && to == Failing
	w.check, w.reason = check, reason
	if to == Failing && !w.ready {
		to = Waiting
	}
	w.ready = w.ready || to == Ready
	if to == w.state {
		return
	}
	t := Transition{w.id, w.plan.Target, w.state, to, w.check, w.reason, time.Now()}
	w.state, w.since = to, t.At
	m.say(t)
}

// say must be called with m.mu held.
func (m *Monitor) say(t Transition) {
	i := slices.IndexFunc(m.told, func(o Transition) bool { return o.ID == t.ID })
	switch {
	case i < 0:
		m.told = append(m.told, t)
	default:
		t.From = m.told[i].From
		m.told[i] = t
	}
	select {
	case m.wake <- struct{}{}:
	default: // is awake
	}
}

// deliver tells transitions, so that nobody who checks has to wait for who listens.
func (m *Monitor) deliver() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		}
		for {
			m.mu.Lock()
			if len(m.told) == 0 || m.ctx.Err() != nil {
				m.mu.Unlock()
				break
			}
			t := m.told[0]
			m.told = m.told[1:]
			m.mu.Unlock()
			if m.tell != nil {
				m.tell(t)
			}
		}
	}
}

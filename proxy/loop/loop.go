package loop

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Numbers of a loop.
const (
	// BufferSize is the size of the read buffer that a loop shares among its connections.
	BufferSize = 64 << 10

	batch        = 256 // events taken from the kernel at once
	publishEvery = 64  // rounds; Stats of a busy loop lag behind by so much
)

// Loop is one event loop. See the package comment for who may call what.
type Loop struct {
	id       int
	poller   poller
	spin     spin
	handlers [256]func(Token, Events)
	now      int64
	turned   int64 // when the Go scheduler last had its turn; see letSchedule
	naps     bool  // it has Ps to spare beside those of the loops
	ceiling  int   // see KeepBelow

	again, againSpare []Token
	wheels            []*Wheel
	buffer            []byte
	pipes             pipePool
	bufs              bufPool

	count  Stats // the loop's own; published now and then
	rounds int   // since it was published

	_    [64]byte // what follows is written from other cores
	mail mailbox

	_     [64]byte
	stats struct{ loops, events, waits, polls, fruitless, posts atomic.Uint64 }
}

// Stats counts since the start. A loop publishes before it blocks and every 64 rounds.
type Stats struct {
	Loops     uint64 // rounds
	Events    uint64 // events and entries of the again-list that were handled
	Waits     uint64 // times the loop blocked, or was ready to, until something happened
	Polls     uint64 // brief polls before blocking
	Fruitless uint64 // those of Polls that found nothing
	Posts     uint64 // functions run for Do and Post
}

// New makes a loop, which does nothing until Run. id is for people: logs and metrics.
func New(id int) (*Loop, error) {
	l := &Loop{id: id, now: Clock(), buffer: make([]byte, BufferSize)}
	if err := l.poller.open(); err != nil {
		return nil, fmt.Errorf("loop %d: %w", id, err)
	}
	for kind := range l.handlers {
		l.handlers[kind] = func(t Token, ev Events) {
			panic(fmt.Sprintf("loop: BUG: event %#x for kind %d, which has no handler", uint32(ev), t.Kind()))
		}
	}
	l.handlers[wakeToken.Kind()] = func(Token, Events) {}
	return l, nil
}

// ID is the one given to New.
func (l *Loop) ID() int { return l.id }

// Now is the Clock at the start of this round; it costs nothing.
func (l *Loop) Now() int64 { return l.now }

// Buffer is the loop's read buffer, BufferSize long. Whoever uses it must be done with it when its handler
// returns.
func (l *Loop) Buffer() []byte { return l.buffer }

// Handle sets who gets the events of a kind, before Run or on the loop.
func (l *Loop) Handle(kind uint8, h func(t Token, ev Events)) {
	if kind == wakeToken.Kind() {
		panic("loop: BUG: kind 255 is the loop's own")
	}
	l.handlers[kind] = h
}

// Add registers fd once and for all: edge-triggered, for reading, writing and the peer's half-close. The
// first event comes at once if there is something to tell. Closing fd ends it.
func (l *Loop) Add(fd int, t Token) error {
	return l.poller.add(fd, t, In|Out|RDHUP|ET)
}

// AddListener registers a listening socket, level-triggered: an event comes as long as somebody waits to
// be accepted. Of several loops that listen to it, not all are woken for one connection.
func (l *Loop) AddListener(fd int, t Token) error {
	return l.poller.add(fd, t, In|Exclusive)
}

// Mod changes what fd is registered for to exactly ev, ET included; not for listeners, whose Exclusive the
// kernel does not let change.
func (l *Loop) Mod(fd int, t Token, ev Events) error {
	return l.poller.mod(fd, t, ev)
}

// Del takes fd out. Events of the running batch may still come for it.
func (l *Loop) Del(fd int) error { return l.poller.del(fd) }

// Again has the handler of t called with no events in this round, after the rest of the batch (in the next
// round, if called from there), so that a connection with much to do lets others in between. Each Again
// is one call.
func (l *Loop) Again(t Token) { l.again = append(l.again, t) }

// NewWheel makes a timer wheel that the loop advances; fire is called on the loop.
func (l *Loop) NewWheel(fire func(slot uint32)) *Wheel {
	w := newWheel(l.now)
	w.fire = func(slot uint32) {
		fire(slot)
		l.checkMail() // ten thousand deadlines at once must not keep a Do waiting
	}
	l.wheels = append(l.wheels, w)
	return w
}

// Run is the loop. It returns after Stop, and everything the loop has is closed then; what its users
// registered is theirs to close. It may be called once.
func (l *Loop) Run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	shortSlice()
	if !l.mail.start(threadID()) {
		return
	}
	defer l.finish()
	running.Add(1)
	defer running.Add(-1)
	for !l.mail.stopping.Load() {
		events := l.next()
		l.now = Clock()
		for i := range events {
			t := events[i].token()
			l.handlers[t.Kind()](t, events[i].events())
			l.checkMail()
		}
		l.count.Events += uint64(len(events))
		l.checkMail()
		for _, w := range l.wheels {
			if w.wakeAt() <= l.now {
				w.Advance(l.now, w.fire)
			}
		}
		l.runAgain()
		l.count.Loops++
		if l.rounds++; l.rounds >= publishEvery {
			l.publish()
		}
	}
}

// next asks the kernel for events: at once if there is work already, otherwise after l.spin has had its
// say by blocking until there are some, a timer is due, or somebody posts.
func (l *Loop) next() []event {
	due := l.due()
	if len(l.again) > 0 || l.mail.pending.Load() || due <= l.now {
		return l.poller.poll()
	}
	for range l.spin.tries() {
		yield()
		events := l.poller.poll()
		fruit := len(events) > 0 || l.mail.pending.Load()
		l.spin.learn(fruit)
		l.count.Polls++
		if fruit {
			return events
		}
		l.count.Fruitless++
	}
	l.count.Waits++
	l.publish()
	l.letSchedule()
	// Either the poster sees asleep and wakes the poller, or what it posted is seen here: both use
	// sequentially consistent atomics.
	l.mail.asleep.Store(true)
	var events []event
	if l.mail.pending.Load() {
		events = l.poller.poll()
	} else {
		events = l.wait(due)
	}
	l.mail.asleep.Store(false)
	return events
}

// Numbers of waiting.
const (
	napLimit = int64(5e6) // ns that a loop blocks without telling the Go scheduler
	turnSoon = int64(6e6) // ns until the scheduler gets its turn: less than the 10 ms that it grants a goroutine
)

// wait blocks: first for a nap, in which the loop keeps its P; then, since nothing goes on, for as long as it
// takes, with the scheduler told. Telling it costs a wait a tenth of a microsecond and, worse, the P: sysmon takes
// it from a goroutine that has been running for long and enters a system call, looks for the next such one 20 µs
// later, and so takes up to a tenth of the CPU that the loops use.
//
// A stop of the world interrupts a nap: its signal ends the system call, and is sent again until it does. There
// are no naps in a process that has no P beside those of its loops: nobody else could run meanwhile.
func (l *Loop) wait(due int64) []event {
	if l.naps {
		if events := l.poller.nap(min(napLimit, until(due))); len(events) > 0 {
			return events
		}
	}
	left := until(due)
	if left == 0 {
		return nil
	}
	if due == never {
		left = -1
	}
	events := l.poller.wait(left)
	if l.naps {
		l.turned = Clock() // it had its turn
	}
	return events
}

// until is how long it is from now to a Clock time; never is very long.
func until(due int64) int64 { return max(0, due-Clock()) }

// letSchedule gives the Go scheduler its turn when there is nothing to do anyway. Without it the scheduler
// would take the turn by a signal after 10 ms, in the middle of work.
func (l *Loop) letSchedule() {
	if now := l.now; now-l.turned > turnSoon {
		l.turned = now
		l.naps = runtime.GOMAXPROCS(0) > int(running.Load())
		runtime.Gosched()
	}
}

// running counts the loops of this process.
var running atomic.Int32

// due is when the first timer wants the loop to be awake.
func (l *Loop) due() int64 {
	due := never
	for _, w := range l.wheels {
		due = min(due, w.wakeAt())
	}
	return due
}

// runAgain calls the handlers of the again-list. What they add waits for the next round.
func (l *Loop) runAgain() {
	if len(l.again) == 0 {
		return
	}
	list := l.again
	l.again = l.againSpare[:0]
	for _, t := range list {
		l.handlers[t.Kind()](t, 0)
		l.checkMail()
	}
	l.count.Events += uint64(len(list))
	if cap(list) > 4096 { // a storm is over
		list = nil
	}
	l.againSpare = list
}

// checkMail costs a load of a cache line that others write only when they post.
func (l *Loop) checkMail() {
	if l.mail.pending.Load() {
		l.runMail()
	}
}

// runMail runs what was posted so far. A function that posts finds its own in a later call.
func (l *Loop) runMail() {
	list := l.mail.take()
	for i := range list {
		list[i].f()
		if list[i].done != nil {
			list[i].done <- true
		}
		list[i] = task{}
	}
	l.count.Posts += uint64(len(list))
	l.mail.putBack(list)
}

// finish closes what the loop has. What was posted before the mailbox closed is still run, unless a panic is
// on its way up or the loop never ran: then whoever waits in Do hears false.
func (l *Loop) finish() {
	clean := l.mail.stopping.Load()
	rest := l.mail.close()
	for _, t := range rest {
		if clean {
			t.f()
			l.count.Posts++
		}
		if t.done != nil {
			t.done <- clean
		}
	}
	l.publish()
	l.pipes.closeAll()
	l.mail.wakeMu.Lock()
	defer l.mail.wakeMu.Unlock()
	l.poller.close()
}

// publish makes the counts readable from outside. Each store is a locked instruction, hence not per event.
func (l *Loop) publish() {
	l.rounds = 0
	l.stats.loops.Store(l.count.Loops)
	l.stats.events.Store(l.count.Events)
	l.stats.waits.Store(l.count.Waits)
	l.stats.polls.Store(l.count.Polls)
	l.stats.fruitless.Store(l.count.Fruitless)
	l.stats.posts.Store(l.count.Posts)
}

// Stats may be called from anywhere.
func (l *Loop) Stats() Stats {
	return Stats{
		Loops:     l.stats.loops.Load(),
		Events:    l.stats.events.Load(),
		Waits:     l.stats.waits.Load(),
		Polls:     l.stats.polls.Load(),
		Fruitless: l.stats.fruitless.Load(),
		Posts:     l.stats.posts.Load(),
	}
}

// Do runs f on the loop, between two handlers, and waits until it has returned. False means that the loop
// has stopped and f was not run. It must not be called on the loop itself.
func (l *Loop) Do(f func()) bool {
	if l.mail.onLoop(threadID()) {
		panic("loop: BUG: Do called on its own loop, it would wait for itself")
	}
	done := make(chan bool, 1)
	return l.post(task{f, done}) && <-done
}

// Post has f run on the loop, between two handlers, and does not wait; it may be called on the loop too.
// Functions posted by one goroutine run in its order. False means that the loop has stopped.
func (l *Loop) Post(f func()) bool { return l.post(task{f, nil}) }

func (l *Loop) post(t task) bool {
	if !l.mail.put(t) {
		return false
	}
	l.wakeUp()
	return true
}

// Stop makes Run return after the round it is in; it may be called from anywhere, any number of times, and
// does not wait. A loop that has not run yet is closed at once and never will.
func (l *Loop) Stop() {
	if l.mail.stop() {
		l.finish()
		return
	}
	l.wakeUp()
}

// wakeUp gets the loop out of its wait, if it is in one. Only the first of several callers pays for a
// system call.
func (l *Loop) wakeUp() {
	if !l.mail.asleep.CompareAndSwap(true, false) {
		return
	}
	// wakeMu: the descriptor that wakes must not be closed, and its number not be somebody else's.
	l.mail.wakeMu.Lock()
	defer l.mail.wakeMu.Unlock()
	l.poller.wake()
}

// mailbox is how other goroutines reach the loop.
type mailbox struct {
	pending  atomic.Bool // there is something to take, or Stop was called
	asleep   atomic.Bool // the loop blocks or is about to
	stopping atomic.Bool

	mu     sync.Mutex // held for a few instructions only, since the loop waits for it
	tasks  []task
	spare  []task
	state  mailState
	thread int // the loop's; 0 unless it runs

	wakeMu sync.Mutex // guards the poller's wake against its close; the loop takes it only in the end
}

type task struct {
	f    func()
	done chan bool // nil for Post
}

type mailState uint8

const (
	mailNew mailState = iota // Run was not called yet
	mailRunning
	mailClosed // nothing is taken any more
)

func (m *mailbox) start(thread int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == mailRunning {
		panic("loop: BUG: Run called twice")
	}
	if m.state == mailClosed {
		return false
	}
	m.state, m.thread = mailRunning, thread
	return true
}

func (m *mailbox) onLoop(thread int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.thread != 0 && m.thread == thread
}

func (m *mailbox) put(t task) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == mailClosed {
		return false
	}
	m.tasks = append(m.tasks, t)
	m.pending.Store(true)
	return true
}

func (m *mailbox) take() []task {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.tasks
	m.tasks, m.spare = m.spare[:0], nil
	m.pending.Store(false)
	return list
}

func (m *mailbox) putBack(list []task) {
	if cap(list) > 4096 { // a storm is over
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spare = list
}

// stop says whether the caller is to finish the loop, which never ran.
func (m *mailbox) stop() (finish bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending.Store(true) // no blocking wait after this
	finish = m.state == mailNew && !m.stopping.Load()
	if finish {
		m.state = mailClosed
	} else {
		m.stopping.Store(true)
	}
	return finish
}

func (m *mailbox) close() []task {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.thread = mailClosed, 0
	list := m.tasks
	m.tasks, m.spare = nil, nil
	return list
}

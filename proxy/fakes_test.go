package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

func init() { time.Local = time.UTC } // texts with a time of day are compared

// journal is a journal in memory.
type journal struct {
	mu         sync.Mutex
	checkpoint []byte
	records    [][]byte
	fail       error
	die        bool   // the next record is written, and then the door "dies": Append fails all the same
	compactAt  int    // records; 0: never
	before     func() // called before a record is durable, when its snapshot is not in force
	written    func([]byte)
}

var errKilled = errors.New("killed")

func (j *journal) Append(b []byte) error {
	if j.before != nil {
		j.before()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.keep(b)
	if j.die {
		j.die, j.fail = false, errKilled
		return errKilled
	}
	return nil
}

// keep must be called with j.mu held.
func (j *journal) keep(b []byte) {
	j.records = append(j.records, slices.Clone(b))
	if j.written != nil {
		j.written(b)
	}
}

func (j *journal) AppendLazy(b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.keep(b)
	return nil
}

func (j *journal) NeedsCompaction() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compactAt > 0 && len(j.records) >= j.compactAt
}

func (j *journal) Compact(b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.checkpoint, j.records = slices.Clone(b), nil
	return nil
}

// replay is what a restart reads of the first n records; n < 0: all.
func (j *journal) replay(n int) (*proxy.Memory, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &proxy.Memory{}
	if j.checkpoint != nil {
		if err := m.LoadCheckpoint(j.checkpoint); err != nil {
			return nil, err
		}
	}
	records := j.records
	if n >= 0 {
		records = records[:n]
	}
	for _, r := range records {
		if err := m.LoadRecord(r); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// changes are the records, decoded.
func (j *journal) history() []proxy.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []proxy.Record
	for _, b := range j.records {
		var r proxy.Record
		if err := json.Unmarshal(b, &r); err != nil {
			panic(err)
		}
		out = append(out, r)
	}
	return out
}

// remembered tells how the journal differs from the snapshot in force: P5. "" when a restart would come back
// with the same world.
func remembered(snap *proxy.Snapshot, m *proxy.Memory) string {
	is := proxy.MemoryOf(snap)
	forgetSessions(is)
	forgetSessions(m)
	if max(m.Revision, 1) != is.Revision {
		return fmt.Sprintf("revision %d in force, %d in the journal", is.Revision, m.Revision)
	}
	if a, b := asJSON(is.Frozen), asJSON(m.Frozen); a != b {
		return fmt.Sprintf("frozen %s in force, %s in the journal", a, b)
	}
	for name := range m.Services {
		if is.Services[name] == nil {
			return "the journal has a service that is gone: " + name
		}
	}
	for name, a := range is.Services {
		b := m.Services[name]
		if b == nil { // never changed: it is as the file says
			a.Since = time.Time{}
			b = &proxy.ServiceMemory{Active: snap.Service(name).Spec.Active}
		}
		if x, y := asJSON(a), asJSON(b); x != y {
			return fmt.Sprintf("%s in force:\n%s\nin the journal:\n%s", name, x, y)
		}
	}
	return ""
}

// forgetSessions drops sessions whose time is over: no change of its own says so.
func forgetSessions(m *proxy.Memory) {
	for _, svc := range m.Services {
		for pool, servers := range svc.Servers {
			for name, srv := range servers {
				if srv.Sessions != nil && !srv.Sessions.Until.After(time.Now()) {
					srv.Sessions = nil
				}
				if *srv == (proxy.ServerMemory{}) {
					delete(servers, name)
				}
			}
			if len(servers) == 0 {
				delete(svc.Servers, pool)
			}
		}
	}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// states of a client of the fake plane.
type clientState uint8

const (
	arriving clientState = iota // its loop has loaded a snapshot and not claimed yet
	waiting
	dialing
	started
	gone
)

// client is one client's connection in the fake plane.
type client struct {
	name    string
	service string
	loop    int
	slot    int
	number  uint32 // for its place among those that are cut
	key     uint64
	wish    proxy.Wish // of a session: the server that it is on
	state   clientState
	snap    *proxy.Snapshot // arriving: what its loop has loaded
	rev     uint64
	tried   proxy.Tried
	srv     *proxy.Server
	pos     int
	live    *proxy.Live // waiting: where it is counted
	limit   *time.Timer
	busy    bool // in the middle of an answer
	after   bool // to be cut after it
	stuck   bool // not even cut
	why     string
}

// stays tells whether the client's session is on its server, and is kept there though that gets no new work.
func (c *client) stays(svc *proxy.Service) bool {
	if !c.wish.On(c.srv) || svc.Hold != nil || svc.Maintenance != nil {
		return false
	}
	for _, p := range svc.Pools {
		for i := range p.Members {
			if m := &p.Members[i]; m.Server == c.srv {
				return !time.Now().After(m.KeepsSessions())
			}
		}
	}
	return false
}

// behaviour is how a server of the fake plane answers dials and probes.
type behaviour uint8

const (
	up   behaviour = iota
	down           // refuses
	slow           // the dial stays under way until the test ends it
	deaf           // as slow; probes hang too
)

// plane is a proxy.Plane without sockets: loops are steps that the test takes, in any order. Its mutex stands
// for "on the loop": one step at a time.
type plane struct {
	sw      *proxy.Switch
	claims  []*proxy.Claimer
	open    map[int]proxy.ListenSpec
	opened  int // by Prepare, and neither committed nor aborted yet
	taken   map[string]bool
	mu      sync.Mutex
	clients []*client
	came    uint32
	is      map[string]behaviour // address → how it answers
	rng     *rand.Rand           // steps of other loops come in between; nil: none
	quiet   func()               // called in each quiet point that follows a store, with Switch.mu held
	onStart func(*client)
	inexact func(*client) // a start on a server that no snapshot in force gave work to
	held    map[*proxy.Live]int
	dials   map[*proxy.Server]int
	conns   map[*proxy.Server]int
	cuts    map[*proxy.Server]int
	late    bool // cuts are posted, and carried out in the next quiet point only
	posted  []func()
	behind  time.Duration         // how late loops carry out cuts
	looks   [proxy.CutNow + 1]int // how often loops were told to cut so
	store   func()                // called first in a quiet point that follows a store: the loops may have seen the snapshot before
}

func newPlane(loops int) *plane {
	return &plane{claims: make([]*proxy.Claimer, loops), open: map[int]proxy.ListenSpec{}, taken: map[string]bool{}, is: map[string]behaviour{},
		held: map[*proxy.Live]int{}, dials: map[*proxy.Server]int{}, conns: map[*proxy.Server]int{}, cuts: map[*proxy.Server]int{}}
}

// doorOn opens a Switch with a fake plane.
func doorOn(t testing.TB, p *plane, j *journal, spec *proxy.Spec, mem *proxy.Memory) *proxy.Switch {
	t.Helper()
	sw := proxy.New(spec, mem, proxy.Options{Loops: len(p.claims), Journal: j, Plane: p, Probe: p.probe,
		Warn: func(msg string, err error) { t.Logf("warn: %s: %v", msg, err) }})
	p.sw = sw
	for i := range p.claims {
		p.claims[i] = sw.Claimer(i)
	}
	if err := sw.Start(nil, "test"); err != nil {
		t.Fatal(err)
	}
	return sw
}

func (p *plane) probe(ctx context.Context, s *proxy.Server) error {
	p.mu.Lock()
	how := p.is[s.Address]
	p.mu.Unlock()
	switch how {
	case down:
		return errors.New("connection refused")
	case deaf:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// Prepare implements proxy.Plane.
func (p *plane) Prepare(next *proxy.Snapshot) (proxy.Prepared, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := &prepared{p: p, next: map[int]proxy.ListenSpec{}}
	var err error
	next.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		if p.taken[spec.Address] {
			err = fmt.Errorf("service %s cannot listen on %s: address already in use", svc.Spec.Name, spec)
		}
		if was, ok := p.open[slot]; ok && was != spec {
			panic("a listener slot leads to another address")
		}
		pr.next[slot] = spec
	})
	if err != nil {
		return nil, err
	}
	p.opened++
	return pr, nil
}

type prepared struct {
	p    *plane
	next map[int]proxy.ListenSpec
}

// Commit implements proxy.Prepared.
func (pr *prepared) Commit() {
	pr.p.mu.Lock()
	defer pr.p.mu.Unlock()
	pr.p.opened--
	pr.p.open = pr.next
}

// Abort implements proxy.Prepared.
func (pr *prepared) Abort() {
	pr.p.mu.Lock()
	defer pr.p.mu.Unlock()
	pr.p.opened--
}

// Quiet implements proxy.Plane.
func (p *plane) Quiet(services []string) map[string]proxy.Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store != nil && services != nil {
		p.store()
	}
	for _, f := range p.posted {
		f()
	}
	p.posted = nil
	order := make([]int, len(p.claims))
	for i := range order {
		order[i] = i
	}
	if p.rng != nil {
		p.rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	}
	if p.quiet != nil && services != nil { // nil: before the store
		p.quiet()
	}
	out := map[string]proxy.Tally{}
	for _, loop := range order {
		p.between()
		p.pass(loop)
		snap := p.sw.Current()
		for _, name := range services {
			if svc := snap.Service(name); svc != nil {
				out[name] = out[name].Add(p.claims[loop].Tally(svc))
			}
		}
	}
	p.between()
	return out
}

// pass is a loop's quiet point. Must be called with p.mu held, as all below.
func (p *plane) pass(loop int) {
	for _, c := range slices.Clone(p.clients) { // what the loop was in the middle of comes first
		if c.loop == loop && c.state == arriving {
			p.claim(c)
		}
	}
	snap := p.sw.Current()
	for _, c := range slices.Clone(p.clients) {
		if c.loop != loop || c.state != dialing {
			continue
		}
		if svc := snap.At(c.slot); svc == nil || !svc.Gives(c.srv) {
			p.dials[c.srv]--
			p.claims[loop].TakeBack(svc, c.srv)
			p.steer(c)
		}
	}
	p.admit(loop)
}

// admit lets in the clients that wait on a loop, as far as they are taken.
func (p *plane) admit(loop int) {
	for _, c := range slices.Clone(p.clients) {
		if c.loop != loop || c.state != waiting {
			continue
		}
		snap := p.sw.Current()
		svc := snap.At(c.slot)
		if svc != nil {
			if c.rev != snap.Revision {
				c.rev, c.tried = snap.Revision, 0
			}
			got, verdict := p.claims[loop].ClaimFor(svc, c.key, c.tried, c.wish)
			switch verdict {
			case proxy.Wait, proxy.Full:
				continue
			case proxy.Dial:
				p.unhold(c, proxy.HoldReleased)
				p.dial(c, got)
				continue
			}
		}
		p.unhold(c, proxy.HoldReleased)
		p.steer(c)
	}
}

func (p *plane) unhold(c *client, end proxy.HoldEnd) {
	c.limit.Stop()
	p.held[c.live]--
	p.claims[c.loop].Unhold(p.sw.Current().At(c.slot), c.live, end)
	c.live = nil
}

// arrive accepts a client on a service: its loop loads the snapshot and claims later.
func (p *plane) arrive(name, service string, loop int) *client {
	c := &client{name: name, service: service, loop: loop, slot: -1, number: p.came}
	p.came++
	snap := p.sw.Current()
	snap.Listeners(func(slot int, _ proxy.ListenSpec, svc *proxy.Service) {
		if svc.Spec.Name == service && c.slot < 0 {
			c.slot = slot
		}
	})
	if c.slot < 0 {
		c.state, c.why = gone, "no listener"
		return c
	}
	p.claims[loop].Accepted(snap.At(c.slot))
	p.clients = append(p.clients, c)
	c.snap, c.state = snap, arriving
	return c
}

// steer loads the snapshot and claims from it.
func (p *plane) steer(c *client) {
	c.snap, c.state = p.sw.Current(), arriving
	p.claim(c)
}

// claim goes on from the snapshot that was loaded.
func (p *plane) claim(c *client) {
	snap := c.snap
	c.snap = nil
	svc := snap.At(c.slot)
	if svc == nil {
		p.drop(c, "service gone")
		return
	}
	if c.rev != snap.Revision {
		c.rev, c.tried = snap.Revision, 0
	}
	got, verdict := p.claims[c.loop].ClaimFor(svc, c.key, c.tried, c.wish)
	switch verdict {
	case proxy.Dial:
		p.dial(c, got)
	case proxy.Wait, proxy.Full:
		if !p.claims[c.loop].Hold(svc) {
			p.drop(c, "too many waiting")
			return
		}
		c.state, c.live = waiting, svc.Live
		p.held[svc.Live]++
		c.limit = time.AfterFunc(svc.WaitLimit(), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if c.state == waiting {
				p.unhold(c, proxy.HoldExpired)
				p.drop(c, "waited too long")
			}
		})
	case proxy.Refuse:
		p.claims[c.loop].Refused(svc)
		p.drop(c, "maintenance")
	case proxy.NoServer:
		p.claims[c.loop].Refused(svc)
		p.drop(c, "no server")
	}
}

func (p *plane) dial(c *client, got proxy.Claimed) {
	c.srv, c.pos, c.state = got.Server, got.Position, dialing
	p.dials[c.srv]++
	switch how := p.is[c.srv.Address]; {
	case how == down:
		p.dialed(c, false)
	case how == up && p.rng == nil:
		p.dialed(c, true)
	}
}

// dialed is the end of a dial.
func (p *plane) dialed(c *client, ok bool) {
	p.dials[c.srv]--
	if !ok {
		p.claims[c.loop].Fail(c.srv, "connection refused")
		c.tried.Add(c.pos)
		p.steer(c)
		return
	}
	before := p.sw.Current()
	if !p.claims[c.loop].Start(c.slot, c.srv, c.rev) {
		p.steer(c)
		return
	}
	known := c.wish.On(c.srv) && c.rev == before.Revision // sessions leave without a revision: onStart judges these
	if svc := before.At(c.slot); p.inexact != nil && before == p.sw.Current() && (svc == nil || !svc.Gives(c.srv) && !known) {
		p.inexact(c)
	}
	c.state = started
	p.conns[c.srv]++
	if p.onStart != nil {
		p.onStart(c)
	}
}

// leave ends a client, whatever it is at.
func (p *plane) leave(c *client, why string, cut bool) {
	switch c.state {
	case dialing:
		p.dials[c.srv]--
		p.claims[c.loop].GiveUp(c.srv)
	case waiting:
		p.unhold(c, proxy.HoldLeft)
	case started:
		p.conns[c.srv]--
		if cut {
			p.cuts[c.srv]++
		}
		p.claims[c.loop].End(c.srv, cut)
	}
	p.drop(c, why)
	for loop := range p.claims { // those that wait for a server with room
		p.admit(loop)
	}
}

func (p *plane) drop(c *client, why string) {
	c.state, c.why = gone, why
	p.clients = slices.DeleteFunc(p.clients, func(x *client) bool { return x == c })
}

// answer ends what a busy client is in the middle of.
func (p *plane) answer(c *client) {
	c.busy = false
	if c.after && c.state == started {
		p.leave(c, "cut", true)
	}
}

// Cut implements proxy.Plane.
func (p *plane) Cut(servers []*proxy.Server, cuts proxy.Cuts) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	carried := make(chan struct{})
	do := func() {
		p.looks[cuts.Of(0, 0)]++
		p.cut(servers, cuts)
		close(carried)
	}
	switch {
	case p.late:
		p.posted = append(p.posted, do)
	case p.behind > 0:
		time.AfterFunc(p.behind, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			do()
		})
	default:
		do()
	}
	return carried
}

func (p *plane) cut(servers []*proxy.Server, cuts proxy.Cuts) {
	for _, c := range slices.Clone(p.clients) {
		if c.state != started || c.stuck || !slices.Contains(servers, c.srv) {
			continue
		}
		switch how := cuts.Of(c.loop, c.number); {
		case how == proxy.CutNow, how != proxy.CutNot && !c.busy:
			p.leave(c, "cut", true)
		case how == proxy.CutAfterAnswer:
			c.after = true
		}
	}
}

// between lets loops take steps in the middle of a change.
func (p *plane) between() {
	if p.rng == nil {
		return
	}
	for range p.rng.IntN(4) {
		p.step(p.rng)
	}
}

// step is one event of one client, drawn at random.
func (p *plane) step(rng *rand.Rand) {
	if len(p.clients) == 0 {
		return
	}
	c := p.clients[rng.IntN(len(p.clients))]
	switch c.state {
	case arriving:
		p.claim(c)
	case dialing:
		switch how := p.is[c.srv.Address]; {
		case rng.IntN(10) == 0:
			p.leave(c, "left", false)
		case how == up:
			p.dialed(c, true)
		case rng.IntN(3) == 0:
			p.dialed(c, how == slow)
		}
	case started:
		switch rng.IntN(6) {
		case 0:
			p.leave(c, "done", false)
		case 1:
			c.busy = true
		case 2:
			p.answer(c)
		}
	case waiting:
		if rng.IntN(20) == 0 {
			p.leave(c, "left", false)
		}
	}
}

// miscounted tells where the switch counts otherwise than the plane does.
func (p *plane) miscounted() string {
	for _, m := range []map[*proxy.Server]int{p.dials, p.conns} {
		for srv := range m {
			n := srv.Counts()
			if n.Dialing != p.dials[srv] || n.Connections != p.conns[srv] || n.Dialing < 0 || n.Connections < 0 || int(n.Cut) != p.cuts[srv] {
				return fmt.Sprintf("%s/%s/%s counts %d dials, %d connections, %d cut; there are %d, %d, %d",
					srv.Service, srv.Pool, srv.Name, n.Dialing, n.Connections, n.Cut, p.dials[srv], p.conns[srv], p.cuts[srv])
			}
		}
	}
	for _, svc := range p.sw.Current().Services {
		if svc.Held() != p.held[svc.Live] || svc.Held() < 0 {
			return fmt.Sprintf("%s counts %d held; there are %d", svc.Spec.Name, svc.Held(), p.held[svc.Live])
		}
	}
	return ""
}

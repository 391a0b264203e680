package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// swap is the road of `swap`, `back` and `split`: gate, then one commit; or, when clients are to be held meanwhile,
// a hand-over in the background.
func (s *Switch) swap(ctx context.Context, ch Change) (*Operation, error) {
	op := s.ops.new(ch)
	services, p, err := s.begin(op, &ch)
	if err != nil {
		return nil, err
	}
	if p.Noop {
		s.ops.keep(op)
		return op, nil
	}
	hooks := ch.StopOld || ch.StartNew
	if !ch.Force {
		if err := s.gate(ctx, ch, p, hooks || ch.WaitFor != ""); err != nil {
			s.done(op, services)
			return nil, err
		}
	}
	if ch.Exclusive || ch.Hold > 0 || hooks || ch.WaitFor != "" {
		if err := s.beginHandover(op); err != nil {
			s.done(op, services)
			return nil, err
		}
		s.ops.keep(op)
		go s.handover(op, ch, services, p) // ends with its commit, an abort or the hold's deadline
		return op, nil
	}
	defer s.done(op, services)
	if err := s.commit(op, ch); err != nil {
		return nil, err
	}
	s.ops.keep(op)
	return op, nil
}

// beginHandover makes the operation one that release and the door's stop take back. The stop may have come
// during the gate.
func (s *Switch) beginHandover(op *Operation) *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return s.forbidden(s.cur.Load(), &op.change)
	}
	op.handover = true
	return nil
}

// begin marks the services busy, so that a second swap of them is refused until this one has committed.
func (s *Switch) begin(op *Operation, ch *Change) ([]string, *Planned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	if err := s.may(cur, ch, nil); err != nil {
		return nil, nil, err
	}
	p, err := Plan(cur, ch, time.Now())
	if err != nil {
		return nil, nil, err
	}
	if err := s.awaitable(cur, ch); err != nil {
		return nil, nil, err
	}
	if p.Noop {
		op.update(func(v *OperationView) {
			v.State, v.Revision, v.Plan, v.Ended = StateDone, cur.Revision, p.Words, time.Now()
		})
		return nil, p, nil
	}
	services := s.concerned(cur, ch)
	for i := range p.moves {
		m := &p.moves[i] // a change inside one pool cannot make two pools serve
		ch.Exclusive = ch.Exclusive || m.from != m.to && cur.Service(m.service).Spec.Exclusive
	}
	if ch.Exclusive && ch.Then == ThenKeep {
		return nil, nil, refuse(CodeUsage, "an exclusive swap cannot keep connections on the old side").
			hint("leave out --then keep, or --exclusive").holds(cur.still(cur.Service(services[0])))
	}
	for _, name := range services {
		s.busy[name] = op
	}
	return services, p, nil
}

// awaitable refuses a change that waits for a check that there is not.
func (s *Switch) awaitable(cur *Snapshot, ch *Change) *Refusal {
	if ch.WaitFor == "" || s.opt.Known(ch.WaitFor) {
		return nil
	}
	return refuse(CodeNotFound, "the file has no check %q to wait for", ch.WaitFor).
		hint("checks are named under `checks` in the configuration").holds(cur.still(nil))
}

// done ends what begin began. A deadline that came meanwhile is due now.
func (s *Switch) done(op *Operation, services []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range services {
		delete(s.busy, name)
		s.arm(name)
	}
	close(op.free)
}

// gate asks the servers of each new side whether they can be reached; one of a pool is enough.
func (s *Switch) gate(ctx context.Context, ch Change, p *Planned, hooks bool) error {
	cur := s.cur.Load()
	for i := range p.moves {
		m := &p.moves[i]
		if ch.Verb == VerbBack && ch.rollback == nil {
			if err := cur.backToBad(cur.Service(m.service), &ch); err != nil {
				return err
			}
		}
		if ch.rollback == nil && ch.Verb != VerbSplit && ch.Who != TheFailover { // ways out of trouble ask only whether somebody is there
			if err := s.gates(ctx, cur, m, hooks); err != nil {
				return err
			}
		}
		if hooks || m.dest == nil { // hooks start the new side
			continue
		}
		svc := cur.Service(m.service)
		if err := s.answerAll(ctx, svc, m.dest, "swapped to "+m.names[1]); err != nil {
			return err.holds(cur.still(svc))
		}
	}
	for _, a := range p.asks {
		if hooks {
			break
		}
		svc := cur.Service(a.service)
		if fails := s.unreachable(ctx, svc, svc.Pool(a.pool)); fails != nil {
			done := "swapped"
			if p.record.Verb == VerbSplit {
				done = "split"
			}
			r := refuse(CodeGate, "%s not %s to %s: 0 of %s ready: %s", a.service, done, a.pool, plural(len(fails), "server"), strings.Join(fails, "; "))
			return r.hint("`turnout probe %s/%s` shows each check's answers; `--force` skips gates", a.service, a.pool).holds(cur.still(svc))
		}
	}
	return nil
}

// askEvery is how long the gate waits for a server's answer before it asks the next one as well.
const askEvery = 20 * time.Millisecond

// unreachable asks the servers of a pool, the next one as soon as one fails or is slow to answer: a pool of
// many costs no more than a pool of one as long as the first answers. It returns nil when one does, else why
// each does not.
func (s *Switch) unreachable(ctx context.Context, svc *Service, pool *Pool) []string {
	if len(pool.willing) > 0 && s.opt.Glance(pool.Members[pool.willing[0]].Server) {
		return nil
	}
	return s.nobody(ctx, svc, pool, s.opt.Probe)
}

// nobody asks the servers of a pool as unreachable does, with a question of the caller's.
func (s *Switch) nobody(ctx context.Context, svc *Service, pool *Pool, question func(context.Context, *Server) error) []string {
	ctx, cancel := context.WithTimeout(ctx, svc.Spec.gateLimit())
	defer cancel() // ends the probes still under way
	answers := make(chan error, len(pool.willing))
	ask := func(m *Member) {
		err := question(ctx, m.Server)
		if err != nil {
			err = fmt.Errorf("%s: %w", m.Address, err)
		}
		answers <- err
	}
	fails := []string{}
	for asked := 0; len(fails) < len(pool.willing); {
		var slow <-chan time.Time
		if asked < len(pool.willing) {
			go ask(&pool.Members[pool.willing[asked]]) // ends with the dial or ctx
			asked++
			slow = time.After(askEvery)
		}
		select {
		case err := <-answers:
			if err == nil {
				return nil
			}
			fails = append(fails, err.Error())
		case <-slow:
		}
	}
	slices.Sort(fails)
	return fails
}

// errBack ends a hand-over: clients go back to the old side.
type errBack struct {
	code Code
	why  string
}

func (e *errBack) Error() string { return e.why }

// handover moves a service or group while its new clients wait at the door:
//
//	hold -> drain old to zero (exclusive) -> stop old (hook) -> start new (hook) -> gate of new -> commit, release
//
// P4: the hold seals every server, so between its quiet point and the commit no connection starts anywhere;
// the commit comes only after the old side has none. So at no instant do both sides have one.
//
// Each failure, an abort and the hold's deadline lead to one way back: release to the old side. If the door
// dies in the middle, the journal has the hold with its deadline and the old side active; a restart holds on
// until then and releases.
func (s *Switch) handover(op *Operation, ch Change, services []string, p *Planned) {
	defer s.done(op, services)
	ch.held = map[string]*Hold{}
	for _, name := range services {
		ch.held[name] = s.cur.Load().Service(name).Hold
	}
	hold := s.holdOf(&ch, p)
	ctx, cancel := context.WithTimeout(context.Background(), hold)
	defer cancel()
	err := s.handoverSteps(ctx, op, ch, hold, p)
	if err == nil {
		return
	}
	var back *errBack
	if !errors.As(err, &back) {
		back = &errBack{CodeFailed, err.Error()}
		var r *Refusal
		if errors.As(err, &r) {
			back.code = r.Code
		}
	}
	s.goBack(op, ch, back)
}

// holdOf is how long clients may wait in all. An own --hold wins; else there is time for the drain, if it comes
// before the commit, and then for the service's hold.
func (s *Switch) holdOf(ch *Change, p *Planned) time.Duration {
	if ch.Hold > 0 {
		return ch.Hold
	}
	drain, hold := time.Duration(0), time.Duration(0)
	cur := s.cur.Load()
	for i := range p.moves {
		if ch.Exclusive {
			drain = max(drain, p.moves[i].deadline)
		}
		hold = max(hold, cur.Service(p.moves[i].service).Spec.Hold.Timeout)
	}
	return hold + drain
}

func (s *Switch) handoverSteps(ctx context.Context, op *Operation, ch Change, hold time.Duration, p *Planned) error {
	held := Change{Verb: VerbHold, Target: ch.Target, Who: ch.Who, Reason: ch.Reason, For: hold, IfRevision: ch.IfRevision, Detail: "first step of " + string(ch.Verb), handover: true}
	if err := s.commit(op, held); err != nil {
		return err
	}
	op.update(func(v *OperationView) { v.Plan = p.Words })
	s.say(op, "hold", "new clients wait at the door, for %s at most", hold)
	if ch.Exclusive {
		if err := s.drainOld(ctx, op, ch, p); err != nil {
			return err
		}
	}
	if ch.StopOld {
		if err := s.awaitHook(ctx, op, "stop_old"); err != nil {
			return err
		}
	}
	if ch.StartNew {
		if err := s.awaitHook(ctx, op, "start_new"); err != nil {
			return err
		}
	}
	if err := s.awaitGate(ctx, op, ch, p); err != nil {
		return err
	}
	if ch.WaitFor != "" {
		check := func(ctx context.Context, srv *Server) error { return s.opt.Ask(ctx, ch.WaitFor, srv) }
		if err := s.awaitNew(ctx, op, p, "wait_for", "passing "+ch.WaitFor, check); err != nil {
			return err
		}
	}
	ch.handover, ch.IfRevision = true, 0
	if err := s.commit(op, ch); err != nil {
		return err
	}
	return nil // its drains end it
}

func tos(p *Planned) []string {
	var out []string
	for i := range p.moves {
		out = append(out, p.moves[i].to)
	}
	return slices.Compact(out)
}

func (s *Switch) say(op *Operation, name, format string, args ...any) {
	op.step(name, format, args...)
	s.hub.publish("step", op.change.Target, op.lastStep())
}

// drainOld waits until the old sides have no connection, cutting what is left at the drain's deadline. The
// services of a group drain side by side: one deadline is for all of them.
func (s *Switch) drainOld(ctx context.Context, op *Operation, ch Change, p *Planned) error {
	var drains []*drain
	s.mu.Lock()
	for i := range p.moves {
		m := p.moves[i]
		m.aside = true
		m.sealed = s.allBut(m.service, m.to)
		drains = append(drains, s.startDrain(op, &m))
	}
	s.mu.Unlock()
	defer func() { // those that are left when one failed
		s.mu.Lock()
		for _, d := range drains {
			d.supersede()
		}
		s.mu.Unlock()
		for _, d := range drains {
			<-d.ended
		}
	}()
	for _, d := range drains {
		if err := s.await(ctx, op, d.ended, "drain"); err != nil {
			return err
		}
		if n := connections(d.move.sealed); n > 0 {
			return &errBack{CodeTimeout, fmt.Sprintf("%s of %s still has %s", d.move.from, d.move.service, plural(n, "connection"))}
		}
		s.mu.Lock()
		cut := d.cut()
		s.mu.Unlock()
		op.mu.Lock() // the commit's proof takes over what this drain cut
		early := op.early[d.move.service]
		early.cut = cut
		op.early[d.move.service] = early
		op.mu.Unlock()
	}
	return nil
}

// allBut lists every server of a service, of whatever pool and also those that a reload removed and that
// still have connections, but for those of one pool. Must be called with s.mu held.
func (s *Switch) allBut(service, pool string) []*Server {
	var out []*Server
	for _, p := range s.cur.Load().Service(service).Pools {
		if p.Name != pool {
			out = append(out, p.Servers()...)
		}
	}
	for _, srv := range s.retired {
		if srv.Service == service && srv.Pool != pool && srv.Connections() > 0 {
			out = append(out, srv)
		}
	}
	return out
}

// await waits for a channel, an abort or the hold's deadline.
func (s *Switch) await(ctx context.Context, op *Operation, ready <-chan struct{}, step string) error {
	select {
	case <-ready:
		return nil
	case why := <-op.abort:
		return &errBack{CodeFailed, why}
	case <-ctx.Done():
		return &errBack{CodeTimeout, fmt.Sprintf("the hold's deadline came during %s", step)}
	}
}

// awaitHook pauses until whoever asked for the swap has run its hook.
func (s *Switch) awaitHook(ctx context.Context, op *Operation, step string) error {
	begun := time.Now()
	s.say(op, step, "waiting for the hook")
	op.update(func(v *OperationView) { v.State, v.Waiting = StateWaiting, step })
	defer op.update(func(v *OperationView) { v.State, v.Waiting = StateRunning, "" })
	for {
		select {
		case a := <-op.hook:
			if a.step != step {
				continue
			}
			if a.err != "" {
				return &errBack{CodeFailed, fmt.Sprintf("%s failed: %s", step, a.err)}
			}
			s.say(op, step, "done after %s", time.Since(begun).Round(time.Millisecond))
			return nil
		case why := <-op.abort:
			return &errBack{CodeFailed, why}
		case <-ctx.Done():
			return &errBack{CodeTimeout, fmt.Sprintf("the hold's deadline came while waiting for %s", step)}
		}
	}
}

// gateEvery is how often the new side is asked while clients wait; together with the commit it bounds how
// long after the new side's readiness they are let in.
const gateEvery = 4 * time.Millisecond

// sayEvery bounds how often the reason is told, should it read differently each time.
const sayEvery = 500 * time.Millisecond

// awaitGate waits until each new side has a server that can be reached.
func (s *Switch) awaitGate(ctx context.Context, op *Operation, ch Change, p *Planned) error {
	if ch.Force {
		s.say(op, "gate", "skipped (--force)")
		return nil
	}
	return s.awaitNew(ctx, op, p, "gate", "ready", s.opt.Probe)
}

// awaitNew asks the servers of each new side again and again, until one of each says yes.
func (s *Switch) awaitNew(ctx context.Context, op *Operation, p *Planned, step, is string, question func(context.Context, *Server) error) error {
	begun, last, said := time.Now(), "", time.Time{}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	for i := range p.moves {
		m := &p.moves[i]
		for {
			svc := s.cur.Load().Service(m.service)
			pool := svc.Pool(m.to)
			if m.dest != nil {
				pool = m.dest
			}
			asked := make(chan []string, 1)
			go func() { asked <- s.nobody(probing, svc, pool, question) }() // ends with the probes or this function
			var fails []string
			select {
			case fails = <-asked:
			case why := <-op.abort:
				return &errBack{CodeFailed, why}
			}
			if fails == nil {
				break
			}
			if text := strings.Join(fails, "; "); text != last && time.Since(said) >= sayEvery && ctx.Err() == nil {
				last, said = text, time.Now()
				s.say(op, "wait", "%s/%s is not %s yet: %s", m.service, m.to, is, text)
			}
			select {
			case <-time.After(askAgainAfter(svc, step)):
			case why := <-op.abort:
				return &errBack{CodeFailed, why}
			case <-ctx.Done():
				return &errBack{CodeTimeout, fmt.Sprintf("%s was not %s when the hold's deadline came: %s", m.to, is, last)}
			}
		}
	}
	s.say(op, step, "%s %s after %s", strings.Join(tos(p), ","), is, time.Since(begun).Round(time.Millisecond))
	return nil
}

// checksEvery is how often the new side is asked by checks, which cost more than a connection.
const checksEvery = 25 * time.Millisecond

func askAgainAfter(svc *Service, step string) time.Duration {
	if svc.Spec.Health != nil || step != "gate" {
		return checksEvery
	}
	return gateEvery
}

// goBack ends a hand-over on the old side: waiting clients are let in there.
func (s *Switch) goBack(op *Operation, ch Change, why *errBack) {
	s.mu.Lock()
	cur := s.cur.Load()
	held := false
	for _, name := range s.concerned(cur, &ch) {
		svc := cur.Service(name)
		held = held || svc != nil && svc.Hold != nil
	}
	s.mu.Unlock()
	if held {
		back := Change{Verb: VerbRelease, Target: ch.Target, Who: TheDoor, Reason: why.why, expiry: true, handover: true, held: ch.held}
		if err := s.commit(op, back); err != nil {
			s.opt.Warn("a hand-over could not be taken back", err)
		}
	}
	cur = s.cur.Load()
	svc := cur.Service(s.concerned(cur, &ch)[0])
	r := refuse(why.code, "%s not swapped: %s", ch.Target, why.why).holds(cur.still(svc)).hint("`turnout history %s` shows each step", ch.Target)
	s.say(op, "back", "%s", r.Message)
	s.mu.Lock()
	defer s.mu.Unlock()
	op.update(func(v *OperationView) { v.Err, v.State, v.Changed = r, StateRunning, false })
	s.end(op)
}

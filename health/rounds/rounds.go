// Package rounds goes the rounds of a door's servers: it turns each service's `health` into plans of a
// health.Monitor, what the monitor finds into states of servers in the switch, and is whom gates ask.
//
//	a new file:    Ahead: what it has asked anew, and what the servers that serve say to that
//	a snapshot:    Set -> Monitor.Set: a plan for each server of a service with checks
//	a transition:  Monitor -> moved -> level -> Switch.SetHealth, and one line in the log
//	a failed dial: Switch.Suspects -> Monitor.Suspect: asked at once, also whether it can be connected to
//	a gate:        Probe: all checks of one server, now; when they pass, it is ready at once
//	by name:       Ask: one check, now, of a server or of its own address
//
// Promises: the switch is told levels, never edges: what it knows last is what the monitor says. Not promised:
// that a check was asked at the instant at which its answer is used.
package rounds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Rounds watches the servers of one switch. It is safe for concurrent use.
type Rounds struct {
	sw      *proxy.Switch
	secure  func(service, address string) *tls.Config
	log     *zap.Logger
	monitor *health.Monitor
	end     chan struct{}
	work    sync.WaitGroup

	checks atomic.Pointer[map[string]*health.Check]

	// level makes "read the monitor, tell the switch" one act, so that what is told last is what was read last.
	// Lock order: level, then those of the monitor and the switch, one after the other.
	level sync.Mutex
}

// New begins to watch; Set says whom. Close ends it. secure says how a server of a service that has server_tls is spoken to.
func New(sw *proxy.Switch, secure func(service, address string) *tls.Config, log *zap.Logger) *Rounds {
	r := &Rounds{sw: sw, secure: secure, log: log, end: make(chan struct{})}
	r.checks.Store(&map[string]*health.Check{})
	r.monitor = health.NewMonitor(r.moved)
	r.work.Go(r.lookInto) // ends with Close
	return r
}

// Close ends all checks. The switch keeps what it was told last.
func (r *Rounds) Close() {
	close(r.end)
	r.work.Wait()
	r.monitor.Close()
}

// id names a server to the monitor.
func id(service, pool, server string) string { return service + "/" + pool + "/" + server }

func parts(id string) (service, pool, server string) {
	p := strings.SplitN(id, "/", 3)
	return p[0], p[1], p[2]
}

// Set takes the checks of the file, and watches the servers of the snapshot in force. It is called at the start and
// after each reload.
func (r *Rounds) Set(checks map[string]*health.Check) {
	r.checks.Store(&checks)
	plans := map[string]health.Plan{}
	for _, svc := range r.sw.Current().Services {
		if svc.Spec.Health == nil {
			continue
		}
		for _, pool := range svc.Pools {
			for i := range pool.Members {
				m := &pool.Members[i]
				plans[id(svc.Spec.Name, pool.Name, m.Name)] = r.plan(svc.Spec.Health, m.Server)
			}
		}
	}
	r.monitor.Set(plans)
	for id := range plans { // a reload may have made a server anew, which the monitor knows already
		r.tell(id)
	}
}

func (r *Rounds) plan(h *proxy.HealthSpec, srv *proxy.Server) health.Plan {
	p := health.Plan{Target: r.Target(srv), Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall}
	for _, name := range h.Checks {
		if c := (*r.checks.Load())[name]; c != nil {
			p.Checks = append(p.Checks, c)
		}
	}
	return p
}

// Target is a server as one that checks ask: spoken to as its service's connections are.
func (r *Rounds) Target(srv *proxy.Server) health.Target {
	t := health.Target{Name: srv.Name, Address: srv.Address, H2: srv.H2}
	if svc := r.sw.Current().Service(srv.Service); svc != nil && svc.Spec.ServerTLS != nil {
		t.TLS = func() *tls.Config {
			if c := r.secure(srv.Service, srv.Address); c != nil {
				return c
			}
			return &tls.Config{MinVersion: tls.VersionTLS12} // the service is about to go, or to speak without
		}
	}
	return t
}

// moved is told by the monitor, one transition at a time.
func (r *Rounds) moved(t health.Transition) {
	if t.From != t.To {
		r.say(t)
	}
	r.tell(t.ID)
	if t.To == health.Failing {
		r.failing(t)
	}
}

// failing does what follows from a server's failure. The side that does not serve of an exclusive service is meant not
// to be ready: from now on it waits. Connections to a server that cannot be connected to any more are cut, if the
// service wants that.
func (r *Rounds) failing(t health.Transition) {
	service, pool, server := parts(t.ID)
	svc := r.sw.Current().Service(service)
	if svc == nil || svc.Spec.Health == nil {
		return
	}
	if svc.Spec.Exclusive && svc.Active.Name != pool {
		r.monitor.Excuse(t.ID)
	}
	p := svc.Pool(pool)
	if !svc.Spec.Health.CutDead || p == nil {
		return
	}
	for _, srv := range p.Servers() {
		if srv.Name == server {
			r.work.Go(func() { r.cutIfDead(srv) }) // ends with the dial's limit
		}
	}
}

// deadLimit is how long a server may take to accept a connection before it counts as dead.
const deadLimit = 500 * time.Millisecond

func (r *Rounds) cutIfDead(srv *proxy.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), deadLimit)
	defer cancel()
	n := srv.Connections()
	if n == 0 || health.Dial(ctx, srv.Address) == nil {
		return
	}
	r.sw.Cut(srv)
	r.log.Warn("cut", zap.String("service", srv.Service), zap.String("pool", srv.Pool), zap.String("server", srv.Name), zap.Int("connections", n))
}

// say writes the one line of a transition. A standby that waits is no alarm; an active server that does is one.
func (r *Rounds) say(t health.Transition) {
	service, pool, server := parts(t.ID)
	fields := []zap.Field{zap.String("service", service), zap.String("pool", pool), zap.String("server", server),
		zap.Stringer("from", t.From), zap.Stringer("to", t.To)}
	if t.Check != "" {
		fields = append(fields, zap.String("check", t.Check))
	}
	if t.Reason != "" {
		fields = append(fields, zap.String("reason", t.Reason))
	}
	svc := r.sw.Current().Service(service)
	if t.To == health.Failing || t.To == health.Waiting && svc != nil && svc.Active.Name == pool {
		r.log.Warn("health", fields...)
		return
	}
	r.log.Info("health", fields...)
}

// tell brings what the switch knows of a server to what the monitor says.
func (r *Rounds) tell(id string) {
	r.level.Lock()
	defer r.level.Unlock()
	report, known := r.monitor.Get(id)
	if !known {
		return
	}
	service, pool, server := parts(id)
	r.sw.SetHealth(service, pool, server, proxy.Health{State: stateOf(report.State), Since: report.Since, Check: report.Check, Reason: report.Reason})
}

func stateOf(s health.State) proxy.HealthState {
	switch s {
	case health.Ready:
		return proxy.HealthReady
	case health.Failing:
		return proxy.HealthFailing
	case health.Waiting:
		return proxy.HealthWaiting
	}
	return proxy.HealthUnknown
}

// excuseOld has the sides of exclusive services that do not serve wait: after a swap they are meant not to be ready.
func (r *Rounds) excuseOld() {
	for _, svc := range r.sw.Current().Services {
		if svc.Spec.Health == nil || !svc.Spec.Exclusive {
			continue
		}
		for _, p := range svc.Pools {
			if p != svc.Active {
				r.Excuse(svc.Spec.Name, p.Name)
			}
		}
	}
}

// lookInto has servers asked at once that a client could not be connected to.
func (r *Rounds) lookInto() {
	events, unsubscribe := r.sw.Subscribe()
	defer unsubscribe()
	for {
		select {
		case <-r.end:
			return
		case e := <-events:
			if e.Type == string(proxy.VerbSwap) || e.Type == string(proxy.VerbBack) {
				r.excuseOld()
			}
		case srv := <-r.sw.Suspects():
			r.monitor.Suspect(id(srv.Service, srv.Pool, srv.Name))
			// The next failed dial is worth telling only when this one has been looked into.
			time.AfterFunc(100*time.Millisecond, srv.LookedInto)
		}
	}
}

// Excuse says that the servers of a pool were stopped on purpose: failing there is waiting from now on.
func (r *Rounds) Excuse(service, pool string) {
	svc := r.sw.Current().Service(service)
	if svc == nil {
		return
	}
	if p := svc.Pool(pool); p != nil {
		for i := range p.Members {
			r.monitor.Excuse(id(service, pool, p.Members[i].Name))
		}
	}
}

// Probe tells whether a server may get new work, as the gate of a swap: all checks of its service pass now; without
// checks, a connection to it can be made, TLS included where the service speaks it. A server that passes is ready at once, whatever `rise` says. A check that must see a
// value advance has to have seen it.
func (r *Rounds) Probe(ctx context.Context, srv *proxy.Server) error {
	svc := r.sw.Current().Service(srv.Service)
	if svc == nil || svc.Spec.Health == nil {
		return health.Meet(ctx, r.Target(srv))
	}
	answers := r.AskAll(ctx, srv)
	for i := range answers {
		if !answers[i].OK {
			return fmt.Errorf("%s: %w", answers[i].Check, errors.New(answers[i].Reason))
		}
	}
	name := id(srv.Service, srv.Pool, srv.Name)
	r.monitor.Confirm(name)
	r.tell(name)
	return nil
}

// Glance tells whether a server of a service without checks can be reached, if that shows at once; see health.Glance. One that is
// spoken to in TLS has more to show than that.
func (r *Rounds) Glance(srv *proxy.Server) bool {
	svc := r.sw.Current().Service(srv.Service)
	return (svc == nil || svc.Spec.Health == nil && svc.Spec.ServerTLS == nil) && health.Glance(srv.Address, 2*time.Millisecond)
}

// AskAll asks all checks of a server's service at the same time, and gives their answers in the file's order. Of a
// check that must see a value advance it gives the monitor's answer, which knows the history.
func (r *Rounds) AskAll(ctx context.Context, srv *proxy.Server) []health.Answer {
	svc := r.sw.Current().Service(srv.Service)
	if svc == nil || svc.Spec.Health == nil {
		begun := time.Now()
		a := health.Answer{Check: "connect", OK: true, At: begun}
		if err := health.Meet(ctx, r.Target(srv)); err != nil {
			a.OK, a.Reason = false, err.Error()
		}
		a.Took = time.Since(begun)
		return []health.Answer{a}
	}
	h := svc.Spec.Health
	answers := make([]health.Answer, len(h.Checks))
	var asked sync.WaitGroup
	for i, name := range h.Checks {
		check := (*r.checks.Load())[name]
		if check == nil {
			answers[i] = health.Answer{Check: name, Reason: "the file has no such check", At: time.Now()}
			continue
		}
		asked.Go(func() { answers[i] = r.ask(ctx, check, srv, h.Timeout) }) // ends with the check's timeout
	}
	asked.Wait()
	return answers
}

// ask runs one check of a server now; its timeout is the check's own, else otherwise.
func (r *Rounds) ask(ctx context.Context, check *health.Check, srv *proxy.Server, otherwise time.Duration) health.Answer {
	if check.Must() {
		if a, known := r.history(srv, check.Name()); known {
			return a
		}
	}
	return r.run(ctx, check, srv, otherwise)
}

// run runs a check of a server now, without what the monitor knows.
func (r *Rounds) run(ctx context.Context, check *health.Check, srv *proxy.Server, otherwise time.Duration) health.Answer {
	limit := check.Limit()
	if limit == 0 {
		limit = otherwise
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := check.Run(ctx, r.Target(srv))
	if check.Must() {
		a = check.NewProgress(nil).Judge(a)
	}
	return a
}

// history is the latest answer that the monitor has of a check of a server.
func (r *Rounds) history(srv *proxy.Server, check string) (health.Answer, bool) {
	report, known := r.monitor.Get(id(srv.Service, srv.Pool, srv.Name))
	if !known {
		return health.Answer{}, false
	}
	for _, c := range report.Checks {
		if c.Name == check && len(c.Last) > 0 {
			return c.Last[len(c.Last)-1], true
		}
	}
	return health.Answer{}, false
}

// Ask asks a check of the file, by name, now. srv is whom; nil is right for a check with an address of its own. The
// error says that there is no such check, or nobody to ask; whether it passes is in the answer.
func (r *Rounds) Ask(ctx context.Context, name string, srv *proxy.Server) (health.Answer, error) {
	check := (*r.checks.Load())[name]
	switch {
	case check == nil:
		return health.Answer{}, fmt.Errorf("the file has no check %q", name)
	case srv == nil && check.Address() == "" && check.Kind() != "exec" && check.Kind() != "postgres":
		return health.Answer{}, fmt.Errorf("check %s has no address of its own: a server must be named", name)
	case srv == nil:
		srv = &proxy.Server{Name: name}
	}
	return r.ask(ctx, check, srv, health.DefaultTimeout), nil
}

// Check finds a check of the file by name; nil when there is none. Whoever needs its history over time keeps a
// health.Progress of its own (Check.NewProgress).
func (r *Rounds) Check(name string) *health.Check { return (*r.checks.Load())[name] }

// Report is what the monitor knows of a server.
func (r *Rounds) Report(service, pool, server string) (health.Report, bool) {
	return r.monitor.Get(id(service, pool, server))
}

// Names are those of all checks of the file, sorted.
func (r *Rounds) Names() []string { return slices.Sorted(maps.Keys(*r.checks.Load())) }

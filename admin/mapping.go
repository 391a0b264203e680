package admin

import (
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// This file turns proxy's types into wire types. Nothing else does.

// instant is nil for the zero time, which would look like a date on the wire.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func operation(v *proxy.OperationView) *api.Operation {
	op := &api.Operation{
		ID: v.ID, Verb: string(v.Verb), Target: v.Target, State: string(v.State), Waiting: v.Waiting,
		Changed: v.Changed && v.Err == nil, Revision: v.Revision, Started: v.Started, Ended: v.Ended,
		Plan: v.Plan, Proofs: proofs(v.Proofs), Cut: v.Cut, Error: refusal(v.Err),
	}
	for _, st := range v.Steps {
		op.Steps = append(op.Steps, api.Step(st))
	}
	return op
}

func proofs(list []proxy.Proof) []api.Proof {
	var out []api.Proof
	for i := range list {
		p := &list[i]
		out = append(out, api.Proof{
			Service: p.Service, From: p.From, To: p.To, At: p.At,
			LastStartOld: instant(p.LastStartOld), FirstStartNew: instant(p.FirstStartNew), Overlap: api.Duration(p.Overlap),
			Held: p.Held, Resteered: p.Resteered, Remaining: p.Remaining, Cut: p.Cut,
			DrainUntil: instant(p.DrainUntil), Then: string(p.Then), Drained: p.Drained, Superseded: p.Superseded, BySession: p.BySession,
		})
	}
	return out
}

func event(e proxy.Event) api.Event {
	return api.Event{Seq: e.Seq, Time: e.Time, Type: e.Type, Service: e.Service, Text: e.Text}
}

// record is a line of history; the outcome is filled in by whoever knows what came after it.
func record(r *proxy.Record) api.Record {
	return api.Record{
		Seq: r.Seq, Time: r.Time, Revision: r.Revision, Verb: string(r.Verb), Target: r.Target, From: r.From, To: r.To,
		Who: api.Who(r.Who), Reason: r.Reason, Force: r.Force, Outcome: string(r.Outcome), Detail: r.Detail, Proofs: proofs(r.Proofs),
	}
}

// picture is all that a status is made of, read at one time.
type picture struct {
	stopping *api.Stopping // nil: the door goes on
	snap     *proxy.Snapshot
	drains   []proxy.Drain
	retired  []*proxy.Server
	underWay map[string]proxy.OperationView
	listen   map[string][]string // service → bound addresses
	watch    func(*proxy.Service) *api.Watch
	previews map[string][]string // service → bound addresses of its preview's own listener
	health   func(*proxy.Server) *api.Health
}

func (p *picture) services() map[string]api.Service {
	out := make(map[string]api.Service, len(p.snap.Services))
	for _, svc := range p.snap.Services {
		out[svc.Spec.Name] = p.service(svc)
	}
	for _, srv := range p.retired {
		p.addRetired(out, srv)
	}
	return out
}

func (p *picture) service(svc *proxy.Service) api.Service {
	name := svc.Spec.Name
	op, busy := p.underWay[name]
	out := api.Service{
		Mode: string(svc.Spec.Mode), Listen: p.listen[name], PreviewListen: p.previews[name], Active: svc.Active.Name, PreviousPool: svc.Previous, Since: svc.Since,
		State: p.stateOf(svc, op), Exclusive: svc.Spec.Exclusive, Held: svc.Held(), Connections: svc.Connections(),
		Pools: make(map[string]api.Pool, len(svc.Pools)),
	}
	out.TLS = handshakes(svc)
	out.Previous, out.PreviousServers = svc.BackTo()
	if busy {
		out.Operation = op.ID
	}
	out.Failover, out.Conflict = failover(svc), svc.Conflict()
	if p.watch != nil {
		out.Watch = p.watch(svc)
	}
	out.Watched = watchedOf(svc.Watched)
	if svc.Hold != nil {
		out.HeldUntil, out.HeldBy, out.HeldFor = instant(svc.Hold.Ends()), svc.Hold.By, svc.Hold.Reason
	}
	if m := svc.Maintenance; m != nil {
		out.Maintenance = &api.Maintenance{Since: m.Since, Until: instant(m.Until), Soft: m.Soft, By: m.By, Reason: m.Reason, Message: m.Message}
	}
	if a := svc.Announced; a != nil {
		out.Next = &api.Announcement{Since: a.Since, From: a.From, Until: instant(a.Until), Soft: a.Soft, By: a.By, Reason: a.Reason, Message: a.Message}
	}
	if ro := svc.ReadOnly; ro != nil {
		out.ReadOnly = &api.ReadOnly{Since: ro.Since, Until: instant(ro.Until), By: ro.By, Reason: ro.Reason, Message: ro.Message}
	}
	if sp := svc.Split; sp != nil {
		out.Split = &api.Split{Since: sp.Since, Until: instant(sp.Until), By: sp.By, Reason: sp.Reason, Shares: make(map[string]float64, len(sp.Shares))}
		for _, sh := range sp.Shares {
			out.Split.Shares[sh.Pool] = sh.Percent.Float()
		}
	}
	for _, pool := range svc.Pools {
		out.Pools[pool.Name] = p.pool(svc, pool)
	}
	return out
}

func handshakes(svc *proxy.Service) *api.TLS {
	if svc.Spec.TLS == nil {
		return nil
	}
	n := svc.Counts()
	out := &api.TLS{Done: n.Secured, Failed: n.Insecure}
	if u := svc.Unsecured(); u != nil {
		out.At, out.Client, out.Error = instant(u.At), u.Client, u.Why
	}
	return out
}

func failover(svc *proxy.Service) *api.Failover {
	spec := svc.Spec.Failover
	if spec == nil {
		return nil
	}
	f := &api.Failover{Mode: "manual", Failback: "manual"}
	if spec.Automatic {
		f.Mode = "automatic"
	}
	if spec.FailbackAfter > 0 {
		f.Failback = "after " + spec.FailbackAfter.String()
	}
	if m := svc.Failover; m != nil {
		until := m.LockedUntil(spec.Lockout)
		f.At, f.From, f.Back = instant(m.At), m.From, m.Back
		if until.After(time.Now()) {
			f.LockedUntil = &until
		}
	}
	f.Stays = svc.Stays()
	return f
}

func (p *picture) stateOf(svc *proxy.Service, op proxy.OperationView) string {
	switch {
	case p.stopping != nil:
		return "stopping"
	case op.State == proxy.StateRunning || op.State == proxy.StateWaiting:
		return "handover"
	case svc.Maintenance != nil:
		return "maintenance"
	case svc.Hold != nil:
		return "held"
	}
	return "serving"
}

func (p *picture) pool(svc *proxy.Service, pool *proxy.Pool) api.Pool {
	share := svc.Share(pool)
	out := api.Pool{Connections: pool.Connections(), Percent: share.Float(), Servers: make(map[string]api.Server, len(pool.Members))}
	drained := 0
	for i := range pool.Members {
		m := &pool.Members[i]
		if m.Drained {
			drained++
		}
		out.Servers[m.Name] = p.server(m, share > 0, svc.Maintenance != nil)
	}
	drains := p.drainOf(svc.Spec.Name, pool, &out)
	for i := range pool.Members {
		if until := pool.Members[i].KeepsSessions(); out.SessionsUntil == nil || until.After(*out.SessionsUntil) {
			out.SessionsUntil = instant(until)
		}
	}
	gives := share > 0 && drained < len(pool.Members) && svc.Maintenance == nil && svc.Hold == nil
	switch {
	case gives && pool == svc.Active:
		out.State = "active"
	case gives:
		out.State = "split"
	case drains == len(pool.Members) || (out.Connections > 0 || out.SessionsUntil != nil) && share == 0:
		out.State = "draining"
	case drained == len(pool.Members):
		out.State = "drained"
	case pool == svc.Active:
		out.State = "active"
	case share > 0:
		out.State = "split"
	default:
		out.State = "standby"
	}
	return out
}

// drainOf counts the pool's servers that a drain is going on for, and shows its latest deadline.
func (p *picture) drainOf(service string, pool *proxy.Pool, out *api.Pool) (n int) {
	for i := range pool.Members {
		for k := range p.drains {
			d := &p.drains[k]
			if d.Service != service || d.Pool != pool.Name || !contains(d.Servers, pool.Members[i].Server) {
				continue
			}
			n++
			until(out, d)
			break
		}
	}
	return n
}

// until shows the deadline of a drain of a pool, if it is the latest.
func until(out *api.Pool, d *proxy.Drain) {
	if out.DrainUntil == nil || d.Until.After(*out.DrainUntil) {
		out.DrainUntil, out.CloseUntil = instant(d.Until), instant(d.Closing)
	}
}

func contains(list []*proxy.Server, s *proxy.Server) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (p *picture) server(m *proxy.Member, fed, maintenance bool) api.Server {
	out := serverCounts(m.Server)
	out.Weight, out.MaxConnections = m.Weight, m.Max
	busy := out.Connections > 0 || out.Dialing > 0
	switch {
	case (busy || !m.KeepsSessions().IsZero()) && (m.Drained || !fed):
		out.State = "draining"
	case m.Drained:
		out.State = "drained"
	case maintenance:
		out.State = "maintenance"
	case m.Health.State == proxy.HealthUnchecked:
		out.State = "ready"
	default:
		out.State = m.Health.State.String()
	}
	if percent, until, under := m.SlowStart(); under {
		out.SlowStart = &api.SlowStart{Percent: percent, Until: until}
	}
	if h := m.Health; h.State != proxy.HealthUnchecked {
		out.Health = &api.Health{State: h.State.String(), Since: h.Since, Check: h.Check, Reason: h.Reason}
		if p.health != nil {
			if live := p.health(m.Server); live != nil && live.State == out.Health.State {
				out.Health = live
			}
		}
	}
	return out
}

func serverCounts(s *proxy.Server) api.Server {
	n := s.Counts()
	return api.Server{
		Address: s.Address, Connections: n.Connections, Dialing: n.Dialing, Total: n.Total,
		DialFailures: n.Failures, LastDialError: n.LastError, BytesToServer: n.BytesToServer, BytesToClient: n.BytesToClient,
		LastStart: proxy.Wall(n.LastStart),
	}
}

// addRetired shows a server that the file no longer has where it was, as long as it has connections.
func (p *picture) addRetired(services map[string]api.Service, s *proxy.Server) {
	svc, ok := services[s.Service]
	if !ok {
		svc = api.Service{State: "removed", Listen: []string{}, Pools: map[string]api.Pool{}}
	}
	pool, ok := svc.Pools[s.Pool]
	if !ok {
		pool = api.Pool{State: "draining", Servers: map[string]api.Server{}}
	}
	shown := serverCounts(s)
	shown.State = "draining"
	name := s.Name
	for _, taken := pool.Servers[name]; taken; _, taken = pool.Servers[name] {
		name += " (removed)" // the name has another address now
	}
	pool.Servers[name] = shown
	for k := range p.drains {
		if d := &p.drains[k]; contains(d.Servers, s) {
			until(&pool, d)
		}
	}
	pool.Connections += shown.Connections
	svc.Connections += shown.Connections
	svc.Pools[s.Pool], services[s.Service] = pool, svc
}

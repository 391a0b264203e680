package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// Pool is a pool as a decision sees it.
type Pool struct {
	Name       string
	Ready      bool      // a server that takes new work is known to be ready
	ReadySince time.Time // for how long without a break; zero when it is not
	Dead       bool      // every server that takes new work is known to be down. Neither: nothing is known yet
	Why        string    // why it does not serve, in words; "" when it does or nothing is known yet
}

// View is one service at one instant: all that a decision is made from.
type View struct {
	Active    string
	Pools     []Pool // in the file's order
	Exclusive bool
	Frozen    bool
	HeldBy    string // whose hold is in force; "": none
	HeldSince time.Time
	ClosedBy  string // whose maintenance is in force; "": none
	Mark      *proxy.FailoverMark

	Answers bool   // a server of the active pool accepts connections, though its checks fail
	Fenced  bool   // the fence command has just succeeded for all of those
	Fence   string // why it has just failed; "": it has not
	GaveUp  bool   // an operator has ended our hold or maintenance: no further one until the active pool is back
}

// Act is what is to be done.
type Act string

// Acts.
const (
	Nothing  Act = ""
	Hold     Act = "hold"     // let new work wait
	Fence    Act = "fence"    // run the fence command, then decide anew
	Swap     Act = "swap"     // to Decision.To
	Release  Act = "release"  // end our hold
	Maintain Act = "maintain" // the hold has lasted long enough: the door answers
	Reopen   Act = "reopen"   // end our maintenance
)

// Decision is an act with its reason. Calm says that nothing is the matter and nothing is waited for, so nobody has to
// look again before something changes.
type Decision struct {
	Act      Act
	To       string
	Failback bool
	Why      string
	Calm     bool
}

// ours is what the journal calls whoever decides here.
var ours = proxy.TheFailover.Name

func (v *View) pool(name string) Pool {
	for _, p := range v.Pools {
		if p.Name == name {
			return p
		}
	}
	return Pool{Name: name}
}

// Decide says what to do for a service now. It is pure.
//
// Invariants, which a property test holds: only to a pool that is ready; from a pool that is not dead only as a
// failback; never in the middle of what an operator holds, closed or froze; within a lockout only from a pool that
// does not answer; for an exclusive service never from one that does, unless it was fenced.
func Decide(p *proxy.FailoverSpec, v View, now time.Time) Decision {
	active := v.pool(v.Active)
	switch {
	case v.Frozen:
		return Decision{Why: "frozen", Calm: !active.Dead}
	case v.HeldBy != "" && v.HeldBy != ours:
		return Decision{Why: "held by " + v.HeldBy}
	case v.ClosedBy != "" && v.ClosedBy != ours:
		return Decision{Why: "in maintenance by " + v.ClosedBy}
	case active.Dead:
		return gap(p, &v, active, now)
	case v.ClosedBy == ours && active.Ready:
		return Decision{Act: Reopen, Why: v.Active + " is ready"}
	case v.HeldBy == ours && active.Ready:
		return Decision{Act: Release, Why: v.Active + " is ready"}
	case v.HeldBy == ours || v.ClosedBy == ours:
		return Decision{Why: "it is not known yet how " + v.Active + " is"}
	}
	return failback(p, &v, now)
}

// gap is the time in which no server of the active pool is ready.
func gap(p *proxy.FailoverSpec, v *View, active Pool, now time.Time) Decision {
	why := active.Why
	if to := candidate(p, v); to != "" {
		switch block := blocked(p, v, now); {
		case block != "":
			why = block
		case v.Exclusive && v.Answers && !v.Fenced:
			return Decision{Act: Fence, To: to, Why: active.Why}
		default:
			return Decision{Act: Swap, To: to, Why: active.Why}
		}
	} else {
		why += "; " + nowhere(p, v)
	}
	switch {
	case p.Hold == 0 || v.ClosedBy == ours || v.GaveUp:
		return Decision{Why: why}
	case v.HeldBy == "":
		return Decision{Act: Hold, Why: active.Why}
	case now.Sub(v.HeldSince) >= p.Hold:
		return Decision{Act: Maintain, Why: fmt.Sprintf("no side was ready within %s: %s", p.Hold, why)}
	}
	return Decision{Why: why}
}

// candidates are the pools that may take over, the best first.
func candidates(p *proxy.FailoverSpec, v *View) []Pool {
	var out []Pool
	for _, name := range p.To {
		if name != v.Active {
			out = append(out, v.pool(name))
		}
	}
	if len(p.To) > 0 {
		return out
	}
	return slices.DeleteFunc(slices.Clone(v.Pools), func(pool Pool) bool { return pool.Name == v.Active })
}

// candidate is the first pool that may take over and is ready.
func candidate(p *proxy.FailoverSpec, v *View) string {
	for _, pool := range candidates(p, v) {
		if pool.Ready {
			return pool.Name
		}
	}
	return ""
}

// nowhere says why no pool can take over.
func nowhere(p *proxy.FailoverSpec, v *View) string {
	var whys []string
	for _, pool := range candidates(p, v) {
		why := pool.Why
		if pool.Why == "" {
			why = "it is not known yet how " + pool.Name + " is"
		}
		whys = append(whys, why)
	}
	if len(whys) == 0 {
		return "no other pool may take over"
	}
	return strings.Join(whys, "; ")
}

// blocked says why a failover may not come although there is somewhere to go; "" when it may.
func blocked(p *proxy.FailoverSpec, v *View, now time.Time) string {
	if v.Answers && v.Mark != nil && now.Before(v.Mark.LockedUntil(p.Lockout)) {
		return fmt.Sprintf("locked out until %s: the last failover was at %s, and %s still accepts connections",
			v.Mark.LockedUntil(p.Lockout).Format(time.TimeOnly), v.Mark.At.Format(time.TimeOnly), v.Active)
	}
	if v.Exclusive && v.Answers && !v.Fenced && len(p.Fence) == 0 {
		return v.Active + " still accepts connections, and the service is exclusive: it moves when that ends, or with a fence command"
	}
	if v.Exclusive && v.Answers && !v.Fenced && v.Fence != "" {
		return v.Fence
	}
	return ""
}

// failback swaps to where a failover came from, when that has been ready long enough.
func failback(p *proxy.FailoverSpec, v *View, now time.Time) Decision {
	m := v.Mark
	if p.FailbackAfter == 0 || m == nil || m.Back {
		return Decision{Calm: true}
	}
	home := v.pool(m.From)
	if !home.Ready || now.Sub(home.ReadySince) < p.FailbackAfter || now.Sub(m.At) < p.FailbackAfter {
		return Decision{Why: "waits for " + m.From + " to be ready for " + p.FailbackAfter.String()}
	}
	return Decision{Act: Swap, To: m.From, Failback: true, Why: fmt.Sprintf("failback: %s has been ready for %s", m.From, now.Sub(home.ReadySince).Round(time.Second))}
}

// Conflict tells whether two pools look active of which only one may be: a service is exclusive, and beside the
// active pool another one is ready.
func Conflict(v View) (other string, yes bool) {
	if !v.Exclusive || !v.pool(v.Active).Ready {
		return "", false
	}
	for _, p := range v.Pools {
		if p.Name != v.Active && p.Ready {
			return p.Name, true
		}
	}
	return "", false
}

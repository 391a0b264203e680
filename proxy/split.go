package proxy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Percent is a share of new work in hundredths of a percent, so that shares add up exactly.
type Percent int

// Whole is all of the new work.
const Whole Percent = 100_00

// ParsePercent reads "5%", "5" or "0.5%".
func ParsePercent(text string) (Percent, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil {
		return 0, fmt.Errorf("%q: want a percentage from 0%% to 100%%, such as 5%% or 0.5%%", text)
	}
	return PercentOf(f)
}

// PercentOf is f percent.
func PercentOf(f float64) (Percent, error) {
	p := Percent(math.Round(f * 100))
	switch {
	case !(f >= 0 && f <= 100): // also what is not a number
		return 0, fmt.Errorf("%v%%: want a percentage from 0%% to 100%%", f)
	case math.Abs(float64(p)-f*100) > 1e-6:
		return 0, fmt.Errorf("%v%%: want at most two decimals", f)
	}
	return p, nil
}

// Float is the percentage as a number: 5 for 5%.
func (p Percent) Float() float64 { return float64(p) / 100 }

func (p Percent) String() string { return strconv.FormatFloat(p.Float(), 'f', -1, 64) + "%" }

// MarshalJSON writes 5% as the number 5.
func (p Percent) MarshalJSON() ([]byte, error) { return json.Marshal(p.Float()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Percent) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	got, err := PercentOf(f)
	*p = got
	return err
}

// Share is a pool's part of the new work.
type Share struct {
	Pool    string  `json:"pool"`
	Percent Percent `json:"percent"`
}

// Split leads parts of a service's new work to other pools than the active one.
type Split struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // then all goes to the active pool again; zero: until it is changed
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Shares []Share   `json:"shares"` // in the order of Service.Pools, none of 0%; they add up to Whole

	// order is one round of smooth weighted round robin over the pools: in any window of a round each pool
	// has its exact share, and what is off in a part of it is less than one. Each loop goes round by itself.
	order []turn
	// share is what each of Service.Pools gets, often how often each comes in the round.
	share []Percent
	often []uint32
	// refuge is the pool, as a position, that takes whoever its own pool cannot take: the active one, or
	// the one with the largest share when the active one has none. So a canary that fails costs no client.
	refuge int
}

// turn is a place in the round: whose it is, as a position in Service.Pools, and how often that pool came before.
type turn struct {
	pool   uint8
	before uint16
}

// maxPools is what a position in Split.order and a Claimed.Position can tell apart.
const maxPools = 200

// resolve works out where the pools of the shares are. False: not all are there.
func (s *Split) resolve(pools []*Pool, active *Pool) bool {
	s.order, s.share, s.often, s.refuge = nil, make([]Percent, len(pools)), make([]uint32, len(pools)), -1
	round := 0
	for _, sh := range s.Shares {
		i := slices.IndexFunc(pools, func(p *Pool) bool { return p.Name == sh.Pool })
		if i < 0 || i >= maxPools {
			return false
		}
		s.share[i] = sh.Percent
		round = greatest(round, int(sh.Percent))
		if pools[i] == active || s.refuge < 0 || pools[s.refuge] != active && sh.Percent > s.share[s.refuge] {
			s.refuge = i
		}
	}
	credit := make([]Percent, len(pools))
	for range int(Whole) / max(round, 1) {
		best := s.refuge
		for i, sh := range s.share {
			credit[i] += sh
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= Whole
		s.order = append(s.order, turn{uint8(best), uint16(s.often[best])})
		s.often[best]++
	}
	return true
}

// next is whose turn it is at the n-th place of an endless round, and how often that pool's came before.
func (s *Split) next(n uint32) (pool int, before uint32) {
	round := uint32(len(s.order))
	t := s.order[n%round]
	return int(t.pool), n/round*s.often[t.pool] + uint32(t.before)
}

// of is the pool of a client by its key: the same one as long as the shares stay, and a pool whose share grows
// keeps those it had.
func (s *Split) of(key uint64) int {
	return s.at(Percent(mix(key^0x9e3779b97f4a7c15) % uint64(Whole))) // else all keys of a pool were alike for its servers' hashes
}

// String lists the shares: "blue 95%, green 5%".
func (s *Split) String() string {
	out := make([]string, len(s.Shares))
	for i, sh := range s.Shares {
		out[i] = sh.Pool + " " + sh.Percent.String()
	}
	return strings.Join(out, ", ")
}

// Share is the part of the service's new work that goes to the pool, whatever the pool's servers make of it.
func (s *Service) Share(p *Pool) Percent {
	switch {
	case s.Split != nil:
		if i := slices.Index(s.Pools, p); i >= 0 {
			return s.Split.share[i]
		}
	case p == s.Active:
		return Whole
	}
	return 0
}

// Refuge is the pool that new work falls back on: the active one, unless a split leaves it nothing.
func (s *Service) Refuge() *Pool {
	if s.Split == nil {
		return s.Active
	}
	return s.Pools[s.Split.refuge]
}

// RefugeIs says what the refuge is to the service.
func (s *Service) RefugeIs() string {
	if s.Refuge() == s.Active {
		return "active pool"
	}
	return "pool with the largest share"
}

// Limited tells whether a server that new work goes to has max_connections, so that clients may have to wait.
func (s *Service) Limited() bool {
	for i := range s.Serving.Members {
		if s.Serving.Members[i].Max > 0 {
			return true
		}
	}
	return false
}

// leaving names the pools that have nothing to do any more when all new work goes to one: the active pool first, also
// when a split has left it nothing.
func (s *Service) leaving(dest *Pool) string {
	var out []string
	for _, p := range append([]*Pool{s.Active}, s.Pools...) {
		if p != dest && (p == s.Active && out == nil || p != s.Active && s.Share(p) > 0) {
			out = append(out, p.Name)
		}
	}
	return strings.Join(out, ",")
}

// unsplit ends the split, and says so.
func (p *Planned) unsplit(next *Service) {
	if next.Split == nil {
		return
	}
	p.say("%s: the split %s ends", next.Spec.Name, next.Split)
	next.Split = nil
}

// shares completes what was asked for: what is left over goes to the active pool.
func (s *Service) shares(cur *Snapshot, ch *Change) ([]Share, *Refusal) {
	name := s.Spec.Name
	want := map[string]Percent{}
	sum := Percent(0)
	for _, sh := range ch.Shares {
		if s.Pool(sh.Pool) == nil {
			return nil, refuse(CodeNotFound, "%s has no pool %q", name, sh.Pool).hint("%s", Among(sh.Pool, s.poolNames())).holds(cur.still(s))
		}
		if _, twice := want[sh.Pool]; twice {
			return nil, refuse(CodeUsage, "%s is named twice", sh.Pool).holds(cur.still(s))
		}
		if sh.Percent < 0 || sh.Percent > Whole {
			return nil, refuse(CodeUsage, "%s=%s: want 0%% to 100%%", sh.Pool, sh.Percent).holds(cur.still(s))
		}
		want[sh.Pool] = sh.Percent
		sum += sh.Percent
	}
	_, said := want[s.Active.Name]
	switch {
	case sum > Whole:
		return nil, refuse(CodeUsage, "the shares add up to %s, more than 100%%", sum).
			hint("%s, the active pool, gets what the others leave", s.Active.Name).holds(cur.still(s))
	case said && sum < Whole:
		return nil, refuse(CodeUsage, "the shares add up to %s, not to 100%%", sum).
			hint("leave %s, the active pool, out: it gets the rest; `turnout split %s off` ends a split", s.Active.Name, name).holds(cur.still(s))
	}
	want[s.Active.Name] += Whole - sum
	var out []Share
	for _, p := range s.Pools {
		if want[p.Name] > 0 {
			out = append(out, Share{p.Name, want[p.Name]})
		}
	}
	return out, nil
}

// split plans a split, another one in its place, or its end.
func (p *Planned) split(cur *Snapshot, ch *Change, now time.Time) ([]*Service, *Refusal) {
	services, err := ch.services(cur)
	if err != nil {
		return nil, err
	}
	services = ch.only(services)
	var changed []*Service
	var from, to []string
	for _, svc := range services {
		if ch.expiry && (svc.Split == nil || svc.Split.Until.IsZero() || svc.Split.Until.After(ch.deadline)) {
			continue // it was changed meanwhile
		}
		shares, err := svc.shares(cur, ch)
		if err != nil {
			return nil, err
		}
		name := svc.Spec.Name
		next := *svc
		next.Split = nil
		if len(shares) > 1 || shares[0].Pool != svc.Active.Name {
			next.Split = &Split{Since: now, By: ch.Who.Name, Reason: ch.Reason, Shares: shares}
			if ch.For > 0 {
				next.Split.Until = now.Add(ch.For)
			}
			if svc.Spec.Exclusive {
				return nil, refuse(CodeFailed, "%s not split: it is exclusive, and a split gives clients to two pools at once", name).
					hint("`turnout swap %s POOL` moves all of it", name).holds(cur.still(svc))
			}
			if !next.Split.resolve(svc.Pools, svc.Active) {
				return nil, refuse(CodeFailed, "%s not split: it has more than %d pools", name, maxPools).holds(cur.still(svc))
			}
		}
		switch was := svc.Split; {
		case was == nil && next.Split == nil:
			p.say("%s: not split, all new clients go to %s", name, svc.Active.Name)
			continue
		case was != nil && next.Split != nil && ch.For == 0 && was.Until.IsZero() && slices.Equal(was.Shares, shares):
			p.say("%s: new clients go to %s already", name, was.String())
			continue
		}
		if err := p.newShares(cur, ch, svc, &next); err != nil {
			return nil, err
		}
		next.watch(svc, ch, now)
		changed = append(changed, &next)
		from, to = append(from, svc.shareWords()), append(to, next.shareWords())
	}
	p.record.From, p.record.To = strings.Join(slices.Compact(from), "; "), strings.Join(slices.Compact(to), "; ")
	return changed, nil
}

// shareWords says who gets new work, for history.
func (s *Service) shareWords() string {
	if s.Split == nil {
		return s.Active.Name
	}
	return s.Split.String()
}

// newShares says what the shares are, asks for the pools that get new work for the first time, and drains those
// that get none any more.
func (p *Planned) newShares(cur *Snapshot, ch *Change, svc, next *Service) *Refusal {
	name := svc.Spec.Name
	var lost, heirs []string
	for _, pool := range svc.Pools {
		had, gets := svc.Share(pool), next.Share(pool)
		if gets > 0 {
			heirs = append(heirs, pool.Name)
		}
		switch {
		case had == 0 && gets > 0:
			if len(pool.willing) == 0 && !ch.Force && !ch.expiry { // P8: a deadline comes, and members sees to it that somebody is there
				return refuse(CodeGate, "%s not split: none of the %s of %s takes new work: all are drained or have weight 0", name, plural(len(pool.Members), "server"), pool.Name).
					hint("`turnout ready %s/%s` makes them ready; `--force` skips this", name, pool.Name).holds(cur.still(svc))
			}
			p.asks = append(p.asks, ask{name, pool.Name})
		case had > 0 && gets == 0:
			lost = append(lost, pool.Name)
		}
	}
	next.settle()
	if sealed := svc.sealedBy(next); len(sealed) > 0 {
		m := move{service: name, from: strings.Join(lost, ","), to: strings.Join(heirs, ","), sealed: sealed, swapped: true}.ends(svc.Spec.Drain, ch)
		p.moves = append(p.moves, m)
		p.say("%s: %s -> %s; %s on %s %s", name, m.from, m.to, plural(connections(sealed), "connection"), m.from, m.ending())
	}
	switch {
	case next.Split == nil:
		p.say("%s: all new clients go to %s", name, svc.Active.Name)
	case next.Split.Until.IsZero():
		p.say("%s: new clients go to %s, until that is changed", name, next.Split.String())
	default:
		p.say("%s: new clients go to %s, until %s; then all to %s", name, next.Split.String(), clock(next.Split.Until, next.Split.Since), svc.Active.Name)
	}
	return nil
}

package proxy

import (
	"math"
	"time"
)

// Verdict says what the door does with new work.
type Verdict uint8

// Verdicts of Claimer.Claim.
const (
	Dial     Verdict = iota // dial the claimed server
	Wait                    // the service is held: wait at the door
	Full                    // each server that could take it has max_connections: wait at the door
	Refuse                  // the service is in maintenance: the door answers
	NoServer                // no server is left to try
	Down                    // no server is ready or answers, and the service's policy is to hold: wait at the door and ask again
)

// Claimer is one loop's hold on the Switch. All its methods must be called on that loop; none of them
// takes a lock or allocates, but for servers with max_connections.
type Claimer struct {
	sw   *Switch
	loop int
}

// Claimer returns the claimer of a loop; loops are numbered from 0.
func (s *Switch) Claimer(loop int) *Claimer { return &Claimer{sw: s, loop: loop} }

// Tried remembers which servers of a pool were dialled in vain for one client, and of which pool; and whether that of its
// session was. Beyond 55 servers two may share a bit, so at most 55 are tried. The zero value has tried none.
type Tried uint64

const (
	triedServers       = 55                // bits
	triedSession Tried = 1 << triedServers // whatever other pool is tried then: it is not gone back to
	triedPool          = triedServers + 1  // the bits from here on have the pool's position, plus 1
)

func (t Tried) has(i int) bool { return t&(1<<(i%triedServers)) != 0 }

// pool is that of a Claimed.Position, or -1 when none was tried.
func (t Tried) pool() int { return int(t>>triedPool) - 1 }

// of is what was tried of one pool.
func (t Tried) of(pool int) Tried {
	if t.pool() != pool {
		return 0
	}
	return t
}

// Add marks the server at a Claimed.Position.
func (t *Tried) Add(position int) {
	if pool := position &^ bySession >> poolShift; t.pool() != pool {
		*t = *t&triedSession | Tried(pool+1)<<triedPool
	}
	if position&bySession != 0 {
		*t |= triedSession
	}
	*t |= 1 << ((position & (1<<poolShift - 1)) % triedServers)
}

// poolShift is where a Claimed.Position has the pool: 0 for the active one of a service that is not split, else its
// position in Service.Pools plus 1.
const poolShift = 16

// bySession marks a Claimed.Position to which the client's session led.
const bySession = 1 << 30

// Claimed is a claim on a server: the plane dials it, then calls Start or Fail, or TakeBack.
type Claimed struct {
	Server   *Server
	Position int // where it is, for Tried: in its pool, and which pool that is
}

// Claim chooses a server for one client of a service and counts the dial on it. key is the hash of the
// client's address, for SourceHash.
func (c *Claimer) Claim(svc *Service, key uint64, tried Tried) (Claimed, Verdict) {
	got, verdict := c.claim(svc, key, tried, 0)
	if verdict == NoServer && svc.holdsWhenDown() {
		verdict = Down
	}
	return got, verdict
}

func (c *Claimer) claim(svc *Service, key uint64, tried Tried, place uint16) (Claimed, Verdict) {
	switch {
	case svc.Maintenance != nil:
		return Claimed{}, Refuse
	case svc.Hold != nil:
		return Claimed{}, Wait
	}
	if svc.Split != nil {
		return c.ofSplit(svc, key, tried, place)
	}
	return c.from(svc.Active, svc, &svc.Live.cells[c.loop].cursor, key, tried.of(0))
}

// ofSplit chooses the client's pool and then its server. A pool that cannot take it leaves it to the refuge. Only
// a claim that is made takes a turn: those that wait for a server that is full would else use up the others'.
func (c *Claimer) ofSplit(svc *Service, key uint64, tried Tried, place uint16) (Claimed, Verdict) {
	split, cell := svc.Split, &svc.Live.cells[c.loop]
	pool, cursor, turn := tried.pool()-1, cell.cursor, uint32(0)
	switch {
	case pool >= 0 && split.share[pool] > 0: // another server of the same pool
	case place > 0:
		pool = split.at(Percent(place - 1))
	case svc.Spec.Balance == SourceHash:
		pool = split.of(key)
	default:
		round := uint32(len(split.order))
		pool, cursor = split.next(cell.turn + uint32(c.loop)*round/uint32(len(svc.Live.cells)))
		turn = 1
	}
	got, verdict := Claimed{}, NoServer
	if pool == split.refuge || !svc.Pools[pool].dead {
		got, verdict = c.from(svc.Pools[pool], svc, &cursor, key, tried.of(pool+1))
	}
	if verdict != Dial && pool != split.refuge {
		pool = split.refuge
		got, verdict = c.from(svc.Pools[pool], svc, &cell.cursor, key, 0)
	}
	if verdict == Dial {
		got.Position |= (pool + 1) << poolShift
		cell.turn += turn
	}
	return got, verdict
}

// from chooses a server of one pool. cursor is where its round is.
func (c *Claimer) from(p *Pool, svc *Service, cursor *uint32, key uint64, tried Tried) (Claimed, Verdict) {
	switch {
	case len(p.ready) == 0:
		return Claimed{}, NoServer
	case len(p.ready) == 1:
		return c.take(p, int(p.ready[0]), tried)
	}
	switch svc.Spec.Balance {
	case LeastConnections:
		return c.leastConnections(p, cursor, tried)
	case SourceHash:
		return c.sourceHash(p, key, tried)
	}
	return c.roundRobin(p, cursor, tried)
}

// take claims the member at i if it was not tried and is not full.
func (c *Claimer) take(p *Pool, i int, tried Tried) (Claimed, Verdict) {
	if tried.has(i) {
		return Claimed{}, NoServer
	}
	m := &p.Members[i]
	if !m.claim(c.loop, m.Max) {
		return Claimed{}, Full
	}
	return Claimed{m.Server, i}, Dial
}

// roundRobin goes on in the pool's order. Each loop has a cursor of its own, so that no cache line is
// shared; loops begin at different places of the round.
func (c *Claimer) roundRobin(p *Pool, cursor *uint32, tried Tried) (Claimed, Verdict) {
	n := uint32(len(p.order))
	begin := uint32(c.loop) * (n / uint32(max(len(p.Members[0].cells), 1)))
	worst := NoServer
	looks := min(n, 2*uint32(len(p.ready)))
	at := *cursor
	if tried == 0 {
		// A client's second try does not move the cursor: else, with two servers of which one hangs,
		// every client would meet that one first.
		defer func() { *cursor = at }()
	}
	for range looks {
		i := int(p.order[(begin+at)%n])
		at++
		got, verdict := c.take(p, i, tried)
		if verdict == Dial {
			return got, verdict
		}
		if verdict == Full {
			worst = Full
		}
	}
	if looks == n {
		return Claimed{}, worst
	}
	// Uneven weights make a long round, in which a light server may be far away: ask each once instead.
	for k := range len(p.ready) {
		got, verdict := c.take(p, int(p.ready[(int(at)+k)%len(p.ready)]), tried)
		if verdict == Dial {
			return got, verdict
		}
		if verdict == Full {
			worst = Full
		}
	}
	return Claimed{}, worst
}

// leastConnections compares (connections + dials + 1) / weight over all loops; ties go round.
func (c *Claimer) leastConnections(p *Pool, cursor *uint32, tried Tried) (Claimed, Verdict) {
	n := len(p.ready)
	begin := int(*cursor) % n
	*cursor++
	worst := NoServer
	for range n { // again when the best turned out to be full
		best, bestLoad := -1, int64(0)
		for k := range n {
			i := int(p.ready[(begin+k)%n])
			if tried.has(i) {
				continue
			}
			m := &p.Members[i]
			load := m.claims()
			if m.Max > 0 && load >= int64(m.Max) {
				worst = Full
				continue
			}
			if best < 0 || (load+1)*int64(p.Members[best].pull) < (bestLoad+1)*int64(m.pull) {
				best, bestLoad = i, load
			}
		}
		if best < 0 {
			return Claimed{}, worst
		}
		if got, verdict := c.take(p, best, tried); verdict == Dial {
			return got, verdict
		}
		worst = Full
	}
	return Claimed{}, worst
}

// sourceHash is weighted rendezvous hashing: each server's score depends on the client and on that server
// alone, the best score wins. Taking one server away moves only the clients it had.
func (c *Claimer) sourceHash(p *Pool, key uint64, tried Tried) (Claimed, Verdict) {
	worst := NoServer
	last, lastScore := -1, math.Inf(1) // the one that was full: the next best comes after it
	for range p.ready {
		best, bestScore := -1, math.Inf(-1)
		for _, ri := range p.ready {
			i := int(ri)
			if tried.has(i) {
				continue
			}
			m := &p.Members[i]
			h := mix(key ^ m.hash)
			score := float64(h >> 11)
			if !p.uniform {
				score = -float64(m.pull) / math.Log((score+0.5)/(1<<53))
			}
			if score > bestScore && (score < lastScore || score == lastScore && i > last) {
				best, bestScore = i, score
			}
		}
		if best < 0 {
			break
		}
		got, verdict := c.take(p, best, tried)
		if verdict == Dial {
			return got, verdict
		}
		worst = Full
		last, lastScore = best, bestScore
	}
	return Claimed{}, worst
}

// ByServer in the place of a listener slot says that the client's service is the one that the claimed server belongs
// to: a listener may lead to several services of mode http.
const ByServer = -1

// BehindServer is ByServer for those who pass the service's maintenance.
const BehindServer = -2

func (s *Snapshot) claimed(slot int, srv *Server) *Service {
	switch slot {
	case ByServer:
		return s.Service(srv.Service)
	case BehindServer:
		if svc := s.Service(srv.Service); svc != nil {
			return svc.Behind()
		}
		return nil
	}
	return s.At(slot)
}

// Start makes a claim final: the connection is established and counts as started. It returns false when
// the snapshot in force gives no new work to the server any more (or the listener is gone): then the claim is
// taken back and counted as re-steered, and the plane claims anew for this client.
//
// slot is the listener the client came by, ByServer or BehindServer; revision that of the snapshot the claim was made from.
func (c *Claimer) Start(slot int, srv *Server, revision uint64) bool {
	for {
		snap := c.sw.cur.Load()
		svc := snap.claimed(slot, srv)
		if snap.Revision != revision && (svc == nil || !svc.Gives(srv)) {
			c.TakeBack(svc, srv)
			return false
		}
		now := Clock()
		if c.sw.cur.Load() != snap {
			continue // now may lie after the store of a newer snapshot: look again
		}
		cell := &svc.Live.cells[c.loop]
		cell.look(svc)
		if cell.first == 0 {
			cell.first = now
		}
		n := &srv.cells[c.loop]
		n.conns.Add(1) // in this order, so that Server.claims does not miss it
		n.dialing.Add(-1)
		n.total.Add(1)
		n.lastStart.Store(now)
		return true
	}
}

// look resets what is counted since the last change of steering.
func (c *serviceCell) look(svc *Service) {
	if c.steerRev != svc.SteerRev {
		c.steerRev, c.first, c.resteered, c.released = svc.SteerRev, 0, 0, 0
	}
}

// TakeBack ends a claim whose dial is under way because its server gets no new work any more. svc is the
// client's service now; nil when there is none.
func (c *Claimer) TakeBack(svc *Service, srv *Server) {
	srv.cells[c.loop].dialing.Add(-1)
	srv.cells[c.loop].resteered.Add(1)
	if svc != nil {
		cell := &svc.Live.cells[c.loop]
		cell.look(svc)
		cell.resteered++
	}
}

// Fail ends a claim whose dial failed. why is shown by status; it is only called off the fast path.
func (c *Claimer) Fail(srv *Server, why string) {
	srv.cells[c.loop].dialing.Add(-1)
	srv.cells[c.loop].failures.Add(1)
	srv.lastError.Store(&why)
	c.sw.suspect(srv)
}

// GiveUp ends a claim whose client went away while it was dialled for.
func (c *Claimer) GiveUp(srv *Server) { srv.cells[c.loop].dialing.Add(-1) }

// End ends a started connection. cut says that the door ended it, at a drain's deadline.
func (c *Claimer) End(srv *Server, cut bool) {
	n := &srv.cells[c.loop]
	n.conns.Add(-1)
	if cut {
		n.cut.Add(1)
	}
}

// Carried counts relayed bytes on a server.
func (c *Claimer) Carried(srv *Server, toServer, toClient int) {
	n := &srv.cells[c.loop]
	if toServer > 0 {
		n.toServer.Add(uint64(toServer))
	}
	if toClient > 0 {
		n.toClient.Add(uint64(toClient))
	}
}

// Answered counts a request that has ended on a server: its status (0: it had no answer) and how long it took.
func (c *Claimer) Answered(srv *Server, status int, took int64) {
	n := &srv.cells[c.loop]
	n.answers[min(status/100, AnswerClasses-1)].Add(1)
	i := 0
	for i < len(TookBounds) && took > TookBounds[i] {
		i++
	}
	n.took[i].Add(1)
	n.tookSum.Add(took)
}

// Accepted counts a client.
func (c *Claimer) Accepted(svc *Service) { svc.Live.cells[c.loop].accepted.Add(1) }

// Refused counts a client that the door answered itself, in maintenance or for want of a server.
func (c *Claimer) Refused(svc *Service) { svc.Live.cells[c.loop].refused.Add(1) }

// OwnStatuses are those that the door's own answers usually have.
var OwnStatuses = [...]int{200, 301, 308, 400, 404, 408, 414, 417, 431, 501, 502, 503, 504, 505}

// Own counts an answer of the door itself to a request.
func (c *Claimer) Own(svc *Service, status int) {
	i := 0
	for i < len(OwnStatuses) && OwnStatuses[i] != status {
		i++
	}
	svc.Live.cells[c.loop].own[i].Add(1)
}

// Malformed counts a client that did not begin with a valid PROXY header, or sent what is no request.
func (c *Claimer) Malformed(svc *Service) { svc.Live.cells[c.loop].malformed.Add(1) }

// Secured counts a TLS handshake with a client.
func (c *Claimer) Secured(svc *Service) { svc.Live.cells[c.loop].secured.Add(1) }

// Insecure counts one that did not come about. client, where it came from, and why are shown by status; "": it asked
// for nothing.
func (c *Claimer) Insecure(svc *Service, client, why string) {
	svc.Live.cells[c.loop].insecure.Add(1)
	if why == "" {
		return
	}
	svc.Live.unsecured.Store(&Unsecured{At: time.Now(), Client: client, Why: why})
}

// Hold counts a client as waiting at the door; false: as many as may are waiting, so it gets the explicit
// answer (counted here). Every true is followed by one Unhold.
func (c *Claimer) Hold(svc *Service) bool {
	cell := &svc.Live.cells[c.loop]
	if svc.Live.held.Add(1) > int64(svc.Spec.Hold.Max) {
		svc.Live.held.Add(-1)
		cell.overflowed.Add(1)
		return false
	}
	cell.waiting++
	cell.heldTotal.Add(1)
	return true
}

// HoldEnd says why a client no longer waits.
type HoldEnd uint8

// Ends of waiting.
const (
	HoldReleased HoldEnd = iota // let in
	HoldExpired                 // waited too long: it gets the explicit answer
	HoldLeft                    // the client went away
)

// Unhold ends a Hold. svc is the client's service now; live that of the Hold.
func (c *Claimer) Unhold(svc *Service, live *Live, end HoldEnd) {
	live.held.Add(-1)
	cell := &live.cells[c.loop]
	cell.waiting--
	switch end {
	case HoldExpired:
		cell.expired.Add(1)
	case HoldReleased:
		if svc != nil && svc.Live == live {
			cell.look(svc)
			cell.released++
		}
	}
}

// WaitLimit is the longest a client of the service may wait at the door.
func (s *Service) WaitLimit() time.Duration {
	if s.Hold != nil {
		return s.Hold.Wait
	}
	return s.Spec.Timeouts.Connect // waiting for a server that is full
}

// holdsWhenDown tells whether clients wait at the door while no server of the active pool is ready or answers.
func (s *Service) holdsWhenDown() bool { return s.Spec.NoneReady() == NoneReadyHold }

// DownLimit is the longest a client waits for a server that answers, from when it came.
func (s *Service) DownLimit() time.Duration {
	if s.Hold != nil {
		return s.Hold.Wait
	}
	if f := s.Spec.Failover; f != nil && f.Automatic {
		return max(s.Spec.Hold.Timeout, f.Hold)
	}
	return s.Spec.Hold.Timeout
}

// Tally is what loops counted on a service since the last change of its steering.
type Tally struct {
	FirstStart int64 // Clock instant of the first start since then; 0: none yet
	Resteered  int
	Released   int // let in, or to be let in as soon as those before them are
}

// Tally reads the loop's share. It belongs into a quiet point.
func (c *Claimer) Tally(svc *Service) Tally {
	cell := &svc.Live.cells[c.loop]
	cell.look(svc)
	t := Tally{cell.first, cell.resteered, cell.released}
	if svc.Hold == nil && svc.Maintenance == nil {
		t.Released += cell.waiting
	}
	return t
}

// Add joins the tallies of two loops.
func (t Tally) Add(u Tally) Tally {
	if t.FirstStart == 0 || u.FirstStart != 0 && u.FirstStart < t.FirstStart {
		t.FirstStart = u.FirstStart
	}
	t.Resteered += u.Resteered
	t.Released += u.Released
	return t
}

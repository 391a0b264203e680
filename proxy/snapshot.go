package proxy

import (
	"slices"
	"sync/atomic"
	"time"
)

// Snapshot is one immutable picture of all services. Everything reachable from it is never written again,
// but for the counters in Server and Live.
type Snapshot struct {
	Revision uint64
	Frozen   *Freeze
	Services []*Service // in the file's order
	Groups   map[string][]string

	// Announces tells whether a service has an announcement, so that those that have none cost an answer nothing.
	// Invariant: with and build see to it.
	Announces bool

	// index is shared by all snapshots between two reloads, so that a swap costs the copy of one slice
	// of pointers, however many services and listeners there are.
	index *index
}

// index finds services by name and by listener.
type index struct {
	byName    map[string]int       // service → position in Services
	listeners []int                // listener slot → position in Services of the first service, or -1: slot not in use
	sharers   [][]int              // listener slot → positions of all its services
	routes    []*routes            // listener slot → which request goes where; nil: all to the one service
	previews  map[int]bool         // slots that are a preview's own listener
	slots     map[ListenSpec][]int // address → slots (a port 0 may be listed several times)
	specs     []ListenSpec         // slot → address
	plain     map[int]bool         // slots at which a service with TLS speaks none: TLSSpec.RedirectFrom
	loops     int                  // how many loops count
}

// Freeze says since when, by whom and why nothing may change.
type Freeze struct {
	Since  time.Time `json:"since"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// Hold lets new work wait at the door.
type Hold struct {
	Since  time.Time     `json:"since"`
	Until  time.Time     `json:"until"`           // wall time, so that it survives a restart; the running door counts on the monotonic clock
	Wait   time.Duration `json:"wait"`            // the longest one client waits
	Spare  time.Duration `json:"spare,omitempty"` // how much of it nobody counts on: whoever holds means to end it so much sooner
	By     string        `json:"by,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// Ends is when the hold is meant to end at the latest.
func (h *Hold) Ends() time.Time { return h.Until.Add(-h.Spare) }

// Maintenance lets the door itself answer new work.
type Maintenance struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is switched off
	Soft   bool      `json:"soft,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`

	Message string `json:"message,omitempty"` // for the public; the reason is not
}

// ReadOnly lets the door itself answer requests with an unsafe method: any but GET, HEAD, OPTIONS and TRACE.
type ReadOnly struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is switched off
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`

	Message string `json:"message,omitempty"` // for the public
}

// Service is one service in a snapshot.
type Service struct {
	Spec        *ServiceSpec
	Live        *Live
	Pools       []*Pool
	Active      *Pool         // one of Pools; all new work is its, but for what Split leads elsewhere
	Previous    string        // the pool that was active before; "": none
	Split       *Split        // nil: all new work goes to Active
	Since       time.Time     // since when Active is
	Failover    *FailoverMark // nil: active by an operator's decision
	Hold        *Hold
	Maintenance *Maintenance
	Announced   *Announcement // the next maintenance; nil: none is announced
	ReadOnly    *ReadOnly     // only of mode http

	Watch   *Watch   // a breach swaps back; nil: none
	Watched *Watched // how the latest watch ended; nil: there was none

	// PreviousServers are those of Active that took new work before the last change of the serving set inside it;
	// nil: the last change was of pools.
	PreviousServers []string

	// Serving has all servers that claims may choose: those of Active, or with a Split those of each pool that has a
	// share, pool by pool.
	// Invariant: settle made it from the fields above, so no snapshot has a service that was not settled.
	Serving *Pool

	behind *Service // see Behind; nil when there is no maintenance. Invariant: as Serving's

	// SteerRev is the revision that last changed where new work of this service goes. Loops compare it
	// with what they last saw to tell the first start after a change.
	SteerRev uint64
}

// Live is what loops count on a service; it outlives snapshots.
type Live struct {
	Name     string
	conflict atomic.Bool            // two pools look active, of which only one may be
	stays    atomic.Pointer[string] // why no failover has come though the active pool is dead; nil: none is due
	held     atomic.Int64           // clients waiting at the door, all loops; written only when a service is held or full
	cells    []serviceCell

	unsecured atomic.Pointer[Unsecured] // the latest; nil: there was none
}

// Unsecured is a client whose TLS handshake did not come about.
type Unsecured struct {
	At          time.Time
	Client, Why string
}

// Unsecured is the latest of the service's clients whose TLS handshake did not come about; nil: there was none.
func (s *Service) Unsecured() *Unsecured { return s.Live.unsecured.Load() }

// serviceCell is one loop's own state of a service. The plain fields are touched on that loop only; the
// atomic ones may be read by anyone.
type serviceCell struct {
	cursor    uint32 // of RoundRobin, and where LeastConnections begins, so that ties go round
	turn      uint32 // of Split.next
	place     uint32 // of SharePlace
	preview   uint32 // cursor of previews
	steerRev  uint64 // Service.SteerRev at the last look
	first     int64  // Clock instant of the first start since steerRev; 0: none yet
	resteered int    // dials taken back since steerRev
	released  int    // clients let in from a hold since steerRev
	waiting   int    // clients that wait at the door

	accepted   atomic.Uint64
	refused    atomic.Uint64 // answered by the door: maintenance, no server
	overflowed atomic.Uint64 // answered by the door: too many held
	expired    atomic.Uint64 // answered by the door: waited too long in a hold
	heldTotal  atomic.Uint64
	malformed  atomic.Uint64 // no valid PROXY header, or no request
	own        [len(OwnStatuses) + 1]atomic.Uint64
	secured    atomic.Uint64 // TLS handshakes
	insecure   atomic.Uint64 // clients without one, though the service asks for it
	_          [8]byte
}

// Pool is a named set of servers in a snapshot.
type Pool struct {
	Name    string
	Members []Member

	// order is one round of smooth weighted round robin over the members that take new work, as
	// positions in Members. Built once a change, so that a claim is one look-up however many servers
	// there are.
	order   []uint16
	ready   []uint16 // members that new work is given to
	willing []uint16 // members that an operator lets take new work, whatever their health
	chosen  []bool   // of each member: it is in ready
	uniform bool     // their weights are all the same
	dead    bool     // Dead
	at      map[*Server]int
}

// Member is a server in a pool with what applies to it in this snapshot.
type Member struct {
	*Server
	Weight  int  // 0..256
	Max     int  // 0: no limit
	Drained bool // sealed by `turnout drain`
	Health  Health

	sessions *Sessions // nil: none stays when it gets no new work

	warmup *Warmup // nil: it has its whole share
	cold   int     // tenths of its share that it does not get yet, as of this snapshot
	// pull is what it weighs in balancing. Invariant: Weight times the tenths that it gets; newPool sees to it.
	pull int
}

// Gives tells whether operators let the member be given new work when its pool is active.
func (m *Member) Gives() bool { return !m.Drained && m.Weight > 0 }

// newPool makes a pool of members, with its round robin order. New work goes to those that are not down; when all
// are, the service's policy says.
func newPool(name string, members []Member, spec *ServiceSpec) *Pool {
	p := &Pool{Name: name, Members: members, uniform: true, chosen: make([]bool, len(members)), at: make(map[*Server]int, len(members))}
	for i := range members {
		members[i].pull = members[i].Weight * (10 - members[i].cold)
		p.at[members[i].Server] = i
		if members[i].Gives() {
			p.willing = append(p.willing, uint16(i))
			if !members[i].Health.Down() {
				p.ready = append(p.ready, uint16(i))
			}
		}
	}
	if len(p.ready) == 0 && spec.NoneReady() == NoneReadyTry {
		p.ready = p.willing
	}
	for _, i := range p.ready {
		p.chosen[i] = true
		p.uniform = p.uniform && members[i].pull == members[p.ready[0]].pull
	}
	p.order = smoothOrder(members, p.ready)
	p.dead = p.Dead()
	return p
}

// smoothOrder is one round of smooth weighted round robin: at each step every member gains its weight, the
// one with the most is picked and pays the sum of all weights. Equal weights give a plain round.
func smoothOrder(members []Member, ready []uint16) []uint16 {
	sum, gcd := 0, 0
	for _, i := range ready {
		sum += members[i].pull
		gcd = greatest(gcd, members[i].pull)
	}
	if sum == 0 {
		return nil
	}
	if sum == gcd*len(ready) { // all weights are the same: the round is the list
		return ready
	}
	sum /= gcd
	order := make([]uint16, 0, sum)
	credit := make([]int, len(ready))
	for range sum {
		best := 0
		for k, i := range ready {
			credit[k] += members[i].pull / gcd
			if credit[k] > credit[best] {
				best = k
			}
		}
		credit[best] -= sum
		order = append(order, ready[best])
	}
	return order
}

func greatest(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// gives tells whether the pool gives new work to the server.
func (p *Pool) gives(s *Server) bool {
	i, ok := p.at[s]
	return ok && p.chosen[i]
}

// Connections on all servers of the pool.
func (p *Pool) Connections() int {
	n := 0
	for i := range p.Members {
		n += p.Members[i].Connections()
	}
	return n
}

// Servers of the pool.
func (p *Pool) Servers() []*Server {
	out := make([]*Server, len(p.Members))
	for i := range p.Members {
		out[i] = p.Members[i].Server
	}
	return out
}

// Gives tells whether new work of the service goes to the server now.
func (s *Service) Gives(srv *Server) bool {
	return s.Hold == nil && s.Maintenance == nil && s.Serving.gives(srv)
}

// Pool finds a pool by name.
func (s *Service) Pool(name string) *Pool {
	for _, p := range s.Pools {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Connections on all servers of the service.
func (s *Service) Connections() int {
	n := 0
	for _, p := range s.Pools {
		n += p.Connections()
	}
	return n
}

// Held is the number of clients waiting at the door.
func (s *Service) Held() int { return int(s.Live.held.Load()) }

// ServiceCounts is a reading of what the loops count on a service, since the door started.
type ServiceCounts struct {
	Accepted, Refused, Overflowed, Expired, HeldTotal, Malformed uint64
	Secured, Insecure                                            uint64
	Own                                                          [len(OwnStatuses) + 1]uint64 // http: the door's own answers; the last: of any other status
}

// Counts reads what all loops count on the service.
func (s *Service) Counts() ServiceCounts {
	var n ServiceCounts
	for i := range s.Live.cells {
		c := &s.Live.cells[i]
		n.Accepted += c.accepted.Load()
		n.Refused += c.refused.Load()
		n.Overflowed += c.overflowed.Load()
		n.Expired += c.expired.Load()
		n.HeldTotal += c.heldTotal.Load()
		n.Malformed += c.malformed.Load()
		for k := range c.own {
			n.Own[k] += c.own[k].Load()
		}
		n.Secured += c.secured.Load()
		n.Insecure += c.insecure.Load()
	}
	return n
}

// Service finds a service by name.
func (s *Snapshot) Service(name string) *Service {
	if i, ok := s.index.byName[name]; ok {
		return s.Services[i]
	}
	return nil
}

// At is the service that a listener slot leads to, or nil; the first one, if there are several (Route tells which).
func (s *Snapshot) At(slot int) *Service {
	if i := s.index.listeners[slot]; i >= 0 {
		return s.Services[i]
	}
	return nil
}

// Sharers names the services that a listener slot leads to.
func (s *Snapshot) Sharers(slot int) []string {
	var names []string
	for _, at := range s.index.sharers[slot] {
		names = append(names, s.Services[at].Spec.Name)
	}
	return names
}

// Shared tells whether a listener slot leads to several services.
func (s *Snapshot) Shared(slot int) bool { return len(s.index.sharers[slot]) > 1 }

// Plain tells whether a listener slot of a service with TLS is for clients that speak none.
func (s *Snapshot) Plain(slot int) bool { return s.index.plain[slot] }

// Previews tells whether a listener slot is the own listener of a preview.
func (s *Snapshot) Previews(slot int) bool { return s.index.previews[slot] }

// Listeners calls f for each listener slot in use, and each service that it leads to.
func (s *Snapshot) Listeners(f func(slot int, spec ListenSpec, svc *Service)) {
	for slot, all := range s.index.sharers {
		for _, at := range all {
			f(slot, s.index.specs[slot], s.Services[at])
		}
	}
}

// with returns the next snapshot: the same but for the services given, which replace those of their name.
func (s *Snapshot) with(changed ...*Service) *Snapshot {
	next := *s
	next.Revision++
	next.Services = slices.Clone(s.Services)
	for _, svc := range changed {
		svc.settle()
		next.Services[s.index.byName[svc.Spec.Name]] = svc
	}
	next.announces()
	return &next
}

func (s *Snapshot) announces() {
	s.Announces = slices.ContainsFunc(s.Services, func(svc *Service) bool { return svc.Announced != nil })
}

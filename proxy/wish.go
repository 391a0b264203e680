package proxy

import "strings"

// Wish is what a request says of where it is to be led. It has no pointers, so that a plane can keep it while the request
// waits. The zero value wishes nothing.
type Wish struct {
	kind  wishKind
	Place uint16 // of a client among all of a service: 1 to Whole, see SharePlace; 0: none
	id    uint64 // of a server or of a pool
}

type wishKind uint8

const (
	wishNone   wishKind = iota
	wishServer          // the server that the client's session is on, as long as it takes new work or keeps sessions
	wishOnlyServer
	wishOnlyPool
)

// Session wishes the server with this Server.ID, as long as it takes new work or keeps sessions.
func Session(id uint64) Wish { return Wish{kind: wishServer, id: id} }

// On tells whether the wish is for the session's server, and for this one.
func (w *Wish) On(srv *Server) bool { return w.kind == wishServer && w.id == srv.id }

// Only tells whether the request goes to the pool or server it names or nowhere: it is a preview.
func (w *Wish) Only() bool { return w.kind == wishOnlyServer || w.kind == wishOnlyPool }

// Preview wishes a pool of the service, or one server of it: POOL or POOL/SERVER. It is led there whatever is active, held
// or in maintenance, or nowhere. False: there is no such place.
func (s *Service) Preview(place string) (Wish, bool) {
	name, server, one := strings.Cut(place, "/")
	p := s.Pool(name)
	if p == nil {
		return Wish{}, false
	}
	if !one {
		return Wish{kind: wishOnlyPool, id: hashString(name)}, true
	}
	for i := range p.Members {
		if p.Members[i].Name == server {
			return Wish{kind: wishOnlyServer, id: p.Members[i].ID()}, true
		}
	}
	return Wish{}, false
}

// PreviewPool is the pool that the preview's own listener leads to: the one configured, else the first that is not
// active; nil: all are.
func (s *Service) PreviewPool() *Pool {
	if s.Spec.Preview != nil && s.Spec.Preview.Pool != "" {
		return s.Pool(s.Spec.Preview.Pool)
	}
	for _, p := range s.Pools {
		if p != s.Active {
			return p
		}
	}
	return nil
}

// ID tells the server apart from all others of its service, also over restarts.
func (s *Server) ID() uint64 { return s.id }

// ClaimFor is Claim for a request that wishes something.
func (c *Claimer) ClaimFor(svc *Service, key uint64, tried Tried, wish Wish) (Claimed, Verdict) {
	switch wish.kind {
	case wishOnlyPool, wishOnlyServer:
		return c.only(svc, key, tried, wish)
	case wishServer:
		if svc.Maintenance == nil && svc.Hold == nil {
			if got, ok := c.session(svc, tried, wish.id); ok {
				return got, Dial
			}
		}
	}
	got, verdict := c.claim(svc, key, tried, wish.Place)
	if verdict == NoServer && svc.holdsWhenDown() {
		verdict = Down
	}
	return got, verdict
}

// session claims the server of a session; false: it takes no new work and does not keep sessions, or was tried in vain.
func (c *Claimer) session(svc *Service, tried Tried, id uint64) (Claimed, bool) {
	if tried&triedSession != 0 {
		return Claimed{}, false
	}
	for k, p := range svc.Pools[:min(len(svc.Pools), maxPools)] {
		for i := range p.Members {
			m := &p.Members[i]
			if m.id != id {
				continue
			}
			if !svc.Serving.gives(m.Server) && !m.keeps() || !m.claim(c.loop, m.Max) {
				return Claimed{}, false
			}
			position := i | bySession
			if p != svc.Active || svc.Split != nil {
				position |= (k + 1) << poolShift
			}
			return Claimed{m.Server, position}, true
		}
	}
	return Claimed{}, false
}

// only claims for a preview: from one pool or server, whether new work goes there or not.
func (c *Claimer) only(svc *Service, key uint64, tried Tried, wish Wish) (Claimed, Verdict) {
	for k, p := range svc.Pools[:min(len(svc.Pools), maxPools)] {
		if wish.kind == wishOnlyPool {
			if hashString(p.Name) != wish.id {
				continue
			}
			cursor := svc.Live.cells[c.loop].preview
			got, verdict := c.from(p, svc, &cursor, key, tried.of(k+1))
			svc.Live.cells[c.loop].preview = cursor
			got.Position |= (k + 1) << poolShift
			return got, verdict
		}
		for i := range p.Members {
			if m := &p.Members[i]; m.id == wish.id {
				got, verdict := c.take(p, i, tried.of(k+1))
				got.Position |= (k + 1) << poolShift
				return got, verdict
			}
		}
	}
	return Claimed{}, NoServer
}

// SharePlace gives a client that comes for the first time its place among all, by which a split leads it from then
// on: the claim that was just made for it says which pool it is to be in. 0: the service is not split.
func (c *Claimer) SharePlace(svc *Service, srv *Server) uint16 {
	if svc.Split == nil {
		return 0
	}
	cell := &svc.Live.cells[c.loop]
	cell.place += 6181 // has no divisor in common with Whole, and lies near its golden section: the places spread evenly
	return svc.Split.placeIn(svc.Pools, srv, cell.place)
}

// placeIn is a place that leads to the server's pool; n says which of them.
func (s *Split) placeIn(pools []*Pool, srv *Server, n uint32) uint16 {
	from := Percent(0)
	for i, sh := range s.share {
		if i == s.refuge {
			continue
		}
		if pools[i].Name == srv.Pool && sh > 0 {
			return uint16(from) + uint16(n%uint32(sh)) + 1
		}
		from += sh
	}
	if from == Whole {
		return 0
	}
	return uint16(from) + uint16(n%uint32(Whole-from)) + 1
}

// at is the pool of a place, as long as the shares stay; a pool whose share grows keeps those it had.
func (s *Split) at(place Percent) int {
	for i, sh := range s.share {
		if i == s.refuge {
			continue
		}
		if place -= sh; place < 0 {
			return i
		}
	}
	return s.refuge
}

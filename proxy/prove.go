package proxy

import "time"

// names of the services whose loops' tallies are wanted.
func names(proofs []Proof) []string {
	out := make([]string, 0, len(proofs))
	for i := range proofs {
		out = append(out, proofs[i].Service)
	}
	return out
}

// proofs begins the proof of each seal after which others take over.
func (op *Operation) proofs(p *Planned) []Proof {
	op.mu.Lock()
	defer op.mu.Unlock()
	var out []Proof
	for i := range p.moves {
		if m := &p.moves[i]; m.swapped {
			from, to := m.sides()
			out = append(out, Proof{Service: m.service, From: from, To: to, sealed: m.sealed, Then: m.then, DrainUntil: time.Now().Add(m.deadline), BySession: m.bySession,
				Resteered: op.early[m.service].resteered, Cut: op.early[m.service].cut, steerRev: p.Next.Revision})
		}
	}
	return out
}

// lookOld reads when the last connection started on the old side.
func (p *Proof) lookOld() {
	for _, srv := range p.sealed {
		p.lastOld = max(p.lastOld, srv.Counts().LastStart)
	}
}

// prove fills in what is known at the quiet point.
func (s *Switch) prove(proofs []Proof, tallies map[string]Tally, stored int64) {
	cur := s.cur.Load()
	at := time.Now().Add(time.Duration(stored - Clock()))
	for i := range proofs {
		p := &proofs[i]
		svc := cur.Service(p.Service)
		if svc == nil {
			continue
		}
		p.At, p.stored = at, stored
		t := tallies[p.Service]
		p.firstNew, p.Resteered, p.Held = t.FirstStart, p.Resteered+t.Resteered, t.Released
		p.Remaining = connections(p.sealed)
		p.lookOld()
		p.settle()
	}
}

// Refresh brings the proofs of an operation up to date; what came after its answer, such as the first start
// on the new side, is filled in.
func (s *Switch) Refresh(op *Operation) {
	v := op.View()
	if v.ended() || len(v.Proofs) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh(op)
}

// refresh must be called with s.mu held.
func (s *Switch) refresh(op *Operation) {
	op.mu.Lock()
	if op.view.ended() || len(op.view.Proofs) == 0 {
		op.mu.Unlock()
		return
	}
	proofs := append([]Proof(nil), op.view.Proofs...)
	op.mu.Unlock()
	cur := s.cur.Load()
	list := names(proofs)
	tallies := s.opt.Plane.Quiet(list)
	for i := range proofs {
		p := &proofs[i]
		svc := cur.Service(p.Service)
		if svc == nil {
			continue
		}
		p.Remaining = connections(p.sealed)
		if svc.SteerRev != p.steerRev {
			continue // a later change: its tallies are not this one's
		}
		t := tallies[p.Service]
		if p.firstNew == 0 {
			p.firstNew = t.FirstStart
		}
		if p.BySession {
			p.lookOld()
		}
		p.settle()
	}
	op.update(func(v *OperationView) {
		for i := range v.Proofs { // drains may have moved on meanwhile
			q := &proofs[i]
			q.Cut, q.Drained, q.Superseded, q.DrainUntil = v.Proofs[i].Cut, v.Proofs[i].Drained, v.Proofs[i].Superseded, v.Proofs[i].DrainUntil
		}
		v.Proofs = proofs
	})
}

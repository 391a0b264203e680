package proxy

import (
	"encoding/json"
	"time"
)

// Journal makes changes durable; config/journal is one.
type Journal interface {
	// Append returns when the record is durable.
	Append(payload []byte) error
	// AppendLazy adds a record that becomes durable with the next Append or Close.
	AppendLazy(payload []byte) error
	NeedsCompaction() bool
	Compact(checkpoint []byte) error
}

// journal gives the record its number and makes it durable. A deadline of the door's own is carried out
// even so: its record said when it would end, so a restart comes to the same end.
func (s *Switch) journal(r *Record, expiry bool) error {
	err := s.note(r, false)
	if err != nil && expiry {
		r.Seq = 0 // it has none: the next record takes it
		s.opt.Warn("a deadline's end could not be journalled", err)
		return nil
	}
	return err
}

// note appends a record; lazily: without waiting for the disk. Must be called with s.mu held.
func (s *Switch) note(r *Record, lazily bool) error {
	r.Seq = s.seq + 1
	b, err := json.Marshal(r)
	if err == nil && lazily {
		err = s.opt.Journal.AppendLazy(b)
	} else if err == nil {
		err = s.opt.Journal.Append(b)
	}
	if err != nil {
		s.journalErrors.Add(1)
		return err
	}
	s.seq++
	return nil
}

// Note is something that was done beside the door and belongs into its history.
type Note struct {
	Target  string
	Text    string
	Outcome Outcome
	Who     Who
}

// Note adds a line to the journal that changes nothing.
func (s *Switch) Note(n Note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Record{Time: time.Now(), Revision: s.cur.Load().Revision, Verb: VerbNote, Target: n.Target, Reason: n.Text, Outcome: n.Outcome, Who: n.Who}
	if err := s.note(&r, false); err != nil {
		return refuse(CodeJournal, "not noted: the journal cannot be written: %v", err).hint("make room in state_dir")
	}
	s.hub.publish(string(VerbNote), n.Target, n.Text)
	return nil
}

// compact writes a checkpoint; it is called off the road of a change.
func (s *Switch) compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opt.Journal.NeedsCompaction() {
		return
	}
	mem := memoryOf(s.cur.Load())
	mem.Seq = s.seq
	b, err := json.Marshal(mem)
	if err == nil {
		err = s.opt.Journal.Compact(b)
	}
	if err != nil {
		s.journalErrors.Add(1)
		s.opt.Warn("the journal could not be compacted; it grows on", err)
	}
}

// outcome adds to the journal how a change of the operation ended: the one of that Seq, which is 0 if it was not journalled.
// Must be called with s.mu held.
func (s *Switch) outcome(of uint64, verb Verb, op *Operation, outcome Outcome, detail string) {
	if of == 0 {
		return
	}
	v := op.View()
	r := Record{Of: of, Time: time.Now(), Revision: v.Revision, Verb: verb, Outcome: outcome, Who: op.change.Who, Detail: detail}
	if verb == v.Verb {
		r.Proofs = v.Proofs
	}
	if err := s.note(&r, true); err != nil {
		s.opt.Warn("the outcome of a change could not be journalled; the change itself is", err)
	}
}

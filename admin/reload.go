package admin

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// reloads counts how reading the file went.
type reloads struct {
	one sync.Mutex // held for the length of a reload: what was read later must not be put in force earlier

	mu        sync.Mutex
	done      uint64
	failed    uint64
	lastError string    // "": the last one was good
	lastGood  time.Time // the start counts: it read the file too
}

func (r *reloads) start(at time.Time) { r.lastGood = at }

func (r *reloads) note(err *api.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		r.lastError = err.Message
		if len(err.Details) > 0 {
			r.lastError += ": " + strings.Join(err.Details, "; ")
		}
		return
	}
	r.done++
	r.lastError, r.lastGood = "", time.Now()
}

// read copies the counters.
func (r *reloads) read() (done, failed uint64, lastError string, lastGood time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done, r.failed, r.lastError, r.lastGood
}

func (s *Server) postReload(c *call, req *api.ReloadRequest) (any, error) {
	return s.reload(c, &req.ChangeRequest)
}

// Reload reads the file and puts it in force: the road of POST /v1/reload, and of signals and file changes,
// which must take it too, so that gauges and status know of them. It returns when the file is in force; drains
// go on. The error is an *api.Error.
func (s *Server) Reload(ctx context.Context, who proxy.Who, req api.ReloadRequest) (*api.Operation, error) {
	op, err := s.readAndApply(&call{ctx: ctx, who: who}, &req.ChangeRequest)
	if err != nil {
		refusal, _ := asError(err)
		return nil, refusal
	}
	return s.show(op), nil
}

func (s *Server) reload(c *call, req *api.ChangeRequest) (*api.Operation, error) {
	if err := checkText("reason", req.Reason, api.MaxReason); err != nil {
		return nil, err
	}
	op, err := s.readAndApply(c, req)
	switch {
	case err != nil:
		return nil, err
	case req.Plan:
		return s.show(op), nil
	}
	return s.finish(c, op, req)
}

// readAndApply returns when the file is in force; its drains go on.
func (s *Server) readAndApply(c *call, req *api.ChangeRequest) (*proxy.Operation, error) {
	s.reloads.one.Lock()
	defer s.reloads.one.Unlock()
	next, err := s.opt.Reload(req.Plan)
	if err != nil {
		return nil, s.notReloaded(c.who, req, err)
	}
	ch := proxy.Change{Verb: proxy.VerbReload, Spec: next.Spec, Detail: next.Detail}
	complete(&ch, req, c.who)
	words := next.Words
	if next.Ahead != nil {
		said, nobody := next.Ahead(c.ctx)
		words = append(words, said...)
		switch {
		case nobody == "" || req.Force:
		case req.Plan:
			words = append(words, "be refused as it is now: "+nobody+"; --force skips gates")
		default:
			return nil, s.notReloaded(c.who, req, &api.Error{Code: api.CodeGate, Message: nobody,
				Hint: "correct the check, or `turnout reload --force`"})
		}
	}
	var op *proxy.Operation
	if req.Plan {
		op, err = s.opt.Switch.Plan(c.ctx, ch)
	} else {
		op, err = s.apply(c, ch, true)
	}
	if err != nil {
		if refusal, _ := asError(err); !req.Plan {
			s.reloads.note(refusal)
		}
		return nil, err
	}
	s.ops.addWords(op, words)
	if req.Plan {
		return op, nil
	}
	s.reloads.note(nil)
	if next.InForce != nil {
		next.InForce()
	}
	return op, nil
}

// notReloaded is the error of a file that was not good.
func (s *Server) notReloaded(who proxy.Who, req *api.ChangeRequest, err error) *api.Error {
	refusal, _ := asError(err)
	refusal.Message = "not reloaded: " + refusal.Message
	if refusal.Holds == "" {
		refusal.Holds = fmt.Sprintf("the file read last stays in force, revision %d", s.opt.Switch.Current().Revision)
	}
	if refusal.Hint == "" && s.opt.ConfigPath != "" {
		refusal.Hint = "`turnout check -c " + s.opt.ConfigPath + "` tells when it is good"
	}
	if !req.Plan {
		s.reloads.note(refusal)
		s.audit(who, string(proxy.VerbReload), "", nil, refusal)
	}
	return refusal
}

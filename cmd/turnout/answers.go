package main

import (
	"context"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// This file turns health's answers into wire types. Nothing else does.

// probe asks all checks of a server now.
func (s *serving) probe(ctx context.Context, srv *proxy.Server) []api.Answer {
	var out []api.Answer
	for _, a := range s.rounds.AskAll(ctx, srv) {
		wire := answer(a)
		if c := s.rounds.Check(a.Check); c != nil {
			wire.Kind = c.Kind()
		}
		out = append(out, wire)
	}
	return out
}

// health is what the monitor knows; without what was answered, which a status has no room for.
func (s *serving) health(srv *proxy.Server) *api.Health {
	report, known := s.rounds.Report(srv.Service, srv.Pool, srv.Name)
	if !known {
		return nil
	}
	out := &api.Health{State: report.State.String(), Since: report.Since, Check: report.Check, Reason: report.Reason}
	for _, c := range report.Checks {
		if len(c.Last) == 0 {
			continue
		}
		a := answer(c.Last[len(c.Last)-1])
		a.Kind, a.Body = c.Kind, ""
		out.Answers = append(out.Answers, a)
	}
	return out
}

func answer(a health.Answer) api.Answer {
	return api.Answer{Check: a.Check, OK: a.OK, Pending: a.Pending, Reason: a.Reason, Status: a.Status, Value: a.Value, Body: a.Body, Took: api.Duration(a.Took), At: a.At}
}

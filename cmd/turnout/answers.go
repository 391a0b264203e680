package main

import (
	"context"
	"errors"
	"fmt"

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

// ask tells whether a server passes a check, by the check's name.
func (s *serving) ask(ctx context.Context, check string, srv *proxy.Server) error {
	a, err := s.rounds.Ask(ctx, check, srv)
	if err == nil && !a.OK {
		err = fmt.Errorf("%s: %w", a.Check, errors.New(a.Reason))
	}
	return err
}

// fence runs a command for a server that must stop, as an exec check is run.
func fence(ctx context.Context, command []string, srv *proxy.Server) error {
	check, err := health.NewCheck(health.Spec{Name: "fence", Exec: &health.Exec{Command: command}})
	if err != nil {
		return err
	}
	if a := check.Run(ctx, health.Target{Name: srv.Name, Address: srv.Address}); !a.OK {
		return errors.New(a.Reason)
	}
	return nil
}

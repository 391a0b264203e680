package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

const (
	defaultHistory = 50
	maxHistory     = 10_000
)

func (s *Server) getHistory(c *call) (any, error) {
	limit := defaultHistory
	if text := c.q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxHistory {
			return nil, usage("limit: %q: want 1 to %d", text, maxHistory)
		}
		limit = n
	}
	h := history{target: c.q.Get("target"), limit: limit}
	if err := s.opt.History(h.take); err != nil {
		if len(h.lines) == 0 {
			return nil, err
		}
		s.opt.Log.Warn("part of the history cannot be read", zap.Error(err))
	}
	if len(h.lines) == 0 {
		if err := unknownPlace(s.opt.Switch.Current(), h.target); err != nil {
			return nil, err
		}
	}
	return h.records(), nil
}

// unknownPlace refuses a target that neither the history nor the file has; it is an error untyped, so that nil is nil.
func unknownPlace(snap *proxy.Snapshot, target string) error {
	parts := strings.SplitN(target, "/", 3)
	svc := snap.Service(parts[0])
	if target == "" || target == proxy.All || len(parts) == 1 && (svc != nil || snap.Groups[target] != nil) {
		return nil
	}
	unknown := func(what, name string, known []string) error {
		return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no %s is named %q, and the history has none", what, name), Hint: proxy.Among(name, known)}
	}
	if svc == nil {
		return unknown("service or group", parts[0], snap.Names())
	}
	var pools, servers []string
	for _, p := range svc.Pools {
		pools = append(pools, p.Name)
	}
	pool := svc.Pool(parts[1])
	if pool == nil {
		return unknown("pool of "+parts[0], parts[1], pools)
	}
	for i := range pool.Members {
		servers = append(servers, pool.Members[i].Name)
	}
	if len(parts) == 3 && !slices.Contains(servers, parts[2]) {
		return unknown("server of "+parts[0]+"/"+parts[1], parts[2], servers)
	}
	return nil
}

// history joins each change of the journal with the record of its outcome, and keeps the latest.
type history struct {
	target string // "": all
	limit  int

	lines []api.Record
	start uint64 // Seq of the last start of a door; what came after it is of this run
}

func (h *history) take(payload []byte) error {
	var r proxy.Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	if r.Of != 0 {
		h.outcome(&r)
		return nil
	}
	if r.Verb == proxy.VerbStart {
		h.start = r.Seq
	}
	if !h.wants(&r) {
		return nil
	}
	h.lines = append(h.lines, record(&r))
	if len(h.lines) > 2*h.limit+1000 { // a margin, so that outcomes that come late still find their change
		h.lines = append(h.lines[:0], h.lines[len(h.lines)-h.limit-500:]...)
	}
	return nil
}

// outcome fills in how a change ended; it is looked for from the newest on, where it nearly always is.
func (h *history) outcome(r *proxy.Record) {
	for i := len(h.lines) - 1; i >= 0 && h.lines[i].Seq >= r.Of; i-- {
		line := &h.lines[i]
		if line.Seq != r.Of {
			continue
		}
		line.Outcome, line.Proofs = string(r.Outcome), proofs(r.Proofs)
		if r.Detail != "" {
			line.Detail = strings.TrimPrefix(line.Detail+"; "+r.Detail, "; ")
		}
		return
	}
}

// wants tells whether the change is about the target: the same service, group or SERVICE/POOL, or something
// inside it; or a change of several services of which it is one.
func (h *history) wants(r *proxy.Record) bool {
	if h.target == "" || r.Target == h.target || strings.HasPrefix(r.Target, h.target+"/") {
		return true
	}
	_, touched := r.Services[h.target]
	return touched
}

// records are the latest lines; a change without an outcome is under way in this run, and was cut short in
// an earlier one.
func (h *history) records() []api.Record {
	lines := h.lines[max(0, len(h.lines)-h.limit):]
	for i := range lines {
		switch {
		case lines[i].Outcome != "":
		case lines[i].Seq > h.start:
			lines[i].Outcome = string(proxy.OutcomeRunning)
		default:
			lines[i].Outcome = string(proxy.OutcomeInterrupted)
		}
	}
	if lines == nil {
		return []api.Record{}
	}
	return lines
}

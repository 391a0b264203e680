package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

func (s *Server) postSwap(c *call, req *api.SwapRequest) (any, error) {
	return s.swap(c, req, proxy.VerbSwap)
}

func (s *Server) postBack(c *call, req *api.SwapRequest) (any, error) {
	if req.To != "" || req.Servers != nil {
		return nil, usage("to: back goes to where it was; leave it out, or swap")
	}
	return s.swap(c, req, proxy.VerbBack)
}

func (s *Server) swap(c *call, req *api.SwapRequest, verb proxy.Verb) (any, error) {
	if err := checkDrain(req.Drain, req.Then); err != nil {
		return nil, err
	}
	if req.Hold < 0 {
		return nil, negative("hold", req.Hold)
	}
	ch := proxy.Change{
		Verb: verb, Target: c.path("target"), To: req.To, Servers: req.Servers,
		Drain: time.Duration(req.Drain), Then: proxy.Then(req.Then),
		Exclusive: req.Exclusive, Hold: time.Duration(req.Hold), StopOld: req.StopOld, StartNew: req.StartNew, WaitFor: req.WaitFor,
	}
	complete(&ch, &req.ChangeRequest, c.who)
	if err := s.watched(&ch, req); err != nil {
		return nil, err
	}
	return s.change(c, &req.ChangeRequest, ch)
}

func (s *Server) postSplit(c *call, req *api.SplitRequest) (any, error) {
	if req.Shares == nil {
		return nil, usage(`shares is missing: {"POOL": PERCENT}, or {} to end a split`)
	}
	if req.For < 0 {
		return nil, negative("for", req.For)
	}
	if err := checkDrain(req.Drain, req.Then); err != nil {
		return nil, err
	}
	ch := proxy.Change{Verb: proxy.VerbSplit, Target: c.path("target"), For: time.Duration(req.For), Drain: time.Duration(req.Drain), Then: proxy.Then(req.Then)}
	for _, pool := range slices.Sorted(maps.Keys(req.Shares)) {
		percent, err := proxy.PercentOf(req.Shares[pool])
		if err != nil {
			return nil, usage("shares: %s: %v", pool, err)
		}
		ch.Shares = append(ch.Shares, proxy.Share{Pool: pool, Percent: percent})
	}
	return s.change(c, &req.ChangeRequest, ch)
}

func (s *Server) postHold(c *call, req *api.HoldRequest) (any, error) {
	if req.For < 0 {
		return nil, negative("for", req.For)
	}
	return s.change(c, &req.ChangeRequest, proxy.Change{Verb: proxy.VerbHold, Target: c.path("target"), For: time.Duration(req.For)})
}

func (s *Server) postRelease(c *call, req *api.ChangeRequest) (any, error) {
	return s.change(c, req, proxy.Change{Verb: proxy.VerbRelease, Target: c.path("target")})
}

func (s *Server) postMaintenance(c *call, req *api.MaintenanceRequest) (any, error) {
	switch {
	case req.Cancel && (req.On != nil || req.At != nil || req.For != 0 || req.Soft || req.Message != "" || req.Drain != 0 || req.Then != ""):
		return nil, usage("cancel: it takes an announcement back, and goes with nothing else of a maintenance")
	case req.Cancel:
		return s.change(c, &req.ChangeRequest, proxy.Change{Verb: proxy.VerbMaintenance, Target: c.path("target"), Cancel: true})
	case req.On == nil:
		return nil, usage("on is missing: true or false")
	case req.For < 0:
		return nil, negative("for", req.For)
	case req.At != nil && !*req.On:
		return nil, usage("at: only a maintenance that is switched on is announced; its end is for")
	case req.At != nil && req.At.IsZero():
		return nil, usage("at: %s: want a time to come", req.At.Format(time.RFC3339))
	}
	if err := checkDrain(req.Drain, req.Then); err != nil {
		return nil, err
	}
	if err := checkText("message", req.Message, api.MaxMessage); err != nil {
		return nil, err
	}
	ch := proxy.Change{
		Verb: proxy.VerbMaintenance, Target: c.path("target"), On: *req.On, For: time.Duration(req.For), Soft: req.Soft, Message: req.Message,
		Drain: time.Duration(req.Drain), Then: proxy.Then(req.Then),
	}
	if req.At != nil {
		ch.At = *req.At
	}
	return s.change(c, &req.ChangeRequest, ch)
}

func (s *Server) postReadOnly(c *call, req *api.ReadOnlyRequest) (any, error) {
	if req.On == nil {
		return nil, usage("on is missing: true or false")
	}
	if req.For < 0 {
		return nil, negative("for", req.For)
	}
	if err := checkText("message", req.Message, api.MaxMessage); err != nil {
		return nil, err
	}
	return s.change(c, &req.ChangeRequest, proxy.Change{Verb: proxy.VerbReadOnly, Target: c.path("target"), On: *req.On, For: time.Duration(req.For), Message: req.Message})
}

func (s *Server) postKeep(c *call, req *api.KeepRequest) (any, error) {
	if err := checkDrain(req.Drain, req.Then); err != nil {
		return nil, err
	}
	return s.change(c, &req.ChangeRequest, proxy.Change{
		Verb: proxy.VerbKeep, Target: c.path("target"), Servers: req.Servers, Drain: time.Duration(req.Drain), Then: proxy.Then(req.Then),
	})
}

func (s *Server) postDrain(c *call, req *api.DrainRequest) (any, error) {
	if err := checkDrain(req.Drain, req.Then); err != nil {
		return nil, err
	}
	ch := member(c, proxy.VerbDrain)
	ch.Drain, ch.Then = time.Duration(req.Drain), proxy.Then(req.Then)
	return s.change(c, &req.ChangeRequest, ch)
}

func (s *Server) postReady(c *call, req *api.ReadyRequest) (any, error) {
	ch := member(c, proxy.VerbReady)
	switch d := req.SlowStart; {
	case d == nil:
	case *d < 0:
		return nil, negative("slow_start", *d)
	case *d == 0:
		ch.SlowStart = -1
	default:
		ch.SlowStart = time.Duration(*d)
	}
	return s.change(c, &req.ChangeRequest, ch)
}

func (s *Server) postWeight(c *call, req *api.WeightRequest) (any, error) {
	if req.Weight == nil {
		return nil, usage("weight is missing: 0 to 256")
	}
	ch := member(c, proxy.VerbWeight)
	ch.Weight = *req.Weight
	return s.change(c, &req.ChangeRequest, ch)
}

// member begins a change of a pool, or of one server where the route names one.
func member(c *call, verb proxy.Verb) proxy.Change {
	return proxy.Change{Verb: verb, Target: c.path("target"), Pool: c.path("pool"), Server: c.path("server")}
}

func (s *Server) postFreeze(c *call, req *api.ChangeRequest) (any, error) {
	return s.change(c, req, proxy.Change{Verb: proxy.VerbFreeze})
}

func (s *Server) postUnfreeze(c *call, req *api.ChangeRequest) (any, error) {
	return s.change(c, req, proxy.Change{Verb: proxy.VerbUnfreeze})
}

// maxNote bounds what one note adds to the journal.
const maxNote = 2000

func (s *Server) postNote(c *call, req *api.NoteRequest) (any, error) {
	if req.Text == "" {
		return nil, usage("text is missing: what was done")
	}
	if req.Text = cut(req.Text, maxNote); req.Outcome == "" {
		req.Outcome = string(proxy.OutcomeDone)
	}
	req.Target, req.Outcome = cut(req.Target, 200), cut(req.Outcome, 40)
	if err := s.opt.Switch.Note(proxy.Note{Target: req.Target, Text: req.Text, Outcome: proxy.Outcome(req.Outcome), Who: c.who}); err != nil {
		return nil, err
	}
	return req, nil
}

// cut keeps whole characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// change carries out what a request asks for: the only way from the socket to the switch, but for reload,
// which ends in apply too.
func (s *Server) change(c *call, req *api.ChangeRequest, ch proxy.Change) (any, error) {
	if err := checkText("reason", req.Reason, api.MaxReason); err != nil {
		return nil, err
	}
	complete(&ch, req, c.who)
	if req.Plan {
		op, err := s.opt.Switch.Plan(c.ctx, ch)
		if err != nil {
			return nil, err
		}
		return s.show(op), nil
	}
	op, err := s.apply(c, ch, waits(req))
	if err != nil {
		return nil, err
	}
	return s.finish(c, op, req)
}

// What clients of the API are told that a message may have is what the door's pages have room for.
var _ [proxy.MaxMessage]struct{} = [api.MaxMessage]struct{}{}

// checkText keeps out of the history, and off pages, what a terminal would act upon. It is an error untyped, so that nil is
// nil.
func checkText(field, text string, most int) error {
	if len(text) > most {
		return usage("%s: %d bytes: want %d at most", field, len(text), most)
	}
	for i, r := range text {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return usage("%s: %+q at byte %d: want one line of text", field, r, i)
		}
	}
	return nil
}

// complete fills in what every change carries.
func complete(ch *proxy.Change, req *api.ChangeRequest, who proxy.Who) {
	ch.Who, ch.Reason, ch.Force, ch.IfRevision = who, req.Reason, req.Force, req.IfRevision
}

// waits tells whether a request is answered only when the operation has ended.
func waits(req *api.ChangeRequest) bool { return req.Wait == nil || *req.Wait }

// apply makes the change. Its line in the log is written at once if the answer will take its time, else after the
// answer, which then need not wait for it.
func (s *Server) apply(c *call, ch proxy.Change, now bool) (*proxy.Operation, error) {
	before := s.opt.Switch.Current()
	answered := make(chan struct{})
	if !now {
		ch.Answered = answered
	}
	op, err := s.opt.Switch.Apply(c.ctx, ch)
	target := pathOf(&ch)
	if err != nil {
		refusal, _ := asError(err)
		s.audit(ch.Who, string(ch.Verb), target, nil, refusal)
		return nil, err
	}
	if ch.Verb == proxy.VerbReload {
		s.retired.add(before, s.opt.Switch.Current())
	}
	s.ops.add(op, s.opt.Switch.Current().Concerned(ch.Target))
	v := op.View()
	audit := func() { s.audit(ch.Who, string(ch.Verb), target, &v, nil) }
	if now {
		audit()
	} else {
		c.after = func() { close(answered); audit() }
	}
	return op, nil
}

// finish waits as long as the request wants to, and shows the operation with its error if it failed.
func (s *Server) finish(c *call, op *proxy.Operation, req *api.ChangeRequest) (*api.Operation, error) {
	if waits(req) {
		op.Wait(c.ctx, -1)
		s.opt.Switch.Refresh(op)
	} // else what the commit's own quiet point told is of this moment
	shown := s.show(op)
	if shown.Error != nil {
		return shown, shown.Error
	}
	return shown, nil
}

// audit logs who changed or tried to change what. v is the operation; nil when it was refused.
func (s *Server) audit(who proxy.Who, verb, target string, v *proxy.OperationView, refusal *api.Error) {
	fields := []zap.Field{zap.String("verb", verb), zap.String("target", target), zap.Int("uid", who.UID), zap.String("user", who.Name), zap.Int("pid", who.PID)}
	if refusal != nil {
		s.opt.Log.Warn("change refused", append(fields, zap.String("code", refusal.Code), zap.String("error", refusal.Message))...)
		return
	}
	s.opt.Log.Info("change", append(fields, zap.String("operation", v.ID), zap.String("state", string(v.State)), zap.Bool("changed", v.Changed), zap.Uint64("revision", v.Revision))...)
}

// pathOf is SERVICE, SERVICE/POOL or SERVICE/POOL/SERVER.
func pathOf(ch *proxy.Change) string {
	path := ch.Target
	for _, s := range []string{ch.Pool, ch.Server} {
		if s != "" {
			path += "/" + s
		}
	}
	return path
}

func usage(format string, args ...any) *api.Error {
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf(format, args...)}
}

func negative(field string, d api.Duration) *api.Error {
	return usage("%s: %q: want more than 0s", field, time.Duration(d))
}

// checkDrain is an error untyped, so that nil is nil.
func checkDrain(d api.Duration, then string) error {
	if d < 0 {
		return negative("drain", d)
	}
	switch proxy.Then(then) {
	case "", proxy.ThenClose, proxy.ThenKeep:
		return nil
	}
	return usage("then: %q: want %s or %s", then, proxy.ThenClose, proxy.ThenKeep)
}

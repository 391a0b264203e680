package admin

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// operations remembers what the switch does not tell: which operation concerns which service, and what a
// reload changed in words.
type operations struct {
	mu      sync.Mutex
	live    []liveOperation // those that had not ended at the last look, oldest first
	reloads []reloadWords   // the latest ones
}

type liveOperation struct {
	op       *proxy.Operation
	services []string
}

type reloadWords struct {
	op    *proxy.Operation
	words []string
}

// keptReloads is how many reloads can be shown with their words.
const keptReloads = 32

func hasEnded(v *proxy.OperationView) bool {
	return v.State == proxy.StateDone || v.State == proxy.StateFailed || v.State == proxy.StatePlanned
}

func (o *operations) add(op *proxy.Operation, services []string) {
	if v := op.View(); hasEnded(&v) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = append(o.live, liveOperation{op, services})
}

// underWay is the latest operation of each service that has not ended.
func (o *operations) underWay() map[string]proxy.OperationView {
	o.mu.Lock()
	defer o.mu.Unlock()
	latest := map[string]proxy.OperationView{}
	o.live = slices.DeleteFunc(o.live, func(l liveOperation) bool {
		v := l.op.View()
		if hasEnded(&v) {
			return true
		}
		for _, name := range l.services {
			latest[name] = v
		}
		return false
	})
	return latest
}

// addWords remembers what a reload changes, which only the reader of the file can tell.
func (o *operations) addWords(op *proxy.Operation, words []string) {
	if len(words) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.reloads) == keptReloads {
		o.reloads = slices.Delete(o.reloads, 0, 1)
	}
	o.reloads = append(o.reloads, reloadWords{op, words})
}

func (o *operations) words(op *proxy.Operation) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.reloads {
		if r.op == op {
			return r.words
		}
	}
	return nil
}

// show is an operation as it was last told of; Switch.Refresh brings it up to date.
func (s *Server) show(op *proxy.Operation) *api.Operation {
	v := op.View()
	shown := operation(&v)
	if words := s.ops.words(op); words != nil {
		shown.Plan = words
	}
	return shown
}

func (s *Server) find(c *call) (*proxy.Operation, error) {
	id := c.path("id")
	if op := s.opt.Switch.Operation(id); op != nil {
		return op, nil
	}
	return nil, &api.Error{Code: api.CodeNotFound, Message: "no operation " + strconv.Quote(id) + " is known",
		Hint: "a door remembers its latest 256; `turnout history` has every change that was made"}
}

// maxWait bounds one long poll.
const maxWait = time.Minute

func (s *Server) getOperation(c *call) (any, error) {
	after, wait := -1, time.Duration(0)
	var err error
	if text := c.q.Get("after"); text != "" {
		if after, err = strconv.Atoi(text); err != nil {
			return nil, usage("after: %q: want a number of steps", text)
		}
	}
	if text := c.q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return nil, usage("wait: %q: want a duration such as 10s", text)
		}
	}
	op, err := s.find(c)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		ctx, cancel := context.WithTimeout(c.ctx, min(wait, maxWait))
		defer cancel()
		op.Wait(ctx, after)
	}
	s.opt.Switch.Refresh(op)
	return s.show(op), nil
}

// goesBackWithin is how long an abort's answer waits for the operation to be back where it was. It may be in
// a dial, which ends at the service's connect timeout.
const goesBackWithin = 10 * time.Second

// postContinue answers when the pause that it ends is over, so that whoever asks next does not see it again.
func (s *Server) postContinue(c *call, req *api.ContinueRequest) (any, error) {
	op, err := s.find(c)
	if err != nil {
		return nil, err
	}
	v := op.View()
	if req.Abort {
		if v.State != proxy.StateRunning && v.State != proxy.StateWaiting {
			return nil, &api.Error{Code: api.CodeConflict, Message: "operation " + v.ID + " cannot be aborted: it is " + string(v.State),
				Hint: "`turnout back " + v.Target + "` goes back after a swap"}
		}
		why := "aborted by " + c.who.Name
		if req.Error != "" {
			why += ": " + req.Error
		}
		op.Abort(why)
		awaitView(c.ctx, op, goesBackWithin, func(v *proxy.OperationView) bool {
			return v.State != proxy.StateRunning && v.State != proxy.StateWaiting
		})
	} else {
		if req.Step != "stop_old" && req.Step != "start_new" {
			return nil, usage("step: %q: want stop_old or start_new", req.Step)
		}
		if err := op.Continue(req.Step, req.Error); err != nil {
			return nil, err
		}
		awaitView(c.ctx, op, goesBackWithin, func(v *proxy.OperationView) bool {
			return v.State != proxy.StateWaiting || v.Waiting != req.Step
		})
	}
	now := op.View()
	s.audit(c.who, "continue", v.Target, &now, nil)
	s.opt.Switch.Refresh(op)
	return s.show(op), nil
}

// awaitView looks until the operation is as wanted. Operation.Wait returns at once while a hook is waited
// for, so it cannot tell when that ends.
func awaitView(ctx context.Context, op *proxy.Operation, limit time.Duration, wanted func(*proxy.OperationView) bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		v := op.View()
		if wanted(&v) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

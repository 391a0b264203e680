package rollout

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Checks are the door's named checks; health/rounds has them.
type Checks interface {
	// Check finds one of the file by name; nil when there is none.
	Check(name string) *health.Check
	// Target is a server as one that checks ask.
	Target(srv *proxy.Server) health.Target
	// AskAll asks all that a server's service is watched by.
	AskAll(ctx context.Context, srv *proxy.Server) []health.Answer
	// Names of all.
	Names() []string
}

// Options of a Rollout.
type Options struct {
	Switch *proxy.Switch
	Checks Checks
	Log    *zap.Logger
	// Dir is where snapshots are kept.
	Dir string
	// Config says which file is in force, by its hash, and what of it is ambiguous: "" when nothing is.
	Config func() (hash, ambiguous string)
}

// Rollout watches the services of one switch. It is safe for concurrent use.
type Rollout struct {
	opt Options
	end chan struct{}
	job sync.WaitGroup

	mu      sync.Mutex
	looks   map[string]*look       // service → the watch that is looked at
	samples map[string]*sampleRing // service → readings of what it has given its work to

	// rolledBack counts what watches have taken back, for metrics.
	rolledBack map[string]uint64 // service → since the door started
}

// New makes what asks gates and takes snapshots. It looks after no watch before Start.
func New(opt Options) *Rollout {
	return &Rollout{opt: opt, end: make(chan struct{}), looks: map[string]*look{}, samples: map[string]*sampleRing{}, rolledBack: map[string]uint64{}}
}

// Start begins to look after watches, also those that the journal remembers; the next step of one may ask gates at once. Close ends
// it.
func (r *Rollout) Start() { r.job.Go(r.run) } // ends with Close

// Close ends all looks; the watches stay in the journal.
func (r *Rollout) Close() {
	close(r.end)
	r.job.Wait()
}

// turn is how often it is looked whether a watch is due, while there is one.
const turn = 50 * time.Millisecond

func (r *Rollout) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var looking sync.WaitGroup
	defer looking.Wait()
	events, unsubscribe := r.opt.Switch.Subscribe() // a watch begins with one
	defer unsubscribe()
	wake := time.NewTimer(0)
	defer wake.Stop()
	sampled := time.Time{}
	for {
		select {
		case <-r.end:
			cancel()
			return
		case <-events:
			for len(events) > 0 {
				<-events
			}
		case <-wake.C:
		}
		snap := r.opt.Switch.Current()
		if time.Since(sampled) >= sampleEvery {
			sampled = time.Now()
			r.sample(snap)
		}
		if slices.ContainsFunc(snap.Services, func(svc *proxy.Service) bool { return svc.Watch != nil }) {
			wake.Reset(turn)
		} else {
			wake.Reset(sampleEvery - time.Since(sampled))
		}
		for _, l := range r.due(snap) {
			looking.Go(func() { // ends with its look, which ends with ctx
				l.look(ctx)
				r.mu.Lock()
				defer r.mu.Unlock()
				l.busy, l.next = false, time.Now().Add(l.interval())
			})
		}
	}
}

// due are the watches whose next look has come. A watch that is gone from the snapshot is forgotten.
func (r *Rollout) due(snap *proxy.Snapshot) []*look {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, l := range r.looks {
		if !l.busy && !l.of(snap.Service(name)) {
			delete(r.looks, name)
		}
	}
	var out []*look
	for _, svc := range snap.Services {
		if svc.Watch == nil {
			continue
		}
		l := r.looks[svc.Spec.Name]
		if l == nil {
			l = newLook(r, svc)
			r.looks[svc.Spec.Name] = l
		}
		if !l.busy && !time.Now().Before(l.next) && l.watch.Since.Equal(svc.Watch.Since) {
			l.busy = true
			out = append(out, l)
		}
	}
	return out
}

// State is how a service's watch stands.
type State struct {
	Readings map[string]float64
	Checks   map[string]string // check → why it does not pass; "" while it does
	Looks    int
	Note     string // that there is too little to tell, or what is waited for

	Breach      string // what is wrong while the watch is not rolled back; "": nothing
	BreachSince time.Time
	Refused     string // what keeps the breach from being rolled back
	Hint        string // what to do about that
}

// RolledBack counts what watches of each service have taken back since the door started.
func (r *Rollout) RolledBack() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rolledBack)
}

// Watch tells how a service's watch stands; false when it is not watched.
func (r *Rollout) Watch(service string) (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.looks[service]
	if l == nil {
		return State{}, false
	}
	return l.shown, true
}

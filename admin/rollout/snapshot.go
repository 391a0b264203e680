package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// ErrDamaged says that a file is no snapshot.
var ErrDamaged = errors.New("it cannot be read")

// Snapshot is what the services were like at one time: to be compared with a later one.
type Snapshot struct {
	Name     string                      `json:"name"`
	Taken    time.Time                   `json:"taken"`
	By       string                      `json:"by,omitempty"`
	Reason   string                      `json:"reason,omitempty"`
	Config   string                      `json:"config"` // hash of the file in force
	Revision uint64                      `json:"revision"`
	Services map[string]*ServiceSnapshot `json:"services"`
	Metrics  []string                    `json:"metrics,omitempty"` // names of the series that were there
}

// ServiceSnapshot is one service in it.
type ServiceSnapshot struct {
	Active   string             `json:"active"`
	Readings map[string]float64 `json:"readings"` // of the last minute
	Answers  []SnapshotAnswer   `json:"answers,omitempty"`
}

// SnapshotAnswer is what a check answered.
type SnapshotAnswer struct {
	Check  string    `json:"check"`
	Server string    `json:"server,omitempty"` // "": the check has an address of its own
	OK     bool      `json:"ok"`
	Reason string    `json:"reason,omitempty"`
	Value  any       `json:"value,omitempty"`
	Must   bool      `json:"must_advance,omitempty"`
	At     time.Time `json:"at"`
}

// Limits of what is kept.
const (
	maxSnapshots = 200
	maxSnapshot  = 16 << 20
)

var snapshotName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ErrName says that a snapshot cannot be called so.
var ErrName = errors.New("want a name of letters, digits, '.', '_' and '-', up to 64, such as before-2.9.1")

// Take asks all checks of the services, now, and writes the snapshot down under its name; beyond 200 the oldest are
// removed. One of that name is replaced, and returned as well, or else the error is fs.ErrExist.
func (r *Rollout) Take(ctx context.Context, name, by, reason string, services, metrics []string, replace bool) (s, replaced *Snapshot, err error) {
	if !snapshotName.MatchString(name) {
		return nil, nil, ErrName
	}
	replaced, err = r.Load(name)
	switch {
	case err == nil && !replace:
		return nil, replaced, fs.ErrExist
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !replace:
		return nil, nil, err
	}
	s = r.now(ctx, services)
	s.Name, s.By, s.Reason, s.Metrics = name, by, reason, metrics
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, nil, err
	}
	if len(b) > maxSnapshot {
		return nil, nil, fmt.Errorf("a snapshot of so many services has more than %d bytes; take one of fewer", maxSnapshot)
	}
	if err := r.write(name, b, replace); err != nil {
		return nil, nil, err
	}
	return s, replaced, r.prune()
}

// write makes the file whole: another name, fsync, rename (or, where none is to be replaced, link), fsync of the folder.
func (r *Rollout) write(name string, b []byte, replace bool) error {
	if err := os.MkdirAll(r.opt.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(r.opt.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after a rename
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	into := os.Link
	if replace {
		into = os.Rename
	}
	if err := into(f.Name(), r.path(name)); err != nil {
		return err
	}
	dir, err := os.Open(r.opt.Dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (r *Rollout) path(name string) string { return filepath.Join(r.opt.Dir, name+".json") }

func (r *Rollout) prune() error {
	all, _, err := r.List() // a damaged one is not the door's to remove
	for err == nil && len(all) > maxSnapshots {
		err = os.Remove(r.path(all[0].Name))
		all = all[1:]
	}
	return err
}

// Damaged is a snapshot whose file cannot be used, and is left as it is.
type Damaged struct {
	Name, File string
	Err        error
}

// List is all snapshots, oldest first, and those that are damaged, by name.
func (r *Rollout) List() (out []Snapshot, damaged []Damaged, err error) {
	names, err := os.ReadDir(r.opt.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, n := range names {
		name, ok := strings.CutSuffix(n.Name(), ".json")
		if !ok || !snapshotName.MatchString(name) {
			continue
		}
		s, err := r.Load(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was removed just now
		case err != nil:
			damaged = append(damaged, Damaged{name, r.path(name), err})
		default:
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return a.Taken.Compare(b.Taken) })
	return out, damaged, err
}

// Load reads one.
func (r *Rollout) Load(name string) (*Snapshot, error) {
	if !snapshotName.MatchString(name) {
		return nil, ErrName
	}
	info, err := os.Stat(r.path(name))
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: snapshot %s: %s is no file", ErrDamaged, name, r.path(name))
	case info.Size() > maxSnapshot:
		return nil, fmt.Errorf("%w: snapshot %s: %s has more than %d bytes", ErrDamaged, name, r.path(name), maxSnapshot)
	}
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		return nil, err
	}
	s := &Snapshot{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%w: snapshot %s: %s: %w", ErrDamaged, name, r.path(name), err)
	}
	if whole := s.Name == name && !s.Taken.IsZero(); !whole || slices.Contains(slices.Collect(maps.Values(s.Services)), nil) {
		return nil, fmt.Errorf("%w: snapshot %s: %s is not what the door has written under that name", ErrDamaged, name, r.path(name))
	}
	return s, nil
}

// newest is the latest snapshot that has the service.
func (r *Rollout) newest(service string) (name string, at time.Time, err error) {
	all, damaged, err := r.List()
	for i := range damaged {
		r.opt.Log.Warn("a snapshot is left out", zap.Error(damaged[i].Err))
	}
	for _, s := range all {
		if s.Services[service] != nil {
			name, at = s.Name, s.Taken
		}
	}
	return name, at, err
}

// now is a snapshot of this moment, without a name.
func (r *Rollout) now(ctx context.Context, services []string) *Snapshot {
	snap := r.opt.Switch.Current()
	hash, _ := r.opt.Config()
	s := &Snapshot{Taken: time.Now(), Config: hash, Revision: snap.Revision, Services: map[string]*ServiceSnapshot{}}
	readings := r.Baseline(snap, services)
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, name := range services {
		svc := snap.Service(name)
		if svc == nil {
			continue
		}
		out := &ServiceSnapshot{Active: svc.Active.Name, Readings: readings[name]}
		s.Services[name] = out
		for _, check := range r.checksOf(svc) {
			for _, t := range r.targets(check, svc.Active) {
				asked.Go(func() { // ends with the check's timeout
					limited, cancel := context.WithTimeout(ctx, limit(check))
					defer cancel()
					a := check.Run(limited, t)
					mu.Lock()
					defer mu.Unlock()
					out.Answers = append(out.Answers, snapshotAnswer(check, t, a))
				})
			}
		}
	}
	asked.Wait()
	for _, svc := range s.Services {
		slices.SortFunc(svc.Answers, func(a, b SnapshotAnswer) int {
			return strings.Compare(a.Check+" "+a.Server, b.Check+" "+b.Server)
		})
	}
	return s
}

func snapshotAnswer(check *health.Check, t health.Target, a health.Answer) SnapshotAnswer {
	out := SnapshotAnswer{Check: check.Name(), OK: a.OK, Reason: a.Reason, Value: a.Value, Must: check.Must(), At: a.At}
	if !own(check) {
		out.Server = t.Name
	}
	return out
}

// checksOf are all that a service names: health, gates, and those of its watch.
func (r *Rollout) checksOf(svc *proxy.Service) []*health.Check {
	names := slices.Clone(svc.Spec.Gates)
	if h := svc.Spec.Health; h != nil {
		names = append(names, h.Checks...)
	}
	if rule, err := health.NewRule(svc.Spec.Watch.RollbackIf, r.opt.Checks.Names()); err == nil {
		names = append(names, rule.Checks()...)
	}
	slices.Sort(names)
	var out []*health.Check
	for _, n := range slices.Compact(names) {
		if c := r.opt.Checks.Check(n); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// Compared is what differs, in words.
type Compared struct {
	Worse []string // reasons to act
	Other []string // what else is different
}

// Compare says what became of a snapshot: what got worse, what vanished, what does not move any more.
func Compare(was, is *Snapshot) Compared {
	var c Compared
	if was.Config != is.Config {
		c.Other = append(c.Other, "another configuration file is in force")
	}
	for _, name := range slices.Sorted(maps.Keys(was.Services)) {
		before, now := was.Services[name], is.Services[name]
		if now == nil {
			c.Worse = append(c.Worse, "service "+name+" vanished")
			continue
		}
		if before.Active != now.Active {
			c.Other = append(c.Other, fmt.Sprintf("%s: %s is active, it was %s", name, now.Active, before.Active))
		}
		c.answers(name, before, now, is.Taken.Sub(was.Taken))
		c.readings(name, before.Readings, now.Readings)
	}
	for _, m := range was.Metrics {
		if is.Metrics != nil && !slices.Contains(is.Metrics, m) {
			c.Worse = append(c.Worse, "metric "+m+" vanished: alerts on it stay silent")
		}
	}
	return c
}

func (c *Compared) worse(format string, args ...any) {
	c.Worse = append(c.Worse, fmt.Sprintf(format, args...))
}

// answers are compared by check. Another pool has other servers: then any of them stands for any.
func (c *Compared) answers(service string, before, now *ServiceSnapshot, between time.Duration) {
	for _, b := range before.Answers {
		var found []SnapshotAnswer
		for _, n := range now.Answers {
			if n.Check == b.Check && (n.Server == b.Server || before.Active != now.Active) {
				found = append(found, n)
			}
		}
		what := fmt.Sprintf("%s: check %s", service, b.Check)
		if len(found) == 0 {
			if b.Server != "" {
				what += " of " + b.Server
			}
			c.worse("%s vanished", what)
			continue
		}
		for _, n := range found {
			at := what
			if n.Server != "" {
				at += " of " + n.Server
			}
			switch {
			case b.OK && !n.OK:
				c.worse("%s fails now: %s", at, n.Reason)
			case b.Must && n.OK && between >= time.Second && fmt.Sprint(n.Value) == fmt.Sprint(b.Value):
				c.worse("%s does not move any more: it is %v, as it was %s ago", at, n.Value, between.Round(time.Second))
			case !b.OK && n.OK:
				c.Other = append(c.Other, at+" passes now")
			case b.Value != nil && fmt.Sprint(n.Value) != fmt.Sprint(b.Value):
				c.Other = append(c.Other, fmt.Sprintf("%s: %v, it was %v", at, n.Value, b.Value))
			}
		}
	}
}

// Less than this is noise: an error rate, and a latency in seconds with the factor by which it grew.
const (
	noiseErrors  = 0.005
	noiseLatency = 0.005
	muchSlower   = 2
)

func (c *Compared) readings(service string, before, now map[string]float64) {
	if b, n := before["error_rate"], now["error_rate"]; n > b+noiseErrors {
		c.worse("%s: error rate %.2f%%, it was %.2f%%", service, 100*n, 100*b)
	}
	for _, q := range []string{"latency_p50", "latency_p90", "latency_p99"} {
		if b, n := before[q], now[q]; b > 0 && n > muchSlower*b && n-b > noiseLatency {
			c.worse("%s: %s %.4gs, it was %.4gs", service, strings.Replace(q, "_", " ", 1), n, b)
		}
	}
	if b, n := before["rate"], now["rate"]; b >= 1 && n < b/10 {
		c.worse("%s: %.1f requests a second, there were %.1f", service, n, b)
	}
}

// CompareNow compares a snapshot with this moment.
func (r *Rollout) CompareNow(ctx context.Context, was *Snapshot, metrics []string) Compared {
	is := r.now(ctx, slices.Sorted(maps.Keys(was.Services)))
	is.Metrics = metrics
	return Compare(was, is)
}

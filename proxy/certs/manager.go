package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/proxy"
)

// Options of a Manager.
type Options struct {
	Folder     string        // where certificates that were obtained are kept, and the accounts they were obtained with
	Log        *zap.Logger   // told of what an operator should know
	LookEvery  time.Duration // how often files are looked at; 0: 2 s
	RenewEvery time.Duration // how often it is looked whether a certificate must be renewed; 0: 10 min
}

// Manager has the certificates of all services. It is safe for concurrent use.
type Manager struct {
	opt     Options
	parking parking
	stop    context.CancelFunc
	running sync.WaitGroup

	// byService is what a handshake reads. It is replaced whole, by Commit.
	byService atomic.Pointer[map[string]*identity]
	servers   atomic.Pointer[map[string]*toServers] // and of those with servers
}

// New makes a Manager that has no certificate yet; Prepare and Commit bring them. Close ends it.
func New(opt Options) *Manager {
	if opt.LookEvery == 0 {
		opt.LookEvery = 2 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{opt: opt, stop: cancel}
	m.byService.Store(&map[string]*identity{})
	m.servers.Store(&map[string]*toServers{})
	m.running.Go(func() { m.look(ctx) }) // ends with Close
	return m
}

// Close ends all work in the background.
func (m *Manager) Close() {
	m.stop()
	m.running.Wait()
	for _, id := range *m.byService.Load() {
		id.close()
	}
	m.parking.close()
}

// Server is the TLS configuration for a new client of a service; nil: the service has none. It must not be changed.
func (m *Manager) Server(service string) *tls.Config {
	if id := (*m.byService.Load())[service]; id != nil {
		return id.config.Load()
	}
	return nil
}

// ServerFor is Server of the first of several services that has a certificate for the host; else of the first.
func (m *Manager) ServerFor(services []string, host string) *tls.Config {
	now := *m.byService.Load()
	var first *tls.Config
	for _, name := range services {
		id := now[name]
		if id == nil {
			continue
		}
		if id.has(host) {
			return id.config.Load()
		}
		if first == nil {
			first = id.config.Load()
		}
	}
	return first
}

// prepared is a change that all files are read for.
type prepared struct {
	m     *Manager
	next  map[string]*identity
	fresh []*identity          // those of next that are not in use yet
	files map[*identity]*files // what those in use are to have

	servers map[string]*toServers
	read    map[*toServers]readConfig
}

// readConfig is what the files of a toServers give.
type readConfig struct {
	config *tls.Config
	at     stamp
}

// Prepare reads the files of all services of a snapshot, also of those that stay as they are: whoever asks for a
// reload wants to know that a file is bad. Exactly one of Commit and Abort must follow.
func (m *Manager) Prepare(next *proxy.Snapshot) (proxy.Prepared, error) {
	p := &prepared{m: m, next: map[string]*identity{}, files: map[*identity]*files{}, servers: map[string]*toServers{}, read: map[*toServers]readConfig{}}
	var errs []error
	now := *m.byService.Load()
	for _, svc := range next.Services {
		if err := p.prepareServers(svc.Spec); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", svc.Spec.Name, err))
		}
		spec := svc.Spec.TLS
		if spec == nil || spec.Mode == proxy.Passthrough {
			continue
		}
		f, err := readFiles(spec)
		if err != nil {
			for _, e := range err {
				errs = append(errs, fmt.Errorf("service %s: %w", svc.Spec.Name, e))
			}
			continue
		}
		id := now[svc.Spec.Name]
		if id == nil || !reflect.DeepEqual(id.spec, spec) {
			id = m.newIdentity(svc.Spec.Name, spec, f)
			p.fresh = append(p.fresh, id)
		} else {
			p.files[id] = f
		}
		p.next[svc.Spec.Name] = id
	}
	if len(errs) > 0 {
		p.Abort()
		return nil, errors.Join(errs...)
	}
	return p, nil
}

func (p *prepared) prepareServers(s *proxy.ServiceSpec) error {
	if s.ServerTLS == nil {
		return nil
	}
	config, at, err := readServers(s.ServerTLS, s.Mode)
	if err != nil {
		return err
	}
	t := (*p.m.servers.Load())[s.Name]
	if t == nil || *t.spec != *s.ServerTLS || t.mode != s.Mode {
		t = &toServers{service: s.Name, spec: s.ServerTLS, mode: s.Mode, log: p.m.opt.Log.With(zap.String("service", s.Name))}
		t.use(config, at)
	}
	p.servers[s.Name], p.read[t] = t, readConfig{config, at}
	return nil
}

// Commit implements proxy.Prepared.
func (p *prepared) Commit() {
	for t, r := range p.read {
		t.use(r.config, r.at)
	}
	p.m.servers.Store(&p.servers)
	for id, f := range p.files {
		id.use(f)
	}
	old := *p.m.byService.Swap(&p.next)
	for name, id := range old {
		if p.next[name] != id {
			id.close()
		}
	}
	for _, id := range p.fresh {
		id.manage()
	}
}

// Abort implements proxy.Prepared.
func (p *prepared) Abort() {
	for _, id := range p.fresh {
		id.close()
	}
}

// Check tells which files of a configuration cannot be used, without using them.
func Check(spec *proxy.Spec) []error {
	var errs []error
	for i := range spec.Services {
		if t := spec.Services[i].ServerTLS; t != nil {
			if _, _, err := readServers(t, spec.Services[i].Mode); err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", spec.Services[i].Name, err))
			}
		}
		if t := spec.Services[i].TLS; t != nil && t.Mode != proxy.Passthrough {
			_, err := readFiles(t)
			for _, e := range err {
				errs = append(errs, fmt.Errorf("service %s: %w", spec.Services[i].Name, e))
			}
		}
	}
	return errs
}

// Certificate says what there is for a name of a service.
type Certificate struct {
	Service  string
	Name     string    // the host; the file, if it names none; OnDemandName for all that were obtained on demand
	NotAfter time.Time // of the one that ends first; zero: there is none yet
	Err      string    // why the latest attempt to read or to obtain it failed; empty: it did not fail
}

// OnDemandName stands for the certificates that were obtained on demand.
const OnDemandName = "on_demand"

// Certificates tells what all services have, in no order.
func (m *Manager) Certificates() []Certificate {
	var all []Certificate
	for _, id := range *m.byService.Load() {
		all = append(all, id.certificates()...)
	}
	return all
}

// Failures is how often a certificate could not be obtained or renewed for a service.
func (m *Manager) Failures(service string) uint64 {
	if id := (*m.byService.Load())[service]; id != nil && id.acme != nil {
		return id.acme.failures.Load()
	}
	return 0
}

// Look reads files again that have changed, now. They are also looked at every Options.LookEvery.
func (m *Manager) Look() {
	for _, id := range *m.byService.Load() {
		id.look()
	}
	for _, t := range *m.servers.Load() {
		t.look()
	}
}

// look does so until ctx is done.
func (m *Manager) look(ctx context.Context) {
	tick := time.NewTicker(m.opt.LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.Look()
		}
	}
}

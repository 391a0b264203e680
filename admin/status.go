package admin

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

func (s *Server) getVersion(*call) (any, error) { return &s.opt.Version, nil }

func (s *Server) getStatus(c *call) (any, error) {
	st := s.status()
	name := c.q.Get("service")
	if name == "" {
		return st, nil
	}
	wanted := []string{name}
	if _, ok := st.Services[name]; !ok {
		if wanted, ok = st.Groups[name]; !ok {
			return nil, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no service or group is named %q", name), Hint: proxy.Among(name, s.opt.Switch.Current().Names())}
		}
	}
	for name := range st.Services {
		if slices.Contains(wanted, name) {
			continue
		}
		delete(st.Services, name)
		place := "services." + name
		st.Drift = slices.DeleteFunc(st.Drift, func(line string) bool {
			rest, ok := strings.CutPrefix(line, place)
			return ok && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "."))
		})
	}
	return st, nil
}

// status is the door from one snapshot. The counters move on while it is made.
func (s *Server) status() *api.Status {
	p := s.picture()
	done, _, lastError, _ := s.reloads.read()
	st := &api.Status{
		Revision: p.snap.Revision, Reloads: done, Started: s.opt.Started, Version: s.opt.Version.Version, PID: os.Getpid(),
		Config: s.opt.ConfigPath, Stopping: p.stopping, LastReloadError: lastError, Drift: drift(p.snap), Services: p.services(), Groups: p.snap.Groups,
	}
	if f := p.snap.Frozen; f != nil {
		st.Frozen = &api.Frozen{Since: f.Since, By: f.By, Reason: f.Reason}
	}
	for group := range p.snap.Groups {
		to, refused := p.snap.GroupBack(group)
		if to == nil && refused == nil {
			continue
		}
		if st.GroupBacks == nil {
			st.GroupBacks = map[string]api.Back{}
		}
		back := api.Back{To: to}
		if refused != nil {
			back.Refused, back.Hint = refused.Message, refused.Hint
		}
		st.GroupBacks[group] = back
	}
	if s.opt.Drift != nil {
		st.Drift = append(st.Drift, s.opt.Drift()...)
	}
	return st
}

// picture reads the drains before the snapshot: a drain that a newer snapshot began is then missing rather
// than one shown that the snapshot knows nothing of.
func (s *Server) picture() *picture {
	p := &picture{stopping: s.stopping.Load(), underWay: s.ops.underWay(), drains: s.opt.Switch.Drains(), snap: s.opt.Switch.Current(), listen: map[string][]string{}, previews: map[string][]string{}, health: s.opt.Health, watch: s.watchOf}
	p.retired, _ = s.retired.look(p.snap)
	p.snap.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		address := spec.String()
		if s.opt.ListenAddrs != nil {
			if bound := s.opt.ListenAddrs(slot); strings.HasPrefix(bound, "/") {
				address = "unix:" + bound
			} else if bound != "" {
				address = bound
			}
		}
		to := p.listen
		if p.snap.Previews(slot) {
			to = p.previews
		}
		to[svc.Spec.Name] = append(to[svc.Spec.Name], address)
	})
	return p
}

// drift says where the journal overrides the file that was read last.
func drift(snap *proxy.Snapshot) []string {
	var lines []string
	for _, svc := range snap.Services {
		place := "services." + svc.Spec.Name
		if svc.Active.Name != svc.Spec.Active {
			lines = append(lines, fmt.Sprintf("%s: the file says active: %s; the journal says %s", place, svc.Spec.Active, svc.Active.Name))
		}
		if svc.Split != nil {
			lines = append(lines, fmt.Sprintf("%s: the file leads all to the active pool; the journal says split: %s", place, svc.Split))
		}
		for pi, pool := range svc.Pools {
			for i := range pool.Members {
				m, says := &pool.Members[i], &svc.Spec.Pools[pi].Servers[i]
				at := fmt.Sprintf("%s.pools.%s.%s", place, pool.Name, m.Name)
				if m.Drained {
					lines = append(lines, at+": the journal says drained")
				}
				if m.Weight != says.Weight {
					lines = append(lines, fmt.Sprintf("%s: the file says weight: %d; the journal says %d", at, says.Weight, m.Weight))
				}
			}
		}
	}
	return lines
}

package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// probeLimit bounds one asking of a pool.
const probeLimit = time.Minute

// getProbe asks the checks of a pool's servers, or of one, now, all side by side.
func (s *Server) getProbe(c *call) (any, error) {
	members, err := s.members(c.path("target"), c.path("pool"), c.path("server"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, probeLimit)
	defer cancel()
	out := &api.Probe{Service: c.path("target"), Pool: c.path("pool"), Servers: map[string]api.ProbedServer{}}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range members {
		asked.Go(func() { // ends with ctx
			answers := s.opt.Probe(ctx, m.Server)
			mu.Lock()
			defer mu.Unlock()
			out.Servers[m.Name] = probed(m, answers)
		})
	}
	asked.Wait()
	return out, nil
}

// postRequest sends a request through the door.
func (s *Server) postRequest(c *call, req *api.RequestRequest) (any, error) {
	service, pool, server := c.path("target"), c.path("pool"), c.path("server")
	if _, err := s.members(service, pool, server); err != nil {
		return nil, err
	}
	if svc := s.opt.Switch.Current().Service(service); svc.Spec.Mode != proxy.HTTP {
		return nil, usage("%s is of mode %s: requests are for mode http", service, svc.Spec.Mode)
	}
	if req.Path != "" && !strings.HasPrefix(req.Path, "/") {
		return nil, usage("path: %q: want one that begins with /", req.Path)
	}
	ctx, cancel := context.WithTimeout(c.ctx, probeLimit)
	defer cancel()
	if refused := unshown(s.opt.Switch.Current().Service(service).Spec, pool, server); refused != nil {
		return nil, refused
	}
	return s.opt.Request(ctx, service, pool, server, req), nil
}

// unshown refuses requests at listeners that ask for what the door has not got: a client's certificate.
func unshown(spec *proxy.ServiceSpec, pool, server string) error {
	if spec.TLS == nil || spec.TLS.ClientCert.Mode != proxy.ClientCertRequired {
		return nil
	}
	place := pool
	if server != "" {
		place += "/" + server
	}
	through := "a client that has one goes the whole way with a `preview.token`, which the service has not: see docs/config.md"
	if p := spec.Preview; p != nil && p.Header != "" {
		through = fmt.Sprintf("a client that has one goes the whole way: `curl --cert FILE --key FILE -H '%s: %s' -H '%s: TOKEN' https://HOST/`", http.CanonicalHeaderKey(p.Header), place, http.CanonicalHeaderKey(p.TokenHeader))
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s/%s not asked: listeners of %s want a client's certificate (tls.client_cert), and the door has none to show", spec.Name, place, spec.Name),
		Holds: "nothing was sent, nothing has changed", Hint: fmt.Sprintf("`turnout probe %s/%s --checks` asks the servers themselves; %s", spec.Name, place, through)}
}

func probed(m *proxy.Member, answers []api.Answer) api.ProbedServer {
	p := api.ProbedServer{Address: m.Address, OK: true, Answers: answers}
	for i := range answers {
		p.OK = p.OK && answers[i].OK
	}
	return p
}

// members finds those of a pool, or one of them.
func (s *Server) members(service, pool, server string) ([]*proxy.Member, error) {
	notFound := func(message, name string, known []string) error {
		return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("%s %q", message, name), Hint: proxy.Among(name, known)}
	}
	snap := s.opt.Switch.Current()
	svc := snap.Service(service)
	var known []string
	if svc == nil {
		for _, other := range snap.Services {
			known = append(known, other.Spec.Name)
		}
		return nil, notFound("no service is named", service, known)
	}
	p := svc.Pool(pool)
	if p == nil {
		for _, other := range svc.Pools {
			known = append(known, other.Name)
		}
		return nil, notFound(service+" has no pool", pool, known)
	}
	var found []*proxy.Member
	for i := range p.Members {
		known = append(known, p.Members[i].Name)
		if server == "" || p.Members[i].Name == server {
			found = append(found, &p.Members[i])
		}
	}
	if len(found) == 0 {
		return nil, notFound(service+"/"+pool+" has no server", server, known)
	}
	return found, nil
}

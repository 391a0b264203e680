package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/web"
)

// maxProbed is how much of an answer is read.
const maxProbed = 16 << 20

// request sends a request in at a listener of an http service, as a preview of a pool or server: it goes the way of every
// client's, through the loops and the connections to servers.
func (s *serving) request(ctx context.Context, service, pool, server string, req *api.RequestRequest) *api.Requested {
	network, address := "tcp", ""
	snap := s.sw.Current()
	snap.Listeners(func(slot int, spec proxy.ListenSpec, svc *proxy.Service) {
		if svc.Spec.Name == service && address == "" && !snap.Previews(slot) && !snap.Plain(slot) {
			address = s.front.Addr(slot)
			if spec.Network == proxy.NetUnix {
				network, address = "unix", spec.Address
			}
		}
	})
	out := &api.Requested{Through: address}
	r, err := s.newRequest(ctx, snap.Service(service).Spec, pool, server, req)
	if err != nil {
		out.Reason = err.Error()
		return out
	}
	var d net.Dialer
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, address) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is the door's own certificate, and it may be for other names
	failed := failures(snap.Service(service), pool, server)
	begun := time.Now()
	answer, err := transport.RoundTrip(r) // not a Client: a redirect is an answer too
	if err == nil {
		defer answer.Body.Close() //nolint:errcheck // read
		out.Bytes, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxProbed))
		out.Status, out.Server = answer.StatusCode, answer.Header.Get("X-Turnout-Server")
		if out.Server == "" {
			out.Reason = answer.Header.Get("X-Turnout-Reason")
			out.Reason = strings.Join(append([]string{out.Reason}, failed()...), "; ")
		}
	}
	out.Took = api.Duration(time.Since(begun))
	if err != nil {
		out.Reason = err.Error()
	}
	return out
}

// failures watches what goes wrong at the servers of a pool, or at one of them; what it returns tells it.
func failures(svc *proxy.Service, pool, server string) func() []string {
	before := map[*proxy.Server]uint64{}
	for _, srv := range svc.Pool(pool).Servers() {
		if server == "" || srv.Name == server {
			before[srv] = srv.Counts().Failures
		}
	}
	return func() []string {
		var out []string
		for srv, n := range before {
			if now := srv.Counts(); now.Failures != n {
				out = append(out, srv.Address+": "+now.LastError)
			}
		}
		slices.Sort(out)
		return out
	}
}

// newRequest makes the request. Where it does not say host and path, they are of the service's first route.
func (s *serving) newRequest(ctx context.Context, spec *proxy.ServiceSpec, pool, server string, req *api.RequestRequest) (*http.Request, error) {
	method, scheme, host, path, place := http.MethodGet, "http", "localhost", "/", pool
	if req.Head {
		method = http.MethodHead
	}
	if spec.TLS != nil {
		scheme = "https"
	}
	if len(spec.Routes) > 0 {
		host = cmp.Or(strings.Replace(spec.Routes[0].Host, "*.", "probe.", 1), host)
		path = cmp.Or(spec.Routes[0].Path, path)
	}
	if server != "" {
		place += "/" + server
	}
	r, err := http.NewRequestWithContext(ctx, method, scheme+"://"+cmp.Or(req.Host, host)+cmp.Or(req.Path, path), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(web.PoolField, place)
	r.Header.Set(web.TokenField, s.web.Token().Text)
	r.Header.Set("User-Agent", "turnout-probe")
	return r, nil
}

package admin

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/rollout"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/proxy"
)

// Options of a Server.
type Options struct {
	Switch *proxy.Switch
	// Reload reads the configuration file. The error may be config.Errors, a *proxy.Refusal or an
	// *api.Error; its details then reach the operator. plan says that nothing will come of it. Calls never
	// overlap.
	Reload func(plan bool) (*Reloading, error)
	// History calls f with each record of the journal, oldest first; config/journal's History fits.
	History func(f func(payload []byte) error) error
	// Roles says who may do what; asked at each request, so that a reload counts. nil or empty: who can
	// open the socket operates.
	Roles func() config.Roles
	// ListenAddrs is the address a listener slot is bound to; "" shows the configured one. May be nil.
	ListenAddrs func(slot int) string
	// Rollout is asked for gates, watches and snapshots. May be nil when no route needs it.
	Rollout *rollout.Rollout
	// Probe asks all checks of a server now. May be nil when no route needs it.
	Probe func(ctx context.Context, srv *proxy.Server) []api.Answer
	// Health is what the watching of a server found last, whose reason may be newer than the snapshot's; nil when it
	// is not watched. May be nil.
	Health func(srv *proxy.Server) *api.Health
	// Drift adds lines to the status' drift, which else compares the file read last with what the journal
	// remembers. May be nil.
	Drift func() []string

	// Certificates tells what there is to show TLS clients. May be nil.
	Certificates func() []Certificate
	// Request sends a request through a listener of the service, as a preview of the pool or server.
	Request func(ctx context.Context, service, pool, server string, req *api.RequestRequest) *api.Requested

	Version    api.Version
	Started    time.Time
	ConfigPath string
	Log        *zap.Logger // nil: silent
}

// Certificate says what there is to show the clients of a service that name a host.
type Certificate struct {
	Service  string
	Name     string    // the host
	NotAfter time.Time // zero: there is none yet
	Err      string    // why it could last not be read or obtained; empty: it could
}

// Reloading is a file that was read and found good, not in force yet.
type Reloading struct {
	Spec    *proxy.Spec
	Detail  string   // what the file is, for history
	Words   []string // what it changes, one line each
	InForce func()   // called once the switch has taken it; not when it refused. May be nil

	// Ahead asks what the file would ask anew of servers that serve, and says so, one line each; nobody is why a service
	// would be left without a ready one, "" when none would. May be nil.
	Ahead func(ctx context.Context) (words []string, nobody string)
}

// limits bound what a client can keep busy.
type limits struct {
	header    time.Duration // from the connection, or a request's first byte, to the end of its header
	idle      time.Duration // between two requests
	body      time.Duration // to send a body
	write     time.Duration // to take an answer, or one event
	heartbeat time.Duration // a comment in a silent event stream
}

var defaultLimits = limits{header: 10 * time.Second, idle: 2 * time.Minute, body: 10 * time.Second, write: 10 * time.Second, heartbeat: 15 * time.Second}

// maxHeader is more than any client of ours sends.
const maxHeader = 16 << 10

// Server answers on the admin socket and the metrics listener. It is safe for concurrent use.
type Server struct {
	opt      Options
	limits   limits
	accounts accounts
	ops      operations
	reloads  reloads
	retired  retired
	registry *prometheus.Registry
	serves   atomic.Bool
	stopping atomic.Pointer[api.Stopping] // nil: the door goes on
	streams  atomic.Int32                 // of events, open

	ctx    context.Context // of all requests; ended by Close, so that waits and event streams end
	cancel context.CancelFunc

	mu      sync.Mutex
	servers []*http.Server
	socket  *socket
}

// New makes a server; Open and OpenMetrics let it answer.
func New(opt Options) *Server {
	s := &Server{opt: opt, limits: defaultLimits}
	if s.opt.Log == nil {
		s.opt.Log = zap.NewNop()
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.reloads.start(opt.Started)
	s.registry = s.newRegistry()
	return s
}

// Open listens on the admin socket at path and begins to answer. A stale socket is replaced; one on which
// a door answers, and a file that is not a socket, are refused.
func (s *Server) Open(path string) error {
	sock, err := openSocket(path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket = sock
	s.serve(sock.listener, s.routes())
	return nil
}

// OpenMetrics listens on a TCP address for /metrics, /healthz, /readyz and /state, and returns the address it got.
func (s *Server) OpenMetrics(address string) (net.Addr, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve(l, s.observeRoutes())
	return l.Addr(), nil
}

// serve must be called with s.mu held.
func (s *Server) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.limits.header,
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext:       withPeer,
		ErrorLog:          log.New(httpLog{s.opt.Log}, "", 0),
	}
	s.servers = append(s.servers, srv)
	go func() { // ends with Close
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.opt.Log.Error("admin listener ended", zap.Stringer("listen", l.Addr()), zap.Error(err))
		}
	}()
}

// httpLog takes what net/http has to say; a client's mistakes are not the door's errors.
type httpLog struct{ log *zap.Logger }

func (l httpLog) Write(line []byte) (int, error) {
	l.log.Debug("admin http", zap.ByteString("says", line))
	return len(line), nil
}

// Serves tells /readyz that the door takes clients. Until then it is starting.
func (s *Server) Serves() { s.serves.Store(true) }

// Stops tells /readyz and the status that the door takes neither clients nor changes any more, and waits until then at the
// latest for the clients it has.
func (s *Server) Stops(until time.Time) {
	s.stopping.Store(&api.Stopping{Since: time.Now(), Until: until})
}

// Close ends event streams and waits, lets answers under way end until ctx does, and removes the socket if
// it is still ours.
func (s *Server) Close(ctx context.Context) error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.socket != nil {
		errs = append(errs, s.socket.unlink())
		s.socket = nil
	}
	for _, srv := range s.servers {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, srv.Close())
		}
	}
	s.servers = nil
	return errors.Join(errs...)
}

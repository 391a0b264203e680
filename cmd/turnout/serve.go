package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/admin"
	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/rollout"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/config/journal"
	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/health/failover"
	"github.com/turnout-proxy/turnout/health/rounds"
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
	"github.com/turnout-proxy/turnout/proxy/front"
	"github.com/turnout-proxy/turnout/proxy/listen"
	"github.com/turnout-proxy/turnout/proxy/stream"
	"github.com/turnout-proxy/turnout/proxy/web"
	"github.com/turnout-proxy/turnout/proxy/web/h2"
)

func (c *cli) serveCommand() *cobra.Command {
	var path string
	var watch bool
	var loops int
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run the door",
		Long: `Run the door in the foreground until SIGTERM.

SIGHUP reads the file again. SIGTERM and SIGINT stop accepting, let connections end for as long as the longest
drain.timeout, then stop; a second one stops at once. SIGQUIT stops at once.`,
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := loopCount(cmd, loops)
			if err != nil {
				return c.usage(cmd, err.Error(), "")
			}
			return c.serve(path, watch, n)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "turnout.yaml", "the configuration `file`")
	cmd.Flags().BoolVar(&watch, "watch-config", false, "reload whenever the file changes")
	cmd.Flags().IntVar(&loops, "loops", 0, "event loops (default: TURNOUT_LOOPS, else one a processor)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// loopCount is the flag, else TURNOUT_LOOPS, else the processors that the machine and its cgroup give us.
func loopCount(cmd *cobra.Command, loops int) (int, error) {
	if env := os.Getenv("TURNOUT_LOOPS"); env != "" && !cmd.Flags().Changed("loops") {
		n, err := strconv.Atoi(env)
		if err != nil || n < 1 || n > 256 {
			return 0, fmt.Errorf("TURNOUT_LOOPS=%s: want a whole number from 1 to 256", quote(env))
		}
		return n, nil
	}
	if cmd.Flags().Changed("loops") && (loops < 1 || loops > 256) {
		return 0, fmt.Errorf("--loops %d: want a whole number from 1 to 256", loops)
	}
	return cmp.Or(loops, runtime.GOMAXPROCS(0)), nil
}

// serving is a running door: the wiring between its parts, and nothing else.
type serving struct {
	path string
	log  *zap.Logger
	lvl  zap.AtomicLevel

	cfg     atomic.Pointer[config.Config] // the file in force
	started *config.Config                // the one that the door started with: a reload does not carry out all of it
	journal *journal.Journal
	sw      *proxy.Switch
	front   *front.Front
	certs   *certs.Manager
	web     *web.Plane
	admin   *admin.Server
	rounds  *rounds.Rounds
	auto    *failover.Automation
	rollout *rollout.Rollout
}

// serve runs a door: load the file, lock and replay the journal, build the switch, start the loops, open the
// listeners, open the admin socket, tell systemd, run.
func (c *cli) serve(path string, watch bool, loops int) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the door runs on Linux; on %s this command only operates a door elsewhere (--socket)", runtime.GOOS)
	}
	signals := make(chan os.Signal, 8) // before anything else: a SIGHUP while we start must not kill the door
	signal.Notify(signals, doorSignals...)
	defer signal.Stop(signals)
	// The loops hold their threads; with fewer than two Ps beside them the scheduler takes a loop's away at
	// each wait. DESIGN.md section 7 has the cost.
	runtime.GOMAXPROCS(loops + 2)

	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	s := &serving{path: abs}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changed := make(chan struct{}, 1)
	if watch { // before the file is read, so that no change is lost between
		stopped, err := config.Watch(ctx, abs, 200*time.Millisecond, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return fmt.Errorf("%s cannot be watched: %w", path, err)
		}
		defer func() { cancel(); <-stopped }()
	}
	cfg, err := config.Load(path)
	if err != nil {
		return badConfig(err)
	}
	s.cfg.Store(cfg)
	s.started = cfg
	s.log, s.lvl = newLog(c.err, cfg.Log)
	defer s.log.Sync() //nolint:errcheck // stderr
	if err := s.open(loops); err != nil {
		return err
	}
	s.run(signals, changed)
	return nil
}

// badConfig gives each mistake of a file a line of its own.
func badConfig(err error) error {
	var issues config.Errors
	if !errors.As(err, &issues) {
		return err
	}
	e := &api.Error{Code: api.CodeFailed, Message: plural(len(issues), "mistake") + " in the configuration; nothing was started"}
	for _, i := range issues {
		e.Details = append(e.Details, i.Error())
	}
	return e
}

// badFiles gives each file of certificates that cannot be used a line of its own.
func badFiles(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	e := &api.Error{Code: api.CodeFailed, Message: plural(len(errs), "file") + " of certificates cannot be used"}
	for _, err := range errs {
		e.Details = append(e.Details, err.Error())
	}
	return e
}

// open builds the door from the inside out. On an error it closes what it opened.
func (s *serving) open(loops int) (err error) {
	cfg := s.cfg.Load()
	started := time.Now()
	s.journal, err = journal.Open(cfg.StateDir, journal.Options{Warn: s.log.Sugar().Warnw})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = s.journal.Close()
		}
	}()
	mem := &proxy.Memory{}
	if err := s.journal.Replay(into(mem)); err != nil {
		return err
	}
	for i := range cfg.Spec().Services {
		svc := &cfg.Spec().Services[i]
		if m := mem.Services[svc.Name]; m != nil && activeGone(svc, m) != "" {
			s.log.Warn(activeGone(svc, m))
		}
	}
	s.sw = proxy.New(cfg.Spec(), mem, s.switchOptions(loops))
	s.rounds = rounds.New(s.sw, func(service, address string) *tls.Config { return s.certs.ToServer(service, address) }, s.log)
	defer func() {
		if err != nil {
			s.rounds.Close()
		}
	}()
	s.certs = certs.New(certs.Options{Folder: filepath.Join(cfg.StateDir, "certificates"), Log: s.log.Named("certs")})
	defer func() {
		if err != nil {
			s.certs.Close()
		}
	}()
	s.front, err = front.New(front.Options{Switch: s.sw, Loops: loops, Log: s.log, Certs: s.certs, Ceiling: ceiling(descriptorLimit())})
	if err != nil {
		return err
	}
	stream.New(stream.Options{Switch: s.sw, Front: s.front, Access: s.log.Named("access")})
	s.web = web.New(web.Options{Switch: s.sw, Front: s.front, Access: s.log.Named("access")})
	h2.New(s.web)
	defer func() {
		if err != nil {
			s.front.Stop()
		}
	}()
	if err := s.sw.Start(s.front, s.fileInWords(cfg)); err != nil {
		return err
	}
	s.rounds.Set(cfg.Checks())
	s.auto = failover.New(failover.Options{
		Switch: s.sw, Log: s.log, Fence: fence,
		Dial: func(ctx context.Context, srv *proxy.Server) error { return health.Dial(ctx, srv.Address) },
	})
	defer func() {
		if err != nil {
			s.auto.Close()
		}
	}()
	s.rollout = rollout.New(rollout.Options{Switch: s.sw, Checks: s.rounds, Log: s.log, Dir: filepath.Join(cfg.StateDir, "snapshots"), Config: s.inForce})
	s.rollout.Start() // not before the switch finds it for gates
	defer func() {
		if err != nil {
			s.rollout.Close()
		}
	}()
	s.admin = admin.New(admin.Options{
		Switch: s.sw, Reload: s.reload, History: s.journal.History,
		Roles:       func() config.Roles { return s.cfg.Load().Admin.Roles },
		ListenAddrs: s.front.Addr, Rollout: s.rollout, Probe: s.probe, Health: s.health, Request: s.request, Certificates: s.certificates,
		Version: thisVersion(), Started: started, ConfigPath: s.path, Log: s.log.Named("admin"),
	})
	if err := s.openAdmin(cfg); err != nil {
		_ = s.admin.Close(context.Background())
		return err
	}
	s.announce(loops)
	return nil
}

// into reads what a journal has kept into a memory.
func into(mem *proxy.Memory) func(kind journal.Kind, payload []byte) error {
	return func(kind journal.Kind, payload []byte) error {
		if kind == journal.Checkpoint {
			return mem.LoadCheckpoint(payload)
		}
		return mem.LoadRecord(payload)
	}
}

// switchOptions lead what the switch asks and tells to those who know and keep it. They are called once it serves, when all of
// them are there.
func (s *serving) switchOptions(loops int) proxy.Options {
	return proxy.Options{
		Loops: loops, Journal: s.journal,
		Probe:  func(ctx context.Context, srv *proxy.Server) error { return s.rounds.Probe(ctx, srv) },
		Glance: func(srv *proxy.Server) bool { return s.rounds.Glance(srv) },
		Ask:    s.ask,
		Known:  func(check string) bool { return s.rounds.Check(check) != nil },
		Gates: func(ctx context.Context, svc *proxy.Service, to *proxy.Pool) []string {
			return s.rollout.Missing(ctx, svc, to)
		},
		Acted: func(r *proxy.Record) {
			s.log.Info("change at a deadline", zap.String("verb", string(r.Verb)), zap.String("target", r.Target), zap.String("to", r.To), zap.String("reason", r.Reason), zap.Uint64("revision", r.Revision))
		},
		Warn: func(msg string, err error) { s.log.Warn(msg, zap.Error(err)) },
	}
}

func (s *serving) openAdmin(cfg *config.Config) error {
	if cfg.Admin.Listen != "" {
		addr, err := s.admin.OpenMetrics(cfg.Admin.Listen)
		if err != nil {
			return fmt.Errorf("admin.listen: %w", err)
		}
		s.log.Info("metrics", zap.Stringer("address", addr))
	}
	if err := s.admin.Open(cfg.Admin.Socket); err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	s.admin.Serves()
	return nil
}

// certificates is what the admin socket tells of them.
func (s *serving) certificates() []admin.Certificate {
	var all []admin.Certificate
	for _, c := range s.certs.Certificates() {
		all = append(all, admin.Certificate(c))
	}
	return all
}

// inForce says which file is in force, and what of it is ambiguous: whoever looks into the file would be misled.
func (s *serving) inForce() (hash, ambiguous string) {
	cfg := s.cfg.Load()
	now, err := config.HashFile(s.path)
	switch {
	case err != nil:
		return cfg.Hash(), "the configuration file cannot be read: " + err.Error()
	case now != cfg.Hash():
		return cfg.Hash(), "the configuration file has changed and is not in force: `turnout reload` first"
	}
	return cfg.Hash(), ""
}

func (s *serving) fileInWords(cfg *config.Config) string {
	return s.path + " (" + cfg.Hash()[:12] + ")"
}

func (s *serving) announce(loops int) {
	snap := s.sw.Current()
	snap.Listeners(func(slot int, _ proxy.ListenSpec, svc *proxy.Service) {
		s.log.Info("listening", zap.String("service", svc.Spec.Name), zap.String("address", s.front.Addr(slot)), zap.String("active", svc.Active.Name))
	})
	s.log.Info("serving", zap.Uint64("revision", snap.Revision), zap.String("config", s.path), zap.String("socket", s.cfg.Load().Admin.Socket),
		zap.Int("loops", loops), zap.Uint64("descriptors", descriptorLimit()), zap.Int("pid", os.Getpid()), zap.String("version", thisVersion().Version))
	s.notify(listen.Ready, s.statusLine())
}

// ceiling is the first descriptor that clients do not get: an eighth is for the admin socket, the journal and checks.
func ceiling(limit uint64) int {
	limit = min(limit, 1<<30) // unlimited
	return int(limit - min(limit/8, 256))
}

func (s *serving) statusLine() string {
	snap := s.sw.Current()
	return listen.Status(fmt.Sprintf("%s, revision %d", plural(len(snap.Services), "service"), snap.Revision))
}

func (s *serving) notify(states ...string) {
	if err := listen.Notify(states...); err != nil {
		s.log.Warn("systemd was not told", zap.Error(err))
	}
}

// reload reads the file for admin.Server.Reload, which every reload goes through.
func (s *serving) reload(plan bool) (*admin.Reloading, error) {
	old := s.cfg.Load()
	next, err := config.Load(s.path)
	if err != nil {
		return nil, err
	}
	if err := badFiles(certs.Check(next.Spec())); err != nil {
		return nil, err
	}
	return &admin.Reloading{
		Spec:   next.Spec(),
		Detail: s.fileInWords(next),
		Words:  config.DiffConfig(s.started, old, next),
		Ahead:  func(ctx context.Context) ([]string, string) { return s.ahead(ctx, next) },
		InForce: func() {
			for _, line := range config.NeedsRestart(s.started, next) {
				s.log.Warn("not in force before a restart", zap.String("change", line))
			}
			s.cfg.Store(next)
			s.rounds.Set(next.Checks())
			s.certs.Look() // a file that stays named as it is may have other bytes
			setLevel(s.lvl, next.Log.Level)
		},
	}, nil
}

// ahead says what a file would ask anew of servers that serve, and why it would leave a service without one, or without its
// watch.
func (s *serving) ahead(ctx context.Context, next *config.Config) (words []string, nobody string) {
	for _, a := range s.rounds.Ahead(ctx, next.Spec(), next.Checks()) {
		words = append(words, a.Words()...)
		if a.Nobody && nobody == "" {
			nobody = fmt.Sprintf("%s: by its new checks no server of %s would be ready: %s", a.Service, a.Pool, a.Fails[0])
		}
	}
	if nobody == "" {
		nobody = s.rollout.Keeps(next.Spec(), slices.Collect(maps.Keys(next.Checks())))
	}
	return words, nobody
}

// reloadAs is a reload that nobody at the admin socket asked for.
func (s *serving) reloadAs(name string) {
	s.notify(listen.Reloading())
	who := proxy.Who{UID: -1, GID: -1, Name: name}
	op, err := s.admin.Reload(context.Background(), who, api.ReloadRequest{})
	var refused *api.Error
	switch {
	case errors.As(err, &refused):
		s.log.Error("not reloaded", zap.String("by", name), zap.String("error", refused.Message), zap.Strings("details", refused.Details), zap.String("holds", refused.Holds))
	case err != nil:
		s.log.Error("not reloaded", zap.String("by", name), zap.Error(err))
	default:
		s.log.Info("reloaded", zap.String("by", name), zap.Uint64("revision", op.Revision), zap.Strings("changes", op.Plan))
	}
	s.notify(listen.Ready, s.statusLine())
}

// run serves until a signal ends it.
func (s *serving) run(signals <-chan os.Signal, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
			s.reloadAs("watch")
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				s.reloadAs("signal")
			case reopenLogs: // ours is stderr
			case syscall.SIGQUIT:
				s.stop(sig, 0, signals)
				return
			default:
				s.stop(sig, s.longestDrain(), signals)
				return
			}
		}
	}
}

func (s *serving) longestDrain() time.Duration {
	longest := time.Duration(0)
	for _, svc := range s.sw.Current().Services {
		longest = max(longest, svc.Spec.Drain.Timeout)
	}
	return longest
}

// stop ends the door: no new clients, time for those that are there, then the end. A second signal takes the
// time away.
func (s *serving) stop(sig os.Signal, drain time.Duration, signals <-chan os.Signal) {
	s.log.Info("stopping", zap.Stringer("signal", sig), zap.Duration("drain", drain), zap.Int("connections", s.front.Connections()))
	s.notify(listen.Stopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (drain+10*time.Second).Microseconds()))
	s.admin.Stops(time.Now().Add(drain))
	s.auto.Close() // before the switch, so that its own hand-over is not taken back in the middle
	s.sw.Stop(sig.String())
	s.rollout.Close()
	s.rounds.Close()
	s.front.CloseListeners()
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	go func() { // ends with ctx
		for {
			select {
			case sig := <-signals:
				if sig == syscall.SIGTERM || sig == os.Interrupt || sig == syscall.SIGQUIT {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	left := s.front.Drain(ctx)
	s.front.Stop()
	s.certs.Close()
	closing, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if err := s.admin.Close(closing); err != nil {
		s.log.Warn("admin socket not closed well", zap.Error(err))
	}
	if err := s.journal.Close(); err != nil {
		s.log.Error("journal not closed well", zap.Error(err))
	}
	s.log.Info("stopped", zap.Int("cut", left))
}

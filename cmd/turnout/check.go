package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
	"github.com/turnout-proxy/turnout/config/journal"
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs"
)

// checked is what `turnout check -o json` prints.
type checked struct {
	Valid  bool           `json:"valid"`
	Issues []config.Issue `json:"issues,omitempty"`
	Plan   []string       `json:"plan"`
	Of     string         `json:"of"` // what the plan is of: reload or start

	Refused string `json:"refused,omitempty"` // why the running door would not put the file in force, though it is valid
}

func (c *cli) checkCommand() *cobra.Command {
	var path string
	var schema bool
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Find every mistake of a configuration file, and say what putting it in force would change",
		Long: `Find every mistake of a configuration file. Of a valid one, say what it would change: at the door that runs, if
its admin socket answers; else at a start. What a reload would refuse is an error here too, with the same exit code.`,
		Args:              c.wants(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema {
				c.printf("%s", strings.TrimRight(string(config.Schema()), "\n"))
				return nil
			}
			return c.check(cmd, path)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "turnout.yaml", "the configuration `file`")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of the file instead")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func (c *cli) check(cmd *cobra.Command, path string) error {
	cfg, err := config.Load(path)
	var issues config.Errors
	switch {
	case errors.As(err, &issues):
		if c.json() {
			c.writeJSON(checked{Issues: issues, Plan: []string{}})
		}
		e := &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s is not valid: %s", path, plural(len(issues), "mistake"))}
		for _, i := range issues {
			e.Details = append(e.Details, i.Error())
		}
		return e
	case errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config"):
		return &api.Error{Code: api.CodeFailed, Message: err.Error(), Hint: "`turnout check -c FILE` checks another file; `turnout demo` shows one at work"}
	case err != nil:
		return err
	}
	if err := badFiles(certs.Check(cfg.Spec())); err != nil {
		return err
	}
	socket := cfg.Admin.Socket
	if cmd.Flags().Changed("socket") {
		socket = c.socket
	}
	result := checked{Valid: true, Of: "reload"}
	var refused *api.Error
	result.Plan, refused, err = c.planOfReload(client.Dial(socket), cfg, path)
	if err != nil {
		result.Of = "start"
		result.Plan, refused = planOfStart(cfg)
	}
	if refused != nil {
		result.Refused = refused.Message
		refused.Message = "a " + result.Of + " would be refused: " + refused.Message
	}
	if c.json() {
		if result.Plan == nil {
			result.Plan = []string{}
		}
		c.writeJSON(result)
		return orNil(refused)
	}
	c.printf("%s is valid: %s", path, contents(cfg.Spec()))
	switch {
	case refused != nil:
		return refused
	case err == nil && len(result.Plan) == 0:
		c.printf("a reload would change nothing")
	case err == nil:
		c.printf("a reload would change:")
	case errGone(err):
		c.printf("a start would serve:")
	default:
		c.notef("the running door's view is not known: %s", err)
		c.printf("a start would serve:")
	}
	for _, line := range result.Plan {
		if strings.HasPrefix(line, "be refused ") { // it is said of a change that it would
			line = "it would " + line
		}
		c.printf("  %s", line)
	}
	return nil
}

func contents(spec *proxy.Spec) string {
	pools, servers := 0, 0
	for i := range spec.Services {
		pools += len(spec.Services[i].Pools)
		for j := range spec.Services[i].Pools {
			servers += len(spec.Services[i].Pools[j].Servers)
		}
	}
	s := plural(len(spec.Services), "service") + ", " + plural(pools, "pool") + ", " + plural(servers, "server")
	if len(spec.Groups) > 0 {
		s += ", " + plural(len(spec.Groups), "group")
	}
	return s
}

// planOfReload asks the running door, if it runs this very file; else it compares the file with what the door
// shows of itself. refused is why the door would not put the file in force.
func (c *cli) planOfReload(d *client.Client, cfg *config.Config, path string) (plan []string, refused *api.Error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	st, err := d.Status(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	var now []string // what keeps any file from being put in force now
	if abs, err := filepath.Abs(path); err == nil && abs == st.Config {
		op, err := d.Reload(ctx, api.ReloadRequest{ChangeRequest: api.ChangeRequest{Plan: true}})
		var no *api.Error
		switch {
		case err == nil:
			return withoutNothing(op.Plan), nil, nil
		case !errors.As(err, &no) || no.Code == api.CodePermission || no.Code == api.CodeUnreachable || no.Code == api.CodeTimeout: // it has not said
		case no.Code == api.CodeConflict:
			now = []string{"be refused as it is now: " + no.Message}
		default:
			return nil, no, nil
		}
	}
	for i := range cfg.Spec().Services {
		sp := &cfg.Spec().Services[i]
		if s, known := st.Services[sp.Name]; known && s.State != "removed" {
			if no := sp.Keeps(s.Active, shownSplit(s.Split)); no != nil {
				return nil, &api.Error{Code: string(no.Code), Message: no.Message, Hint: no.Hint,
					Holds: fmt.Sprintf("still %s, revision %d, %s", stateAt(s), st.Revision, plural(s.Connections, "connection"))}, nil
			}
		}
	}
	return append(config.Diff(shown(st, cfg.Spec()), cfg.Spec()), now...), nil, nil
}

// orNil keeps a nil *api.Error from being an error.
func orNil(e *api.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func shownSplit(s *api.Split) *proxy.Split {
	if s == nil {
		return nil
	}
	out := &proxy.Split{}
	for _, pool := range sortedKeys(s.Shares) {
		if share, err := proxy.PercentOf(s.Shares[pool]); err == nil {
			out.Shares = append(out.Shares, proxy.Share{Pool: pool, Percent: share})
		}
	}
	return out
}

// withoutNothing drops the line that says that there is none.
func withoutNothing(plan []string) []string {
	return slices.DeleteFunc(plan, func(s string) bool { return s == "the file changes nothing" })
}

// shown is the spec that a status shows. What a status does not show is taken to be as in the file, so that
// only differences that are known are told.
func shown(st *api.Status, file *proxy.Spec) *proxy.Spec {
	spec := &proxy.Spec{Groups: st.Groups}
	left := maps.Clone(st.Services)
	add := func(name string, like *proxy.ServiceSpec) {
		if s, ok := left[name]; ok {
			spec.Services = append(spec.Services, shownService(name, s, like))
			delete(left, name)
		}
	}
	for i := range file.Services {
		add(file.Services[i].Name, &file.Services[i])
	}
	for _, name := range sortedKeys(left) {
		add(name, &proxy.ServiceSpec{})
	}
	return spec
}

func shownService(name string, s api.Service, like *proxy.ServiceSpec) proxy.ServiceSpec {
	out := *like
	out.Name, out.Mode, out.Exclusive, out.Pools = name, proxy.Mode(s.Mode), s.Exclusive, nil
	if !sameListeners(like.Listen, s.Listen) {
		out.Listen = nil
		for _, l := range s.Listen {
			out.Listen = append(out.Listen, proxy.ListenSpec{Network: proxy.NetTCP, Address: l})
		}
	}
	left := maps.Clone(s.Pools)
	for _, p := range like.Pools {
		if pool, ok := left[p.Name]; ok {
			out.Pools = append(out.Pools, shownPool(p.Name, pool, p))
			delete(left, p.Name)
		}
	}
	for _, p := range sortedKeys(left) {
		out.Pools = append(out.Pools, shownPool(p, left[p], proxy.PoolSpec{}))
	}
	return out
}

// shownPool leaves weights as in the file: those of a status may have been set at run time.
func shownPool(name string, pool api.Pool, like proxy.PoolSpec) proxy.PoolSpec {
	out := proxy.PoolSpec{Name: name}
	left := maps.Clone(pool.Servers)
	for _, s := range like.Servers {
		if sv, ok := left[s.Name]; ok {
			s.Address, s.MaxConnections = sv.Address, sv.MaxConnections
			out.Servers = append(out.Servers, s)
			delete(left, s.Name)
		}
	}
	for _, s := range sortedKeys(left) {
		out.Servers = append(out.Servers, proxy.ServerSpec{Name: s, Address: left[s].Address, Weight: left[s].Weight})
	}
	return out
}

// sameListeners compares what the file asks for with what the door got: no host is every host, and port 0 any
// port.
func sameListeners(want []proxy.ListenSpec, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i, l := range want {
		if l.Network != proxy.NetTCP || l.Address == got[i] {
			continue // a unix or systemd socket is shown as it was asked for, or by its path
		}
		host, port, err := net.SplitHostPort(l.Address)
		gotHost, gotPort, gotErr := net.SplitHostPort(got[i])
		if err != nil || gotErr != nil || port != "0" && port != gotPort || host != "" && host != gotHost {
			return false
		}
	}
	return true
}

// planOfStart says what a start would serve, and what the journal remembers otherwise than the file says; or
// why there would be none.
func planOfStart(cfg *config.Config) ([]string, *api.Error) {
	plan := config.Diff(nil, cfg.Spec())
	r, err := journal.ReadOnly(cfg.StateDir, journal.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return plan, nil
	}
	mem := &proxy.Memory{}
	if err == nil {
		err = r.Replay(into(mem))
	}
	var corrupt *journal.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return nil, &api.Error{Code: api.CodeFailed, Message: err.Error()}
	case err != nil:
		return append(plan, "the journal cannot be read: "+err.Error()), nil
	}
	return append(plan, remembered(cfg.Spec(), mem)...), nil
}

// activeGone says that a start has to choose another active pool than the one that the journal remembers.
func activeGone(s *proxy.ServiceSpec, m *proxy.ServiceMemory) string {
	if slices.ContainsFunc(s.Pools, func(p proxy.PoolSpec) bool { return p.Name == m.Active }) {
		return ""
	}
	return fmt.Sprintf("service %s: active is %s; the journal remembers %s, which the file no longer has", s.Name, s.Active, m.Active)
}

func remembered(spec *proxy.Spec, mem *proxy.Memory) []string {
	var out []string
	for i := range spec.Services {
		s := &spec.Services[i]
		m := mem.Services[s.Name]
		if m == nil {
			continue
		}
		if text := activeGone(s, m); text != "" {
			out = append(out, text)
		} else if m.Active != s.Active {
			out = append(out, fmt.Sprintf("service %s: active is %s, as the journal remembers (the file says %s)", s.Name, m.Active, s.Active))
		}
		if h := m.Hold; h != nil && h.Until.After(time.Now()) {
			out = append(out, fmt.Sprintf("service %s: held until %s, as the journal remembers", s.Name, h.Until.Local().Format(time.DateTime)))
		}
		if m.Split != nil && (m.Split.Until.IsZero() || m.Split.Until.After(time.Now())) {
			out = append(out, fmt.Sprintf("service %s: split: %s, as the journal remembers", s.Name, m.Split))
		}
		if m.ReadOnly != nil {
			out = append(out, fmt.Sprintf("service %s: read-only, as the journal remembers", s.Name))
		}
		if m.Maintenance != nil {
			out = append(out, fmt.Sprintf("service %s: in maintenance, as the journal remembers", s.Name))
		}
		if m.Announced != nil {
			out = append(out, fmt.Sprintf("service %s: maintenance announced for %s, as the journal remembers", s.Name, m.Announced))
		}
	}
	if f := mem.Frozen; f != nil {
		out = append(out, "frozen by "+f.By+because(f.Reason)+", as the journal remembers")
	}
	return out
}

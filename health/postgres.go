package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ownAddress stands in a DSN for the address of who is asked, when the DSN names no host.
const ownAddress = "own-address.turnout.invalid"

const roleQuery = `select case when pg_is_in_recovery() then 'replica' else 'primary' end as role, pg_is_in_recovery() as in_recovery`

// postgresProbe makes a connection for each run: it proves what a new client would meet, and nothing broken is
// ever used again.
type postgresProbe struct {
	Postgres
	config *pgx.ConnConfig
}

func newPostgres(o *Postgres, c *Check) (prober, error) {
	p := &postgresProbe{Postgres: *o}
	switch {
	case o.Role != "" && o.Role != "primary" && o.Role != "replica":
		return p, &SpecError{Key: "postgres.role", Text: fmt.Sprintf("%q: want primary or replica", o.Role)}
	case o.Role != "" && o.Query != "":
		return p, &SpecError{Key: "postgres.role", Text: "beside a query: want one of them"}
	}
	if p.Query == "" {
		p.Query = roleQuery
	}
	var err error
	if p.config, err = parseDSN(o.DSN); err != nil {
		return p, &SpecError{Key: "postgres.dsn", Text: "is no postgres://… URL and no key=value list (not shown, it may hold a password)"}
	}
	c.hide.add(p.config.Password, o.DSN)
	p.config.MaxProtocolMessageBodyLen = maxAnswer
	p.config.RuntimeParams["client_encoding"] = "UTF8" // the simple protocol needs it, whatever the database has
	// One round trip, no statement left behind: works through poolers as well.
	p.config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return p, nil
}

// parseDSN makes a DSN without a host ask ownAddress, which pgx would replace by what PGHOST says.
func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return pgx.ParseConfig("host=" + ownAddress + " " + dsn) // a later host wins
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" && u.Query().Get("host") == "" {
		u.Host = net.JoinHostPort(ownAddress, "5432")
	}
	return pgx.ParseConfig(u.String())
}

func (p *postgresProbe) ask(ctx context.Context, t Target) (result, error) {
	lines := &lines{ctx: ctx}
	defer lines.end()
	config, err := p.aimed(t, lines)
	if err != nil {
		return result{}, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return result{}, postgresWords(err)
	}
	r, err := p.query(ctx, conn, t)
	if err != nil {
		return r, postgresWords(err)
	}
	_ = conn.Close(ctx) // says goodbye; the line is cut in any case
	return r, nil
}

// aimed is the connection's configuration for this target.
func (p *postgresProbe) aimed(t Target, l *lines) (*pgx.ConnConfig, error) {
	c := p.config.Copy()
	c.DialFunc = l.dial
	c.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // dial looks up
	host, port := t.Address, uint16(5432)
	if network, path := split(t.Address); network == "unix" {
		l.path = path
		host = filepath.Dir(path)
	} else if c.Host == ownAddress {
		h, number, err := net.SplitHostPort(t.Address)
		n, bad := strconv.ParseUint(number, 10, 16)
		if err != nil || bad != nil {
			return nil, fmt.Errorf("address %q: want host:port", t.Address)
		}
		host, port = h, uint16(n)
	}
	if c.Host == ownAddress {
		c.Host, c.Port, c.TLSConfig = host, port, retarget(c.TLSConfig, host)
	} else {
		l.path = ""
	}
	for _, f := range c.Fallbacks {
		if f.Host == ownAddress {
			f.Host, f.Port, f.TLSConfig = host, port, retarget(f.TLSConfig, host)
		}
	}
	return c, nil
}

func retarget(t *tls.Config, host string) *tls.Config {
	if t == nil || t.ServerName != ownAddress {
		return t
	}
	t = t.Clone()
	t.ServerName = host
	return t
}

func (p *postgresProbe) query(ctx context.Context, conn *pgx.Conn, t Target) (result, error) {
	timeout := 10 * time.Second
	if end, given := ctx.Deadline(); given {
		timeout = time.Until(end)
	}
	// The server gives up by itself a little before we do, so that nothing runs on there after us.
	begin := fmt.Sprintf("begin read only; set local statement_timeout = %d", max(1, timeout.Milliseconds()*9/10))
	if _, err := conn.Exec(ctx, begin); err != nil {
		return result{}, err
	}
	rows, err := conn.Query(ctx, p.Query)
	if err != nil {
		return result{}, err
	}
	v := postgresVars{Server: about(t)}
	for ; rows.Next(); v.Rows++ {
		if v.Rows > 0 {
			continue
		}
		if v.Row, err = rowOf(rows); err != nil {
			rows.Close()
			return result{}, err
		}
	}
	if err := rows.Err(); err != nil {
		return result{}, err
	}
	return p.result(v), nil
}

func (p *postgresProbe) result(v postgresVars) result {
	r := result{vars: v, good: v.Rows > 0, why: "the query answers with no row"}
	if v.Rows == 0 {
		r.status = "no row"
	}
	if role, _ := v.Row["role"].(string); p.Role != "" {
		r.status, r.good = role, role == p.Role
		r.why = fmt.Sprintf("role is %s, want %s", role, p.Role)
	}
	if v.Row != nil {
		r.text = cut(fmt.Sprint(v.Row)[3:], maxBody) // map[a:1 b:2] -> [a:1 b:2]
	}
	return r
}

// rowOf makes a row of plain values: numbers, texts, booleans, times.
func rowOf(rows pgx.Rows) (map[string]any, error) {
	values, err := rows.Values()
	if err != nil {
		return nil, err
	}
	row := make(map[string]any, len(values))
	for i, f := range rows.FieldDescriptions() {
		switch v := values[i].(type) {
		case int16:
			row[f.Name] = int(v)
		case int32:
			row[f.Name] = int(v)
		case int64:
			row[f.Name] = int(v)
		case uint32:
			row[f.Name] = int(v)
		case float32:
			row[f.Name] = float64(v)
		case nil, bool, string, float64, time.Time, map[string]any, []any:
			row[f.Name] = v
		default:
			row[f.Name] = string(rows.RawValues()[i]) // as the server writes it
			if n, err := strconv.ParseFloat(row[f.Name].(string), 64); err == nil {
				row[f.Name] = n // numeric
			}
		}
	}
	return row, nil
}

// postgresWords leaves out what pgx adds: it repeats user and database, and an address we know.
func postgresWords(err error) error {
	var pg *pgconn.PgError
	var w *words
	switch {
	case errors.As(err, &pg) && pg.Code == "57014" && strings.Contains(pg.Message, "timeout"): // ours, which is no setting of the database's
		return errors.New("the query was still running when the check's timeout came (57014)")
	case errors.As(err, &pg):
		return fmt.Errorf("%s: %s (%s)", strings.ToLower(pg.Severity), pg.Message, pg.Code)
	case errors.Is(err, errTooLarge) || strings.Contains(err.Error(), "invalid body length: expected at most"):
		return errTooLarge
	case errors.As(err, &w):
		return w
	}
	var d *dialError
	if errors.As(err, &d) {
		return d.error
	}
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+3:]
	}
	if strings.Contains(text, "EOF") || strings.Contains(text, "closed") || strings.Contains(text, "reset") {
		return errors.New("the connection was closed before an answer")
	}
	return errors.New(strings.Join(strings.Fields(text), " "))
}

type dialError struct{ error }

func (d *dialError) Unwrap() error { return d.error }

// lines are the connections of one run. pgx asks a hanging server in the background to cancel, for up to 15 s:
// after end it can dial no more, and what it has is cut.
type lines struct {
	ctx  context.Context
	path string // of a unix socket, which need not have PostgreSQL's name

	mu    sync.Mutex
	open  []net.Conn // guarded by mu
	ended bool       // guarded by mu; never falls back to false
}

func (l *lines) dial(_ context.Context, network, address string) (net.Conn, error) {
	switch {
	case l.path != "":
		address = "unix:" + l.path
	case network == "unix":
		address = "unix:" + address
	}
	c, err := dial(l.ctx, Target{Address: address}) // TLS is the DSN's affair, for PostgreSQL begins it in its own words
	if err != nil {
		return nil, &dialError{err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.open = append(l.open, c)
	return c, nil
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, c := range l.open {
		_ = c.Close()
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// cluster is a PostgreSQL that is started as a primary or as the standby of another one.
type cluster struct {
	*process
	t             *testing.T
	name, address string
	dir           string
	attr          *syscall.SysProcAttr
}

func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	c := &cluster{t: t, name: name, address: freePort(t), dir: room(t), attr: unprivileged(t)}
	if own := c.attr.Credential; own != nil {
		if err := os.Chown(c.dir, int(own.Uid), int(own.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if c.process != nil {
			_ = c.Process.Signal(syscall.SIGQUIT)
			<-c.ended
		}
	})
	return c
}

// as is a command that runs as the account of PostgreSQL, in the cluster's folder.
func (c *cluster) as(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(postgresBin(c.t, program), args...)
	own := *c.attr
	cmd.SysProcAttr, cmd.Dir = &own, c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "LC_ALL=C")
	return cmd
}

func (c *cluster) run(program string, args ...string) {
	c.t.Helper()
	if b, err := c.as(program, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", program, err, b)
	}
}

func portOf(address string) string { _, port, _ := strings.Cut(address, ":"); return port }

// start runs it, as the standby of a primary or, without one, as what its folder says.
func (c *cluster) start(primary *cluster) {
	c.t.Helper()
	data := filepath.Join(c.dir, "data")
	args := []string{"-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + portOf(c.address), "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=40", "-c", "autovacuum=off", "-c", "cluster_name=" + c.name,
		"-c", "wal_retrieve_retry_interval=100ms"}
	if primary != nil {
		signal := filepath.Join(data, "standby.signal")
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			c.t.Fatal(err)
		}
		if own := c.attr.Credential; own != nil {
			if err := os.Chown(signal, int(own.Uid), int(own.Gid)); err != nil {
				c.t.Fatal(err)
			}
		}
		args = append(args, "-c", "primary_conninfo=host=127.0.0.1 port="+portOf(primary.address)+" user=postgres application_name="+c.name)
	}
	c.process = launch(c.t, c.as("postgres", args...))
	eventually(c.t, c.name+" accepts connections", func() bool {
		if c.over() {
			c.t.Fatalf("PostgreSQL %s ended: %s", c.name, c.err.String())
		}
		return exec.Command(postgresBin(c.t, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", portOf(c.address)).Run() == nil
	})
	if primary != nil {
		eventually(c.t, c.name+" streams from "+primary.name, func() bool {
			return psql(c.t, primary.address, "select count(*) from pg_stat_replication where state = 'streaming'") == "1"
		})
	}
}

// rowWriter inserts rows that no one else inserts, one after the other, through the door, and remembers what was committed.
type rowWriter struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	acked    []int
	readOnly []string // what only a standby answers
}

func startRowWriter(t *testing.T, address string) *rowWriter {
	ctx, stop := context.WithCancel(t.Context())
	w := &rowWriter{stop: stop}
	w.work.Go(func() { // ends with ctx
		for n := 0; ctx.Err() == nil; {
			c, err := pgx.Connect(ctx, "postgres://postgres@"+address+"/postgres?sslmode=disable")
			if err != nil {
				pace(10 * time.Millisecond)
				continue
			}
			n = w.write(ctx, c, n)
			_ = c.Close(ctx)
		}
	})
	return w
}

// write goes on until the connection ends, and returns the next number.
func (w *rowWriter) write(ctx context.Context, c *pgx.Conn, n int) int {
	for ; ctx.Err() == nil; pace(2 * time.Millisecond) {
		_, err := c.Exec(ctx, "insert into kept values ($1)", n)
		n++
		w.mu.Lock()
		var told *pgconn.PgError
		if err == nil {
			w.acked = append(w.acked, n-1)
		} else if errors.As(err, &told) && told.Code == "25006" { // read_only_sql_transaction
			w.readOnly = append(w.readOnly, told.Message)
		}
		w.mu.Unlock()
		if err != nil {
			return n
		}
	}
	return n
}

func (w *rowWriter) committed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *rowWriter) goesOn(t *testing.T, what string) {
	t.Helper()
	n := w.committed()
	eventually(t, what, func() bool { return w.committed() > n+50 })
}

// missing counts the rows that were committed, from the nth on, and that a server has not.
func (w *rowWriter) missing(t *testing.T, address string, n int) int {
	t.Helper()
	w.mu.Lock()
	acked := w.acked[n:len(w.acked):len(w.acked)] // before the look: more are committed meanwhile
	w.mu.Unlock()
	has := map[string]bool{}
	for id := range strings.Lines(psql(t, address, "select id from kept")) {
		has[strings.TrimSpace(id)] = true
	}
	lost := 0
	for _, id := range acked {
		if !has[fmt.Sprint(id)] {
			lost++
		}
	}
	return lost
}

// examples/postgres-switchover, as its README says: a planned switchover to the standby and back loses no commit; then the
// primary is killed, and the door waits for the promotion and follows it.
func TestExample_PostgresSwitchover(t *testing.T) {
	a, b := newCluster(t, "a"), newCluster(t, "b")
	a.run("initdb", "-D", filepath.Join(a.dir, "data"), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
	a.start(nil)
	psql(t, a.address, "create table kept (id int primary key)")
	b.run("pg_basebackup", "-D", filepath.Join(b.dir, "data"), "-h", "127.0.0.1", "-p", portOf(a.address), "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync")
	b.start(a)

	front := freePort(t)
	d := exampleDoor(t, "postgres-switchover", "FRONT="+front, "PG_A="+a.address, "PG_B="+b.address)
	state := func(name string) string { return d.service("db").Pools[name].Servers[name].State }
	eventually(t, "a is ready", func() bool { return state("a") == "ready" })
	eventually(t, "b waits", func() bool { return state("b") == "waiting" })
	w := startRowWriter(t, front)
	defer func() { w.stop(); w.work.Wait() }()
	w.goesOn(t, "rows are committed")

	// A planned switchover, there and back.
	over := func(verb string, from, to *cluster) {
		t.Helper()
		r := d.cli(verb, "db", "--hold", "60s", "--drain", "2s", "--wait-for", "primary",
			"--stop-old", fmt.Sprintf("kill -INT %d && while kill -0 %[1]d 2>/dev/null; do sleep 0.05; done", from.Process.Pid),
			"--start-new", fmt.Sprintf("%s -X -q -h 127.0.0.1 -p %s -U postgres -c 'select pg_promote()' postgres", postgresBin(t, "psql"), portOf(to.address)))
		if r.code != 0 && r.code != 6 { // 6: a connection was cut at the drain's deadline
			t.Fatalf("%s: %s", verb, r)
		}
		t.Logf("%s:\n%s%s", verb, r.out, r.err)
		w.goesOn(t, "rows are committed on "+to.name)
		if lost := w.missing(t, to.address, 0); lost > 0 {
			t.Errorf("%d of %d commits are not on %s", lost, w.committed(), to.name)
		}
		from.start(to) // it becomes the standby; it stopped in order, so nothing is to be rewound
		eventually(t, from.name+" waits", func() bool { return state(from.name) == "waiting" })
	}
	over("swap", a, b)
	over("back", b, a)

	// The primary dies. Nothing moves until its standby is promoted, and nobody is let through to it before.
	killed := time.Now()
	_ = a.Process.Kill()
	<-a.ended
	eventually(t, "the door holds", func() bool { return d.service("db").State == "held" })
	if s := d.service("db"); s.Active != "a" {
		t.Errorf("the door moved to %s, which is a standby", s.Active)
	}
	promoted := time.Now()
	psql(t, b.address, "select pg_promote()")
	eventually(t, "the door follows the primary", func() bool { s := d.service("db"); return s.Active == "b" && s.State == "serving" })
	atFailover := w.committed() // no earlier: the writer may have had an answer of the dead one to note still
	t.Logf("kill -9: held until the standby was promoted, %s later; followed %s after that", promoted.Sub(killed).Round(time.Millisecond), time.Since(promoted).Round(time.Millisecond))
	w.goesOn(t, "rows are committed again")
	if lost := w.missing(t, b.address, atFailover); lost > 0 {
		t.Errorf("%d commits of after the failover are not on the new primary", lost)
	}
	t.Logf("of the commits of before the kill %d are lost: replication is asynchronous", w.missing(t, b.address, 0))
	w.stop()
	w.work.Wait()
	if len(w.readOnly) > 0 {
		t.Errorf("%d writes went to a standby: %s", len(w.readOnly), w.readOnly[0])
	}
	if r := d.lastSwapOf("db"); r.Who.Name != "failover" || r.To != "b" {
		t.Errorf("history: %+v", r)
	}
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// postgresBin finds a program that is not on the PATH everywhere.
func postgresBin(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if path, err := exec.LookPath(name); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		missing(t, name)
	}
	slices.Sort(found)
	return found[len(found)-1]
}

// unprivileged is an account that PostgreSQL agrees to run as; nil when this process is not root.
func unprivileged(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	missing(t, "an account to run PostgreSQL as")
	return nil
}

// postgres is a server with the tables of pgbench.
type postgres struct {
	*process
	address string
}

// startPostgres makes clusters of those names and starts them. SHOW cluster_name tells which is which.
func startPostgres(t *testing.T, names ...string) map[string]*postgres {
	t.Helper()
	initdb, server, pgbench := postgresBin(t, "initdb"), postgresBin(t, "postgres"), postgresBin(t, "pgbench")
	out := map[string]*postgres{}
	var wg sync.WaitGroup
	for _, name := range names {
		attr := unprivileged(t)
		dir := room(t)
		if attr.Credential != nil {
			if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		address := freePort(t)
		_, port, _ := strings.Cut(address, ":")
		data := filepath.Join(dir, "data")
		as := func(name string, args ...string) *exec.Cmd {
			cmd := exec.Command(name, args...)
			own := *attr
			cmd.SysProcAttr, cmd.Dir = &own, dir
			cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C")
			return cmd
		}
		p := &postgres{address: address}
		out[name] = p
		wg.Go(func() {
			if b, err := as(initdb, "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
				t.Errorf("initdb: %v\n%s", err, b)
				return
			}
			p.process = launch(t, as(server, "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+port, "-c", "unix_socket_directories=",
				"-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "autovacuum=off", "-c", "cluster_name="+name))
			t.Cleanup(func() { _ = p.Process.Signal(syscall.SIGQUIT); <-p.ended })
			for end := time.Now().Add(slower(20 * time.Second)); !strings.Contains(p.err.String(), "ready to accept connections"); pace(5 * time.Millisecond) {
				if p.over() || time.Now().After(end) {
					t.Errorf("PostgreSQL did not start: %s", p.err.String())
					return
				}
			}
			if b, err := exec.Command(pgbench, "-i", "-q", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "postgres").CombinedOutput(); err != nil {
				t.Errorf("pgbench -i: %v\n%s", err, b)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return out
}

// psql asks one question on a new connection.
func psql(t *testing.T, address, query string) string {
	t.Helper()
	_, port, _ := strings.Cut(address, ":")
	b, err := exec.Command(postgresBin(t, "psql"), "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-c", query, "postgres").CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v\n%s", query, err, b)
	}
	return strings.TrimSpace(string(b))
}

var (
	processed = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	failedTx  = regexp.MustCompile(`number of failed transactions: (\d+)`)
	selected  = regexp.MustCompile(`duration: [0-9.]+ ms  statement: SELECT abalance`)
	// torn is what PostgreSQL logs when a client goes away in the middle of something.
	torn = regexp.MustCompile(`(?i)unexpected EOF|incomplete message|could not (send|receive) data|connection to client lost|invalid message|reset by peer`)
)

func number(t *testing.T, in *regexp.Regexp, text string) int {
	t.Helper()
	m := in.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in:\n%s", in, text)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func TestPostgres_NoFailedTransactionThroughFiftySwapsAndAnIdleCutAtTheDeadline(t *testing.T) {
	t.Parallel()
	pgbench := postgresBin(t, "pgbench")
	servers := startPostgres(t, "a", "b")
	listen := freePort(t)
	_, port, _ := strings.Cut(listen, ":")
	d := newDoor(t, fmt.Sprintf("services:\n  db:\n    listen: %q\n    pools: {a: [%q], b: [%q]}\n", listen, servers["a"].address, servers["b"].address)).start()
	bench := func(env string, args ...string) *process {
		cmd := exec.Command(pgbench, append([]string{"-n", "-S", "-h", "127.0.0.1", "-p", port, "-U", "postgres"}, append(args, "postgres")...)...)
		cmd.Dir, cmd.Env = room(t), append(os.Environ(), "PGOPTIONS="+env)
		return launch(t, cmd)
	}

	t.Run("a connection per transaction", func(t *testing.T) {
		quit, results := make(chan struct{}), make(chan result, 1000)
		go func() { // ends with quit
			defer close(results)
			for {
				select {
				case <-quit:
					return
				default:
					results <- ended(t, bench("", "-C", "-c", "4", "-j", "2", "-t", "10"))
				}
			}
		}()
		to := "b"
		for i := range 50 {
			d.swapTo("db", to)
			before := d.service("db").Pools[to].Servers[servers[to].address].Total
			if i%7 == 0 {
				if got := psql(t, listen, "SHOW cluster_name"); got != to {
					t.Errorf("after swap %d to %s the door leads to %s", i+1, to, got)
				}
			}
			eventually(t, "the new side has served some", func() bool {
				return d.service("db").Pools[to].Servers[servers[to].address].Total >= before+3
			})
			to = map[string]string{"a": "b", "b": "a"}[to]
		}
		close(quit)
		runs, transactions := 0, 0
		for r := range results {
			if r.code != 0 || number(t, failedTx, r.out) != 0 || strings.Contains(r.err, "error") {
				t.Errorf("pgbench -C -S: %s", r)
			}
			runs++
			transactions += number(t, processed, r.out)
		}
		done := map[string]string{}
		for name, s := range servers {
			if done[name] = psql(t, s.address, "SELECT seq_scan+idx_scan FROM pg_stat_user_tables WHERE relname = 'pgbench_accounts'"); done[name] == "0" {
				t.Errorf("server %s was never asked", name)
			}
		}
		t.Logf("50 swaps, %d transactions in %d runs of pgbench, a connection each: 0 failed (index scans: a %s, b %s)", transactions, runs, done["a"], done["b"])
	})

	t.Run("a persistent connection stays until the deadline and is cut between two answers", func(t *testing.T) {
		d.must("swap", "db", "a", "--drain", "100ms") // may be there already
		p := bench("-c log_min_duration_statement=0", "-c", "1", "-T", "60", "-R", "20")
		log := func() int { return len(selected.FindAllString(servers["a"].err.String(), -1)) }
		eventually(t, "pgbench talks to a", func() bool { return log() > 5 })
		const drain = time.Second
		at := time.Now()
		op, err := d.Client.Swap(context.Background(), "db", api.SwapRequest{ChangeRequest: api.ChangeRequest{Wait: &no}, To: "b", Drain: api.Duration(drain)})
		if err != nil {
			t.Fatal(err)
		}
		before := log()
		code := p.awaitEnd(t, 20*time.Second)
		lasted := time.Since(at)
		after, said := log(), p.out.String()+p.err.String()
		if code == 0 {
			t.Errorf("pgbench was not cut: %s", said)
		}
		if lasted < drain || lasted > drain+slower(2*time.Second) {
			t.Errorf("cut %s after the swap, the drain's deadline is %s", lasted, drain)
		}
		if after-before < 5 {
			t.Errorf("only %d transactions on the old side after the swap", after-before)
		}
		if n := number(t, processed, said); n != after {
			t.Errorf("pgbench had %d whole answers, the server gave %d", n, after)
		}
		if bad := torn.FindString(servers["a"].err.String()); bad != "" {
			t.Errorf("the server's log has %q:\n%s", bad, servers["a"].err.String())
		}
		if strings.Contains(servers["b"].err.String(), "abalance") {
			t.Error("the persistent connection reached the new side")
		}
		eventually(t, "the drain has ended", func() bool {
			op, err = d.Client.Operation(context.Background(), op.ID, 0, 0)
			return err == nil && op.State == "done"
		})
		if pr := op.Proofs[0]; pr.Cut != 1 || !pr.Drained {
			t.Errorf("proof: %+v", pr)
		}
		t.Logf("%d answers before the swap, %d after it on the old side, cut %s after the deadline with every answer whole", before, after-before, lasted-drain)
	})
}

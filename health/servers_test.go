package health

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// program is a real one; without it a test says so, and fails where all must be there.
func program(t *testing.T, pattern string) string {
	t.Helper()
	if path, err := exec.LookPath(pattern); err == nil {
		return path
	}
	if all, _ := filepath.Glob(pattern); len(all) > 0 {
		return all[len(all)-1]
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", pattern)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s is not installed", pattern)
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs a server until the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() })
}

// until runs a check until it answers as wanted.
func until(t *testing.T, s Spec, address, want string) {
	t.Helper()
	var a Answer
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if a = run(t, s, address); a.Reason == want {
			return
		}
	}
	t.Fatalf("%q, want %q", a.Reason, want)
}

func TestRedis_AsksForTheRoleWithAPassword(t *testing.T) {
	redis := program(t, "redis-server")
	server := func(args ...string) string {
		port := fmt.Sprint(freePort(t))
		start(t, exec.Command(redis, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...))
		return "127.0.0.1:" + port
	}
	master := server("--requirepass", "hunter2")
	until(t, Spec{Redis: &Redis{Password: "hunter2"}}, master, "")
	_, port, _ := net.SplitHostPort(master)
	replica := server("--replicaof", "127.0.0.1 "+port, "--masterauth", "hunter2")
	until(t, Spec{Redis: &Redis{Role: "replica"}, Expect: `role == "replica" && body.link == "connected"`}, replica, "")
	wantReason(t, run(t, Spec{Redis: &Redis{Role: "replica"}}, replica), "")
	wantReason(t, run(t, Spec{Redis: &Redis{Role: "master"}}, replica), "role is replica, want master")
	wantReason(t, run(t, Spec{Redis: &Redis{Username: "default", Password: "hunter2", Role: "master"}, Value: "body.offset"}, master), "")
	wantReason(t, run(t, Spec{Redis: &Redis{}}, master), "PING: NOAUTH Authentication required.")
	if a := run(t, Spec{Redis: &Redis{Password: "wrong"}}, master); !strings.HasPrefix(a.Reason, "AUTH: WRONGPASS") {
		t.Error(a.Reason)
	}
}

func TestRedis_SpeaksTLSAndSaysWhoseCertificateIsWrong(t *testing.T) {
	redis := program(t, "redis-server")
	dir, ca, other := t.TempDir(), certstest.New(t), certstest.New(t)
	cert, key := ca.Pair(dir, "server", "127.0.0.1")
	ownCert, ownKey := ca.Pair(dir, "client", "client")
	strange, strangeKey := other.Pair(dir, "stranger", "client")
	port, plain := fmt.Sprint(freePort(t)), fmt.Sprint(freePort(t))
	start(t, exec.Command(redis, "--port", plain, "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--requirepass", "hunter2",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca.File, "--tls-auth-clients", "yes"))
	ask := func(c TLS) Spec { return Spec{Redis: &Redis{Password: "hunter2", Role: "master", TLS: &c}} }
	address := "127.0.0.1:" + port
	until(t, ask(TLS{CAFile: ca.File, CertFile: ownCert, KeyFile: ownKey}), address, "")
	for range 20 { // the server may have ended the connection before it was told anything
		for reason, c := range map[string]TLS{
			"certificate required":          {CAFile: ca.File},
			"unknown certificate authority": {CAFile: ca.File, CertFile: strange, KeyFile: strangeKey},
		} {
			if a := run(t, ask(c), address); !strings.HasSuffix(a.Reason, "tls: the server says: "+reason) {
				t.Errorf("%q, want %s", a.Reason, reason)
			}
		}
	}
	if a := run(t, ask(TLS{CAFile: other.File, CertFile: ownCert, KeyFile: ownKey}), address); !strings.HasPrefix(a.Reason, "tls: failed to verify certificate: x509: certificate signed by unknown authority") {
		t.Error(a.Reason)
	}
	wantReason(t, run(t, ask(TLS{CAFile: ca.File, CertFile: ownCert, KeyFile: ownKey, ServerName: "other.example"}), address), "tls: failed to verify certificate: x509: certificate is not valid for any names, but wanted to match other.example")
	if a := run(t, ask(TLS{Off: true}), address); a.OK || a.Reason == "" {
		t.Errorf("without TLS: %+v", a)
	}
	plainly := ask(TLS{CAFile: ca.File}) // Redis takes a hello for a command, and answers if a byte of it happens to end a line
	plainly.Timeout = 300 * time.Millisecond
	if a := run(t, plainly, "127.0.0.1:"+plain); a.Reason != "no answer within 300ms" && a.Reason != "tls: the server does not speak TLS" {
		t.Errorf("TLS to the plain port: %s", a.Reason)
	}
}

func TestPostgres_AsksTheDatabaseAndLeavesNothingThere(t *testing.T) {
	bin := filepath.Dir(program(t, "/usr/lib/postgresql/*/bin/postgres"))
	dir, err := os.MkdirTemp("", "turnout-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		if os.Getuid() == 0 { // PostgreSQL refuses to run as root
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		return cmd
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	data, port := filepath.Join(dir, "d"), freePort(t)
	secret := filepath.Join(dir, "pw")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := as("initdb", "-D", data, "-U", "op", "--pwfile", secret, "-A", "scram-sha-256", "--no-sync", "--locale=C").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	start(t, as("postgres", "-D", data, "-p", fmt.Sprint(port), "-h", "127.0.0.1", "-k", dir, "-c", "fsync=off"))
	address := fmt.Sprintf("127.0.0.1:%d", port)
	const dsn = "user=op password=hunter2 dbname=postgres"
	ask := func(query, expect string) Spec {
		return Spec{Postgres: &Postgres{DSN: dsn, Query: query}, Expect: expect}
	}
	until(t, ask("", ""), address, "")
	wantReason(t, run(t, Spec{Postgres: &Postgres{DSN: dsn, Role: "primary"}}, address), "")
	wantReason(t, run(t, Spec{Postgres: &Postgres{DSN: dsn, Role: "replica"}}, address), "role is primary, want replica")
	wantReason(t, run(t, ask("select 1", ""), fmt.Sprintf("unix:%s/.s.PGSQL.%d", dir, port)), "")
	wantReason(t, run(t, Spec{Postgres: &Postgres{DSN: "postgres://op:hunter2@" + address + "/postgres"}}, "1.2.3.4:5"), "")
	wantReason(t, run(t, ask("select 7 as n, 1.5::numeric as f, 's1' as holder, pg_current_wal_lsn() as at", "row.n == 7 && row.f == 1.5 && row.holder == server.name"), address), "")
	wantReason(t, run(t, ask("select 's2' as holder", "row.holder == server.name"), address), "holder=s2")
	wantReason(t, run(t, ask("select 1 as a", "row.b.c == 1"), address), "expect: row has no b")
	wantReason(t, run(t, ask("select 1 where false", ""), address), "the query answers with no row")
	wantReason(t, run(t, ask("selec", ""), address), `error: syntax error at or near "selec" (42601)`)
	wantReason(t, run(t, ask("create table t()", ""), address), "error: cannot execute CREATE TABLE in a read-only transaction (25006)")
	wantReason(t, run(t, ask("select repeat('x', 3000000) as x", ""), address), "the answer is larger than 1 MiB")
	slow := ask("select pg_sleep(60)", "")
	slow.Timeout = 3 * time.Second // the database ends it a moment before, and may be late on a busy machine
	wantReason(t, run(t, slow, address), "the query was still running when the check's timeout came (57014)")
	bad := run(t, Spec{Postgres: &Postgres{DSN: "user=op password=swordfish dbname=postgres"}}, address)
	if !strings.Contains(bad.Reason, "password authentication failed") || strings.Contains(fmt.Sprint(bad), "swordfish") {
		t.Error(bad.Reason)
	}
	conn, err := pgx.Connect(context.Background(), "postgres://op:hunter2@"+address+"/postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // ends with the server
	who := func(user, password, database string) Answer {
		return run(t, Spec{Postgres: &Postgres{DSN: fmt.Sprintf("user=%s password=%s dbname=%s", user, password, database)}}, address)
	}
	for _, sql := range []string{"set password_encryption = 'md5'", "create role old login password 'md5word5'", "create role full login password 'hunter3' connection limit 0"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	hba := filepath.Join(data, "pg_hba.conf") // md5 means: as the password is kept
	if err := os.WriteFile(hba, []byte("host all all 127.0.0.1/32 md5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "select pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	until(t, Spec{Postgres: &Postgres{DSN: "user=old password=md5word5 dbname=postgres"}}, address, "")
	wantReason(t, who("old", "swordfish", "postgres"), `fatal: password authentication failed for user "old" (28P01)`)
	wantReason(t, who("nobody", "swordfish", "postgres"), `fatal: password authentication failed for user "nobody" (28P01)`)
	wantReason(t, who("op", "hunter2", "missing"), `fatal: database "missing" does not exist (3D000)`)
	wantReason(t, who("full", "hunter3", "postgres"), `fatal: too many connections for role "full" (53300)`)
	for end, n := time.Now().Add(5*time.Second), -1; n != 0; {
		if err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").Scan(&n); err != nil || time.Now().After(end) {
			t.Fatal(n, err)
		}
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// items are the clients of the application: each puts an item, or asks for one.
type items struct {
	*rate
	acknowledged []string       // guarded by rate.mu, as are all of these
	by           map[string]int // server → answers
	reads        int            // of items
	told         int            // who wanted to write, and was told that the door is read-only
}

func startItems(api string) *items {
	c := &items{rate: &rate{stop: make(chan struct{})}, by: map[string]int{}}
	c.request = func(n int) *http.Request {
		method := http.MethodPut
		if n%2 == 1 {
			method = http.MethodGet
		}
		q, _ := http.NewRequest(method, fmt.Sprintf("http://%s/items/%d", api, n/2), nil)
		return q
	}
	c.refused = func(q *http.Request, resp *http.Response) bool {
		ok := q.Method == http.MethodPut && resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("X-Turnout-Reason") == "read-only" && resp.Header.Get("Retry-After") != ""
		if ok {
			c.told++
		}
		return ok
	}
	c.answered = func(q *http.Request, body []byte) {
		var a struct{ Item, By string }
		_ = json.Unmarshal(body, &a)
		if q.Method == http.MethodGet {
			c.reads++
		}
		if c.by[a.By]++; a.Item != "" {
			c.acknowledged = append(c.acknowledged, a.Item)
		}
	}
	c.begin(ratePerSecond())
	return c
}

// counted are the reads that were answered and the writes that were refused, so far.
func (c *items) counted() (reads, told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads, c.told
}

func (c *items) written() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.acknowledged) }

func (c *items) answersOf(server string) int { c.mu.Lock(); defer c.mu.Unlock(); return c.by[server] }

// missing tells what of the acknowledged is not in a store, given as its lines.
func (c *items) missing(lines string) (missing []string) {
	kept := map[string]bool{}
	for line := range strings.Lines(lines) {
		kept[strings.TrimPrefix(strings.TrimSpace(line), "item:")] = true
	}
	for _, id := range c.acknowledged {
		if !kept[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// examples/decapi, as its README says: the new database cannot be written to, and app1 serves on; then it can; who wants to
// write is told meanwhile that the door is read-only, and who reads notices nothing; the last server follows; and then the
// cache moves, which before was refused.
func TestExample_DecAPI(t *testing.T) {
	needs(t, "setsid", "redis-cli")
	bin := filepath.Dir(postgresBin(t, "pg_dump"))
	pg := startPostgres(t, "single", "cluster")
	const table = "create table if not exists items (id text primary key, by text)"
	dsn := func(name string) string { return "postgres://postgres@" + pg[name].address + "/decapi" }
	for _, name := range []string{"single", "cluster"} {
		psql(t, pg[name].address, "create database decapi")
	}
	api, cache, single, cluster := freePort(t), freePort(t), freePort(t), freePort(t)
	startRedisAt(t, single)
	startRedisAt(t, cluster)
	env := []string{"PATH=" + filepath.Dir(turnout) + ":" + bin + ":" + os.Getenv("PATH"), "API=" + api, "CACHE=" + cache, "OLD_REDIS=" + single, "NEW_REDIS=" + cluster,
		"APP1=" + freePort(t), "APP2=" + freePort(t), "APP3=" + freePort(t), "OLD_DSN=" + dsn("single"), "NEW_DSN=" + dsn("cluster"),
		"APP=" + exampleProgram(t, "decapi/app")}
	ask := func(name, query string) string {
		r := ended(t, launch(t, exec.Command(filepath.Join(bin, "psql"), "-X", "-A", "-t", "-c", query, dsn(name))))
		if r.code != 0 {
			t.Fatalf("psql: %s", r)
		}
		return r.out
	}
	ask("single", table+"; insert into items values ('first', 'nobody')")
	d := exampleDoor(t, "decapi", env...)
	d.copyExample("decapi", "move-db.yaml", "join.yaml", "move-cache.yaml", "app.sh", "copy-db.sh", "redis.sh")
	for _, name := range []string{"app1", "app2", "app3"} {
		endPID(t, filepath.Join(d.dir, name+".pid"))
		up := d.command()
		up.Path, up.Args, up.Dir, up.Env = filepath.Join(d.dir, "app.sh"), []string{"app.sh", name, dsn("single")}, d.dir, append(up.Env, env...)
		if r := ended(t, launch(t, up)); r.code != 0 {
			t.Fatalf("app.sh: %s", r)
		}
	}
	serving := func() (out []string) {
		for name, s := range d.service("api").Pools["apps"].Servers {
			if s.State == "ready" {
				out = append(out, name)
			}
		}
		return out
	}
	eventually(t, "three servers are ready", func() bool { return len(serving()) == 3 })
	clients := startItems(api)
	finish := sync.OnceFunc(clients.end)
	defer finish()
	flows := func(servers ...string) {
		t.Helper()
		for _, s := range servers {
			n := clients.answersOf(s)
			eventually(t, s+" answers", func() bool { return clients.answersOf(s) > n+5 })
		}
	}
	flows("app1", "app2", "app3")

	// readOnly begins a move and sees it through; while data moves, writes are refused and reads answered. The dump waits for a
	// table that is locked, so that this can be seen.
	ask("single", "create table locked ()")
	readOnly := func() result {
		t.Helper()
		locking := exec.Command(filepath.Join(bin, "psql"), "-X", "-A", "-t", "-q", dsn("single"))
		hold, err := locking.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		lock := launch(t, locking)
		_, _ = io.WriteString(hold, "begin; lock table locked; select 'it is locked';\n")
		eventually(t, "the dump has to wait", func() bool { return strings.Contains(lock.out.String(), "it is locked") })
		run := d.runbook(env, "move-db.yaml")
		eventually(t, "the door is read-only", func() bool { return d.service("api").ReadOnly != nil })
		reads, told := clients.counted()
		eventually(t, "writes are refused, and reads answered", func() bool { r, n := clients.counted(); return r > reads+3 && n > told+3 })
		if s := d.service("api"); s.ReadOnly == nil {
			t.Error("the door was no longer read-only when that was seen")
		}
		_ = hold.Close()
		return ended(t, run)
	}
	// writes are taken when the run is over.
	writes := func() {
		t.Helper()
		if s := d.service("api"); s.ReadOnly != nil {
			t.Errorf("still read-only: %+v", s.ReadOnly)
		}
		_, told := clients.counted()
		n := clients.written()
		eventually(t, "items are taken again", func() bool { return clients.written() > n+5 })
		if _, now := clients.counted(); now > told+ratePerSecond() { // those that were under way as it ended
			t.Errorf("%d writes were refused after the end of read-only", now-told)
		}
	}

	// The new database refuses what is imported.
	psql(t, pg["cluster"].address, "alter database decapi set default_transaction_read_only = on")
	bad := readOnly()
	exitsLike(t, bad, 1, "read-only transaction", "step 5 of 11, dump the database and import it: failed after", "on failure 1 of 2, the old database is written to again: done", "on failure 2 of 2, whoever is still on it serves again: done", "api serving apps")
	t.Logf("the import fails:\n%s", bad)
	longest := clients.settle(t)
	t.Logf("the longest wait in the failed move was %s", longest.Round(time.Millisecond))
	writes()
	flows("app1", "app2", "app3")
	psql(t, pg["cluster"].address, "alter database decapi reset default_transaction_read_only")

	moved := readOnly()
	exitsLike(t, moved, 0, "11 steps done after", "api: apps/app1 -> apps/app2,app3, overlap 0s")
	t.Logf("moved:\n%s", moved)
	longest = clients.settle(t)
	t.Logf("the longest wait was %s", longest.Round(time.Millisecond))
	writes()
	before := strings.Count(ask("single", "select id from items"), "\n")
	flows("app2", "app3")
	joined := ended(t, d.runbook(env, "join.yaml"))
	exitsLike(t, joined, 0, "3 steps done after")
	flows("app1", "app2", "app3")
	if after := strings.Count(ask("single", "select id from items"), "\n"); after != before {
		t.Errorf("the old database got %d items after the move", after-before)
	}

	// A second time, by mistake: it would overwrite what the new one has.
	again := ended(t, d.runbook(env, "move-db.yaml"))
	exitsLike(t, again, 1, "step 1 of 11, all three are on the old database: failed after")
	if got := serving(); len(got) != 3 {
		t.Errorf("after the mistake %v serve", got)
	}

	// The cache: a replica is not led to.
	follow := d.command()
	follow.Path, follow.Args, follow.Dir, follow.Env = filepath.Join(d.dir, "redis.sh"), []string{"redis.sh", "follow"}, d.dir, append(follow.Env, env...)
	if r := ended(t, launch(t, follow)); r.code != 0 {
		t.Fatalf("redis.sh: %s", r)
	}
	refused := d.cli("swap", "cache", "cluster")
	exitsLike(t, refused, 4, "cache not swapped to cluster", "still serving single")
	t.Logf("too early:\n%s", refused)
	cached := ended(t, d.runbook(env, "move-cache.yaml"))
	exitsLike(t, cached, 0, "3 steps done after", "cache: single -> cluster, overlap 0s")
	t.Logf("the cache:\n%s", cached)
	longest = clients.settle(t)
	t.Logf("the longest wait was %s", longest.Round(time.Millisecond))
	flows("app1", "app2", "app3")

	finish()
	if len(clients.failed) > 0 {
		t.Errorf("%d of %d requests failed: %+v", len(clients.failed), clients.asked, clients.failed[0])
	}
	if gone := clients.missing(ask("cluster", "select id from items")); len(gone) > 0 {
		t.Errorf("%d of %d acknowledged items are not in the new database: %v", len(gone), len(clients.acknowledged), gone)
	}
	_, port, _ := strings.Cut(cluster, ":")
	keys := ended(t, launch(t, exec.Command("redis-cli", "-p", port, "--raw", "keys", "item:*")))
	if gone := clients.missing(keys.out); len(gone) > 0 {
		t.Errorf("%d of %d acknowledged items are not in the new cache: %v", len(gone), len(clients.acknowledged), gone)
	}
	t.Logf("%d requests, %d failed, %d writes refused while data moved; %d items acknowledged, all in the new database and the new cache; answers by server: %v",
		clients.asked, len(clients.failed), clients.told, len(clients.acknowledged), clients.by)
}

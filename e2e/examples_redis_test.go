package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// redisWriter writes keys that no one else writes, one after the other, through the door. It connects again when its
// connection ends, and remembers what was acknowledged.
type redisWriter struct {
	address, prefix string
	stop            chan struct{}
	work            sync.WaitGroup

	mu      sync.Mutex
	acked   []string
	refused []string // answers that were errors
}

func startRedisWriter(address, prefix string) *redisWriter {
	w := &redisWriter{address: address, prefix: prefix, stop: make(chan struct{})}
	w.work.Go(func() { // ends with stop, at the latest when its connection's time is over
		for n := 0; ; {
			select {
			case <-w.stop:
				return
			default:
			}
			c, err := net.DialTimeout("tcp", address, slower(10*time.Second))
			if err != nil {
				pace(10 * time.Millisecond)
				continue
			}
			n = w.write(c, n)
			_ = c.Close()
		}
	})
	return w
}

// write goes on until the connection ends, and returns the next number.
func (w *redisWriter) write(c net.Conn, n int) int {
	in := bufio.NewReader(c)
	for {
		select {
		case <-w.stop:
			return n
		default:
		}
		key := fmt.Sprintf("%s-%d", w.prefix, n)
		n++
		_ = c.SetDeadline(time.Now().Add(slower(30 * time.Second)))
		if _, err := fmt.Fprintf(c, "SET %s here\r\n", key); err != nil {
			return n
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return n
		}
		w.mu.Lock()
		if line == "+OK\r\n" {
			w.acked = append(w.acked, key)
		} else {
			w.refused = append(w.refused, key+": "+line)
		}
		w.mu.Unlock()
		pace(2 * time.Millisecond)
	}
}

func (w *redisWriter) acknowledged() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked[:len(w.acked):len(w.acked)]
}

func (w *redisWriter) goesOn(t *testing.T, what string) {
	t.Helper()
	n := len(w.acknowledged())
	eventually(t, what, func() bool { return len(w.acknowledged()) > n+50 })
}

// missing counts which of the keys a server has not.
func (w *redisWriter) missing(t *testing.T, address string, keys []string) (missing []string) {
	t.Helper()
	var ask strings.Builder
	for _, k := range keys {
		ask.WriteString("EXISTS " + k + "\r\n")
	}
	got, err := askAll(address, ask.String(), len(keys))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range got {
		if line != ":1" {
			missing = append(missing, keys[i])
		}
	}
	return missing
}

// askAll sends inline commands whose answers are one line each.
func askAll(address, commands string, n int) (answers []string, err error) {
	c, err := net.DialTimeout("tcp", address, slower(10*time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing was written that is not answered
	_ = c.SetDeadline(time.Now().Add(slower(30 * time.Second)))
	go func() { _, _ = c.Write([]byte(commands)) }() // ends with c
	in := bufio.NewScanner(c)
	for len(answers) < n && in.Scan() {
		answers = append(answers, in.Text())
	}
	if len(answers) < n {
		return nil, fmt.Errorf("%d of %d answers: %w", len(answers), n, in.Err())
	}
	return answers, nil
}

// benchmarkOnAndOn starts redis-benchmark again whenever it ends, as a client that reconnects; it may lose connections,
// but no server may refuse what it sends.
func benchmarkOnAndOn(t *testing.T, quit <-chan struct{}, address string) (runs, clean int) {
	_, port, _ := strings.Cut(address, ":")
	for {
		select {
		case <-quit:
			return runs, clean
		default:
		}
		r := ended(t, launch(t, exec.Command("redis-benchmark", "-h", "127.0.0.1", "-p", port, "-t", "set,get", "-r", "1000", "-c", "10", "-n", "5000", "--csv")))
		if said := r.out + r.err; strings.Contains(said, "READONLY") || strings.Contains(said, "MASTERDOWN") || strings.Contains(said, "LOADING") {
			t.Errorf("a server that is no primary was written to: %s", r)
		}
		runs++
		if r.code == 0 {
			clean++
		}
	}
}

func infoOf(t *testing.T, address, section, field string) string {
	t.Helper()
	_, rest, _ := strings.Cut("\r\n"+redis(t, address, "INFO "+section), "\r\n"+field+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// errorReplies are the answers with which a Redis server refused something since its start.
func errorReplies(t *testing.T, address string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(redis(t, address, "INFO errorstats")) {
		if strings.HasPrefix(line, "errorstat_") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, " ")
}

func replicates(t *testing.T, replica, primary string) {
	t.Helper()
	_, port, _ := strings.Cut(primary, ":")
	redis(t, primary, "CONFIG SET repl-diskless-sync-delay 0") // by default it waits 5 s for further replicas
	if got := redis(t, replica, "REPLICAOF 127.0.0.1 "+port); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("REPLICAOF: %q", got)
	}
	eventually(t, replica+" replicates, and its primary knows", func() bool {
		return infoOf(t, replica, "replication", "master_link_status") == "up" && strings.Contains(infoOf(t, primary, "replication", "slave0"), "state=online")
	})
}

// examples/redis-failover, as its README says: the primary is killed and its replica promoted, the old primary comes back
// as a second one, becomes the replica, and gets the work back in one command.
func TestExample_RedisFailover(t *testing.T) {
	needs(t, "redis-server", "redis-benchmark", "redis-cli")
	a, b := freePort(t), freePort(t)
	first := startRedisAt(t, a)
	startRedisAt(t, b)
	replicates(t, b, a)
	front := freePort(t)
	d := exampleDoor(t, "redis-failover", "FRONT="+front, "REDIS_A="+a, "REDIS_B="+b)
	state := func(name string) string { return d.service("redis").Pools[name].Servers[name].State }
	eventually(t, "a is ready", func() bool { return state("a") == "ready" })
	eventually(t, "b waits", func() bool { return state("b") == "waiting" })
	w := startRedisWriter(front, "unique")
	quit, ran := make(chan struct{}), make(chan [2]int, 1)
	go func() { runs, clean := benchmarkOnAndOn(t, quit, front); ran <- [2]int{runs, clean} }() // ends with quit
	end := sync.OnceFunc(func() {
		close(quit)
		close(w.stop)
		w.work.Wait()
		r := <-ran
		t.Logf("redis-benchmark: %d runs, %d without a lost connection", r[0], r[1])
	})
	defer end()
	w.goesOn(t, "work flows")

	// The primary dies. Nothing moves until the replica is promoted, and nobody is let through to it before.
	killed := time.Now()
	_ = first.Process.Kill()
	<-first.ended
	eventually(t, "the door holds", func() bool { return d.service("redis").State == "held" })
	if s := d.service("redis"); s.Active != "a" {
		t.Errorf("the door moved to %s, which is a replica", s.Active)
	}
	promoted := time.Now()
	if got := redis(t, b, "REPLICAOF NO ONE"); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("REPLICAOF NO ONE: %q", got)
	}
	eventually(t, "the door follows the primary", func() bool { s := d.service("redis"); return s.Active == "b" && s.State == "serving" })
	atFailover := len(w.acknowledged()) // no earlier: the writer may have had an answer of the dead one to note still
	t.Logf("kill -9: held until the replica was promoted, %s later; followed %s after that", promoted.Sub(killed).Round(time.Millisecond), time.Since(promoted).Round(time.Millisecond))
	w.goesOn(t, "work flows again")
	if lost := w.missing(t, b, w.acknowledged()[atFailover:]); len(lost) > 0 {
		t.Errorf("%d keys acknowledged after the failover are not on the new primary: %v", len(lost), lost[0])
	}
	if r := d.lastSwapOf("redis"); r.Who.Name != "failover" || r.To != "b" {
		t.Errorf("history: %+v", r)
	}

	// The old primary comes back, and believes it is one.
	startRedisAt(t, a)
	eventually(t, "the conflict is told", func() bool { return d.service("redis").Conflict })
	if out := d.must("status", "redis").out; !strings.Contains(out, "conflict: two sides look active") {
		t.Errorf("status tells no conflict:\n%s", out)
	} else {
		t.Logf("status:\n%s", out)
	}
	w.goesOn(t, "work flows on")
	if got := redis(t, a, "DBSIZE"); got != ":0\r\n" {
		t.Errorf("the old primary got keys: %s", got)
	}

	// It becomes the replica; then it gets the work back, without a lost or refused write.
	replicates(t, a, b)
	eventually(t, "the conflict is over", func() bool { return !d.service("redis").Conflict })
	port := func(address string) string { _, p, _ := strings.Cut(address, ":"); return p }
	before := len(w.acknowledged())
	back := d.cli("back", "redis", "--hold", "60s", "--drain", "1s", "--wait-for", "primary", "--stop-old", handOver(port(b), port(a)))
	if back.code != 0 && back.code != 6 { // 6: a connection was cut at the drain's deadline
		t.Fatalf("back: %s", back)
	}
	t.Logf("back:\n%s%s", back.out, back.err)
	w.goesOn(t, "work flows after the hand-over")
	end()
	keys := w.acknowledged()[before:]
	if lost := w.missing(t, a, keys); len(lost) > 0 {
		t.Errorf("%d of %d keys acknowledged since the hand-over began are not on the new primary: %v", len(lost), len(keys), lost[0])
	}
	if len(w.refused) > 0 {
		t.Errorf("%d writes were refused: %s", len(w.refused), w.refused[0])
	}
	for name, address := range map[string]string{"a": a, "b": b} {
		if said := errorReplies(t, address); strings.Contains(said, "READONLY") {
			t.Errorf("%s refused writes: %s", name, said)
		}
	}
	t.Logf("%d keys acknowledged", len(w.acknowledged()))
}

// handOver is the command with which the README makes one Redis the primary and the other its replica.
func handOver(from, to string) string {
	return fmt.Sprintf("redis-cli -e -p %s FAILOVER TO 127.0.0.1 %s && until redis-cli -p %[2]s ROLE | grep -q master; do sleep 0.05; done", from, to)
}

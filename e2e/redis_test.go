package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// startRedis returns the address of a Redis server that keeps nothing on disk.
func startRedis(t *testing.T) string {
	t.Helper()
	address := freePort(t)
	startRedisAt(t, address)
	return address
}

func startRedisAt(t *testing.T, address string) *process {
	t.Helper()
	needs(t, "redis-server")
	_, port, _ := strings.Cut(address, ":")
	p := launch(t, exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
		"--dir", room(t), "--loglevel", "warning", "--maxclients", "2000"))
	t.Cleanup(func() { _ = p.Process.Kill(); <-p.ended })
	eventually(t, "Redis answers", func() bool {
		if p.over() {
			t.Fatalf("redis-server ended: %s%s", p.out.String(), p.err.String())
		}
		s, err := ask(t, "tcp", address, "PING\r\nQUIT\r\n")
		return err == nil && strings.HasPrefix(s, "+PONG")
	})
	return p
}

// redis sends one inline command on a new connection and returns the answer, without what QUIT adds.
func redis(t *testing.T, address, command string) string {
	t.Helper()
	s, err := ask(t, "tcp", address, command+"\r\nQUIT\r\n")
	if err != nil && err != io.EOF {
		t.Fatalf("redis %s: %s: %v", address, command, err)
	}
	return strings.TrimSuffix(s, "+OK\r\n")
}

func runID(t *testing.T, address string) string {
	t.Helper()
	_, rest, ok := strings.Cut(redis(t, address, "INFO server"), "run_id:")
	if !ok {
		t.Fatalf("INFO of %s has no run_id", address)
	}
	id, _, _ := strings.Cut(rest, "\r\n")
	return id
}

// benchmarkUntil runs redis-benchmark again and again until quit is closed; each run must end without an error.
func benchmarkUntil(t *testing.T, quit <-chan struct{}, address string, args ...string) (runs int) {
	_, port, _ := strings.Cut(address, ":")
	for {
		select {
		case <-quit:
			return runs
		default:
		}
		p := launch(t, exec.Command("redis-benchmark", append([]string{"-h", "127.0.0.1", "-p", port, "-t", "set,get", "-r", "1000", "--csv"}, args...)...))
		r := ended(t, p)
		said := strings.ToLower(r.out + r.err)
		if r.code != 0 || strings.Contains(said, "error") || strings.Contains(said, "could not") || strings.Count(said, "rps") > 0 && !strings.Contains(said, `"get"`) {
			t.Errorf("redis-benchmark %s: %s", strings.Join(args, " "), r)
			return runs
		}
		runs++
	}
}

func TestRedis_NoErrorThroughAHundredSwapsWithAndWithoutKeepAlive(t *testing.T) {
	t.Parallel()
	needs(t, "redis-server", "redis-benchmark")
	addresses := map[string]string{"a": startRedis(t), "b": startRedis(t)}
	run := map[string]string{"a": runID(t, addresses["a"]), "b": runID(t, addresses["b"])}
	listen := freePort(t)
	d := newDoor(t, fmt.Sprintf("services:\n  redis:\n    listen: %q\n    drain: {timeout: 10m}\n    pools: {a: [%q], b: [%q]}\n", listen, addresses["a"], addresses["b"])).start()

	for _, kind := range []struct {
		name string
		args []string
	}{
		{"pipelined, kept alive", []string{"-c", "50", "-P", "16", "-n", "200000"}},
		{"a connection per request", []string{"-c", "20", "-k", "0", "-n", "1000"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			quit, runs := make(chan struct{}), make(chan int, 1)
			go func() { runs <- benchmarkUntil(t, quit, listen, kind.args...) }() // ends with quit
			other := map[string]string{"a": "b", "b": "a"}
			to := other[d.service("redis").Active]
			for i := range 100 {
				d.swapTo("redis", to)
				if got := runID(t, listen); got != run[to] {
					t.Errorf("after swap %d to %s: the door leads to run %s, not %s", i+1, to, got, run[to])
				}
				if i%7 == 0 {
					key := fmt.Sprintf("e2e-%d-%d", len(kind.args), i)
					redis(t, listen, "SET "+key+" here")
					if at, elsewhere := redis(t, addresses[to], "GET "+key), redis(t, addresses[other[to]], "GET "+key); at != "$4\r\nhere\r\n" || elsewhere != "$-1\r\n" {
						t.Errorf("SET after swap %d to %s: that side has %q, the other %q", i+1, to, at, elsewhere)
					}
				}
				to = other[to]
				pace(10 * time.Millisecond)
			}
			close(quit)
			t.Logf("100 swaps, %d runs of redis-benchmark %s: 0 errors", <-runs, strings.Join(kind.args, " "))
		})
	}
	for name := range addresses {
		if strings.Contains(redis(t, addresses[name], "INFO stats"), "total_commands_processed:0\r") {
			t.Errorf("side %s was never used", name)
		}
	}
}

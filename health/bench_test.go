package health

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the server of the benchmark: in a process of its own, so that its CPU is not counted.
func TestMain(m *testing.M) {
	if os.Getenv("TURNOUT_HEALTH_BENCH_SERVER") == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() { _, _ = os.Stdin.Read(make([]byte, 1)); os.Exit(0) }()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 4096)
			for n, _ := c.Read(b); n > 0; n, _ = c.Read(b) {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"ready\":true}"))
				if bytes.Contains(b[:n], []byte("Connection: close")) {
					return
				}
			}
		}()
	}
}

// BenchmarkMonitor_1000Targets prints what 1,000 targets asked each second cost of one core.
func BenchmarkMonitor_1000Targets(b *testing.B) {
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), "TURNOUT_HEALTH_BENCH_SERVER=1")
	stdin, _ := server.StdinPipe()
	stdout, _ := server.StdoutPipe()
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = server.Wait() }()
	line := make([]byte, 100)
	n, _ := stdout.Read(line)
	address := strings.TrimSpace(string(line[:n]))
	for name, spec := range map[string]Spec{
		"tcp":       {TCP: &TCP{}},
		"http":      {HTTP: &HTTP{}, Expect: "status == 200 && body.ready == true"},
		"http POST": {HTTP: &HTTP{Body: "{}"}, Expect: "status == 200 && body.ready == true"},
	} {
		b.Run(name, func(b *testing.B) {
			m := NewMonitor(nil)
			defer m.Close()
			check := must(b, spec)
			for i := range 1000 {
				m.Put(fmt.Sprint(i), Plan{Target: Target{Name: "s", Address: address}, Checks: []*Check{check}})
			}
			time.Sleep(2 * time.Second) // all have risen
			for b.Loop() {
				before := cpu()
				time.Sleep(5 * time.Second)
				b.ReportMetric(100*(cpu()-before).Seconds()/5, "%core")
			}
			for _, r := range m.Snapshot() {
				if r.State != Ready {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

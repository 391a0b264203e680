//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/bench/proc"
	"github.com/turnout-proxy/turnout/bench/report"
	"github.com/turnout-proxy/turnout/bench/stats"
)

func newReport(o *options, files uint64, proxyLoops, loadLoops int) *report.Run {
	r := &report.Run{
		Started: time.Now(),
		Command: strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " "),
		Machine: machine(),
		Missing: map[string]string{},
		Settings: map[string]string{
			"repetitions":    fmt.Sprint(o.n),
			"measured":       o.seconds.String(),
			"warm-up":        o.warm.String(),
			"proxy loops":    fmt.Sprint(proxyLoops),
			"load loops":     fmt.Sprint(loadLoops),
			"open files":     fmt.Sprint(files),
			"client closes":  map[bool]string{false: "with FIN", true: "with RST"}[o.reset],
			"client sources": fmt.Sprint(o.sources),
			"port range":     oneLine("/proc/sys/net/ipv4/ip_local_port_range"),
			"tcp_tw_reuse":   oneLine("/proc/sys/net/ipv4/tcp_tw_reuse"),
		},
	}
	if out, err := exec.Command("git", "rev-parse", "HEAD").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	out, err := exec.Command("git", "status", "--porcelain").Output()
	r.Dirty = err != nil || len(out) > 0
	return r
}

func machine() report.Machine {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info)
	return report.Machine{
		Processor: keyed("/proc/cpuinfo", "model name", ":"),
		Cores:     len(proc.CPUs()),
		MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) >> 20),
		Kernel:    unix.ByteSliceToString(u.Release[:]),
		System:    strings.Trim(keyed("/etc/os-release", "PRETTY_NAME", "="), `"`),
		Go:        runtime.Version(),
	}
}

// keyed is the value of the first line "key SEPARATOR value" of a file.
func keyed(file, key, separator string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func oneLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// fileSystem names the kind of file system a folder is on: it decides what an fsync costs.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "an unknown file system"
	}
	known := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}
	if name, ok := known[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", s.Type)
}

// syncTimes is what the disk under dir takes to make a few hundred bytes at the end of a file durable, in ms: a
// swap of turnout, which is in its journal before it is answered, cannot be quicker than that.
func syncTimes(dir string) (p50, p99 float64, err error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	record := make([]byte, 600)
	var times []float64
	for range 100 {
		began := time.Now()
		if _, err := f.Write(record); err != nil {
			return 0, 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	return stats.Quantile(times, 0.5), stats.Quantile(times, 0.99), nil
}

// noise counts measurements that something outside of them disturbed.
type noise struct{ measured, foreign, stolen, saturated int }

// Thresholds, as shares of the machine or of the client's threads.
const (
	foreignLimit   = 0.10
	stolenLimit    = 0.02
	saturatedLimit = 0.95
)

func (n *noise) warnings() []string {
	var w []string
	if n.foreign > 0 {
		w = append(w, fmt.Sprintf("other processes took more than %.0f %% of the machine in %d of %d measurements: run it on a quiet machine", foreignLimit*100, n.foreign, n.measured))
	}
	if n.stolen > 0 {
		w = append(w, fmt.Sprintf("the host took more than %.0f %% of the machine (steal) in %d of %d measurements", stolenLimit*100, n.stolen, n.measured))
	}
	if n.saturated > 0 {
		w = append(w, fmt.Sprintf("the load client was busy for more than %.0f %% of the time in %d of %d measurements: rates there are its own, not the proxy's", saturatedLimit*100, n.saturated, n.measured))
	}
	return w
}

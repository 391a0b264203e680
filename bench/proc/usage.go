//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is the unit of times in /proc/PID/stat; it is 100 on every Linux architecture that Go supports.
const userHZ = 100

// stat is what we need of /proc/PID/stat.
type stat struct {
	pid, ppid int
	reaped    time.Duration // CPU of children that have ended and were waited for
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name, in parentheses, may hold anything; the fields are counted from its end.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat: cannot be read: %q", pid, b)
	}
	ppid, _ := strconv.Atoi(f[1])
	cutime, _ := strconv.ParseInt(f[13], 10, 64)
	cstime, _ := strconv.ParseInt(f[14], 10, 64)
	return stat{pid, ppid, time.Duration(cutime+cstime) * time.Second / userHZ}, nil
}

// Tree is a process with all its descendants.
type Tree struct {
	root int
	pids []int
}

// NewTree looks up the descendants of a process.
func NewTree(pid int) *Tree {
	t := &Tree{root: pid}
	t.Refresh()
	return t
}

// Refresh looks for descendants again. It takes a millisecond or so, and is kept out of CPU for that.
func (t *Tree) Refresh() {
	parents := map[int]int{}
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if s, err := readStat(pid); err == nil {
				parents[pid] = s.ppid
			}
		}
	}
	t.pids = []int{t.root}
	for i := 0; i < len(t.pids); i++ {
		for pid, ppid := range parents {
			if ppid == t.pids[i] {
				t.pids = append(t.pids, pid)
			}
		}
	}
}

// CPU is the time, user and system, that the tree has used until now. The kernel's CPU clock of a process
// is exact to the nanosecond and includes threads that have ended (schedstat of the tasks would lose those);
// children that have ended are added from their parent's account, exact to 10 ms.
func (t *Tree) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range t.pids {
		// The clock id of a process, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED is 2.
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid)<<3|2, &ts); err != nil {
			if pid == t.root {
				return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
			}
			continue // ended since Refresh: its parent's account has it
		}
		sum += time.Duration(ts.Nano())
		if s, err := readStat(pid); err == nil {
			sum += s.reaped
		}
	}
	return sum, nil
}

// Memory is what a tree holds.
type Memory struct {
	PSS int64 // bytes of user memory, shared pages divided among those that share them
	FDs int   // open file descriptors
}

// Memory of the tree now.
func (t *Tree) Memory() (Memory, error) {
	var m Memory
	for _, pid := range t.pids {
		pss, err := readPSS(pid)
		if err != nil {
			return m, err
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return m, err
		}
		m.PSS += pss
		m.FDs += len(fds)
	}
	return m, nil
}

func readPSS(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no Pss line", name)
}

// Machine is what all processors have done since the boot.
type Machine struct {
	Busy  time.Duration // all but idle, iowait and steal
	Steal time.Duration // taken by other guests of the same host
}

// MachineCPU reads /proc/stat.
func MachineCPU() Machine {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal guest…
	var m Machine
	for i := 1; i < len(f) && i <= 8; i++ {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		d := time.Duration(n) * time.Second / userHZ
		switch i {
		case 4, 5:
		case 8:
			m.Steal += d
		default:
			m.Busy += d
		}
	}
	return m
}

// TimeWait is how many sockets are in TIME_WAIT.
func TimeWait() int {
	b, _ := os.ReadFile("/proc/net/sockstat")
	f := strings.Fields(string(b))
	for i, w := range f {
		if w == "tw" && i+1 < len(f) {
			n, _ := strconv.Atoi(f[i+1])
			return n
		}
	}
	return 0
}

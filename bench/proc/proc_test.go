//go:build linux

package proc

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func TestStop_TakesTheWholeGroup(t *testing.T) {
	p, err := Start(Options{Args: []string{"/bin/sh", "-c", "sleep 60 & sleep 61; true"}})
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree(p.PID())
	for len(tree.pids) < 3 {
		tree.Refresh()
	}
	p.Stop()
	for _, pid := range tree.pids[1:] { // orphans are reaped by init, when it gets to it
		for deadline := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d lives on", pid)
			}
		}
	}
}

func alive(pid int) bool {
	s, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return err == nil && !zombie(s)
}

func TestCPU_CountsChildrenThatHaveEnded(t *testing.T) {
	burn := "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
	p, err := Start(Options{Args: []string{"/bin/sh", "-c", "(" + burn + "); read x"}, Stdin: blocked(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	for {
		s, err := readStat(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		if s.reaped > 0 {
			cpu, err := NewTree(p.PID()).CPU()
			if err != nil || cpu < s.reaped {
				t.Fatalf("CPU %v, %v; want at least the %v of the ended child", cpu, err, s.reaped)
			}
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestMemory_SeesDescriptorsAndPages(t *testing.T) {
	tree := NewTree(os.Getpid())
	before, err := tree.Memory()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pages := make([]byte, 64<<20)
	for i := 0; i < len(pages); i += 4096 {
		pages[i] = 1
	}
	after, err := tree.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.FDs - before.FDs; n < 2 {
		t.Errorf("%d descriptors more, want at least 2", n)
	}
	if n := after.PSS - before.PSS; n < 60<<20 {
		t.Errorf("%d bytes more, want at least 60 MiB", n)
	}
	if pages[4096] != 1 {
		t.Error("unreachable")
	}
}

func TestStart_KeepsAChildOnItsCPUs(t *testing.T) {
	all := CPUs()
	if len(all) < 2 {
		t.Skip("one processor only")
	}
	for _, want := range [][]int{all[1:2], nil} { // the second shows that the starter went back to all
		var out bytes.Buffer
		p, err := Start(Options{Args: []string{"/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"}, Stdout: &out, CPUs: want})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		list := strings.TrimSpace(strings.TrimPrefix(out.String(), "Cpus_allowed_list:"))
		if one := !strings.ContainsAny(list, "-,"); one != (len(want) == 1) {
			t.Errorf("started on %v: may run on %s", want, list)
		}
	}
}

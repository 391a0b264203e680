//go:build linux

// Package proc starts the processes of the bench and looks at what they use. It knows neither proxies nor
// loads.
//
// Promises: whatever Start has started is gone, with its own children, when Stop has returned. It is also
// killed when the bench is, by kill -9 say; its children then are not (nginx's workers), nor is the temporary
// folder removed. CPU counts threads and children that have ended.
package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a process.
type Options struct {
	Args   []string // the program and its arguments
	Env    []string // added to our own
	Dir    string
	Log    string    // file for its stderr, and for stdout unless Stdout is set; without it, our stderr
	Stdout io.Writer // instead of Log
	Stdin  io.Reader
	CPUs   []int // where it may run; empty: anywhere
}

// Process is a started one.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // readable after done
}

// Start starts a process in a group of its own, so that a Ctrl-C on the terminal reaches only the bench,
// which then ends the others in order.
func Start(o Options) (*Process, error) {
	p := &Process{cmd: exec.Command(o.Args[0], o.Args[1:]...), log: o.Log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.Dir = o.Dir
	p.cmd.Stdin, p.cmd.Stdout = o.Stdin, o.Stdout
	// Pdeathsig is bound to the thread that forks; the starter's thread lives as long as the bench.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = os.Stderr
	if o.Log != "" {
		f, err := os.Create(o.Log)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		p.cmd.Stderr = f
		if o.Stdout == nil {
			p.cmd.Stdout = f
		}
	}
	if err := start(p.cmd, o.CPUs); err != nil {
		return nil, err
	}
	go p.wait() // ends with the process
	return p, nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says why a process ended too early, with the last lines of its log; nil while it runs.
func (p *Process) Ended() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	err := p.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w%s", p.cmd.Path, err, p.Tail())
}

// Tail is the end of the log, on lines of its own.
func (p *Process) Tail() string {
	if p.log == "" {
		return ""
	}
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[max(0, len(lines)-8):]; last[0] != "" {
		return "\n    " + strings.Join(last, "\n    ")
	}
	return ""
}

// Stop ends the process and all of its group: asked first, killed after half a second.
func (p *Process) Stop() {
	group := -p.PID()
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(500 * time.Millisecond):
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // also those that outlived their leader
	<-p.done
}

type order struct {
	cmd    *exec.Cmd
	cpus   []int
	answer chan error
}

var starter = sync.OnceValue(func() chan<- order {
	orders := make(chan order)
	go serveOrders(orders) // never ends: its thread is the parent of all children
	return orders
})

func start(cmd *exec.Cmd, cpus []int) error {
	answer := make(chan error)
	starter() <- order{cmd, cpus, answer}
	return <-answer
}

func serveOrders(orders <-chan order) {
	runtime.LockOSThread()
	var all unix.CPUSet
	_ = unix.SchedGetaffinity(0, &all)
	for o := range orders {
		if len(o.cpus) > 0 { // a child inherits the CPUs of the thread that forks it
			var set unix.CPUSet
			for _, c := range o.cpus {
				set.Set(c)
			}
			_ = unix.SchedSetaffinity(0, &set)
		}
		o.answer <- o.cmd.Start()
		if len(o.cpus) > 0 {
			_ = unix.SchedSetaffinity(0, &all)
		}
	}
}

// CPUs are the processors this process may run on.
func CPUs() []int {
	var set unix.CPUSet
	var list []int
	if unix.SchedGetaffinity(0, &set) == nil {
		for c := range len(set) * 64 {
			if set.IsSet(c) {
				list = append(list, c)
			}
		}
	}
	return list
}

// RaiseFiles raises the limit of open files, for us and for what we start: to want when we may, else to the
// hard limit. It returns the limit in force.
func RaiseFiles(want uint64) (uint64, error) {
	limit := syscall.Rlimit{Cur: want, Max: want}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		return want, nil
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = min(limit.Max, want)
	// Set even when unchanged: otherwise the runtime gives children the soft limit of before.
	return limit.Cur, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

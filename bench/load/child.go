//go:build linux

package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// roleVar makes the bench binary a child: its value is the role, the first line of stdin the spec.
const roleVar = "TURNOUT_BENCH_ROLE"

var roles = map[string]func(spec []byte) (child, error){
	"servers": newServers,
	"client":  newClient,
	"forward": newForward,
}

// child is a process of ours. Its sockets are open before it exists.
type child interface {
	// obey carries out one command and returns the answer; unknown ones are a bug of the bench.
	obey(command string) (any, error)
}

// RunChild does not return when this process was started as a child. Call it first thing in main.
func RunChild() {
	role, ok := roles[os.Getenv(roleVar)]
	if !ok {
		return
	}
	debug.SetGCPercent(-1)                             // a collection would wait for loops that sit in raw system calls
	runtime.GOMAXPROCS(runtime.NumCPU() + 4)           // those loops keep their Ps
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // 50 µs otherwise; threads inherit it
	if err := serveChild(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// answer is one line to the bench. Exactly one of its fields is set, except for a plain "done".
type answer struct {
	Error string `json:",omitempty"`
	Value any    `json:",omitempty"`
}

func serveChild(newChild func([]byte) (child, error)) error {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	spec, err := in.ReadBytes('\n')
	if err != nil {
		return nil // the bench is gone already
	}
	c, err := newChild(spec)
	if err != nil {
		return out.Encode(answer{Error: err.Error()})
	}
	if err := out.Encode(answer{}); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil
		}
		value, err := c.obey(line[:len(line)-1])
		a := answer{Value: value}
		if err != nil {
			a = answer{Error: err.Error()}
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const maxOutput = 64 << 10 // kept of a program's output; the rest is read and dropped

type execProbe struct{ Exec }

func newExec(o *Exec) (prober, error) {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, &SpecError{Key: "exec.command", Text: "names no program"}
	}
	return &execProbe{*o}, nil
}

func (p *execProbe) ask(ctx context.Context, t Target) (result, error) {
	var out output
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, &out, &out
	cmd.Env = append(os.Environ(), "TURNOUT_SERVER_NAME="+t.Name, "TURNOUT_SERVER_ADDRESS="+t.Address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 100 * time.Millisecond // for one that left the group and keeps the output open
	if err := cmd.Start(); err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return result{}, fmt.Errorf("start %s: %w", p.Command[0], err)
	}
	group := cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-group, syscall.SIGKILL) })
	exited(group) // not yet reaped: the number of the group is still ours
	cut := !stop()
	_ = syscall.Kill(-group, syscall.SIGKILL) // what the program left behind
	err := cmd.Wait()
	r := result{text: out.String()}
	if cut && ctx.Err() != nil && cmd.ProcessState != nil && !cmd.ProcessState.Exited() {
		return r, ctx.Err()
	}
	if cmd.ProcessState == nil {
		return r, err
	}
	return p.result(r, cmd.ProcessState, t), nil
}

func (p *execProbe) result(r result, end *os.ProcessState, t Target) result {
	code := end.ExitCode()
	r.status = fmt.Sprintf("exit %d", code)
	if s, ok := end.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal()) // as a shell counts
		r.status = "ended by " + s.Signal().String()
	}
	body, ok := parseJSON([]byte(r.text))
	r.badJSON = !ok
	r.vars = execVars{Exit: code, Output: r.text, Body: body, Server: about(t)}
	r.good, r.why = code == 0, r.status
	lines := strings.Split(strings.TrimSpace(r.text), "\n")
	r.why = joined(r.status, lines[len(lines)-1])
	return r
}

// exited waits until a child has ended and leaves it to be reaped.
func exited(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// output keeps the beginning of what a program writes. Only one goroutine writes: exec gives both streams one.
type output struct{ strings.Builder }

func (o *output) Write(b []byte) (int, error) {
	_, _ = o.Builder.Write(b[:min(len(b), maxOutput-o.Len())]) // never fails
	return len(b), nil
}

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	turnout string // the turnout under test
	root    string // a folder that every user may enter; removed at the end
	rooms   atomic.Int64
)

// asChild in the environment makes this test binary prepare a process (limits, LISTEN_PID) and become the command
// in its arguments.
const asChild = "TURNOUT_E2E_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		fmt.Fprintln(os.Stderr, "e2e: child:", become(os.Args[1:]))
		os.Exit(127)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// Most tests wait for something most of the time; a -parallel on the command line comes after this.
	err := flag.Set("test.parallel", "8")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if root, err = os.MkdirTemp("", "turnout-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(root) //nolint:errcheck // it is a temporary folder
	if err := os.Chmod(root, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if turnout = os.Getenv("TURNOUT_BINARY"); turnout != "" {
		return m.Run()
	}
	turnout = filepath.Join(root, "turnout")
	// A program built with -race would sleep for a second at its end.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	args := []string{"build", "-o", turnout}
	if raced {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/turnout")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: turnout does not build:", err)
		return 1
	}
	return m.Run()
}

// become never returns unless it failed.
func become(command []string) error {
	_ = os.Unsetenv(asChild)
	if text := os.Getenv("E2E_NOFILE"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	if os.Getenv("LISTEN_FDS") != "" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // exec keeps the pid
	}
	return syscall.Exec(command[0], command, os.Environ())
}

// room is a new folder that every user may enter, with a path short enough for a Unix socket.
func room(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(root, strconv.FormatInt(rooms.Add(1), 10))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needs finds the programs of a test. Where they are missing the test is skipped aloud, but not in CI.
func needs(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		missing(t, name)
	}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI=true: install it", what)
	}
	t.Skipf("NOT TESTED: %s is missing on this machine; install it, or set CI=true to make this a failure", what)
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "the right to be root")
	}
}

// slower stretches a time for binaries built with -race.
func slower(d time.Duration) time.Duration {
	if raced {
		return 4 * d
	}
	return d
}

// lighter is n, or n/by under -race.
func lighter(n, by int) int {
	if raced {
		return n / by
	}
	return n
}

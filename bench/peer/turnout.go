//go:build linux

package peer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

var turnout = &Peer{
	Name:    "turnout",
	Title:   "turnout",
	About:   "built from this tree; one loop per core",
	Find:    findTurnout,
	Config:  turnoutConfig,
	Args:    func(_ Door, program, config string) []string { return []string{program, "serve", "-c", config} },
	Swapper: newTurnoutSwapper,
}

func findTurnout(f *Finder) (program, version string, err error) {
	if program = f.Turnout; program == "" {
		program = filepath.Join(f.Temp, "turnout")
		build := exec.Command("go", "build", "-o", program, "./cmd/turnout")
		build.Dir = f.Module
		if out, err := build.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("cannot be built: go build ./cmd/turnout: %w%s", err, firstLines(out))
		}
	}
	out, err := exec.Command(program, "version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s version: %w", program, err)
	}
	version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return program, version, nil
}

func firstLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return "\n    " + strings.Join(lines[:min(len(lines), 5)], "\n    ")
}

func turnoutConfig(d Door, _ string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state_dir: %s\n", filepath.Join(d.Dir, "state"))
	fmt.Fprintf(&b, "admin: {socket: %s}\n", d.socket())
	fmt.Fprintf(&b, "log: {level: warn}\n")
	fmt.Fprintf(&b, "services:\n")
	for _, s := range d.Services {
		fmt.Fprintf(&b, "  %s:\n    mode: %s\n    listen: [%q]\n    pools:\n", s.Name, d.mode(), s.Listen)
		for _, p := range s.Pools {
			fmt.Fprintf(&b, "      %s: [%s]\n", p.Name, quoted(p.Servers))
		}
		if d.TLS {
			fmt.Fprintf(&b, "    tls: {mode: terminate, cert: %q, key: %q}\n", d.cert(), d.key())
		}
		if len(s.Pools) > 1 {
			fmt.Fprintf(&b, "    active: %s\n    drain: {timeout: 1h, then: keep}\n", s.Pools[0].Name)
		}
	}
	return b.String()
}

func quoted(list []string) string {
	var q []string
	for _, s := range list {
		q = append(q, fmt.Sprintf("%q", s))
	}
	return strings.Join(q, ", ")
}

// socket is the admin socket of a peer that has one.
func (d Door) socket() string { return filepath.Join(d.Dir, "admin.sock") }

// dialAdmin waits for the admin socket: it may open later than the services.
func (d Door) dialAdmin() (net.Conn, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", d.socket())
		if err == nil || time.Now().After(end) {
			return c, err
		}
	}
}

// turnoutSwapper keeps one HTTP/1.1 connection to the admin socket.
type turnoutSwapper struct {
	conn net.Conn
	r    *bufio.Reader
}

func newTurnoutSwapper(d Door) (Swapper, error) {
	c, err := d.dialAdmin()
	if err != nil {
		return nil, err
	}
	return &turnoutSwapper{c, bufio.NewReader(c)}, nil
}

func (s *turnoutSwapper) Close() error { return s.conn.Close() }

func (s *turnoutSwapper) Swap(_, to string) error {
	wait := false // for the drain; the answer comes when the swap is in force
	body, err := json.Marshal(api.SwapRequest{To: to, ChangeRequest: api.ChangeRequest{Wait: &wait}})
	if err != nil {
		return err
	}
	head := fmt.Sprintf("POST /v1/services/bench/swap HTTP/1.1\r\nHost: turnout\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	if _, err := s.conn.Write(append([]byte(head), body...)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("swap to %s: %s: %s", to, resp.Status, bytes.TrimSpace(answer))
	}
	var op api.Operation
	if err := json.Unmarshal(answer, &op); err != nil {
		return fmt.Errorf("swap to %s: %w: %s", to, err, answer)
	}
	if op.Error != nil {
		return op.Error
	}
	if !op.Changed {
		return errors.New("swap to " + to + ": nothing changed: " + string(answer))
	}
	return nil
}

//go:build linux

package peer

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var haproxy = &Peer{
	Name:    "haproxy",
	Title:   "HAProxy",
	About:   "defaults, a thread per core, for HTTP with `http-reuse always`; swaps by `set server … state ready` of the new, then `… drain` of the old",
	Find:    findHAProxy,
	Config:  func(d Door, _ string) string { return haproxyConfig(d, "", "") },
	Args:    haproxyArgs,
	Swapper: func(d Door) (Swapper, error) { return newHAProxySwapper(d, swapByState) },
}

var haproxyTuned = &Peer{
	Name:  "haproxy-tuned",
	Title: "HAProxy tuned",
	About: "the same, tuned for bulk: splice forced both ways, tune.pipesize 1048576",
	Find:  findHAProxy,
	Config: func(d Door, _ string) string {
		return haproxyConfig(d, "    tune.pipesize 1048576\n    maxpipes 1000\n",
			"    option splice-auto\n    option splice-request\n    option splice-response\n")
	},
	Args: haproxyArgs,
}

// haproxyMap is HAProxy's best at swaps: one command that is atomic for each new connection, against two
// for server states. It costs a map lookup per connection, so it takes part only in swaps.
var haproxyMap = &Peer{
	Name:    "haproxy-map",
	Title:   "HAProxy (map)",
	About:   "swaps by one `set map` that `use_backend` reads for each connection",
	Find:    findHAProxy,
	Config:  haproxyMapConfig,
	Args:    haproxyArgs,
	Swapper: func(d Door) (Swapper, error) { return newHAProxySwapper(d, swapByMap) },
}

func haproxyArgs(_ Door, program, config string) []string {
	return []string{program, "-db", "-f", config}
}

func findHAProxy(*Finder) (program, version string, err error) {
	if program, err = look("haproxy"); err != nil {
		return "", "", fmt.Errorf("not installed (Debian: apt-get install haproxy): %w", err)
	}
	out, err := exec.Command(program, "-v").Output()
	version, _, _ = strings.Cut(string(out), "\n")
	version, _, _ = strings.Cut(version, " - ")
	return program, version, err
}

// look finds a program also where an ordinary user's PATH does not.
func look(name string) (string, error) {
	program, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if err == nil {
			break
		}
		program, err = exec.LookPath(filepath.Join(dir, name))
	}
	return program, err
}

func haproxyHead(d Door, global, defaults string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n    nbthread %d\n    maxconn %d\n%s%s%s", d.Threads, d.MaxConnections, keepIdle(d), ciphers(d), global)
	if d.Swaps {
		fmt.Fprintf(&b, "    stats socket %s mode 600 level admin\n    stats timeout 1h\n", d.socket())
	}
	fmt.Fprintf(&b, "defaults\n    mode %s\n%s    maxconn %d\n    timeout connect 3s\n    timeout client 1h\n    timeout server 1h\n%s",
		d.mode(), reuse(d), d.MaxConnections, defaults)
	return b.String()
}

// haproxyConfig has one backend per service. All pools are in it: what is not active is disabled.
func haproxyConfig(d Door, global, defaults string) string {
	var b strings.Builder
	b.WriteString(haproxyHead(d, global, defaults))
	for _, s := range d.Services {
		fmt.Fprintf(&b, "listen %s\n    bind %s%s\n", s.Name, s.Listen, secured(d))
		for n, p := range s.Pools {
			for i, addr := range p.Servers {
				fmt.Fprintf(&b, "    server %s%s %s%s\n", p.Name, number(i), addr, disabled(n > 0))
			}
		}
	}
	return b.String()
}

// keepIdle lets HAProxy keep idle connections to servers however many descriptors are in use; by default it closes them
// from a quarter of maxconn's on, and then connects anew for each request.
func keepIdle(d Door) string {
	if d.HTTP {
		return "    tune.pool-low-fd-ratio 90\n    tune.pool-high-fd-ratio 95\n"
	}
	return ""
}

// ciphers has it take the cipher that the others take, the fastest; by itself it takes AES-256.
func ciphers(d Door) string {
	if d.TLS {
		return "    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n"
	}
	return ""
}

func secured(d Door) string {
	if d.TLS {
		return " ssl crt " + d.both() + " alpn h2,http/1.1"
	}
	return ""
}

// reuse has HAProxy share connections to servers among clients, as it does best.
func reuse(d Door) string {
	if d.HTTP {
		return "    http-reuse always\n"
	}
	return ""
}

func disabled(yes bool) string {
	if yes {
		return " disabled" // until it is made ready
	}
	return ""
}

func number(i int) string {
	if i == 0 {
		return ""
	}
	return fmt.Sprint(i + 1)
}

func haproxyMapConfig(d Door, _ string) string {
	var b strings.Builder
	b.WriteString(haproxyHead(d, "", ""))
	for _, s := range d.Services {
		file := filepath.Join(d.Dir, s.Name+".map")
		_ = os.WriteFile(file, []byte(s.Name+" "+s.Name+"_"+s.Pools[0].Name+"\n"), 0o644) // HAProxy says so if it is missing
		fmt.Fprintf(&b, "frontend %s\n    bind %s\n    use_backend %%[str(%s),map(%s)]\n", s.Name, s.Listen, s.Name, file)
		for _, p := range s.Pools {
			fmt.Fprintf(&b, "backend %s_%s\n", s.Name, p.Name)
			for i, addr := range p.Servers {
				fmt.Fprintf(&b, "    server %s%s %s\n", p.Name, number(i), addr)
			}
		}
	}
	return b.String()
}

// haproxySwapper keeps one connection to the runtime API, in its interactive mode.
type haproxySwapper struct {
	conn  net.Conn
	r     *bufio.Reader
	lines func(d Door, from, to string) []string // of a swap
	door  Door
}

// swapByState makes the new servers ready before the old ones drain: in the other order there is an instant
// without any. As many commands as fit go in one line, so for a server each way it is one write.
func swapByState(d Door, from, to string) []string {
	var commands []string
	for _, way := range []struct{ pool, state string }{{to, "ready"}, {from, "drain"}} {
		for i := range d.Services[0].Pools[0].Servers { // both pools have as many
			commands = append(commands, fmt.Sprintf("set server bench/%s%s state %s", way.pool, number(i), way.state))
		}
	}
	var lines []string
	for part := range slices.Chunk(commands, 100) { // HAProxy takes lines of 16 KiB
		lines = append(lines, strings.Join(part, "; "))
	}
	return lines
}

func swapByMap(d Door, _, to string) []string {
	return []string{fmt.Sprintf("set map %s bench bench_%s", filepath.Join(d.Dir, "bench.map"), to)}
}

func newHAProxySwapper(d Door, lines func(d Door, from, to string) []string) (Swapper, error) {
	c, err := d.dialAdmin()
	if err != nil {
		return nil, err
	}
	s := &haproxySwapper{c, bufio.NewReader(c), lines, d}
	if err := s.ask("prompt"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

func (s *haproxySwapper) Close() error { return s.conn.Close() }

func (s *haproxySwapper) Swap(from, to string) error {
	for _, line := range s.lines(s.door, from, to) {
		if err := s.ask(line); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a line of commands. Each answers with a prompt, and before it only what went wrong.
func (s *haproxySwapper) ask(line string) error {
	if _, err := s.conn.Write([]byte(line + "\n")); err != nil {
		return err
	}
	const prompt = "\n> "
	said := ""
	for strings.Count(said, prompt) < 1+strings.Count(line, ";") {
		text, err := s.r.ReadString(' ')
		if err != nil {
			return err
		}
		said += text
	}
	if said = strings.TrimSpace(strings.ReplaceAll(said, prompt, "")); said != "" {
		return fmt.Errorf("%s: %s", line, said)
	}
	return nil
}

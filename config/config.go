package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/turnout-proxy/turnout/health"
	"github.com/turnout-proxy/turnout/proxy"
)

// Config is a checked configuration file. It is never changed after Parse; nobody may change its slices.
type Config struct {
	StateDir string
	Admin    Admin
	Log      Log

	spec   *proxy.Spec
	checks map[string]*health.Check
	hash   string
}

// Admin says where the door is operated from, and by whom.
type Admin struct {
	Socket string // a path
	Listen string // host:port with an IP address or no host; empty: no listener
	Roles  Roles
}

// Roles says who may do what, besides root and the door's own user.
type Roles struct {
	Operate Role
	Read    Role
}

// Role is a set of users and groups, each a name or a numeric id as written. They are looked up at use, since
// accounts come and go while a door runs.
type Role struct {
	Users  []string
	Groups []string
}

// Log is how the door's own log looks.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // console or json
}

// Spec is what the switching core is to do. It is never changed.
func (c *Config) Spec() *proxy.Spec { return c.spec }

// Checks are the checks of the file, by name. Nobody may change the map.
func (c *Config) Checks() map[string]*health.Check { return c.checks }

// Hash identifies the text that the Config was read from: SHA-256, in hex. What ${NAME} stands for is not in it.
func (c *Config) Hash() string { return c.hash }

// Option changes how Parse reads.
type Option func(*options)

type options struct{ root bool }

// AsRoot says whether the defaults are those of root (/var/lib/turnout, /run/turnout/admin.sock). Without it
// they follow the user that runs the process.
func AsRoot(root bool) Option { return func(o *options) { o.root = root } }

// Load reads the configuration file at path, with ${NAME} from the environment. A file with mistakes gives
// Errors; one that cannot be read, the error of the system.
func Load(path string, opts ...Option) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration not read: %w", err)
	}
	return Parse(path, text, os.LookupEnv, opts...)
}

// HashFile is what Hash would be of the file as it is now.
func HashFile(path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// readFile reads one byte more than a file may have, at most, so that Parse can tell.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Parse reads a configuration from its text. name stands in error texts; env is os.LookupEnv or a stand-in,
// and nil is an empty environment. The error, if any, is Errors.
func Parse(name string, text []byte, env func(string) (string, bool), opts ...Option) (*Config, error) {
	o := options{root: os.Geteuid() == 0}
	for _, opt := range opts {
		opt(&o)
	}
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	r := &reader{issues: issues{file: name}, env: env}
	root := parseTree(text, &r.issues)
	if root == nil {
		return nil, r.err()
	}
	file := get(r, place{line: 1, column: 1}, root, fileShape)
	c := (&checker{reader: r, root: o.root}).file(&file.v)
	if err := r.err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	c.hash = hex.EncodeToString(sum[:])
	return c, nil
}

// DefaultSocket is the admin socket of a door whose file says nothing about it, when it is run by this user.
func DefaultSocket() string {
	_, socket := defaultPaths(os.Geteuid() == 0, "")
	return socket
}

// defaultPaths are where a door keeps what the file says nothing about.
func defaultPaths(root bool, stateDir string) (state, socket string) {
	state, socket = "./.turnout", "/run/turnout/admin.sock"
	if root {
		state = "/var/lib/turnout"
	}
	if stateDir != "" {
		state = stateDir
	}
	if !root {
		socket = filepath.Join(state, "admin.sock")
	}
	return state, socket
}

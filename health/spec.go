package health

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// DefaultTimeout is how long a check may take when neither it nor its context says.
const DefaultTimeout = 2 * time.Second

// Spec is what a check is built from. Exactly one of the kinds is set.
type Spec struct {
	Name    string
	Address string        // whom to ask; "" asks the target's own address
	Timeout time.Duration // of one run; 0 is the caller's deadline, or DefaultTimeout

	TCP      *TCP
	HTTP     *HTTP
	Redis    *Redis
	Postgres *Postgres
	Exec     *Exec
	GRPC     *GRPC

	Expect string        // expression that must be true; "" is the kind's own rule
	Value  string        // expression whose result is kept in the answer
	Must   string        // "" or "advance": the value must grow
	Within time.Duration // how long the value may stand still

	// Reference is another check with a value: this one's may be at most Behind less than that. Nil: none. While
	// the reference does not pass, nothing is known.
	Reference *Check
	Behind    float64

	Secrets []string // further texts that no answer may show; passwords and credentials are known already
}

// TCP connects. With Send, Receive or an expression over text, the server must also say something.
type TCP struct {
	Send    string
	Receive string // what the answer must contain
	TLS     *TLS
}

// HTTP sends one request and follows no redirects. Asked again and again by a Monitor it may use a connection for a few
// answers (asker), and is sent once more when the server has closed that meanwhile, whatever its method.
type HTTP struct {
	Method  string // default GET, with a body POST
	Path    string // default /
	Host    string // default the address
	Headers map[string]string
	Body    string
	TLS     *TLS
}

// Redis sends PING, and ROLE when a role or an expression asks for it.
type Redis struct {
	Username, Password string
	Role               string // "", master or replica
	TLS                *TLS
}

// Postgres runs one query in a read-only transaction. A DSN without a host asks the target's own address.
type Postgres struct {
	DSN   string
	Query string // default asks whether the server is in recovery: row.role is primary or replica
	Role  string // "", primary or replica; only without Query
}

// Exec runs a program without a shell. It is told TURNOUT_SERVER_NAME and TURNOUT_SERVER_ADDRESS.
type Exec struct {
	Command []string
	Dir     string
}

// GRPC asks grpc.health.v1.Health/Check.
type GRPC struct {
	Service string
	TLS     *TLS
}

// TLS says how to speak TLS to the server; nil is as Target.TLS says.
type TLS struct {
	Off               bool   // plain text, whatever Target.TLS says
	ServerName        string // default the host of the address
	CAFile            string // default the system's
	CertFile, KeyFile string
	Insecure          bool // do not verify the server
}

// SpecError is one mistake in a Spec, with the key it is in as written in the file, and for an expression the
// place in it.
type SpecError struct {
	Key          string
	Line, Column int // 0: not in an expression
	Text         string
}

func (e *SpecError) Error() string {
	if e.Line == 0 {
		return e.Key + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Key, e.Line, e.Column, e.Text)
}

// NewCheck builds a check. The error joins all mistakes, each a *SpecError.
func NewCheck(s Spec) (*Check, error) {
	s = s.clone()
	c := &Check{spec: s, hide: hider(s.Secrets), turn: make(chan struct{}, 1)}
	var errs []error
	wrong := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	wrong(c.kind())
	if c.probe != nil {
		var err error
		c.expect, err = compile("expect", s.Expect, c.vars, true)
		wrong(err)
		c.value, err = compile("value", s.Value, c.vars, false)
		wrong(err)
		if c.expect != nil {
			c.uses = c.expect.uses
		}
		if c.value != nil {
			c.uses |= c.value.uses
		}
	}
	wrong(s.time())
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// kind builds what asks, and the variables its answer has.
func (c *Check) kind() error {
	s := &c.spec
	var kinds []string
	var err error
	use := func(name string, vars any, build func() (prober, error)) {
		kinds = append(kinds, name)
		if len(kinds) > 1 {
			return
		}
		c.name, c.vars = name, vars
		c.probe, err = build()
	}
	if s.TCP != nil {
		use("tcp", tcpVars{}, func() (prober, error) { return newTCP(s.TCP, c) })
	}
	if s.HTTP != nil {
		use("http", httpVars{}, func() (prober, error) { return newHTTP(s.HTTP, c) })
	}
	if s.Redis != nil {
		use("redis", redisVars{}, func() (prober, error) { return newRedis(s.Redis, c) })
	}
	if s.Postgres != nil {
		use("postgres", postgresVars{}, func() (prober, error) { return newPostgres(s.Postgres, c) })
	}
	if s.Exec != nil {
		use("exec", execVars{}, func() (prober, error) { return newExec(s.Exec) })
	}
	if s.GRPC != nil {
		use("grpc", grpcVars{}, func() (prober, error) { return newGRPC(s.GRPC, c) })
	}
	switch len(kinds) {
	case 0:
		return &SpecError{Key: "check", Text: "says nothing to do: want one of tcp, http, redis, postgres, exec, grpc"}
	case 1:
		return err
	}
	return &SpecError{Key: kinds[1], Text: "a second kind beside " + kinds[0] + ": want one"}
}

func (s *Spec) time() error {
	switch {
	case s.Timeout < 0:
		return &SpecError{Key: "timeout", Text: s.Timeout.String() + ": want more than nothing"}
	case s.Reference != nil && s.Value == "":
		return &SpecError{Key: "within", Text: "of another check: needs a value"}
	case s.Reference != nil && s.Reference.spec.Value == "":
		return &SpecError{Key: "within", Text: s.Reference.Name() + " has no value to compare with"}
	case s.Reference != nil && s.Reference.spec.Reference != nil:
		return &SpecError{Key: "within", Text: s.Reference.Name() + " is itself within another check's value"}
	case s.Reference != nil && s.Reference.spec.Address == "":
		return &SpecError{Key: "within", Text: s.Reference.Name() + " has no address of its own: a value to compare with is asked for somewhere else"}
	case s.Must == "" && s.Within != 0:
		return &SpecError{Key: "within", Text: "without must: advance"}
	case s.Must == "":
		return nil
	case s.Must != "advance":
		return &SpecError{Key: "must", Text: fmt.Sprintf("%q: want advance", s.Must)}
	case s.Value == "":
		return &SpecError{Key: "must", Text: "advance: needs a value"}
	case s.Within <= 0:
		return &SpecError{Key: "within", Text: "must: advance needs how long the value may stand still, such as 60s"}
	}
	return nil
}

// clone takes a copy that the caller cannot change any more.
func (s Spec) clone() Spec {
	s.Secrets = append([]string(nil), s.Secrets...)
	s.TCP, s.HTTP, s.Redis = copied(s.TCP), copied(s.HTTP), copied(s.Redis)
	s.Postgres, s.Exec, s.GRPC = copied(s.Postgres), copied(s.Exec), copied(s.GRPC)
	if s.TCP != nil {
		s.TCP.TLS = copied(s.TCP.TLS)
	}
	if s.Redis != nil {
		s.Redis.TLS = copied(s.Redis.TLS)
	}
	if s.GRPC != nil {
		s.GRPC.TLS = copied(s.GRPC.TLS)
	}
	if s.Exec != nil {
		s.Exec.Command = append([]string(nil), s.Exec.Command...)
	}
	if h := s.HTTP; h != nil {
		h.TLS = copied(h.TLS)
		m := make(map[string]string, len(h.Headers))
		for k, v := range h.Headers {
			m[k] = v
		}
		h.Headers = m
	}
	return s
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// Same tells whether both checks ask and judge the same, so that what one has seen holds for the other. A check whose files
// have other contents now is another one.
func (c *Check) Same(d *Check) bool {
	if c == d || c.probe == nil {
		return c == d
	}
	one, other := c.spec, d.spec
	one.Reference, other.Reference = nil, nil
	if (c.spec.Reference == nil) != (d.spec.Reference == nil) || c.spec.Reference != nil && !c.spec.Reference.Same(d.spec.Reference) {
		return false
	}
	return reflect.DeepEqual(one, other) && sameTLS(c.tls, d.tls)
}

// sameTLS compares what the files of two equal specs gave.
func sameTLS(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.RootCAs.Equal(b.RootCAs) && slices.EqualFunc(a.Certificates, b.Certificates, func(x, y tls.Certificate) bool {
		return slices.EqualFunc(x.Certificate, y.Certificate, bytes.Equal)
	})
}

// hider knows what no answer may show.
type hider []string

// minSecret is the shortest text worth hiding: shorter ones would blacken half of an answer.
const minSecret = 3

func (h *hider) add(secrets ...string) { *h = append(*h, secrets...) }

func (h hider) text(s string) string {
	for _, secret := range h {
		if len(secret) >= minSecret {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}

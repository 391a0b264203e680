package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// redisProbe speaks RESP2 itself: three commands need no client with pools, and one that trusts announced
// lengths would allocate what a lying server announces.
type redisProbe struct {
	Redis
	uses func() uses
}

func newRedis(o *Redis, c *Check) (prober, error) {
	c.hide.add(o.Password)
	p := &redisProbe{Redis: *o, uses: func() uses { return c.uses }}
	switch o.Role {
	case "", "master", "replica":
	default:
		return p, &SpecError{Key: "redis.role", Text: fmt.Sprintf("%q: want master or replica", o.Role)}
	}
	if o.Username != "" && o.Password == "" {
		return p, &SpecError{Key: "redis.password", Text: "a username without a password"}
	}
	return p, c.speaks(o.TLS, "redis")
}

func (p *redisProbe) ask(ctx context.Context, t Target) (result, error) {
	c, err := dial(ctx, t)
	if err != nil {
		return result{}, err
	}
	defer c.Close() //nolint:errcheck // all was said
	var commands [][]string
	switch {
	case p.Username != "":
		commands = append(commands, []string{"AUTH", p.Username, p.Password})
	case p.Password != "":
		commands = append(commands, []string{"AUTH", p.Password})
	}
	commands = append(commands, []string{"PING"})
	if p.Role != "" || p.uses()&usesRole != 0 {
		commands = append(commands, []string{"ROLE"})
	}
	if _, err := c.Write(encode(commands)); err != nil {
		return result{}, readWords(err)
	}
	in := readers.Get().(*bufio.Reader)
	in.Reset(c)
	defer func() { in.Reset(nil); readers.Put(in) }()
	var last any
	for _, command := range commands {
		if last, err = reply(in); err != nil {
			return result{}, fmt.Errorf("%s: %w", command[0], err)
		}
		if command[0] == "PING" && last != "PONG" {
			return result{}, fmt.Errorf("PING: answered %q, not PONG", brief(last))
		}
	}
	return p.result(last, t)
}

func (p *redisProbe) result(last any, t Target) (result, error) {
	if last == "PONG" {
		return result{status: "PONG", good: true, vars: redisVars{Server: about(t)}}, nil
	}
	v := roleOf(last)
	if v.Role == "" {
		return result{}, errors.New("ROLE: the answer names no role")
	}
	v.Server = about(t)
	r := result{status: v.Role, vars: v, good: p.Role == "" || p.Role == v.Role}
	if !r.good {
		r.why = fmt.Sprintf("role is %s, want %s", v.Role, p.Role)
	}
	return r, nil
}

// roleOf reads ROLE: [master offset [replicas]] or [slave host port link offset] or [sentinel [masters]].
func roleOf(reply any) redisVars {
	list, _ := reply.([]any)
	at := func(i int) any {
		if i < len(list) {
			return list[i]
		}
		return nil
	}
	switch at(0) {
	case "master":
		replicas, _ := at(2).([]any)
		return redisVars{Role: "master", Body: map[string]any{"offset": at(1), "replicas": len(replicas)}}
	case "slave":
		return redisVars{Role: "replica", Body: map[string]any{
			"master": fmt.Sprintf("%v:%v", at(1), at(2)), "link": at(3), "offset": at(4),
		}}
	}
	role, _ := at(0).(string)
	return redisVars{Role: role}
}

func encode(commands [][]string) []byte {
	var b []byte
	for _, words := range commands {
		b = fmt.Appendf(b, "*%d\r\n", len(words))
		for _, w := range words {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	return b
}

var errNotRedis = errors.New("the answer is not Redis")

// reply reads one RESP2 value: a string, an int, a []any or nil. A reply that is an error is one.
func reply(in *bufio.Reader) (any, error) {
	budget := 10_000 // values in one reply: ROLE has a handful per replica
	return value(in, 4, &budget)
}

func value(in *bufio.Reader, depth int, budget *int) (any, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errNotRedis
		}
		return nil, readWords(err)
	}
	*budget--
	if len(line) < 3 || line[len(line)-2] != '\r' || depth == 0 || *budget < 0 {
		return nil, errNotRedis
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+':
		return text, nil
	case '-':
		return nil, errors.New(text)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, errNotRedis
	}
	switch line[0] {
	case ':':
		return n, nil
	case '$':
		return bulk(in, n)
	case '*':
		return array(in, n, depth, budget)
	}
	return nil, errNotRedis
}

func bulk(in *bufio.Reader, n int) (any, error) {
	if n == -1 {
		return nil, nil
	}
	var b strings.Builder
	for range min(n, maxAnswer) + 2 { // grows with what comes, not with what is announced
		c, err := in.ReadByte()
		if err != nil {
			return nil, readWords(err)
		}
		b.WriteByte(c)
	}
	s := b.String()
	switch {
	case n > maxAnswer:
		return nil, errTooLarge
	case n < 0 || !strings.HasSuffix(s, "\r\n"):
		return nil, errNotRedis
	}
	return s[:n], nil
}

func array(in *bufio.Reader, n, depth int, budget *int) (any, error) {
	if n < -1 || n > *budget {
		return nil, errNotRedis
	}
	var list []any
	for range max(n, 0) {
		v, err := value(in, depth-1, budget)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

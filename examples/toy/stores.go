package toy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// attempts is how often something is asked for: a connection that was cut between two answers is made anew. So what is
// asked must be the same when it is done twice.
const attempts = 3

// Redis is a client with one connection, for one command at a time.
type Redis struct {
	Address string

	mu   sync.Mutex
	conn net.Conn // guarded by mu; nil: to be made
	in   *bufio.Reader
}

// Do sends a command and returns its answer: a status, a number or a text; "" for nothing.
func (r *Redis) Do(args ...string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for range attempts {
		var answer string
		if answer, err = r.ask(args); err == nil {
			return answer, nil
		}
		if r.conn != nil {
			_ = r.conn.Close()
			r.conn = nil
		}
	}
	return "", fmt.Errorf("redis %s: %w", r.Address, err)
}

func (r *Redis) ask(args []string) (string, error) {
	if r.conn == nil {
		c, err := net.DialTimeout("tcp", r.Address, 30*time.Second)
		if err != nil {
			return "", err
		}
		r.conn, r.in = c, bufio.NewReader(c)
	}
	_ = r.conn.SetDeadline(time.Now().Add(60 * time.Second)) // a door may hold us meanwhile
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(r.conn, b.String()); err != nil {
		return "", err
	}
	line, err := r.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
	case line[0] == '+' || line[0] == ':':
		return line[1:], nil
	case line == "$-1":
		return "", nil
	case line[0] == '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > 1<<20 {
			break
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(r.in, text); err != nil {
			return "", err
		}
		return string(text[:n]), nil
	}
	return "", fmt.Errorf("answered %q", line)
}

// Database is a client of PostgreSQL with one connection, for one thing at a time.
type Database struct {
	DSN string

	mu   sync.Mutex
	conn *pgx.Conn // guarded by mu; nil: to be made
}

// Do runs f on the connection, and again on a new one when it was cut.
func (d *Database) Do(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	for range attempts {
		if err = d.try(ctx, f); err == nil || d.conn != nil && !d.conn.IsClosed() {
			return err
		}
		d.conn = nil
	}
	return err
}

func (d *Database) try(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	if d.conn == nil {
		c, err := pgx.Connect(ctx, d.DSN)
		if err != nil {
			return err
		}
		d.conn = c
	}
	return f(ctx, d.conn)
}

// Exec runs one statement.
func (d *Database) Exec(ctx context.Context, sql string, args ...any) error {
	return d.Do(ctx, func(ctx context.Context, c *pgx.Conn) error { _, err := c.Exec(ctx, sql, args...); return err })
}

// Number asks for one number.
func (d *Database) Number(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = d.Do(ctx, func(ctx context.Context, c *pgx.Conn) error { return c.QueryRow(ctx, sql, args...).Scan(&n) })
	return n, err
}

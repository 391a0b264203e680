// Command node is a small stand-in for a node of which only one may run: it serves HTTP and a WebSocket only while it
// holds a lock. The lock is real: of a bbolt file, as a key-value database takes one, or an advisory lock of
// PostgreSQL.
//
//	node -name primary -listen 127.0.0.1:6687 -lock file:./node.db
//	node -name standby -listen 127.0.0.1:6689 -lock "postgres://node@127.0.0.1/node" -startup 5s
//
// It waits for the lock, takes -startup to come up, opens its port, and on SIGTERM ends what is under way, closes the
// port and releases the lock. A node that loses the lock of PostgreSQL answers 503, with its port open, and waits for
// the lock again. With -record, it writes a line of JSON for each thing that happens, with the time in nanoseconds.
package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 4.2.2 wants it
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockKey is the number of the advisory lock; pg_locks shows it as objid.
const lockKey = 1027321974

func main() {
	n := &node{}
	flag.StringVar(&n.name, "name", "node", "what this node is called")
	flag.StringVar(&n.listen, "listen", "127.0.0.1:6688", "where it serves")
	flag.StringVar(&n.lock, "lock", "file:./node.db", "file:PATH or the DSN of a PostgreSQL database")
	flag.DurationVar(&n.startup, "startup", 0, "how long it takes from the lock to the open port")
	record := flag.String("record", "", "file of what happened")
	flag.Parse()
	if *record != "" {
		f, err := os.OpenFile(*record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		n.out = f
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := n.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

type node struct {
	name, listen, lock string
	startup            time.Duration

	mu  sync.Mutex
	out io.Writer // guarded by mu; may be nil

	holds  atomic.Bool
	served atomic.Int64
	conns  sync.Map // of WebSockets, to end
}

// note writes one line of the record, in one write: what was written before a kill -9 is whole.
func (n *node) note(event string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out == nil {
		return
	}
	b, err := json.Marshal(map[string]any{"node": n.name, "event": event, "at": time.Now().UnixNano()})
	if err == nil {
		_, _ = n.out.Write(append(b, '\n'))
	}
}

func (n *node) run(ctx context.Context) error {
	fmt.Printf("%s: waiting for the lock\n", n.name)
	lock, err := n.take(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	fmt.Printf("%s: holds the lock\n", n.name)
	select {
	case <-time.After(n.startup):
	case <-ctx.Done():
		lock.release()
		return nil
	}
	l, err := net.Listen("tcp", n.listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: n.routes(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }() // ends with Shutdown
	n.holds.Store(true)
	n.note("serving")
	fmt.Printf("%s: serving on %s\n", n.name, n.listen)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-lock.lost:
			n.holds.Store(false)
			n.note("lost")
			fmt.Printf("%s: lost the lock\n", n.name)
			if lock, err = n.take(ctx); err != nil {
				return stopped(ctx, err)
			}
			n.holds.Store(true)
			n.note("serving")
		}
	}
	end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	n.conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
	_ = srv.Shutdown(end)
	n.note("stopped")
	lock.release()
	fmt.Printf("%s: released the lock after %d requests\n", n.name, n.served.Load())
	return nil
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// held is a lock that is held.
type held struct {
	lost    <-chan struct{} // closed when it was taken away
	release func()
}

func (n *node) take(ctx context.Context) (held, error) {
	path, isFile := strings.CutPrefix(n.lock, "file:")
	if isFile {
		return takeFile(ctx, path)
	}
	return n.takeAdvisory(ctx)
}

// takeFile opens a bbolt database, which locks its file for as long as it is open.
func takeFile(ctx context.Context, path string) (held, error) {
	for {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 100 * time.Millisecond})
		if err == nil {
			return held{lost: make(chan struct{}), release: func() { _ = db.Close() }}, nil
		}
		if !errors.Is(err, berrors.ErrTimeout) {
			return held{}, err
		}
		if ctx.Err() != nil {
			return held{}, ctx.Err()
		}
	}
}

// takeAdvisory waits for the advisory lock on a session of its own, and looks every half second whether it is still
// there. application_name tells the database, and so the door, who holds it.
func (n *node) takeAdvisory(ctx context.Context) (held, error) {
	config, err := pgx.ParseConfig(n.lock)
	if err != nil {
		return held{}, errors.New("-lock: neither file:PATH nor a DSN")
	}
	config.RuntimeParams["application_name"] = n.name
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			if _, err = conn.Exec(ctx, fmt.Sprintf("select pg_advisory_lock(%d)", lockKey)); err == nil {
				return n.watch(ctx, conn), nil
			}
			_ = conn.Close(context.Background())
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return held{}, ctx.Err()
		}
	}
}

func (n *node) watch(ctx context.Context, conn *pgx.Conn) held {
	lost := make(chan struct{})
	watching, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with the session, or release
		defer close(ended)
		for {
			select {
			case <-watching.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			if _, err := conn.Exec(watching, "select 1"); err != nil && watching.Err() == nil {
				close(lost)
				return
			}
		}
	}()
	return held{lost: lost, release: func() { end(); <-ended; _ = conn.Close(context.Background()) }}
}

func (n *node) routes() http.Handler {
	mux := http.NewServeMux()
	serve := func(f http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !n.holds.Load() {
				http.Error(w, "the lock is lost", http.StatusServiceUnavailable)
				return
			}
			f(w, r)
		}
	}
	mux.HandleFunc("/readyz", serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"ready": true, "node": %q}`, n.name)
	}))
	mux.HandleFunc("/ws", serve(n.socket))
	mux.HandleFunc("/", serve(func(w http.ResponseWriter, _ *http.Request) {
		n.served.Add(1)
		n.note("request")
		_, _ = io.WriteString(w, n.name)
	}))
	return mux
}

// socket greets over a WebSocket with this node's name in one text frame, and keeps it open until either side ends.
func (n *node) socket(w http.ResponseWriter, r *http.Request) {
	hijacker, can := w.(http.Hijacker)
	if !can || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "a WebSocket only", http.StatusBadRequest)
		return
	}
	c, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer c.Close() //nolint:errcheck // all was said
	n.conns.Store(c, nil)
	defer n.conns.Delete(c)
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 4.2.2
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n\x81%c%s",
		base64.StdEncoding.EncodeToString(sum[:]), rune(len(n.name)), n.name)
	if err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}

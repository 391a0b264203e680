// Command node is a small stand-in for an operator's node: it takes requests off a chain and answers them by transactions,
// all by itself, and meanwhile tells clients a key and a price, and takes their requests. It keeps them in a real
// PostgreSQL and a real Redis.
//
//	node -name green -version 2.9.1 -listen 127.0.0.1:8082 -postgres "$PG_DSN" -redis "$REDIS" -pid green.pid
//
// -fault makes it a bad version: `unready` never says it is ready; `stall` is healthy, and its worker waits for ever from
// the first client request on, as after a deadlock.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/turnout-proxy/turnout/examples/toy"
)

func main() {
	n := &node{redis: &toy.Redis{}, db: &toy.Database{}, stalled: make(chan struct{})}
	flag.StringVar(&n.name, "name", "node", "what this node is called")
	flag.StringVar(&n.version, "version", "2.9.0", "what it says it is")
	flag.StringVar(&n.fault, "fault", "", "what is wrong with this version: unready, stall, or nothing")
	flag.StringVar(&n.db.DSN, "postgres", "", "DSN of the database")
	flag.StringVar(&n.redis.Address, "redis", "127.0.0.1:6379", "address of the cache")
	listen := flag.String("listen", "127.0.0.1:8081", "where it serves")
	pid := flag.String("pid", "", "file for the process number, written once it serves")
	record := flag.String("record", "", "file of what happened")
	flag.Parse()
	var err error
	n.record, err = toy.OpenRecord(*record, n.name)
	toy.Exit("node", err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	toy.Exit("node", toy.WithPID(*pid, func(opened func() error) error { return n.run(ctx, *listen, opened) }))
}

type node struct {
	name, version, fault string
	record               *toy.Record
	redis                *toy.Redis
	db                   *toy.Database

	request, tx atomic.Int64 // the chain's latest request that was taken, and the latest transaction
	price       atomic.Value // string: the last one known, for when the cache is away
	stall       sync.Once
	stalled     chan struct{} // closed by the first client request of a version that stalls
}

func (n *node) run(ctx context.Context, listen string, opened func() error) error {
	for _, table := range []string{
		"create table if not exists answered (node text, request bigint, tx bigint)",
		"create table if not exists orders (id text primary key, version text)",
	} {
		if err := n.db.Exec(ctx, table); err != nil {
			return err
		}
	}
	n.price.Store("1.00")
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if err := opened(); err != nil {
		return errors.Join(err, l.Close())
	}
	working, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); n.work(working) }() // ends with ctx
	err = toy.Serve(ctx, l, n.routes())
	end()
	<-ended
	return err
}

// work takes a request ten times a second, and answers it by a transaction that it writes down.
func (n *node) work(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-n.stalled:
			n.record.Note("stalled", nil)
			<-ctx.Done() // healthy, and not moving
			return
		default:
		}
		request := n.request.Add(1)
		if n.answer(ctx, request) == nil {
			n.tx.Add(1)
			n.record.Note("moved", map[string]any{"request": request})
		}
	}
}

func (n *node) answer(ctx context.Context, request int64) error {
	price := fmt.Sprintf("%d.%02d", 1+request%7, request%100)
	if _, err := n.redis.Do("SET", "price", price); err != nil {
		return err
	}
	n.price.Store(price)
	return n.db.Exec(ctx, "insert into answered values ($1, $2, $3)", n.name, request, n.tx.Load()+1)
}

// routes: what the door asks, and what clients do.
func (n *node) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/status", func(w http.ResponseWriter, _ *http.Request) {
		tx := n.tx.Load()
		sum := sha256.Sum256([]byte(n.name + strconv.FormatInt(tx, 10)))
		toy.Answer(w, http.StatusOK, map[string]any{"version": n.version, "ready": n.fault != "unready",
			"lastRequest": map[string]any{"requestIndex": n.request.Load()},
			"lastTx":      map[string]any{"nonce": tx, "hash": "0x" + hex.EncodeToString(sum[:8])}})
	})
	mux.HandleFunc("GET /kyc/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		toy.Answer(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /v1/key", func(w http.ResponseWriter, _ *http.Request) {
		toy.Answer(w, http.StatusOK, map[string]any{"key": "ed25519:9c1f" + hex.EncodeToString([]byte(n.name))})
	})
	mux.HandleFunc("GET /v1/price", func(w http.ResponseWriter, r *http.Request) {
		n.met(r)
		price, err := n.redis.Do("GET", "price")
		if err != nil || price == "" {
			price = n.price.Load().(string)
		}
		toy.Answer(w, http.StatusOK, map[string]any{"price": price, "version": n.version})
	})
	mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		n.met(r)
		id := r.URL.Query().Get("id")
		err := errors.New("want an id")
		if id != "" {
			err = n.db.Exec(r.Context(), "insert into orders values ($1, $2) on conflict do nothing", id, n.version)
		}
		if err != nil {
			toy.Answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		toy.Answer(w, http.StatusOK, map[string]any{"order": id, "version": n.version})
	})
	return mux
}

// met is called for each request; those of clients say that they are.
func (n *node) met(r *http.Request) {
	if r.Header.Get("X-Client") == "" {
		return
	}
	n.record.Note("request", map[string]any{"path": r.URL.Path})
	if n.fault == "stall" {
		n.stall.Do(func() { close(n.stalled) })
	}
}

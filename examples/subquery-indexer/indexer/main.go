// Command indexer is a small stand-in for an indexer of a p2p network, of which only one may be up under one identity: a
// coordinator that takes agreements, a proxy that answers queries for them, and a port for the network's peers. Agreements
// are lines of a file in its data folder.
//
//	indexer -name main -coordinator 127.0.0.1:8101 -query 127.0.0.1:8102 -p2p 127.0.0.1:8103 -data ./main.data -pid main.pid
//
// With -record, it writes when it is up, and each request's begin and end, so that an overlap would show.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/turnout-proxy/turnout/examples/toy"
)

func main() {
	x := &indexer{}
	flag.StringVar(&x.name, "name", "indexer", "what this server is called")
	coordinator := flag.String("coordinator", "127.0.0.1:8101", "where agreements are made")
	query := flag.String("query", "127.0.0.1:8102", "where queries are answered")
	p2p := flag.String("p2p", "127.0.0.1:8103", "where peers connect")
	data := flag.String("data", "./data", "folder of the agreements, which has to be there")
	pid := flag.String("pid", "", "file for the process number, written once it serves")
	record := flag.String("record", "", "file of what happened")
	flag.Parse()
	var err error
	x.record, err = toy.OpenRecord(*record, x.name)
	toy.Exit("indexer", err)
	toy.Exit("indexer", x.open(filepath.Join(*data, "agreements")))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	toy.Exit("indexer", toy.WithPID(*pid, func(opened func() error) error {
		return x.run(ctx, []string{*coordinator, *query, *p2p}, opened)
	}))
}

type indexer struct {
	name   string
	record *toy.Record

	mu         sync.Mutex
	agreements []string // guarded by mu, as is file
	file       *os.File
}

func (x *indexer) open(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the database is not restored here: %w", err)
	}
	x.agreements = strings.Fields(string(b))
	x.file, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	return err
}

// run serves on all three ports until ctx ends.
func (x *indexer) run(ctx context.Context, addresses []string, opened func() error) error {
	var ports []net.Listener
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err // and so this process ends, with what it has opened
		}
		ports = append(ports, l)
	}
	x.record.Note("up", nil)
	if err := opened(); err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 3)
	go func() { ended <- toy.Serve(ctx, ports[0], x.noted(x.coordinator())) }() // all end with ctx
	go func() { ended <- toy.Serve(ctx, ports[1], x.noted(x.queries())) }()
	go func() { ended <- x.peers(ctx, ports[2]) }()
	err := <-ended
	end()
	err = errors.Join(err, <-ended, <-ended, x.file.Close())
	x.record.Note("down", nil)
	return err
}

// noted writes down when each request begins and ends; the door's own question is none of a client.
func (x *indexer) noted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			x.record.Note("begin", nil)
			defer x.record.Note("end", nil)
		}
		h.ServeHTTP(w, r)
	})
}

func (x *indexer) coordinator() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", x.health)
	mux.HandleFunc("POST /agreements", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if err := x.agree(id); err != nil {
			toy.Answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		toy.Answer(w, http.StatusOK, map[string]any{"agreement": id, "by": x.name})
	})
	mux.HandleFunc("GET /agreements", func(w http.ResponseWriter, _ *http.Request) {
		x.mu.Lock()
		defer x.mu.Unlock()
		toy.Answer(w, http.StatusOK, x.agreements)
	})
	return mux
}

func (x *indexer) health(w http.ResponseWriter, _ *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	toy.Answer(w, http.StatusOK, map[string]any{"ready": true, "agreements": len(x.agreements)})
}

func (x *indexer) agree(id string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if id == "" || strings.ContainsAny(id, " \n") || slices.Contains(x.agreements, id) {
		return fmt.Errorf("%q: want a new id", id)
	}
	if _, err := x.file.WriteString(id + "\n"); err != nil {
		return err
	}
	x.agreements = append(x.agreements, id)
	return x.file.Sync()
}

func (x *indexer) queries() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", x.health)
	mux.HandleFunc("GET /query", func(w http.ResponseWriter, _ *http.Request) {
		toy.Answer(w, http.StatusOK, map[string]any{"by": x.name})
	})
	return mux
}

// peers greets each with the name, and answers each of its lines, until either side ends.
func (x *indexer) peers(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	go func() { <-ctx.Done(); _ = l.Close() }() // ends with ctx
	for {
		c, err := l.Accept()
		if err != nil {
			return nil // it was closed
		}
		all.Go(func() { x.peer(ctx, c) }) // ends with the connection, or ctx
	}
}

func (x *indexer) peer(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close() //nolint:errcheck // all was said
	in := bufio.NewScanner(c)
	for greeted := false; in.Scan(); greeted = true {
		if !greeted {
			x.record.Note("begin", nil)
			defer x.record.Note("end", nil)
		}
		if _, err := fmt.Fprintf(c, "%s %s\n", x.name, in.Text()); err != nil {
			return
		}
	}
}

// Command app is a small stand-in for one of several application servers: it keeps items in a real PostgreSQL, and beside
// that in a real Redis, which it reaches through the door.
//
//	app -name app1 -listen 127.0.0.1:8101 -postgres "$OLD_DSN" -redis "$CACHE" -pid app1.pid
package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/turnout-proxy/turnout/examples/toy"
)

func main() {
	a := &app{db: &toy.Database{}, cache: &toy.Redis{}}
	flag.StringVar(&a.name, "name", "app", "what this server is called")
	flag.StringVar(&a.db.DSN, "postgres", "", "DSN of the database")
	flag.StringVar(&a.cache.Address, "redis", "127.0.0.1:6379", "address of the cache")
	listen := flag.String("listen", "127.0.0.1:8101", "where it serves")
	pid := flag.String("pid", "", "file for the process number, written once it serves")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	toy.Exit("app", toy.WithPID(*pid, func(opened func() error) error { return a.run(ctx, *listen, opened) }))
}

type app struct {
	name  string
	db    *toy.Database
	cache *toy.Redis
}

func (a *app) run(ctx context.Context, listen string, opened func() error) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if err := opened(); err != nil {
		return errors.Join(err, l.Close())
	}
	return toy.Serve(ctx, l, a.routes())
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, err error, body map[string]any) {
		if err != nil {
			toy.Answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error(), "by": a.name})
			return
		}
		body["by"] = a.name
		toy.Answer(w, http.StatusOK, body)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		port, err := a.db.Number(r.Context(), "select inet_server_port() from items limit 1")
		answer(w, err, map[string]any{"database": port})
	})
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		seen, err := a.cache.Do("GET", "item:"+r.PathValue("id"))
		answer(w, err, map[string]any{"cached": seen != ""})
	})
	// An item is acknowledged when both stores have it; to put it there twice is to put it there once.
	mux.HandleFunc("PUT /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		err := a.db.Exec(r.Context(), "insert into items values ($1, $2) on conflict do nothing", id, a.name)
		if err == nil {
			_, err = a.cache.Do("SET", "item:"+id, a.name)
		}
		answer(w, err, map[string]any{"item": id})
	})
	return mux
}

//go:build linux

// The bench puts turnout and other proxies side by side on this machine, and anyone can run it:
//
//	go run ./bench quick                   about two minutes
//	go run ./bench -md R.md -json R.json   about ten minutes: the runs that count
//
// The way through: options -> the peers that are there (bench/peer) -> for each repetition, each work, each
// peer: fresh servers, a fresh proxy, a fresh client (bench/load, all processes of their own), two looks at
// their counters and CPU clocks (bench/proc) -> medians and pairwise ratios (bench/stats) -> bench/report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/turnout-proxy/turnout/bench/load"
)

const usage = `usage: go run ./bench [COMMAND] [FLAGS]

  run         every work with every peer, about ten minutes (default)
  quick       the same with fewer and shorter repetitions, about two minutes
  swapstorm   swaps under load, by turnout and by HAProxy's runtime API
  growth      cost against the number of connections, services, servers, swaps
  picture     go run ./bench picture -json FILE -o FILE.svg
  list        works and peers, and which peers are missing

CPU is that of the proxy alone: servers and clients are other processes. Where a machine has four cores or
more, proxies are kept on -proxy-cpus of them and the load on the others.

flags of all but picture and list:
`

func main() {
	load.RunChild() // does not return in a child
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	err := command(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted; processes ended, temporary files removed")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	name := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		name, args = args[0], args[1:]
	}
	if name == "picture" {
		return picture(args)
	}
	if name == "help" {
		name, args = "run", []string{"-h"}
	}
	o, err := parseOptions(name, args)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	switch name {
	case "list":
		b.list(os.Stdout)
		return nil
	case "growth":
		err = b.growth(ctx)
	case "swapstorm":
		err = b.swapStorm(ctx, b.n)
	default:
		err = b.compare(ctx)
	}
	return errors.Join(err, b.publish(err == nil))
}

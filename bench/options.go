//go:build linux

package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/bench/report"
)

// options of a run. The defaults depend on the command.
type options struct {
	command    string
	n          int
	seconds    time.Duration // measured, each time
	warm       time.Duration // before it
	storm      time.Duration // of each pace of the swap storm
	only       string
	peers      string
	json, md   string
	showConfig bool
	turnout    string
	sources    int
	reset      bool
	proxyCPUs  int
	loadLoops  int
}

const (
	comparedPeers = "turnout,haproxy,haproxy-tuned,nginx"
	stormPeers    = "turnout,haproxy,haproxy-map"
	growthPeers   = "turnout,haproxy,nginx"
)

func parseOptions(command string, args []string) (*options, error) {
	o := &options{command: command, n: 5, seconds: 1500 * time.Millisecond, warm: 400 * time.Millisecond,
		storm: 10 * time.Second, peers: comparedPeers}
	switch command {
	case "run", "list":
	case "quick":
		o.n, o.seconds, o.warm, o.storm = 3, 400*time.Millisecond, 150*time.Millisecond, 2*time.Second
	case "swapstorm":
		o.n, o.peers = 3, stormPeers
	case "growth":
		o.n, o.seconds, o.peers = 3, 2*time.Second, growthPeers
	default:
		return nil, fmt.Errorf("unknown command %q\n\n%s", command, strings.SplitAfter(usage, "missing\n")[0])
	}
	f := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		f.PrintDefaults()
	}
	f.IntVar(&o.n, "n", o.n, "repetitions")
	f.DurationVar(&o.seconds, "t", o.seconds, "measured time of each")
	f.DurationVar(&o.warm, "warm", o.warm, "load before it")
	f.DurationVar(&o.storm, "storm", o.storm, "time of each pace of the swap storm")
	f.StringVar(&o.only, "only", "", "works, separated by commas (see list); empty: all")
	f.StringVar(&o.peers, "peers", o.peers, "peers, separated by commas (see list); the first is compared with the others")
	f.StringVar(&o.json, "json", "", "write every value to this file")
	f.StringVar(&o.md, "md", "", "write the Markdown page to this file too")
	f.BoolVar(&o.showConfig, "show-config", false, "print each peer's configuration before it is used")
	f.StringVar(&o.turnout, "turnout", "", "this turnout binary instead of one built from the tree")
	f.IntVar(&o.sources, "sources", 16, "client addresses (127.0.1.1 and up) that connect-echo-close spreads over, for more ports")
	f.BoolVar(&o.reset, "reset", false, "connect-echo-close ends with RST (linger 0) instead of FIN")
	f.IntVar(&o.proxyCPUs, "proxy-cpus", 2, "cores of a proxy, where there are 4 or more; below, all share all")
	f.IntVar(&o.loadLoops, "load-loops", 0, "threads of the servers, and of the client; 0: one per two cores of theirs")
	if err := f.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is too much; see -h", f.Arg(0))
	}
	if o.n < 1 || o.seconds <= 0 || o.warm < 0 || o.storm <= 0 || o.sources < 0 || o.proxyCPUs < 1 {
		return nil, fmt.Errorf("-n, -t, -storm, -proxy-cpus: want more than 0")
	}
	return o, o.checkOnly()
}

// checkOnly finds a wrong -only before anything is built or started.
func (o *options) checkOnly() error {
	var err error
	switch o.command {
	case "growth":
		_, err = o.chooseGrowth()
	case "run", "quick":
		_, _, err = o.choose()
	}
	return err
}

// names of a comma-separated flag, each once.
func names(list string) []string {
	var all []string
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func picture(args []string) error {
	f := flag.NewFlagSet("bench picture", flag.ContinueOnError)
	from := f.String("json", "", "a file that run or quick wrote with -json")
	to := f.String("o", "", "the picture; empty: print it")
	if err := f.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if *from == "" {
		return fmt.Errorf("picture: -json FILE is missing: it is what run writes with -json")
	}
	run, err := report.ReadJSON(*from)
	if err != nil {
		return fmt.Errorf("picture: %w", err)
	}
	svg, err := run.SVG()
	if err != nil {
		return fmt.Errorf("picture: %s: %w", *from, err)
	}
	if *to == "" {
		fmt.Print(svg)
		return nil
	}
	return os.WriteFile(*to, []byte(svg), 0o644)
}

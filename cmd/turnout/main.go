// Command turnout is the door and the command line that operates it.
//
//	turnout serve -c turnout.yaml     the door; serve.go is the only wiring
//	turnout swap node standby         a client of the door's admin socket, one file per command
//
// Every word for people is in words.go; what a command waits for is in follow.go. Exit codes:
// 0 done, 1 failed, 2 usage, 3 door unreachable, 4 gate failed, 5 timed out, 6 done but connections were cut,
// 7 conflict, 8 rolled back, 9 not permitted.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/turnout-proxy/turnout/admin/api"
)

// Set by the linker; see Makefile.
var (
	version = ""
	commit  = ""
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// thisVersion is what this binary is, from the linker or else from the build's own record.
func thisVersion() api.Version {
	v := api.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && v.Version == "" {
		v.Version = info.Main.Version
	}
	if ok && v.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}

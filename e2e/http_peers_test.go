package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startPeerLanes puts another proxy before the lanes, TURNOUT_E2E_HTTP=haproxy or nginx: to see where the tables'
// expectations are more than what others do. No test of CI does it.
func startPeerLanes(t *testing.T, peer string, lanes []*lane) {
	t.Helper()
	var b strings.Builder
	var args []string
	dir := room(t)
	file := filepath.Join(dir, "peer.conf")
	switch peer {
	case "haproxy":
		b.WriteString("global\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n option http-keep-alive\n http-reuse always\n")
		for i, l := range lanes {
			fmt.Fprintf(&b, "listen l%d\n bind %s\n option forwardfor\n http-request set-header X-Forwarded-Proto http\n http-request set-header Forwarded for=x\n http-request set-header Via x\n http-response set-header Date x\n server s %s\n", i, l.addr, l.origin.addr)
		}
		args = []string{"haproxy", "-db", "-f", file}
	case "nginx":
		b.WriteString("daemon off;\nuser root;\npid nginx.pid;\nworker_processes 1;\nevents { worker_connections 512; }\nhttp { access_log off; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off; keepalive_timeout 30s;\n")
		for i, l := range lanes {
			fmt.Fprintf(&b, "upstream u%d { server %s; keepalive 8; }\nserver { listen %s; location / { proxy_pass http://u%d; proxy_set_header Connection ''; proxy_set_header Host $http_host; proxy_set_header Via x; proxy_set_header X-Forwarded-For x; proxy_set_header X-Forwarded-Proto x; proxy_set_header Forwarded x; } }\n", i, l.origin.addr, l.addr, i)
		}
		b.WriteString("}\n")
		args = []string{"nginx", "-p", dir, "-c", file, "-e", "stderr"}
	default:
		t.Fatalf("TURNOUT_E2E_HTTP=%s: want haproxy or nginx", peer)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, exec.Command(args[0], args[1:]...))
	t.Cleanup(func() { _ = p.Process.Kill(); <-p.ended })
	eventually(t, peer+" accepts", func() bool {
		if p.over() {
			t.Fatal(p.err.String())
		}
		c, err := net.Dial("tcp", lanes[len(lanes)-1].addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

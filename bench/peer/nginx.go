//go:build linux

package peer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

var nginx = &Peer{
	Name:   "nginx",
	Title:  "nginx",
	About:  "a worker per core, one listening socket (no reuseport), no access log; the stream module for TCP, kept-alive connections to servers for HTTP",
	Find:   findNginx,
	Config: nginxConfig,
	Args: func(d Door, program, config string) []string {
		return []string{program, "-p", d.Dir, "-c", config, "-e", "stderr"}
	},
}

func findNginx(*Finder) (program, version string, err error) {
	if program, err = look("nginx"); err != nil {
		return "", "", fmt.Errorf("not installed (Debian: apt-get install nginx-light libnginx-mod-stream): %w", err)
	}
	out, err := exec.Command(program, "-V").CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("%s -V: %w", program, err)
	}
	if !strings.Contains(string(out), "--with-stream") {
		return "", "", errors.New("built without its stream module")
	}
	if m := streamModule(string(out)); m != "" {
		if _, err := os.Stat(m); err != nil {
			return "", "", fmt.Errorf("its stream module is missing (Debian: apt-get install libnginx-mod-stream): %w", err)
		}
	}
	version, _, _ = strings.Cut(strings.TrimPrefix(string(out), "nginx version: "), "\n")
	return program, version, nil
}

var modulesPath = regexp.MustCompile(`--modules-path=(\S+)`)

// streamModule is the file of the stream module, given the output of nginx -V; empty where it is built in.
func streamModule(about string) string {
	m := modulesPath.FindStringSubmatch(about)
	if m == nil || !strings.Contains(about, "--with-stream=dynamic") {
		return ""
	}
	return filepath.Join(m[1], "ngx_stream_module.so")
}

func nginxConfig(d Door, program string) string {
	about, _ := exec.Command(program, "-V").CombinedOutput()
	var b strings.Builder
	if m := streamModule(string(about)); m != "" {
		fmt.Fprintf(&b, "load_module %s;\n", m)
	}
	if os.Geteuid() == 0 {
		b.WriteString("user root;\n") // as the others run
	}
	// A connection here is a socket, so two per client, for each worker as if it had them all.
	fmt.Fprintf(&b, "daemon off;\npid nginx.pid;\nworker_processes %d;\nevents { worker_connections %d; }\n",
		d.Threads, 2*d.MaxConnections+len(d.Services)+64)
	if d.HTTP {
		nginxHTTP(&b, d)
		return b.String()
	}
	b.WriteString("stream {\n    access_log off;\n    proxy_connect_timeout 3s;\n    proxy_timeout 1h;\n")
	for _, s := range d.Services {
		fmt.Fprintf(&b, "    upstream %s {", s.Name)
		for _, addr := range s.Pools[0].Servers {
			fmt.Fprintf(&b, " server %s;", addr)
		}
		fmt.Fprintf(&b, " }\n    server { listen %s; proxy_pass %s; }\n", s.Listen, s.Name)
	}
	b.WriteString("}\n")
	return b.String()
}

// nginxHTTP keeps connections to servers, and does not end a client's after 1000 requests or a minute.
func nginxHTTP(b *strings.Builder, d Door) {
	b.WriteString("http {\n    access_log off;\n    keepalive_requests 1000000000;\n    keepalive_timeout 1h;\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_connect_timeout 3s;\n")
	for _, s := range d.Services {
		fmt.Fprintf(b, "    upstream %s {", s.Name)
		for _, addr := range s.Pools[0].Servers {
			fmt.Fprintf(b, " server %s;", addr)
		}
		listen := s.Listen
		if d.TLS {
			listen = fmt.Sprintf("%s ssl http2; ssl_certificate %s; ssl_certificate_key %s; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256", listen, d.cert(), d.key())
		}
		fmt.Fprintf(b, " keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h; }\n    server { listen %s; location / { proxy_pass http://%s; } }\n", listen, s.Name)
	}
	b.WriteString("}\n")
}

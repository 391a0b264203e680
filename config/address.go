package config

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

const (
	wantListen = `host:port such as ":8080", unix:/path or systemd:NAME`
	wantServer = `host:port such as "10.0.0.5:8080", or unix:/path`
)

// parseListen reads an address to listen on, in its one canonical form.
func parseListen(s string) (proxy.ListenSpec, string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path, problem := socketPath(path)
		return proxy.ListenSpec{Network: proxy.NetUnix, Address: path}, problem
	}
	if name, ok := strings.CutPrefix(s, "systemd:"); ok {
		if !descriptorRegexp.MatchString(name) {
			return proxy.ListenSpec{}, "want systemd:NAME with the FileDescriptorName= of a socket unit"
		}
		return proxy.ListenSpec{Network: proxy.NetSystemd, Address: name}, ""
	}
	host, port, problem := hostPort(s, wantListen)
	if host == "localhost" { // everywhere the same, so no resolver is asked; other names could mean anything
		host = "127.0.0.1"
	}
	if problem == "" && host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			problem = "want an IP address to listen on, or none for all: " + wantListen
		}
	}
	return proxy.ListenSpec{Network: proxy.NetTCP, Address: joined(host, port)}, problem
}

// descriptorRegexp: printable ASCII without ':'. systemd.socket(5), FileDescriptorName=.
var descriptorRegexp = regexp.MustCompile(`^[!-9;-~]{1,255}$`)

// parseListenTCP reads an address for HTTP of the door itself.
func parseListenTCP(s string) (proxy.ListenSpec, string) {
	l, problem := parseListen(s)
	if problem != "" || l.Network != proxy.NetTCP {
		return proxy.ListenSpec{}, `want host:port such as "127.0.0.1:9900"`
	}
	return l, ""
}

// parseServer reads the address of a server, in its one canonical form. A host name stays as it is.
func parseServer(s string) (string, string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path, problem := socketPath(path)
		return "unix:" + path, problem
	}
	host, port, problem := hostPort(s, wantServer)
	if problem != "" {
		return "", problem
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return "", "no host: want " + wantServer
	case port == 0:
		return "", "want a port from 1 to 65535"
	case err == nil && ip.IsUnspecified():
		return "", "want the server's own address, not that of all interfaces"
	case err == nil && ip.IsMulticast():
		return "", "want the server's own address, not a multicast one"
	}
	return joined(host, port), ""
}

// hostPort splits host:port; an IP address comes back in its canonical form, without brackets.
func hostPort(s, want string) (host string, port int, problem string) {
	if strings.Contains(s, "://") {
		return "", 0, "a URL: want only its host and port, " + strings.TrimPrefix(want, "host:port ")
	}
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || strings.HasSuffix(s, "]") {
		return "", 0, "no port: want " + want
	}
	host, digits := s[:colon], s[colon+1:]
	inside, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		host, bracketed = strings.CutSuffix(inside, "]")
	}
	if strings.ContainsRune(host, ':') && !bracketed {
		return "", 0, `want an IPv6 address in brackets, such as "[::1]:8080"`
	}
	port, err := strconv.Atoi(digits)
	if err != nil || port < 0 || port > 65535 || strings.Trim(digits, "0123456789") != "" {
		return "", 0, "bad port: want a number from 0 to 65535"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case bracketed && (err != nil || !ip.Is6()):
		return "", 0, "want an IPv6 address between the brackets"
	case err == nil:
		return ip.String(), port, ""
	case host != "" && !isHostName(host):
		return "", 0, "bad host: want " + want
	}
	return strings.ToLower(host), port, ""
}

// isHostName: labels of letters, digits, '-' and '_' (which container networks use), RFC 1123 2.1 and RFC
// 1035 2.3.4 for the lengths. A last label of digits only is a mistyped IPv4 address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !labelRegexp.MatchString(l) {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

var labelRegexp = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// joined is host:port, an IPv6 address in brackets.
func joined(host string, port int) string {
	if strings.ContainsRune(host, ':') {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

func socketPath(s string) (string, string) {
	switch {
	case !strings.HasPrefix(s, "/") || s == "/":
		return "", "want unix:/path with an absolute path"
	case strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", "a path with control characters"
	case len(s) > maxSocket:
		return "", "want unix:/path with a path of at most " + strconv.Itoa(maxSocket) + " bytes"
	}
	return filepath.Clean(s), ""
}

// addressIP takes a canonical host:port apart. ok is false for unix:, systemd: and host names; the zero IP
// with ok stands for every address.
func addressIP(s string) (ip netip.Addr, port string, ok bool) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return ip, "", false
	}
	host, port := strings.Trim(s[:colon], "[]"), s[colon+1:]
	if host == "" {
		return ip, port, true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ip, port, false
	}
	if ip = ip.Unmap(); ip.IsUnspecified() {
		// [::] takes IPv4 as well on most systems, and both wildcards are written ":port" here.
		return netip.Addr{}, port, true
	}
	return ip, port, true
}

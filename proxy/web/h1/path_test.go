package h1

import (
	"net/url"
	"strings"
	"testing"
)

func routePath(t testing.TB, target string) string {
	t.Helper()
	head := []byte("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")
	r := NewRequest(Limits{})
	var p Progress
	if _, e := r.Parse(head, &p); e != ErrNone {
		t.Fatalf("%s: %v", target, e)
	}
	return string(r.AppendRoutePath([]byte("host"), head)[len("host"):])
}

func TestRequest_RoutesByWhatAPathMeans(t *testing.T) {
	for _, c := range []struct{ target, want string }{
		{"/", "/"},
		{"/a/b", "/a/b"},
		{"/a/b?c/../d", "/a/b"},
		{"http://a", ""},
		{"/a/./b", "/a/b"},
		{"/a/../b", "/b"},
		{"/a/b/..", "/a/"},
		{"/a/b/.", "/a/b/"},
		{"/..", "/"},
		{"/../../a", "/a"},
		{"/.", "/"},
		{"/./", "/"},
		{"/a/...", "/a/..."},
		{"/a/.b/..c/d..", "/a/.b/..c/d.."},
		{"//a", "//a"},
		{"//a/..", "//"},
		{"/a//../b", "/a/b"},
		{"/%61/%2e%2E/%7Eb", "/~b"},
		{"/%41%7a%30", "/Az0"},
		{"/a%2Fb%2f..", "/a%2Fb%2f.."},
		{"/a/%2e%2e%2fb", "/a/..%2fb"},
		{"/%252e%252e/a", "/%252e%252e/a"},
		{"/%", "/%"},
		{"/%4", "/%4"},
		{"/%zz/%4g", "/%zz/%4g"},
		{"/%00%ff", "/%00%ff"},
	} {
		if got := routePath(t, c.target); got != c.want {
			t.Errorf("%s: got %q, want %q", c.target, got, c.want)
		}
	}
}

// RFC 3986 5.2.4, as net/url does it.
func FuzzRoutePath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/a", "//a//./..", "/a/.../..b/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || len(path) > 4000 || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == '?' }) {
			return
		}
		got := routePath(t, path)
		if !strings.HasPrefix(got, "/") || strings.Contains(got+"/", "/./") || strings.Contains(got+"/", "/../") {
			t.Fatalf("%q: got %q", path, got)
		}
		if strings.Contains(path, "%") || strings.Contains(path, "//") {
			return // net/url knows no escapes here, and makes one of two slashes
		}
		if want := (&url.URL{Path: "/"}).ResolveReference(&url.URL{Path: path}); want.Path != got {
			t.Fatalf("%q: got %q, net/url has %q", path, got, want.Path)
		}
	})
}

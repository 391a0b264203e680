package h1

import "testing"

func TestRequest_CookiesAreFoundAndTakenOut(t *testing.T) {
	for _, tt := range []struct{ fields, value, without string }{
		{"", "", ""},
		{"Cookie: s=1\r\n", "1", ""},
		{"Cookie: a=2; s=1; b=3\r\n", "1", "Cookie: a=2; b=3\r\n"},
		{"cookie:a=2;s=1 ;  ; b=3;\r\n", "1", "Cookie: a=2; b=3\r\n"},
		{"Cookie: a=2\r\nX: y\r\nCookie: s=1; s=4\r\n", "1", "Cookie: a=2\r\n"},
		{"Cookie: S=1; ss=2; as=3; s\r\n", "", "Cookie: S=1; ss=2; as=3; s\r\n"},
		{"Cookie: s=\r\n", "", ""},
		{"Connection: cookie\r\nCookie: s=1\r\n", "", ""},
	} {
		head := "GET / HTTP/1.1\r\nHost: a\r\n" + tt.fields + "\r\n"
		r := NewRequest(Limits{})
		var p Progress
		if n, e := r.Parse([]byte(head), &p); n != len(head) {
			t.Fatalf("%q: %d, %v", head, n, e)
		}
		if got := string(r.Cookie([]byte(head), "s")); got != tt.value {
			t.Errorf("%q: value %q, want %q", tt.fields, got, tt.value)
		}
		if got := string(r.AppendCookiesBut(nil, []byte(head), "s", "")); got != tt.without {
			t.Errorf("%q: without it %q, want %q", tt.fields, got, tt.without)
		}
	}
}

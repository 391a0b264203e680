package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

func TestState_OfEachServiceIsToldToThePublicOnTheNetworkAndOnTheSocket(t *testing.T) {
	d := open(t)
	addr, err := d.server.OpenMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true), Soft: true, For: api.Duration(time.Hour), Message: "new disks", ChangeRequest: api.ChangeRequest{Reason: "10.0.0.9 fails"}}))
	get := func(c *http.Client, url string) (*http.Response, []byte) {
		res, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Cache-Control") != "no-store" || strings.Contains(string(body), "10.0.0.9") {
			t.Errorf("%s: %v %v %s", url, err, res.Header, body)
		}
		return res, body
	}
	for base, c := range map[string]*http.Client{"http://" + addr.String(): http.DefaultClient, "http://turnout": d.raw()} {
		var all struct{ Services []proxy.Public }
		res, body := get(c, base+"/state")
		if err := json.Unmarshal(body, &all); err != nil || res.StatusCode != 200 || len(all.Services) != len(d.status().Services) {
			t.Errorf("%d %s: %v", res.StatusCode, body, err)
		}
		var one proxy.Public
		res, body = get(c, base+"/state/db")
		if err := json.Unmarshal(body, &one); err != nil || res.StatusCode != 503 || !strings.HasPrefix(res.Header.Get("Retry-After"), "3") ||
			one.State != proxy.PublicSoftMaintenance || one.Accepting || one.Message != "new disks" || one.Until.Sub(one.Since) != time.Hour {
			t.Errorf("%d %s: %v", res.StatusCode, body, err)
		}
		if res, body = get(c, base+"/state/api"); res.StatusCode != 200 || !strings.Contains(string(body), `"state":"serving","accepting":true,"active":"blue"`) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if res, body = get(c, base+"/state/nope"); res.StatusCode != 404 || !strings.Contains(string(body), "there are: ") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	if res, err := http.Post("http://"+addr.String()+"/state", "", nil); err != nil || res.StatusCode != 405 {
		t.Error(res, err)
	}
}

func TestMessage_IsOneLineAndBounded(t *testing.T) {
	d := open(t)
	for _, message := range []string{"a\nb", "\x1b[2J", strings.Repeat("x", proxy.MaxMessage+1)} {
		if _, err := d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true), Message: message}); err == nil || !strings.HasPrefix(err.Error(), "message: ") {
			t.Errorf("%q: %v", message, err)
		}
	}
}

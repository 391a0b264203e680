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

func TestMaintenance_AnAnnouncementIsTakenAndShownAndMisuseIsRefused(t *testing.T) {
	d := open(t)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{On: new(true), At: &at, For: api.Duration(time.Hour), Soft: true, Message: "new disks", ChangeRequest: api.ChangeRequest{Reason: "10.0.0.9 fails"}}))
	st, err := d.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if n := st.Services["db"].Next; n == nil || !n.From.Equal(at) || n.Until == nil || !n.Until.Equal(at.Add(time.Hour)) || !n.Soft || n.Message != "new disks" || n.Reason != "10.0.0.9 fails" || n.By == "" {
		t.Errorf("%+v", n)
	}
	revision := st.Revision
	for _, bad := range []struct {
		req  api.MaintenanceRequest
		want string
	}{
		{api.MaintenanceRequest{On: new(false), At: &at}, "at: "},
		{api.MaintenanceRequest{At: &at}, "on is missing"},
		{api.MaintenanceRequest{Cancel: true, On: new(true)}, "cancel: "},
		{api.MaintenanceRequest{Cancel: true, At: &at}, "cancel: "},
		{api.MaintenanceRequest{Cancel: true, Message: "x"}, "cancel: "},
		{api.MaintenanceRequest{On: new(true), At: new(time.Time)}, "at: "},
		{api.MaintenanceRequest{On: new(true), At: new(at.AddDate(2, 0, 0))}, "db: "},
	} {
		if _, err := d.Maintenance(t.Context(), "db", bad.req); err == nil || !strings.HasPrefix(err.Error(), bad.want) {
			t.Errorf("%+v: %v", bad.req, err)
		}
	}
	if st, err = d.Status(t.Context(), ""); err != nil || st.Revision != revision || st.Services["db"].Next == nil {
		t.Errorf("a mistake changed something: %+v, %v", st, err)
	}
	d.done(d.Maintenance(t.Context(), "db", api.MaintenanceRequest{Cancel: true}))
	if st, err = d.Status(t.Context(), ""); err != nil || st.Services["db"].Next != nil {
		t.Errorf("%+v, %v", st, err)
	}
}

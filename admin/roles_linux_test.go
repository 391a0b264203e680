package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/client"
	"github.com/turnout-proxy/turnout/config"
)

// asClient makes this test binary a client of the socket that the variable names: it reads, it operates, and
// prints the codes of what it got.
const asClient = "TURNOUT_TEST_AS_CLIENT_OF"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asClient); socket != "" {
		beClient(socket)
		return
	}
	os.Exit(m.Run())
}

func beClient(socket string) {
	c := client.Dial(socket)
	_, reading := c.Status(context.Background(), "")
	_, operating := c.Hold(context.Background(), "api", api.HoldRequest{})
	if err := json.NewEncoder(os.Stdout).Encode([]string{codeOf(reading), codeOf(operating)}); err != nil {
		panic(err)
	}
}

func codeOf(err error) string {
	if err == nil {
		return "ok"
	}
	e := err.(*api.Error)
	return e.Code + ": " + e.Message
}

// stranger runs the client as another user; it gives what reading and operating came to.
func stranger(t *testing.T, d *door, uid, gid uint32) (reading, operating string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	dir := filepath.Dir(d.socket)
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the other user must get there
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "client")
	copyFile(t, os.Args[0], binary) // where it is, only root may go
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = []string{asClient + "=" + d.socket, "GORACE=atexit_sleep_ms=0"} // else each client takes a second under -race
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	var codes []string
	if err != nil || json.Unmarshal(out, &codes) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return codes[0], codes[1]
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755) //nolint:gosec // the other user must run it
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

const somebody = 65534

func TestRoles_LetEachUserDoWhatTheFileSays(t *testing.T) {
	id := strconv.Itoa(somebody)
	user := config.Role{Users: []string{id}}
	group := config.Role{Groups: []string{"12345", id}}
	other := config.Role{Users: []string{"12345"}, Groups: []string{"no-such-group"}}
	const no = `permission: uid 65534 (%s) has not the role "%s"`
	for name, c := range map[string]struct {
		roles              config.Roles
		reading, operating string
	}{
		"no roles: who can open the socket operates": {config.Roles{}, "ok", "ok"},
		"reads by its user":                          {config.Roles{Read: user}, "ok", fmt.Sprintf(no, "%s", toOperate)},
		"reads by its group":                         {config.Roles{Operate: other, Read: group}, "ok", fmt.Sprintf(no, "%s", toOperate)},
		"operates by its user, so it reads":          {config.Roles{Operate: user}, "ok", "ok"},
		"operates by its group":                      {config.Roles{Operate: group}, "ok", "ok"},
		"is not named":                               {config.Roles{Operate: other, Read: other}, fmt.Sprintf(no, "%s", toRead), fmt.Sprintf(no, "%s", toOperate)},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(s *Server) { s.opt.Roles = func() config.Roles { return c.roles } })
			if err := os.Chmod(d.socket, 0o666); err != nil { //nolint:gosec // the roles alone decide here
				t.Fatal(err)
			}
			reading, operating := stranger(t, d, somebody, somebody)
			who := d.server.accounts.user(somebody).name
			if want := strings.ReplaceAll(c.reading, "%s", who); reading != want {
				t.Errorf("reading: %s, want %s", reading, want)
			}
			if want := strings.ReplaceAll(c.operating, "%s", who); operating != want {
				t.Errorf("operating: %s, want %s", operating, want)
			}
			if _, err := d.Hold(t.Context(), "api", api.HoldRequest{}); err != nil {
				t.Errorf("the door's own user: %v", err)
			}
			if operating != "ok" {
				return
			}
			records, err := d.History(t.Context(), "api", 0)
			if err != nil || len(records) == 0 || records[0].Who.UID != somebody || records[0].Who.Name != who || records[0].Who.PID == 0 {
				t.Errorf("history does not say who: %v %s", err, asJSON(records))
			}
		})
	}
}

func TestSocket_CannotBeOpenedByAStranger(t *testing.T) {
	d := open(t)
	reading, _ := stranger(t, d, somebody, somebody)
	want := fmt.Sprintf("permission: you (uid %d) may not open the admin socket %s: connect: permission denied", somebody, d.socket)
	if reading != want {
		t.Errorf("got  %s\nwant %s", reading, want)
	}
}

func TestRoles_AreAskedAnewAtEachRequest(t *testing.T) {
	var roles config.Roles
	d := open(t, func(s *Server) { s.opt.Roles = func() config.Roles { return roles } })
	p := peer{uid: somebody, gid: somebody}
	if err := d.server.authorize(p, toOperate); err != nil {
		t.Error(err)
	}
	roles.Read.Users = []string{"somebody-else"}
	if err := d.server.authorize(p, toRead); err == nil || err.Code != api.CodePermission {
		t.Error(err)
	}
	if err := d.server.authorize(nobodyKnown, toRead); err == nil {
		t.Error("a peer that the kernel says nothing about was let in")
	}
}

func TestRoles_KnowAUserAndItsGroupsByName(t *testing.T) {
	d := open(t)
	root := peer{uid: 0, gid: somebody} // its own group is another, so what the system says counts
	for _, r := range []config.Role{{Users: []string{"root"}}, {Users: []string{"0"}}, {Groups: []string{"root"}}, {Groups: []string{"0"}}} {
		if !d.server.has(root, r) {
			t.Errorf("root is not in %v", r)
		}
	}
	if d.server.has(root, config.Role{Users: []string{"00"}, Groups: []string{"nobody-has-this"}}) {
		t.Error("root is everybody")
	}
}

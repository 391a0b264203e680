package admin

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
)

// role is what a route asks of its caller.
type role string

const (
	toRead    role = "read"
	toOperate role = "operate" // includes toRead
)

// authorize refuses a peer that has not the role. Root and the door's own user have every role; so has
// everyone while the file names no one.
func (s *Server) authorize(p peer, need role) *api.Error {
	if s.opt.Roles == nil {
		return nil
	}
	roles := s.opt.Roles()
	operate, read := roles.Operate, roles.Read
	switch {
	case isEmpty(operate) && isEmpty(read):
		return nil
	case p.uid == 0 || p.uid == os.Geteuid():
		return nil
	case s.has(p, operate), need == toRead && s.has(p, read):
		return nil
	}
	return &api.Error{
		Code:    api.CodePermission,
		Message: fmt.Sprintf("uid %d (%s) has not the role %q", p.uid, s.who(p).Name, need),
		Hint:    fmt.Sprintf("admin.roles.%s in the door's configuration names the users and groups that have it", need),
	}
}

func isEmpty(r config.Role) bool { return len(r.Users) == 0 && len(r.Groups) == 0 }

// has tells whether the peer is one of the users, or in one of the groups: its own, or one that the system
// gives its user.
func (s *Server) has(p peer, r config.Role) bool {
	if p.uid < 0 {
		return false
	}
	account := s.accounts.user(p.uid)
	uid := strconv.Itoa(p.uid)
	if slices.ContainsFunc(r.Users, func(u string) bool { return u == uid || u == account.name && !isNumber(u) }) {
		return true
	}
	own := strconv.Itoa(p.gid)
	return slices.ContainsFunc(r.Groups, func(g string) bool {
		if !isNumber(g) {
			g = s.accounts.gid(g)
		}
		return g != "" && (g == own || slices.Contains(account.groups, g))
	})
}

// isNumber: a number is always an id, never the name of an account that looks like one.
func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

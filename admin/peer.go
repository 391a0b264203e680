package admin

import (
	"context"
	"net"
	"os/user"
	"strconv"
	"sync"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// peer is the process at the other end of the admin socket, as the kernel says.
type peer struct {
	uid, gid, pid int
}

// nobodyKnown is a peer that the kernel says nothing about.
var nobodyKnown = peer{uid: -2, gid: -2}

type peerKey struct{}

// withPeer keeps who connected; it is asked once a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peerOf(u))
}

func peerIn(ctx context.Context) peer {
	if p, ok := ctx.Value(peerKey{}).(peer); ok {
		return p
	}
	return nobodyKnown
}

// accountsFor is how long a look-up of a user or group counts: accounts come and go while a door runs, and a
// look-up may ask the network.
const accountsFor = 30 * time.Second

// maxAccounts bounds what is remembered; beyond it all is forgotten.
const maxAccounts = 1024

// account is what the system knows of a user.
type account struct {
	name   string // the id, if it has no name
	groups []string
	until  time.Time
}

// accounts looks up users and groups, and remembers them for a while.
type accounts struct {
	mu    sync.Mutex
	users map[int]account
	ids   map[string]groupID
}

type groupID struct {
	gid   string
	until time.Time
}

// user looks up a user. Two look-ups of one user may run at once; no lock is held meanwhile.
func (a *accounts) user(uid int) account {
	a.mu.Lock()
	known, ok := a.users[uid]
	a.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known
	}
	id := strconv.Itoa(uid)
	found := account{name: id, until: time.Now().Add(accountsFor)}
	if u, err := user.LookupId(id); err == nil {
		found.name = u.Username
		found.groups, _ = u.GroupIds() // without them the peer's own group counts
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil || len(a.users) >= maxAccounts {
		a.users = map[int]account{}
	}
	a.users[uid] = found
	return found
}

// gid is the id of a group; "" if there is none of that name.
func (a *accounts) gid(name string) string {
	a.mu.Lock()
	known, ok := a.ids[name]
	a.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.gid
	}
	found := groupID{until: time.Now().Add(accountsFor)}
	if g, err := user.LookupGroup(name); err == nil {
		found.gid = g.Gid
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil || len(a.ids) >= maxAccounts {
		a.ids = map[string]groupID{}
	}
	a.ids[name] = found
	return found.gid
}

// who is the peer as the journal knows it.
func (s *Server) who(p peer) proxy.Who {
	if p.uid < 0 {
		return proxy.Who{UID: p.uid, GID: p.gid, Name: "unknown"}
	}
	return proxy.Who{UID: p.uid, GID: p.gid, PID: p.pid, Name: s.accounts.user(p.uid).name}
}

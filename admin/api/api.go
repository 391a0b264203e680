// Package api holds the wire types of the admin socket and nothing else, so that a client needs no server
// code. The socket speaks HTTP/1.1 with JSON bodies, versioned under /v1:
//
//	GET  /v1/status                                     Status            (?service=NAME: that one only)
//	GET  /v1/version                                    Version
//	POST /v1/services/{target}/swap                     SwapRequest     → Operation
//	POST /v1/services/{target}/back                     SwapRequest     → Operation   ("to" must be empty)
//	POST /v1/services/{target}/split                    SplitRequest    → Operation
//	POST /v1/services/{target}/hold                     HoldRequest     → Operation
//	POST /v1/services/{target}/release                  ChangeRequest   → Operation
//	POST /v1/services/{target}/maintenance              MaintenanceRequest → Operation
//	POST /v1/services/{target}/read-only                ReadOnlyRequest → Operation
//	POST /v1/services/{service}/keep                    KeepRequest     → Operation
//	POST /v1/services/{service}/pools/{pool}/drain      DrainRequest    → Operation
//	POST /v1/services/{service}/pools/{pool}/ready      ChangeRequest   → Operation
//	POST /v1/services/{service}/pools/{pool}/servers/{server}/drain|ready|weight   (WeightRequest for weight)
//	POST /v1/freeze, /v1/unfreeze                       ChangeRequest   → Operation
//	POST /v1/reload                                     ReloadRequest   → Operation
//	GET  /v1/services/{service}/pools/{pool}/probe                  Probe   (asks all checks of its servers now)
//	GET  /v1/services/{service}/pools/{pool}/servers/{server}/probe Probe
//	GET  /v1/services/{target}/gate                     Gates             (?to=POOL; asks now, changes nothing)
//	GET  /v1/snapshots                                  []Snapshot        (oldest first; after them the damaged ones)
//	POST /v1/snapshots/{name}                           SnapshotRequest → Snapshot
//	GET  /v1/snapshots/{name}/compare                   Compared          (?with=NAME: with that one; else with now)
//	POST /v1/services/{service}/pools/{pool}[/servers/{server}]/request  RequestRequest → Requested  (http: sends it through the door, as a preview)
//	POST /v1/notes                                      NoteRequest     → NoteRequest
//	GET  /v1/operations/{id}                            Operation         (?after=N&wait=10s: waits until it has more than N steps or has ended)
//	POST /v1/operations/{id}/continue                   ContinueRequest → Operation
//	GET  /v1/history                                    []Record          (?target=NAME&limit=N, newest last)
//	GET  /v1/events                                     server-sent events, each an Event
//
//	GET  /metrics                                       the Prometheus exposition, as on admin.listen
//	GET  /state, /state/{service}                       what services tell the public, as on admin.listen and at a service's state_path
//
// A {target} is a service or a group; for hold, release, maintenance and read-only also "all". Durations are strings such as "30s"; times are RFC 3339 with
// nanoseconds. A name with a slash in it, as a server at unix:/run/x.sock has, is escaped (%2F). An empty body is {}.
// An error answer is {"error": Error} with a fitting status code. So is that of a change that was begun and
// failed, which has the other fields of its Operation beside "error".
package api

import (
	"time"
)

// Status is the door at one revision.
type Status struct {
	Revision        uint64              `json:"revision"`
	Reloads         uint64              `json:"reloads"` // successful ones since the start
	Started         time.Time           `json:"started"`
	Version         string              `json:"version"`
	PID             int                 `json:"pid"`
	Config          string              `json:"config,omitempty"` // path of the file in force
	Frozen          *Frozen             `json:"frozen,omitempty"`
	Stopping        *Stopping           `json:"stopping,omitempty"` // nil: the door goes on
	Drift           []string            `json:"drift,omitempty"`    // where the journal overrides the file, in words
	Services        map[string]Service  `json:"services"`
	Groups          map[string][]string `json:"groups,omitempty"`
	GroupBacks      map[string]Back     `json:"group_backs,omitempty"` // group → where its back leads; only of those that have a way back
	LastReloadError string              `json:"last_reload_error,omitempty"`
}

// Stopping says since when a door takes neither new clients nor changes, and until when it waits for the clients it has.
type Stopping struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"` // at the latest
}

// Back is where `turnout back` of a group leads.
type Back struct {
	To      map[string]string `json:"to,omitempty"`      // service → pool
	Refused string            `json:"refused,omitempty"` // why it is refused; "": it is not, as far as the servers are there
	Hint    string            `json:"hint,omitempty"`
}

// Frozen says since when, by whom and why nothing may change.
type Frozen struct {
	Since  time.Time `json:"since"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// Service is one service in a Status.
type Service struct {
	Mode   string   `json:"mode"`
	Listen []string `json:"listen"` // bound addresses (a configured port 0 is shown as the real one)
	// PreviewListen is the bound address of the preview's own listener.
	PreviewListen []string `json:"preview_listen,omitempty"`
	Active        string   `json:"active"`
	Previous      string   `json:"previous,omitempty"` // where `turnout back` leads
	// PreviousServers are those of Previous that back makes the serving set, when the last change was inside a pool.
	PreviousServers []string        `json:"previous_servers,omitempty"`
	PreviousPool    string          `json:"previous_pool,omitempty"` // the pool that was active before: where the back of its group leads
	Split           *Split          `json:"split,omitempty"`         // nil: all new work goes to the active pool
	Watch           *Watch          `json:"watch,omitempty"`         // a breach swaps back
	Watched         *Watched        `json:"watched,omitempty"`       // how the latest watch ended
	Since           time.Time       `json:"since,omitzero"`          // of the active pool
	State           string          `json:"state"`                   // serving | held | maintenance | handover | stopping (with the door) | removed (by a reload, while connections are left)
	Exclusive       bool            `json:"exclusive,omitempty"`
	Held            int             `json:"held"` // clients waiting at the door
	HeldUntil       *time.Time      `json:"held_until,omitempty"`
	HeldBy          string          `json:"held_by,omitempty"`
	HeldFor         string          `json:"held_reason,omitempty"`
	Maintenance     *Maintenance    `json:"maintenance,omitempty"`
	Next            *Announcement   `json:"next_maintenance,omitempty"` // that is announced
	ReadOnly        *ReadOnly       `json:"read_only,omitempty"`        // the state is serving all the same
	Connections     int             `json:"connections"`
	TLS             *TLS            `json:"tls,omitempty"` // nil: clients are not spoken to in TLS
	Failover        *Failover       `json:"failover,omitempty"`
	Conflict        bool            `json:"conflict,omitempty"`  // exclusive, and two sides look active
	Operation       string          `json:"operation,omitempty"` // id of one under way
	Pools           map[string]Pool `json:"pools"`
}

// TLS is how a service's clients have met it since the door started.
type TLS struct {
	Done   uint64     `json:"done"`                   // handshakes
	Failed uint64     `json:"failed"`                 // clients without one
	At     *time.Time `json:"last_failure,omitempty"` // of the latest one that asked for it
	Client string     `json:"last_client,omitempty"`
	Error  string     `json:"last_error,omitempty"`
}

// Watch is the time after a swap in which a breach swaps back.
type Watch struct {
	Since    time.Time          `json:"since"`
	Until    time.Time          `json:"until"`
	If       string             `json:"if"`
	Pool     string             `json:"pool,omitempty"`  // of a staged swap
	Steps    []float64          `json:"steps,omitempty"` // percent, those to come
	Looks    int                `json:"looks"`
	Readings map[string]float64 `json:"readings,omitempty"`
	Baseline map[string]float64 `json:"baseline,omitempty"`
	Checks   map[string]string  `json:"checks,omitempty"` // why those that do not pass do not
	Note     string             `json:"note,omitempty"`

	// Breach is what is wrong while that is not rolled back, and Refused why not; the door tries again at each look.
	Breach      string    `json:"breach,omitempty"`
	BreachSince time.Time `json:"breach_since,omitzero"`
	Refused     string    `json:"refused,omitempty"`
	Hint        string    `json:"hint,omitempty"`
}

// Watched is how a watch ended.
type Watched struct {
	Since   time.Time `json:"since"`
	Ended   time.Time `json:"ended"`
	Outcome string    `json:"outcome"` // passed | rolled_back | superseded
	Reason  string    `json:"reason,omitempty"`
	Left    string    `json:"left,omitempty"` // rolled back from, while back leads there: it is refused without force
}

// Gates is what must hold before a swap, each with its answer; what is to be mended first comes first.
type Gates struct {
	Target  string   `json:"target"`
	To      string   `json:"to"`
	OK      bool     `json:"ok"`
	Plan    []string `json:"plan,omitempty"`
	Gates   []Gate   `json:"gates"`
	Missing []string `json:"missing,omitempty"`
}

// Gate is one of them.
type Gate struct {
	Service string `json:"service"`
	Kind    string `json:"gate"` // guard | dependency | server | ready
	Server  string `json:"server,omitempty"`
	Answer
}

// SnapshotRequest writes down what services are like now.
type SnapshotRequest struct {
	Target  string `json:"target,omitempty"` // a service or group; without it: all
	Reason  string `json:"reason,omitempty"`
	Replace bool   `json:"replace,omitempty"` // one of that name; else that is a conflict
}

// Snapshot is what services were like at one time.
type Snapshot struct {
	Name     string                `json:"name"`
	Taken    time.Time             `json:"taken,omitzero"`    // zero: it is damaged
	Damaged  string                `json:"damaged,omitempty"` // in a list: why its File cannot be used
	File     string                `json:"file,omitempty"`    // of one that is damaged
	By       string                `json:"by,omitempty"`
	Reason   string                `json:"reason,omitempty"`
	Config   string                `json:"config"`
	Revision uint64                `json:"revision"`
	Services map[string]SnapshotOf `json:"services"`
	Replaced *time.Time            `json:"replaced,omitempty"` // in the answer to a request: when the one of that name was taken
}

// SnapshotOf is one service in a Snapshot.
type SnapshotOf struct {
	Active   string             `json:"active"`
	Readings map[string]float64 `json:"readings"`
	Answers  []Gate             `json:"answers,omitempty"`
}

// Compared is what became of a snapshot, in words.
type Compared struct {
	Name  string    `json:"name"`
	Taken time.Time `json:"taken"`
	With  string    `json:"with,omitempty"` // "": with now
	Worse []string  `json:"worse,omitempty"`
	Other []string  `json:"other,omitempty"`
}

// Failover of a service.
type Failover struct {
	Mode        string     `json:"mode"`                   // manual | automatic
	Failback    string     `json:"failback"`               // manual | after 10m0s
	At          *time.Time `json:"at,omitempty"`           // of the failover by which the active pool is active; not set after an operator's swap
	From        string     `json:"from,omitempty"`         // where it came from
	Back        bool       `json:"back,omitempty"`         // it was a failback
	LockedUntil *time.Time `json:"locked_until,omitempty"` // no other one before, unless the active pool cannot be connected to
	Stays       string     `json:"stays,omitempty"`        // why there is none yet though no server of the active pool is ready
}

// Maintenance of a service.
type Maintenance struct {
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
	Soft   bool       `json:"soft,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`

	Message string `json:"message,omitempty"` // what the public is told
}

// Announcement is a maintenance that begins by itself.
type Announcement struct {
	Since  time.Time  `json:"since"` // when it was announced
	From   time.Time  `json:"from"`
	Until  *time.Time `json:"until,omitempty"` // nil: until it is switched off
	Soft   bool       `json:"soft,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`

	Message string `json:"message,omitempty"` // what the public is told
}

// ReadOnly of a service: unsafe requests are answered by the door.
type ReadOnly struct {
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`

	Message string `json:"message,omitempty"` // what the public is told
}

// Split leads parts of a service's new work to other pools than the active one.
type Split struct {
	Since  time.Time          `json:"since"`
	Until  *time.Time         `json:"until,omitempty"` // then all goes to the active pool again; nil: until it is changed
	By     string             `json:"by,omitempty"`
	Reason string             `json:"reason,omitempty"`
	Shares map[string]float64 `json:"shares"` // pool → percent of the new work; they add up to 100
}

// Pool of a service.
type Pool struct {
	State         string            `json:"state"`             // active | split (not the active one, and new work goes to it) | standby | draining | drained
	Percent       float64           `json:"percent,omitempty"` // of new work
	Connections   int               `json:"connections"`
	DrainUntil    *time.Time        `json:"drain_until,omitempty"`    // the deadline of its drain
	SessionsUntil *time.Time        `json:"sessions_until,omitempty"` // with drain.by_session: until when requests of sessions go on to servers that are drained
	CloseUntil    *time.Time        `json:"close_until,omitempty"`    // with drain.close_over: until when those left then are closed
	Servers       map[string]Server `json:"servers"`
}

// Server of a pool.
type Server struct {
	Address        string    `json:"address"`
	State          string    `json:"state"`            // ready | failing | waiting | unknown | draining | drained | maintenance
	Health         *Health   `json:"health,omitempty"` // of servers that are watched
	Weight         int       `json:"weight"`
	MaxConnections int       `json:"max_connections,omitempty"`
	Connections    int       `json:"connections"`
	Dialing        int       `json:"dialing,omitempty"`
	Total          uint64    `json:"total"`
	DialFailures   uint64    `json:"dial_failures,omitempty"`
	LastDialError  string    `json:"last_dial_error,omitempty"`
	BytesToServer  uint64    `json:"bytes_to_server"`
	BytesToClient  uint64    `json:"bytes_to_client"`
	LastStart      time.Time `json:"last_start,omitzero"`

	SlowStart *SlowStart `json:"slow_start,omitempty"` // it took new work up again a while ago; nil: it has its whole share
}

// SlowStart is a server's way to its whole share of new work.
type SlowStart struct {
	Percent int       `json:"percent"` // of its share, now
	Until   time.Time `json:"until"`   // when it has all of it
}

// Health is what the checks of a server have come to.
type Health struct {
	State   string    `json:"state"` // unknown | ready | failing (was ready) | waiting (never was)
	Since   time.Time `json:"since,omitzero"`
	Check   string    `json:"check,omitempty"`  // that fails
	Reason  string    `json:"reason,omitempty"` // why, in words
	Answers []Answer  `json:"answers,omitempty"`
}

// Answer is what came of asking one check once.
type Answer struct {
	Check   string    `json:"check"`
	Kind    string    `json:"kind,omitempty"`
	OK      bool      `json:"ok"`
	Pending bool      `json:"pending,omitempty"` // neither yes nor no: not enough is known yet
	Reason  string    `json:"reason,omitempty"`  // why not
	Status  string    `json:"status,omitempty"`  // 200 OK, master, exit 1, SERVING
	Value   any       `json:"value,omitempty"`   // of the check's value
	Body    string    `json:"body,omitempty"`    // the beginning of what was answered
	Took    Duration  `json:"took"`
	At      time.Time `json:"at"`
}

// Probe is what the servers of a pool answered, asked just now.
type Probe struct {
	Service string                  `json:"service"`
	Pool    string                  `json:"pool"`
	Servers map[string]ProbedServer `json:"servers"`
}

// ProbedServer is what one of them answered.
type ProbedServer struct {
	Address string   `json:"address"`
	OK      bool     `json:"ok"` // all checks passed
	Answers []Answer `json:"answers"`
}

// ChangeRequest is what every change carries.
type ChangeRequest struct {
	Reason     string `json:"reason,omitempty"`
	IfRevision uint64 `json:"if_revision,omitempty"` // 0: whatever it is; otherwise refused (conflict) unless it is the current one
	Force      bool   `json:"force,omitempty"`       // skips gates and guards, never a conflict
	Plan       bool   `json:"plan,omitempty"`        // says what would happen and changes nothing
	Wait       *bool  `json:"wait,omitempty"`        // default true: answers when the operation has ended; false: as soon as the change is in force
}

// SwapRequest moves all new work of a service or group to another pool.
type SwapRequest struct {
	ChangeRequest
	To        string   `json:"to,omitempty"`      // without it: the other one of two; with servers: the active one
	Servers   []string `json:"servers,omitempty"` // of that pool exactly these take new work, in one change
	Drain     Duration `json:"drain,omitempty"`
	Then      string   `json:"then,omitempty"` // close | keep
	Exclusive bool     `json:"exclusive,omitempty"`
	Hold      Duration `json:"hold,omitempty"`
	WaitFor   string   `json:"wait_for,omitempty"` // a check that the new side must pass while clients wait
	// StopOld and StartNew say that the caller runs such a hook: the door then pauses in state "waiting"
	// at that step until the operation is continued or the hold ends.
	StopOld  bool `json:"stop_old,omitempty"`
	StartNew bool `json:"start_new,omitempty"`
	// Watch is how long a breach swaps back; nil: as the file says; 0: not at all.
	Watch      *Duration `json:"watch,omitempty"`
	RollbackIf string    `json:"rollback_if,omitempty"` // what a breach is
	Steps      []float64 `json:"steps,omitempty"`       // shares in percent before the swap itself, each for Every
	Every      Duration  `json:"every,omitempty"`
}

// KeepRequest lets only the servers named, of the active pool, take new work; the others drain.
type KeepRequest struct {
	ChangeRequest
	Servers []string `json:"servers"` // required
	Drain   Duration `json:"drain,omitempty"`
	Then    string   `json:"then,omitempty"`
}

// SplitRequest leads parts of a service's or group's new work to other pools than the active one.
type SplitRequest struct {
	ChangeRequest
	// Shares are pool → percent, with two decimals at most. The active pool gets what the others leave. {} ends
	// a split; a request without it is refused.
	Shares map[string]float64 `json:"shares"`
	For    Duration           `json:"for,omitempty"` // its own deadline; then all new work goes to the active pool again
	// Drain and Then are for pools that had a share and get none any more.
	Drain Duration `json:"drain,omitempty"`
	Then  string   `json:"then,omitempty"`
}

// HoldRequest lets new work wait at the door.
type HoldRequest struct {
	ChangeRequest
	For Duration `json:"for,omitempty"` // the hold's own deadline; then waiting clients are released to where they would have gone
}

// MaintenanceRequest lets the door itself answer new work.
type MaintenanceRequest struct {
	ChangeRequest
	On    *bool    `json:"on,omitempty"` // required, but for Cancel: leaving it out must not switch a maintenance off
	For   Duration `json:"for,omitempty"`
	Soft  bool     `json:"soft,omitempty"` // clients already connected go on; otherwise they drain
	Drain Duration `json:"drain,omitempty"`
	Then  string   `json:"then,omitempty"`
	// Message is for the public: on the page, and at the state URL. The reason is for operators. One line of 500 bytes at most.
	Message string `json:"message,omitempty"`
	// At announces the maintenance: it begins then, by itself, and the public is told until then. nil: it begins now.
	At *time.Time `json:"at,omitempty"`
	// Cancel, alone, takes an announcement back.
	Cancel bool `json:"cancel,omitempty"`
}

// ReadOnlyRequest lets the door itself answer requests with an unsafe method, of services of mode http.
type ReadOnlyRequest struct {
	ChangeRequest
	On      *bool    `json:"on"` // required
	For     Duration `json:"for,omitempty"`
	Message string   `json:"message,omitempty"` // for the public, as of a maintenance
}

// DrainRequest seals a pool or a server and waits for its connections to end.
type DrainRequest struct {
	ChangeRequest
	Drain Duration `json:"drain,omitempty"`
	Then  string   `json:"then,omitempty"`
}

// ReadyRequest ends the drain of a pool or a server.
type ReadyRequest struct {
	ChangeRequest
	SlowStart *Duration `json:"slow_start,omitempty"` // how long until the servers have their whole share; nil: as the service says; 0s: at once
}

// WeightRequest sets a server's weight.
type WeightRequest struct {
	ChangeRequest
	Weight *int `json:"weight"` // required: leaving it out must not mean 0
}

// ReloadRequest reads the configuration file again.
type ReloadRequest struct {
	ChangeRequest
}

// ContinueRequest answers a paused operation: the hook of step Step has run.
type ContinueRequest struct {
	Step  string `json:"step"`            // stop_old | start_new
	Error string `json:"error,omitempty"` // the hook failed, with what: the operation goes back
	Abort bool   `json:"abort,omitempty"` // go back to where it was
}

// NoteRequest adds a line to the door's history: something that was done beside it, such as a step of a runbook.
type NoteRequest struct {
	Target  string `json:"target"`            // what it is about
	Outcome string `json:"outcome,omitempty"` // done | failed | …; default done
	Text    string `json:"text"`              // required; up to 2,000 bytes are kept
}

// Operation is one change from its start to the end of what it set going.
type Operation struct {
	ID       string    `json:"id"`
	Verb     string    `json:"verb"` // swap | back | drain | ready | weight | keep | split | hold | release | maintenance | read-only | freeze | unfreeze | reload
	Target   string    `json:"target,omitempty"`
	State    string    `json:"state"`             // planned | running | waiting | draining | done | failed
	Waiting  string    `json:"waiting,omitempty"` // the step a hook is waited for: stop_old | start_new
	Changed  bool      `json:"changed"`           // false: it was so already, or only planned
	Revision uint64    `json:"revision"`          // the revision in force after the change
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Steps    []Step    `json:"steps,omitempty"`
	Proofs   []Proof   `json:"proofs,omitempty"`
	Cut      int       `json:"cut,omitempty"`  // connections cut by its drains so far, also by those without a proof: of a drain, a maintenance, a reload
	Plan     []string  `json:"plan,omitempty"` // what would change, in words
	Error    *Error    `json:"error,omitempty"`
}

// Step is something an operation did, in words.
type Step struct {
	At   time.Time `json:"at"`
	Name string    `json:"name"` // gate | hold | drain | stop_old | start_new | wait | commit | release | back
	Text string    `json:"text"`
}

// Proof is what a swap can show for one service, or a split for pools that get no new work any more. From and To name
// several pools with a comma between, where a split had led new work to several or still does. Instants are taken between two looks at the snapshot, so
// a start on the old side always lies before the swap and one on the new side after it.
type Proof struct {
	Service       string     `json:"service"`
	From          string     `json:"from"`
	To            string     `json:"to"`
	At            time.Time  `json:"at"` // when the new snapshot was stored
	LastStartOld  *time.Time `json:"last_start_old,omitempty"`
	FirstStartNew *time.Time `json:"first_start_new,omitempty"`
	Overlap       Duration   `json:"overlap"`   // how long both sides started connections; 0 by construction, measured all the same
	Held          int        `json:"held"`      // clients that waited at the door for this change
	Resteered     int        `json:"resteered"` // dials to the old side taken back and led to the new one
	Remaining     int        `json:"remaining"` // connections on the old side now
	Cut           int        `json:"cut"`       // connections cut at the drain's deadline
	DrainUntil    *time.Time `json:"drain_until,omitempty"`
	Then          string     `json:"then,omitempty"`
	BySession     bool       `json:"by_session,omitempty"` // requests of sessions start on the old side up to drain_until
	Drained       bool       `json:"drained"`
	Superseded    bool       `json:"superseded,omitempty"` // a later swap ended this drain
}

// Record is one line of history.
type Record struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Revision uint64    `json:"revision"`
	Verb     string    `json:"verb"`
	Target   string    `json:"target,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
	Who      Who       `json:"who"`
	Reason   string    `json:"reason,omitempty"`
	Force    bool      `json:"force,omitempty"`
	Outcome  string    `json:"outcome"` // running | done | cut | superseded | failed | interrupted (the door ended before the drain did)
	Detail   string    `json:"detail,omitempty"`
	Proofs   []Proof   `json:"proofs,omitempty"`
}

// Who asked for a change: the peer of the admin socket, or the door itself.
type Who struct {
	UID  int    `json:"uid"` // -1: the door itself
	GID  int    `json:"gid"`
	PID  int    `json:"pid,omitempty"`
	Name string `json:"name"` // user name, or "door", or "signal"
}

// Event is one line of the event stream; its SSE id is Seq and its SSE event is Type.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"` // the verb of a change in force: swap, back, split, hold, …; or step, of a hand-over under way; or drained
	Service string    `json:"service,omitempty"`
	Text    string    `json:"text"`
	Data    any       `json:"data,omitempty"`
}

// RequestRequest is a request that the door is to send itself, in at a listener of the service, as a client would.
type RequestRequest struct {
	Path string `json:"path,omitempty"` // with its query; default: of the service's first route, or "/"
	Host string `json:"host,omitempty"` // default: of the service's first route, or "localhost"
	Head bool   `json:"head,omitempty"` // HEAD rather than GET
}

// Requested is what came of a RequestRequest.
type Requested struct {
	Through string   `json:"through"`          // the listener's address
	Server  string   `json:"server,omitempty"` // who answered; "": the door itself, or nobody
	Status  int      `json:"status,omitempty"`
	Took    Duration `json:"took"` // from the connect to the end of the answer
	Bytes   int64    `json:"bytes"`
	Reason  string   `json:"reason,omitempty"` // why there is no answer of a server
}

// Version of the running door.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
}

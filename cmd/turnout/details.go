package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// serviceDetails is what status says of one service.
func (c *cli) serviceDetails(name string, st *api.Status) {
	s := st.Services[name]
	c.printf("%s: %s since %s (%s), revision %d", name, stateAt(s), s.Since.Local().Format(time.DateTime), since(s.Since), st.Revision)
	listens := "listens on " + strings.Join(s.Listen, ", ")
	if s.State == "stopping" {
		listens = "listens no more"
	}
	c.printf("%s; %s, %d held", listens, plural(s.Connections, "connection"), s.Held)
	if t := s.TLS; t != nil && t.At != nil {
		c.printf("%d of %s failed, last at %s (%s), %s: %s", t.Failed, plural(int(t.Done+t.Failed), "TLS handshake"), t.At.Local().Format(time.DateTime), since(*t.At), t.Client, t.Error)
	}
	if len(s.PreviewListen) > 0 {
		c.printf("previews on %s", strings.Join(s.PreviewListen, ", "))
	}
	c.maintenanceLines(name, s)
	c.watchLines(s)
	if sp := s.Split; sp != nil {
		until := "until that is changed"
		if sp.Until != nil {
			until = fmt.Sprintf("until %s (%s left), then all to %s", sp.Until.Local().Format(time.DateTime), left(sp.Until), s.Active)
		}
		c.printf("split by %s since %s, %s%s", sp.By, sp.Since.Local().Format(time.DateTime), until, because(sp.Reason))
		c.printf("`turnout split %s off` leads all new clients to %s", name, s.Active)
	}
	if s.HeldBy != "" && s.State == "held" {
		c.printf("held by %s%s", s.HeldBy, because(s.HeldFor))
	}
	c.failoverLines(name, s)
	if line := backLine(name, s); line != "" {
		c.printf("%s", line)
	}
	for _, g := range sortedKeys(st.Groups) {
		if slices.Contains(st.Groups[g], name) {
			c.groupBackLine(g, st)
		}
	}
	if s.Operation != "" {
		c.printf("operation %s is under way", s.Operation)
	}
	c.serversTable(s)
	c.whyNotReady(s)
}

// maintenanceLines say what the door does instead of a service's servers, or will.
func (c *cli) maintenanceLines(name string, s api.Service) {
	if m := s.Maintenance; m != nil {
		c.printf("maintenance by %s since %s%s%s", m.By, m.Since.Local().Format(time.DateTime), untilThen(m.Until, time.DateTime), because(m.Reason))
		c.message(m.Message)
	}
	if a := s.Next; a != nil {
		kind := "maintenance"
		if a.Soft {
			kind = "soft maintenance"
		}
		c.printf("%s begins at %s (in %s)%s, announced by %s%s; `turnout maintenance cancel %s` takes it back", kind, a.From.Local().Format(dayAndZone), left(&a.From), untilThen(a.Until, dayAndZone), a.By, because(a.Reason), name)
		c.message(a.Message)
	}
	if ro := s.ReadOnly; ro != nil {
		c.printf("read-only by %s since %s%s%s", ro.By, ro.Since.Local().Format(time.DateTime), untilThen(ro.Until, time.DateTime), because(ro.Reason))
		c.message(ro.Message)
	}
}

// untilThen says when something ends; nothing where that is not known.
func untilThen(t *time.Time, layout string) string {
	if t == nil {
		return ""
	}
	return " until " + t.Local().Format(layout)
}

// watchLines say how the watch of the last swap stands, or ended.
func (c *cli) watchLines(s api.Service) {
	if w := s.Watch; w != nil {
		c.printf("watched until %s (%s left): rolled back if %s%s", w.Until.Local().Format(time.DateTime), left(&w.Until), w.If, because(w.Note))
		if len(w.Steps) > 0 {
			c.printf("steps to %s that follow: %v", w.Pool, w.Steps)
		}
		if w.Breach != "" {
			c.printf("watch: breached since %s: %s", w.BreachSince.Local().Format(time.DateTime), w.Breach)
			c.printf("watch: rollback refused because %s", w.Refused)
			c.printf("watch: %s", w.Hint)
		}
	} else if w := s.Watched; w != nil {
		c.printf("watch %s at %s: %s", wordOf(w.Outcome), w.Ended.Local().Format(time.DateTime), w.Reason)
	}
}

func (c *cli) serversTable(s api.Service) {
	var rows [][]cell
	for _, pool := range sortedKeys(s.Pools) {
		p := s.Pools[pool]
		for _, server := range sortedKeys(p.Servers) {
			sv := p.Servers[server]
			rows = append(rows, []cell{text(pool), stateCell(poolState(s, p) + strings.TrimPrefix(poolNote(p), " ("+p.State+")")), text(server), text(sv.Address), stateCell(sv.State + slowNote(sv.SlowStart)),
				number(sv.Weight), number(sv.Connections), text(fmt.Sprint(sv.Total)), text(fmt.Sprint(sv.DialFailures)),
				text(instant(&sv.LastStart, "-")), text(sv.LastDialError)})
		}
	}
	c.table([]string{"POOL", "STATE", "SERVER", "ADDRESS", "STATE", "WEIGHT", "CONNS", "TOTAL", "FAILED", "LAST START", "LAST ERROR"}, rows)
}

// message is what the public is told.
func (c *cli) message(text string) {
	if text != "" {
		c.printf("  tells clients: %s", text)
	}
}

// dayAndZone is a time to come, which others have to find on a clock of theirs.
const dayAndZone = "2006-01-02 15:04:05 MST"

// slowNote says how far a slow start is.
func slowNote(s *api.SlowStart) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf(" (%d%% of its share, all in %s)", s.Percent, left(&s.Until))
}

// backLine says where `turnout back` leads, and what to do instead where that is nowhere to go; "" when there is no way
// back.
func backLine(name string, s api.Service) string {
	if s.Split != nil || s.Previous == "" || s.Conflict {
		return ""
	}
	to := strings.Join(append([]string{s.Previous}, commas(s.PreviousServers)...), "/")
	line := fmt.Sprintf("`turnout back %s` leads to %s", name, to)
	if w := s.Watched; w != nil && w.Left == to {
		return fmt.Sprintf("%s was rolled back from: `turnout swap %s %s --watch 5m` tries it once more; `turnout back` is refused without --force", to, name, s.Previous)
	}
	ready, watched := readyOf(s.Pools[s.Previous])
	if watched == 0 || ready > 0 {
		return line
	}
	states := map[string]bool{}
	for _, sv := range s.Pools[s.Previous].Servers {
		if sv.Health != nil {
			states[sv.Health.State] = true
		}
	}
	switch {
	case states["unknown"]:
		return line
	case states["waiting"] && s.Exclusive:
		return fmt.Sprintf("`turnout back %s --stop-old CMD` leads to %s, which waits until %s is stopped", name, to, s.Active)
	}
	return line + ", which is not ready: it is refused until that is, but for --stop-old CMD, if it only waits for " + s.Active + " to stop"
}

// groupBackLine says where the back of a group leads, or why it is refused and what to do instead; nothing when there is
// no way back.
func (c *cli) groupBackLine(group string, st *api.Status) {
	back, ok := st.GroupBacks[group]
	if !ok {
		return
	}
	if back.Refused != "" {
		c.printf("`turnout back %s` is refused: %s", group, back.Refused)
		c.printf("instead: %s", back.Hint)
		return
	}
	leads := map[string][]string{} // pool → services
	for _, name := range sortedKeys(back.To) {
		leads[back.To[name]] = append(leads[back.To[name]], name)
	}
	if len(leads) == 1 {
		c.printf("`turnout back %s` leads to %s", group, sortedKeys(leads)[0])
		return
	}
	var parts []string
	for _, pool := range sortedKeys(leads) {
		parts = append(parts, strings.Join(leads[pool], " and ")+" to "+pool)
	}
	c.printf("`turnout back %s` leads %s", group, strings.Join(parts, ", "))
}

// failoverLines say what the door does by itself, and what it did.
func (c *cli) failoverLines(name string, s api.Service) {
	if s.Conflict {
		c.conflictLines(name, s)
	}
	f := s.Failover
	if f == nil {
		return
	}
	line := "failover " + f.Mode + ", failback " + f.Failback
	if f.At != nil {
		how := "over"
		if f.Back {
			how = "back"
		}
		line += fmt.Sprintf("; failed %s from %s at %s", how, f.From, f.At.Local().Format(time.DateTime))
	}
	if f.LockedUntil != nil {
		line += fmt.Sprintf(", locked out for %s", left(f.LockedUntil))
	}
	c.printf("%s", line)
	if f.Stays != "" {
		c.printf("no failover yet: %s", f.Stays)
	}
}

// conflictLines say which sides look active, and the ways out.
func (c *cli) conflictLines(name string, s api.Service) {
	var others []string
	for _, pool := range sortedKeys(s.Pools) {
		if ready, _ := readyOf(s.Pools[pool]); ready > 0 && pool != s.Active {
			others = append(others, pool)
		}
	}
	if len(others) == 0 { // it ends just now
		c.printf("conflict: two sides look active, and the service is exclusive")
		return
	}
	c.printf("conflict: two sides look active, and the service is exclusive: %s and %s; new clients stay on %s", s.Active, strings.Join(others, " and "), s.Active)
	c.printf("stop %s, unless that is the right one: `turnout swap %s %s --stop-old CMD` stops %s and leads there", strings.Join(others, " and "), name, others[0], s.Active)
}

// whyNotReady says of each server that is not ready since when and why.
func (c *cli) whyNotReady(s api.Service) {
	for _, pool := range sortedKeys(s.Pools) {
		for _, name := range sortedKeys(s.Pools[pool].Servers) {
			h := s.Pools[pool].Servers[name].Health
			if h == nil || h.State == "ready" {
				continue
			}
			why := ""
			switch {
			case h.Check != "":
				why = ": " + h.Check + ": " + h.Reason
			case h.State == "unknown" && h.Reason != "":
				why = ": " + h.Reason + ", and have not been asked often enough yet; it serves until shown dead"
			case h.State == "unknown":
				why = ": its checks have not been asked often enough yet; it serves until shown dead"
			}
			if h.Since.IsZero() {
				c.printf("%s/%s %s%s", pool, name, h.State, why)
				continue
			}
			c.printf("%s/%s %s since %s (%s)%s", pool, name, h.State, h.Since.Local().Format(time.TimeOnly), since(h.Since), why)
		}
	}
}

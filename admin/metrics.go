package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"strconv"

	"github.com/turnout-proxy/turnout/admin/rollout"
	"github.com/turnout-proxy/turnout/proxy"
)

// newRegistry has the door's metrics and those of its process, and nothing that other packages registered.
func (s *Server) newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{s})
	return r
}

// collector reads counters from their owners when it is scraped. Labels are configured names, never an
// address, a client or a user.
type collector struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("turnout_"+name, help, labels, nil)
}

var (
	descBuild    = desc("build_info", "The version of the running door; always 1.", "version", "commit", "goversion")
	descRevision = desc("revision", "The revision of the snapshot in force.")
	descFrozen   = desc("frozen", "1 while changes are frozen.")

	descActive      = desc("service_active_pool", "1 for the service's active pool, 0 for its others.", "service", "pool")
	descShare       = desc("pool_share", "The part of the service's new work that the pool gets, from 0 to 1.", "service", "pool")
	descReady       = desc("service_ready", "1 while the active pool has a server that takes new work and is not known to be down.", "service")
	descConflict    = desc("active_conflict", "1 while two sides of an exclusive service look active.", "service")
	descFailovers   = desc("failovers_total", "Swaps that the door made by itself because no server of the active pool was ready, or back.", "service")
	descWatched     = desc("watched", "1 while a breach would swap the service back.", "service")
	descBreached    = desc("watch_breached", "1 while a watch has found a breach and cannot swap the service back.", "service")
	descRolledBack  = desc("rollbacks_total", "Swaps of the service that a watch took back.", "service")
	descReadOnly    = desc("read_only", "1 while the door itself answers the service's unsafe requests.", "service")
	descMaintenance = desc("maintenance", "1 while the door itself answers the service's new clients.", "service")
	descAnnounced   = desc("maintenance_announced_timestamp_seconds", "When the maintenance that is announced for the service begins; absent when none is.", "service")
	descAccepted    = desc("clients_accepted_total", "Clients accepted by the door.", "service")
	descRefused     = desc("clients_refused_total", "Clients answered by the door itself: refused (maintenance, or no server), hold_overflow (too many wait), hold_timeout (waited too long), malformed (no valid PROXY header).", "service", "reason")
	descHeld        = desc("held", "Clients waiting at the door.", "service")
	descHeldTotal   = desc("held_total", "Clients that had to wait at the door.", "service")
	descOverlap     = desc("swap_overlap_seconds", "How long both sides of the service's last swap started connections.", "service")
	descLastSwap    = desc("last_swap_timestamp_seconds", "When the service was last swapped by this run of the door.", "service")

	descTotal    = desc("connections_total", "Connections established to the server for clients.", "service", "pool", "server")
	descOpen     = desc("connections_open", "Connections to the server that have not ended.", "service", "pool", "server")
	descDialing  = desc("connection_dials_in_progress", "Connections to the server being established.", "service", "pool", "server")
	descFailures = desc("dial_failures_total", "Connections to the server that could not be established.", "service", "pool", "server")
	descBytes    = desc("bytes_total", "Bytes relayed: to_server or to_client.", "service", "pool", "server", "direction")

	descHealth      = desc("server_health", "1 for the state that the server's checks have come to, 0 for the others: unknown, ready, failing (was ready), waiting (never was).", "service", "pool", "server", "state")
	descTransitions = desc("server_health_transitions_total", "How often the server's state of health has changed.", "service", "pool", "server")
	descRequests    = desc("http_requests_total", "Requests that a server of the pool answered, by the first digit of the status; none: it did not answer.", "service", "pool", "code")
	descOwn         = desc("http_own_answers_total", "Requests that the door answered itself, by status.", "service", "code")
	descDuration    = desc("http_request_duration_seconds", "From a request's first byte to the end of its answer.", "service", "pool")

	descResteered = desc("resteered_total", "Connections being established to the pool that a change took back and led elsewhere.", "service", "pool")
	descCut       = desc("cut_total", "Connections to the pool that the door ended at a drain's deadline.", "service", "pool")
	descDraining  = desc("drain_remaining", "Connections that drains going on still wait for.", "service", "pool")

	descSwaps      = desc("swaps_total", "Swaps by how they ended: done, cut, superseded or failed.", "outcome")
	descReloads    = desc("config_reloads_total", "Reloads of the configuration file: success or failure.", "result")
	descReloadGood = desc("config_last_reload_successful", "1 unless the last reload failed.")
	descReloadTime = desc("config_last_reload_success_timestamp_seconds", "When a configuration file was last put in force; the start counts.")
	descHandshakes = desc("tls_handshakes_total", "TLS handshakes with clients: done, or failed (none was agreed upon, or it took too long).", "service", "result")
	descNotAfter   = desc("tls_cert_not_after_timestamp_seconds", "When the certificate for the host ends; on_demand: the first of those obtained on demand.", "service", "host")
	descCertGood   = desc("tls_cert_last_load_successful", "1 unless the certificate could last not be read, obtained or renewed; what was there before is still used.", "service", "host")

	descJournal = desc("journal_errors_total", "Records that could not be written to the journal.")
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descBuild, descRevision, descFrozen, descActive, descShare, descReady, descConflict, descFailovers, descWatched, descBreached, descRolledBack, descMaintenance, descAnnounced, descReadOnly, descAccepted, descRefused, descHeld, descHeldTotal,
		descOverlap, descLastSwap, descTotal, descOpen, descDialing, descFailures, descBytes, descRequests, descOwn, descDuration, descResteered, descCut,
		descHealth, descTransitions, descDraining, descSwaps, descReloads, descReloadGood, descReloadTime, descJournal,
		descHandshakes, descNotAfter, descCertGood,
	} {
		out <- d
	}
}

// scrape is where one scrape's metrics go.
type scrape chan<- prometheus.Metric

func (out scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (out scrape) counter(d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	out, s := scrape(ch), c.s
	drains, stats, snap := s.opt.Switch.Drains(), s.opt.Switch.Stats(), s.opt.Switch.Current()
	v := s.opt.Version
	out.gauge(descBuild, 1, v.Version, v.Commit, v.Go)
	out.gauge(descRevision, float64(snap.Revision))
	out.gauge(descFrozen, oneIf(snap.Frozen != nil))
	out.counter(descJournal, s.opt.Switch.JournalErrors())
	for _, outcome := range []proxy.Outcome{proxy.OutcomeDone, proxy.OutcomeCut, proxy.OutcomeSuperseded, proxy.OutcomeFailed} {
		out.counter(descSwaps, stats.Swaps[outcome], string(outcome))
	}
	for _, svc := range snap.Services {
		out.service(svc, &stats)
		out.health(svc, s.opt.Switch)
	}
	out.watches(snap, s.opt.Rollout)
	out.reloads(&s.reloads)
	if s.opt.Certificates != nil {
		out.certificates(s.opt.Certificates())
	}
	retired, folded := s.retired.look(snap)
	out.servers(snap, drains, retired, folded)
}

// watches tells of swaps that a breach takes back.
func (out scrape) watches(snap *proxy.Snapshot, r *rollout.Rollout) {
	if r == nil {
		return
	}
	back := r.RolledBack()
	for _, svc := range snap.Services {
		name := svc.Spec.Name
		st, _ := r.Watch(name)
		out.gauge(descWatched, oneIf(svc.Watch != nil), name)
		out.gauge(descBreached, oneIf(svc.Watch != nil && st.Breach != ""), name)
		out.counter(descRolledBack, back[name], name)
	}
}

// health tells of servers that are watched.
func (out scrape) health(svc *proxy.Service, sw *proxy.Switch) {
	name := svc.Spec.Name
	for _, p := range svc.Pools {
		for i := range p.Members {
			m := &p.Members[i]
			if m.Health.State == proxy.HealthUnchecked {
				continue
			}
			for _, state := range []proxy.HealthState{proxy.HealthUnknown, proxy.HealthReady, proxy.HealthFailing, proxy.HealthWaiting} {
				out.gauge(descHealth, oneIf(m.Health.State == state), name, p.Name, m.Name, state.String())
			}
			out.counter(descTransitions, sw.HealthTransitions(name, p.Name, m.Name), name, p.Name, m.Name)
		}
	}
}

func (out scrape) reloads(r *reloads) {
	done, failed, lastError, lastGood := r.read()
	out.counter(descReloads, done, "success")
	out.counter(descReloads, failed, "failure")
	out.gauge(descReloadGood, oneIf(lastError == ""))
	out.gauge(descReloadTime, float64(lastGood.UnixMilli())/1000)
}

// certificates tells of each host; the same host may be in several files, and the one that ends first counts.
func (out scrape) certificates(all []Certificate) {
	type host struct{ service, name string }
	first := map[host]Certificate{}
	for _, c := range all {
		k := host{c.Service, c.Name}
		if had, twice := first[k]; twice {
			if had.NotAfter.IsZero() || !c.NotAfter.IsZero() && c.NotAfter.Before(had.NotAfter) {
				had.NotAfter = c.NotAfter
			}
			had.Err += c.Err
			c = had
		}
		first[k] = c
	}
	for k, c := range first {
		if !c.NotAfter.IsZero() {
			out.gauge(descNotAfter, float64(c.NotAfter.Unix()), k.service, k.name)
		}
		out.gauge(descCertGood, oneIf(c.Err == ""), k.service, k.name)
	}
}

func (out scrape) service(svc *proxy.Service, stats *proxy.Stats) {
	name, n := svc.Spec.Name, svc.Counts()
	for _, p := range svc.Pools {
		out.gauge(descActive, oneIf(p == svc.Active), name, p.Name)
		out.gauge(descShare, svc.Share(p).Float()/100, name, p.Name)
	}
	out.gauge(descConflict, oneIf(svc.Conflict()), name)
	out.counter(descFailovers, stats.Failovers[name], name)
	out.gauge(descReady, oneIf(svc.Active.Able()), name)
	out.gauge(descMaintenance, oneIf(svc.Maintenance != nil), name)
	if a := svc.Announced; a != nil {
		out.gauge(descAnnounced, float64(a.From.UnixMilli())/1000, name)
	}
	out.gauge(descReadOnly, oneIf(svc.ReadOnly != nil), name)
	out.counter(descAccepted, n.Accepted, name)
	out.counter(descRefused, n.Refused, name, "refused")
	out.counter(descRefused, n.Overflowed, name, "hold_overflow")
	out.counter(descRefused, n.Expired, name, "hold_timeout")
	out.counter(descRefused, n.Malformed, name, "malformed")
	if svc.Spec.Mode == proxy.HTTP {
		for i, count := range n.Own {
			code := "other"
			if i < len(proxy.OwnStatuses) {
				code = strconv.Itoa(proxy.OwnStatuses[i])
			}
			out.counter(descOwn, count, name, code)
		}
	}
	if svc.Spec.TLS != nil {
		out.counter(descHandshakes, n.Secured, name, "done")
		out.counter(descHandshakes, n.Insecure, name, "failed")
	}
	out.gauge(descHeld, float64(svc.Held()), name)
	out.counter(descHeldTotal, n.HeldTotal, name)
	if at, swapped := stats.LastSwap[name]; swapped {
		out.gauge(descOverlap, stats.Overlap[name].Seconds(), name)
		out.gauge(descLastSwap, float64(at.UnixMilli())/1000, name)
	}
}

// servers tells what is counted on servers: those of the snapshot, and those that a reload removed. Two
// servers of one name (its address changed) are one in the labels, so they are added up.
func (out scrape) servers(snap *proxy.Snapshot, drains []proxy.Drain, retired []*proxy.Server, folded map[serverKey]proxy.ServerCounts) {
	type poolKey struct{ service, pool string }
	all := map[serverKey]proxy.ServerCounts{}
	requests := map[poolKey]proxy.Requests{}
	resteered, cut, draining := map[poolKey]uint64{}, map[poolKey]uint64{}, map[poolKey]int{}
	for s := range serversOf(snap) {
		all[keyOf(s)] = s.Counts()
		draining[poolKey{s.Service, s.Pool}] = 0
	}
	for _, s := range retired {
		all[keyOf(s)] = sum(all[keyOf(s)], s.Counts())
		draining[poolKey{s.Service, s.Pool}] = 0
	}
	for k, n := range folded {
		if now, listed := all[k]; listed {
			all[k] = sum(now, n)
		} else if _, listed := draining[poolKey{k.service, k.pool}]; listed {
			resteered[poolKey{k.service, k.pool}] += n.Resteered
			cut[poolKey{k.service, k.pool}] += n.Cut
			requests[poolKey{k.service, k.pool}] = requests[poolKey{k.service, k.pool}].Add(n.Requests)
		}
	}
	for k, n := range all {
		out.counter(descTotal, n.Total, k.service, k.pool, k.server)
		out.gauge(descOpen, float64(n.Connections), k.service, k.pool, k.server)
		out.gauge(descDialing, float64(n.Dialing), k.service, k.pool, k.server)
		out.counter(descFailures, n.Failures, k.service, k.pool, k.server)
		out.counter(descBytes, n.BytesToServer, k.service, k.pool, k.server, "to_server")
		out.counter(descBytes, n.BytesToClient, k.service, k.pool, k.server, "to_client")
		resteered[poolKey{k.service, k.pool}] += n.Resteered
		cut[poolKey{k.service, k.pool}] += n.Cut
		requests[poolKey{k.service, k.pool}] = requests[poolKey{k.service, k.pool}].Add(n.Requests)
	}
	for _, d := range drains {
		draining[poolKey{d.Service, d.Pool}] += d.Remaining
	}
	for k, n := range requests {
		if svc := snap.Service(k.service); svc != nil && svc.Spec.Mode == proxy.HTTP {
			out.requests(n, k.service, k.pool)
		}
	}
	for k, n := range draining {
		out.gauge(descDraining, float64(n), k.service, k.pool)
		out.counter(descResteered, resteered[k], k.service, k.pool)
		out.counter(descCut, cut[k], k.service, k.pool)
	}
}

// requests tells of the requests that a pool's servers answered.
func (out scrape) requests(n proxy.Requests, service, pool string) {
	for class, count := range n.Answers {
		code := "none"
		if class > 0 {
			code = string(rune('0'+class)) + "xx"
		}
		out.counter(descRequests, count, service, pool, code)
	}
	all, buckets := uint64(0), make(map[float64]uint64, len(proxy.TookBounds))
	for i, bound := range proxy.TookBounds {
		all += n.Took[i]
		buckets[float64(bound)/1e9] = all
	}
	all += n.Took[len(proxy.TookBounds)]
	out <- prometheus.MustNewConstHistogram(descDuration, all, n.Sum.Seconds(), buckets, service, pool)
}

// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-mfa/sallyport/authd/status"
)

// collector reads a report at each scrape.
type collector struct{ report func() status.Report }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sallyport_"+name, help, labels, nil)
}

var (
	info        = describe("authd_info", "Constant 1; the label says which version runs.", "version")
	started     = describe("authd_start_time_seconds", "When authd was started.")
	loaded      = describe("config_loaded_time_seconds", "When the configuration in force was read.")
	stale       = describe("config_reload_failed", "1 while a changed file is not in force because it is wrong.")
	rules       = describe("rules", "Rules in force.")
	verifierUp  = describe("verifier_up", "1 if the address answers; 0 while it is known to be down and not asked.", "address")
	contact     = describe("verifier_last_contact_time_seconds", "When the address last gave a good answer.", "address")
	failOpen    = describe("fail_open_logins", "Logins that passed by fail_mode open, without a second factor, since a verifier last worked.")
	connections = describe("connections", "Conversations under way.", "socket")
	limits      = describe("connections_limit", "How many there may be at once.", "socket")
	grants      = describe("grants", "Logins remembered for their later hooks.")
	throttled   = describe("throttle_entries", "Counts of failures that are kept.")
	unreported  = describe("unreported_events", "Events on disk that the verifier does not have yet.")
	eventsKept  = describe("events_kept", "0 while events cannot be kept on disk, so that what must be recorded is denied.")
	ldapUp      = describe("ldap_up", "1 if the LDAP server answers.", "server")
)

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{info, started, loaded, stale, rules, verifierUp, contact, failOpen, connections, limits, grants, throttled, unreported, eventsKept, ldapUp} {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	r := c.report()
	gauge(info, 1, r.Version)
	gauge(started, seconds(r.Started))
	gauge(loaded, seconds(r.Config.Loaded))
	gauge(stale, truth(r.Config.ReloadError != ""))
	gauge(rules, float64(r.Config.Rules))
	for _, v := range r.Verifiers {
		gauge(verifierUp, truth(v.Up), v.Address)
		gauge(contact, seconds(v.LastContact), v.Address)
	}
	gauge(failOpen, float64(r.FailOpen))
	for _, s := range r.Sockets {
		gauge(connections, float64(s.Connections), s.Name)
		gauge(limits, float64(s.Limit), s.Name)
	}
	gauge(grants, float64(r.Grants))
	gauge(throttled, float64(r.Throttled))
	if r.Events != nil {
		gauge(unreported, float64(r.Events.Unreported))
		gauge(eventsKept, truth(r.Events.Kept))
	}
	for _, s := range r.LDAP {
		gauge(ldapUp, truth(s.Up), s.Server)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is the Unix time, 0 for never.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// SPDX-License-Identifier: Apache-2.0

// Package metrics owns what the gateway counts, in the form that Prometheus reads. It
// decides nothing, and names no person, no address and no target.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
)

// Metrics counts. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	dials    *prometheus.HistogramVec
	reloads  *prometheus.CounterVec
}

// New makes the counters. status is asked at each scrape for what need not be counted.
func New(status func() control.Status) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_sshgw_events_total",
			Help: "Events, by the code of the log: handshakes by their result, refusals, sessions, recordings that failed."}, []string{"event"}),
		dials: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sallyport_sshgw_target_dial_seconds",
			Help:    "Time until a target was open: TCP, its host key, and the gateway's proof.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"result"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_sshgw_config_reloads_total",
			Help: "Reloads of the configuration."}, []string{"result"}),
	}
	m.registry.MustRegister(m.events, m.dials, m.reloads, collector{status})
	// A counter that is there from the start shows its first step.
	for _, code := range audit.Codes {
		m.events.WithLabelValues(string(code))
	}
	for _, result := range []string{"ok", "failed"} {
		m.reloads.WithLabelValues(result)
		m.dials.WithLabelValues(result)
	}
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Event counts an event of the log.
func (m *Metrics) Event(code audit.Code) { m.events.WithLabelValues(string(code)).Inc() }

// Dialled says how long it took to open a target, or to fail.
func (m *Metrics) Dialled(took time.Duration, err error) {
	m.dials.WithLabelValues(result(err == nil)).Observe(took.Seconds())
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(ok bool) { m.reloads.WithLabelValues(result(ok)).Inc() }

func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "failed"
}

// collector reads a status at each scrape.
type collector struct{ status func() control.Status }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sallyport_sshgw_"+name, help, labels, nil)
}

var (
	info        = describe("info", "Constant 1; the label says which version runs.", "version")
	started     = describe("start_time_seconds", "When the gateway was started.")
	loaded      = describe("config_loaded_time_seconds", "When the configuration in force was read.")
	stale       = describe("config_reload_failed", "1 while a changed file is not in force because it is wrong.")
	connections = describe("connections", "Authenticated connections.")
	limit       = describe("connections_limit", "How many there may be at once.")
	handshakes  = describe("handshakes", "Connections that are not authenticated yet.")
	channels    = describe("channels", "Open channels: sessions and forwardings.")
	carried     = describe("bytes_total", "Bytes of channels since the start: in is from clients, out is to them.", "direction")
	recordings  = describe("recordings", "Recordings that are being written.")
	rules       = describe("rules", "Access rules in force.")
	targets     = describe("targets", "Targets that are written out in the inventory.")
	authdUp     = describe("authd_up", "1 if authd answers at its socket.")
	draining    = describe("draining", "1 while no new connections are taken.")
)

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{info, started, loaded, stale, connections, limit, handshakes, channels, carried, recordings, rules, targets, authdUp, draining} {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := c.status()
	gauge(info, 1, s.Version)
	gauge(started, seconds(s.Started))
	gauge(loaded, seconds(s.Config.Loaded))
	gauge(stale, truth(s.Config.ReloadError != ""))
	gauge(connections, float64(s.Connections))
	gauge(limit, float64(s.Limit))
	gauge(handshakes, float64(s.Handshakes))
	gauge(channels, float64(s.Channels))
	to <- prometheus.MustNewConstMetric(carried, prometheus.CounterValue, float64(s.BytesIn), "in")
	to <- prometheus.MustNewConstMetric(carried, prometheus.CounterValue, float64(s.BytesOut), "out")
	gauge(recordings, float64(s.Recordings))
	gauge(rules, float64(s.Config.Rules))
	gauge(targets, float64(s.Config.Targets))
	gauge(authdUp, truth(s.Authd == ""))
	gauge(draining, truth(!s.Draining.IsZero()))
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

// SPDX-License-Identifier: Apache-2.0

// Package metrics owns what authd counts, in the form that Prometheus reads. It
// decides nothing, and names no person and no address of one.
// docs/how-to/monitor.md says how to read it.
package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport-mfa/sallyport/authd/status"
)

// maxServices is how many services are counted apart. Root's programs choose the
// names; one that chose many would else fill memory and the monitoring with them.
const maxServices = 64

// otherServices stands for those beyond.
const otherServices = "other"

// Metrics counts. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	logins   *prometheus.CounterVec
	requests *prometheus.HistogramVec
	delays   *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	reloads  *prometheus.CounterVec

	mu       sync.Mutex
	services map[string]bool
}

// New makes the counters. report is asked at each scrape for what need not be
// counted.
func New(report func() status.Report) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_logins_total",
			Help: "Decided logins, by the words of the log event."}, []string{"service", "result", "reason"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sallyport_verifier_request_duration_seconds",
			Help: "Requests to the verifier; long polls are not among them.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}},
			[]string{"call", "result"}),
		delays: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sallyport_throttle_delay_seconds",
			Help: "Delays of logins after failures, by the setting that bounded them.", Buckets: []float64{1, 2.5, 5, 10, 20, 30, 60}}, []string{"setting"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_connections_refused_total",
			Help: "Connections refused at a socket, by limit or for want of permission."}, []string{"socket", "reason"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_config_reloads_total",
			Help: "Reloads of the configuration."}, []string{"result"}),
		services: map[string]bool{},
	}
	m.registry.MustRegister(m.logins, m.requests, m.delays, m.refused, m.reloads, collector{report})
	for _, result := range []string{"ok", "failed"} {
		m.reloads.WithLabelValues(result) // a counter that is there from the start shows its first step
	}
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Login counts a decided login.
func (m *Metrics) Login(service, result, reason string) {
	m.logins.WithLabelValues(m.service(service), result, reason).Inc()
}

func (m *Metrics) service(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.services[name] {
		if len(m.services) >= maxServices {
			return otherServices
		}
		m.services[name] = true
	}
	return name
}

// Request counts a request to the verifier. result is "answer", "refusal" or "outage".
func (m *Metrics) Request(call, result string, took time.Duration) {
	m.requests.WithLabelValues(call, result).Observe(took.Seconds())
}

// Slowed counts a delay after failures.
func (m *Metrics) Slowed(setting string, d time.Duration) {
	m.delays.WithLabelValues(setting).Observe(d.Seconds())
}

// Refused counts a connection that was refused.
func (m *Metrics) Refused(socket, reason string) { m.refused.WithLabelValues(socket, reason).Inc() }

// Reloaded counts a reload.
func (m *Metrics) Reloaded(ok bool) {
	result := "ok"
	if !ok {
		result = "failed"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// SPDX-License-Identifier: Apache-2.0

// Package metrics owns what the verifier counts and measures, and its report of
// itself. It decides nothing, and names no person and no address of one.
// docs/reference/verifier.md lists the metrics.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// buckets reach from a look-up in memory to a person who answers a push.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Metrics counts. It is safe for concurrent use.
type Metrics struct {
	registry        *prometheus.Registry
	authentications *prometheus.CounterVec
	alarms          *prometheus.CounterVec
	requests        *prometheus.HistogramVec
	store           *prometheus.HistogramVec
	storeErrors     *prometheus.CounterVec
	waiting         prometheus.Gauge
	pushes          *prometheus.HistogramVec
	pushOutcomes    *prometheus.CounterVec
}

// New makes the counters. report is asked at each scrape for what need not be counted.
func New(report func() Report) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("authentications_total"),
			Help: "Authentications in the log, by the words of the log."}, []string{"result", "reason", "factor"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("alarms_total"),
			Help: "What the verifier itself wrote to the administrator log, by action."}, []string{"action"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("request_duration_seconds"),
			Help: "Requests by route; some wait for a person.", Buckets: buckets}, []string{"route", "code"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("store_duration_seconds"),
			Help: "Transactions of the store: view reads, update writes to disk.", Buckets: buckets}, []string{"operation"}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("store_errors_total"),
			Help: "Transactions that failed, but for a missing or conflicting object."}, []string{"operation"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("waiting"),
			Help: "Requests that wait for a person or a push."}),
		pushes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name("web_push_duration_seconds"),
			Help: "Messages to push services, with all attempts.", Buckets: buckets}, []string{"outcome"}),
		pushOutcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("web_push_messages_total"),
			Help: "Messages to push services, by what became of them."}, []string{"outcome"}),
	}
	for _, outcome := range []push.Outcome{push.Taken, push.Unsubscribed, push.Gone, push.Failed} {
		m.pushOutcomes.WithLabelValues(string(outcome))
	}
	for _, operation := range []string{"view", "update"} {
		m.storeErrors.WithLabelValues(operation) // a counter that is there from the start shows its first step
	}
	for _, action := range []string{audit.UserLockout, audit.UserFraudReport, audit.PushFatigue, audit.AnswerRefused} {
		m.alarms.WithLabelValues(action)
	}
	m.registry.MustRegister(m.authentications, m.alarms, m.requests, m.store, m.storeErrors, m.waiting, m.pushes, m.pushOutcomes,
		collector{report})
	return m
}

func name(s string) string { return "sallyport_verifier_" + s }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Observe takes a request that was answered.
func (m *Metrics) Observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// WebPush takes what became of a message to a push service.
func (m *Metrics) WebPush(outcome push.Outcome, took time.Duration) {
	m.pushOutcomes.WithLabelValues(string(outcome)).Inc()
	m.pushes.WithLabelValues(string(outcome)).Observe(took.Seconds())
}

// Store measures a store. written is called after each update that wrote to a log.
func (m *Metrics) Store(inner store.Store, written func()) store.Store {
	return &watched{inner, m, written}
}

type watched struct {
	store.Store
	m       *Metrics
	written func()
}

// View implements store.Store.
func (w *watched) View(ctx context.Context, f func(store.Reader) error) error {
	began := time.Now()
	err := w.Store.View(ctx, f)
	w.measure("view", began, err)
	return err
}

// Update implements store.Store.
func (w *watched) Update(ctx context.Context, f func(store.Writer) error) error {
	began := time.Now()
	var last *counting
	err := w.Store.Update(ctx, func(inner store.Writer) error {
		last = &counting{Writer: inner} // the function may run again
		return f(last)
	})
	w.measure("update", began, err)
	if err != nil || last == nil {
		return err
	}
	for _, e := range last.events {
		w.m.authentications.WithLabelValues(e.Result, e.Reason, e.Factor).Inc()
	}
	for _, action := range last.alarms {
		w.m.alarms.WithLabelValues(action).Inc()
	}
	if last.logged {
		w.written()
	}
	return nil
}

func (w *watched) measure(operation string, began time.Time, err error) {
	w.m.store.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, context.Canceled) {
		w.m.storeErrors.WithLabelValues(operation).Inc()
	}
}

// counting notes what an update writes to the logs.
type counting struct {
	store.Writer
	events []store.Event
	alarms []string // actions of the verifier itself
	logged bool
}

// AddEvent implements store.Writer.
func (c *counting) AddEvent(e store.Event) error {
	err := c.Writer.AddEvent(e)
	if err == nil {
		c.events, c.logged = append(c.events, e), true
	}
	return err
}

// AddAdminEvent implements store.Writer.
func (c *counting) AddAdminEvent(e store.AdminEvent) error {
	err := c.Writer.AddAdminEvent(e)
	if c.logged = true; err == nil && e.Username == audit.SystemName {
		c.alarms = append(c.alarms, e.Action)
	}
	return err
}

// AddTelephonyEntry implements store.Writer.
func (c *counting) AddTelephonyEntry(e store.TelephonyEntry) error {
	c.logged = true
	return c.Writer.AddTelephonyEntry(e)
}

// Hub counts who waits at a hub.
func (m *Metrics) Hub(inner push.Hub) push.Hub { return &hub{inner, m.waiting} }

type hub struct {
	push.Hub
	waiting prometheus.Gauge
}

// Wait implements push.Hub.
func (h *hub) Wait(topic string) (<-chan struct{}, func()) {
	woken, stop := h.Hub.Wait(topic)
	h.waiting.Inc()
	return woken, sync.OnceFunc(func() { h.waiting.Dec(); stop() })
}

// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-mfa/sallyport/verifier/stream"
	"github.com/sallyport-mfa/sallyport/verifier/upkeep"
)

// Report is what the verifier says of itself.
type Report struct {
	Version          string           `json:"version"`
	URL              string           `json:"url"`
	PID              int              `json:"pid"`
	Started          time.Time        `json:"started"`
	Ready            bool             `json:"ready"`
	Checks           []upkeep.Check   `json:"checks"`
	CertificateUntil time.Time        `json:"certificate_until"`
	Keys             []uint32         `json:"keys"` // that open sealed values; two while they are rotated
	Streams          []stream.State   `json:"streams"`
	Purged           map[string]int64 `json:"purged"` // entries of each log, since the start
	// Credits are those left for telephony; below 0: not counted.
	Credits int64   `json:"telephony_credits"`
	Caches  []Cache `json:"device_caches"`
}

// Cache is the age of the device cache of a management system.
type Cache struct {
	System string  `json:"management_system"`
	Age    float64 `json:"age_seconds"`
	Stale  bool    `json:"stale"`
}

func describe(what, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name(what), help, labels, nil)
}

var (
	info        = describe("info", "Constant 1; the label says which version runs.", "version")
	started     = describe("start_time_seconds", "When the verifier was started.")
	ready       = describe("ready", "1 while the check passes.", "check")
	certificate = describe("certificate_expiry_time_seconds", "When the certificate in use runs out.")
	keys        = describe("keys", "Keys that open sealed values: 2 while they are rotated.")
	backlog     = describe("stream_backlog_events", "Events that wait for the receiver.", "stream")
	sent        = describe("stream_events_total", "Events that the receiver has taken.", "stream")
	givenUp     = describe("stream_given_up_events_total", "Events that were given up, since too many waited.", "stream")
	failures    = describe("stream_failures", "Attempts that failed since the last that did not.", "stream")
	purged      = describe("purged_events_total", "Entries of the logs that were deleted for their age.", "log")
	credits     = describe("telephony_credits", "Credits left for calls and SMS; absent while they are not counted.")
	cacheAge    = describe("device_cache_age_seconds", "Age of the active device cache, or of the management system that has none.", "management_system")
)

// collector reads a report at each scrape.
type collector struct{ report func() Report }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{info, started, ready, certificate, keys, backlog, sent, givenUp, failures, purged, credits, cacheAge} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	r := c.report()
	emit(info, prometheus.GaugeValue, 1, r.Version)
	emit(started, prometheus.GaugeValue, seconds(r.Started))
	for _, check := range r.Checks {
		value := 0.0
		if check.OK {
			value = 1
		}
		emit(ready, prometheus.GaugeValue, value, check.Name)
	}
	emit(certificate, prometheus.GaugeValue, seconds(r.CertificateUntil))
	emit(keys, prometheus.GaugeValue, float64(len(r.Keys)))
	for _, s := range r.Streams {
		emit(backlog, prometheus.GaugeValue, float64(s.Backlog), s.Name)
		emit(sent, prometheus.CounterValue, float64(s.Sent), s.Name)
		emit(givenUp, prometheus.CounterValue, float64(s.GivenUp), s.Name)
		emit(failures, prometheus.GaugeValue, float64(s.Failures), s.Name)
	}
	for log, n := range r.Purged {
		emit(purged, prometheus.CounterValue, float64(n), log)
	}
	if r.Credits >= 0 {
		emit(credits, prometheus.GaugeValue, float64(r.Credits))
	}
	for _, c := range r.Caches {
		emit(cacheAge, prometheus.GaugeValue, c.Age, c.System)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/calendar"
	"github.com/sallyport-mfa/sallyport/internal/match"
)

// spanCondition is weekdays and hours, by the clock on the wall of a time zone.
// A span of hours that goes over midnight belongs to the day on which it begins.
type spanCondition struct {
	label   string
	written []string
	calendar.Week
	zone *time.Location
}

func (c *spanCondition) name() string   { return c.label }
func (c *spanCondition) want() []string { return c.written }

func (c *spanCondition) truth(_ context.Context, l *login) Truth {
	if l.Time.IsZero() {
		return Unknown
	}
	minute, day := l.wallClock(c.zone)
	return match.Of(c.Holds(minute, day))
}

// wallClock is minute and day of the login in a zone: fields of a clock on the
// wall, and no arithmetic on instants, so that a day of 23 or 25 hours is none
// of our business. Many rules ask for the same zone.
func (l *login) wallClock(zone *time.Location) (minute int, day time.Weekday) {
	if l.wall.zone != zone {
		t := l.Time.In(zone)
		l.wall.zone, l.wall.minute, l.wall.day = zone, t.Hour()*60+t.Minute(), t.Weekday()
	}
	return l.wall.minute, l.wall.day
}

func (c *spanCondition) have(l *login) string {
	if l.Time.IsZero() {
		return notKnown
	}
	return l.Time.In(c.zone).Format("Mon 15:04 MST")
}

// notAfterCondition ends a rule.
type notAfterCondition struct {
	end     time.Time // the first instant at which it does not hold
	written string
	zone    *time.Location
}

func (c *notAfterCondition) name() string   { return "not_after" }
func (c *notAfterCondition) want() []string { return []string{c.written} }

func (c *notAfterCondition) truth(_ context.Context, l *login) Truth {
	if l.Time.IsZero() {
		return Unknown
	}
	return match.Of(l.Time.Before(c.end))
}

func (c *notAfterCondition) have(l *login) string {
	if l.Time.IsZero() {
		return notKnown
	}
	return l.Time.In(c.zone).Format("2006-01-02 15:04:05 MST")
}

// Expired returns the rules that no login after now can match any more.
func (s *Set) Expired(now time.Time) []Rule {
	var out []Rule
	for i := range s.list() {
		for _, c := range s.rules[i].conditions {
			if n, ok := c.(*notAfterCondition); ok && !now.Before(n.end) {
				out = append(out, *s.rules[i].rule)
			}
		}
	}
	return out
}

// compileSpan returns the conditions of time that r names.
func compileSpan(r *Rule) (out []condition, errs []error) {
	if r.Timezone != "" && len(r.Weekdays) == 0 && r.Hours == "" && r.NotAfter.IsZero() {
		errs = append(errs, errors.New("timezone says nothing without weekdays, hours or not_after"))
	}
	zone, err := calendar.ParseZone(r.Timezone)
	if err != nil {
		return nil, append(errs, err)
	}
	if len(r.Weekdays) > 0 || r.Hours != "" {
		c := &spanCondition{label: "weekdays", written: r.Weekdays, zone: zone}
		if r.Hours != "" {
			c.label, c.written = "hours", append(append([]string{}, r.Weekdays...), r.Hours)
		}
		var daysErr, hoursErr error
		c.Days, daysErr = calendar.ParseDays(r.Weekdays)
		c.From, c.To, hoursErr = calendar.ParseHours(r.Hours)
		for _, err := range []error{daysErr, hoursErr} {
			if err != nil {
				errs = append(errs, err)
			}
		}
		out = append(out, c)
	}
	if !r.NotAfter.IsZero() {
		end, written := r.NotAfter.End(zone)
		out = append(out, &notAfterCondition{end: end, written: written, zone: zone})
	}
	return out, errs
}

// Moment is a TOML date, or a date and a time, with or without a zone. The zero
// value is none.
type Moment = calendar.Moment

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a host may have no zone files, and a rule must not change its meaning for that
)

// spanCondition is weekdays and hours, by the clock on the wall of a time zone.
// A span of hours that goes over midnight belongs to the day on which it begins.
type spanCondition struct {
	label    string
	written  []string
	days     [7]bool // from Sunday
	from, to int     // minutes of the day; from is in, to is not
	zone     *time.Location
}

func (c *spanCondition) name() string   { return c.label }
func (c *spanCondition) want() []string { return c.written }

func (c *spanCondition) truth(_ context.Context, l *login) Truth {
	if l.Time.IsZero() {
		return Unknown
	}
	minute, day := l.wallClock(c.zone)
	if c.from < c.to {
		return of(c.days[day] && minute >= c.from && minute < c.to)
	}
	yesterday := (day + 6) % 7
	return of(c.days[day] && minute >= c.from || c.days[yesterday] && minute < c.to)
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
	return of(l.Time.Before(c.end))
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

// minutesOfDay is where a day ends.
const minutesOfDay = 24 * 60

var dayNames = [7]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// parseDay reads a day's name, or its first three letters.
func parseDay(s string) (time.Weekday, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	for i, n := range dayNames {
		if s == n || s == n[:3] {
			return time.Weekday(i), nil
		}
	}
	return 0, fmt.Errorf(`weekdays: %q is no day; write "mon" or "monday", or "mon-fri"`, s)
}

func parseDays(values []string) (days [7]bool, err error) {
	if len(values) == 0 {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for _, v := range values {
		first, last, isRange := strings.Cut(v, "-")
		from, err := parseDay(first)
		if err != nil {
			return days, err
		}
		to := from
		if isRange {
			if to, err = parseDay(last); err != nil {
				return days, err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// parseHours reads "HH:MM-HH:MM". The end may be 24:00.
func parseHours(s string) (from, to int, err error) {
	if s == "" {
		return 0, minutesOfDay, nil
	}
	a, b, ok := strings.Cut(s, "-")
	from, okFrom := parseClock(strings.TrimSpace(a))
	to, okTo := parseClock(strings.TrimSpace(b))
	switch {
	case !ok || !okFrom || !okTo || from == minutesOfDay:
		return 0, 0, fmt.Errorf(`hours: %q is not of the form "22:00-06:00"`, s)
	case from == to:
		return 0, 0, fmt.Errorf(`hours: %q is no time at all; leave hours out for the whole day`, s)
	}
	return from, to, nil
}

func parseClock(s string) (minute int, ok bool) {
	if s == "24:00" {
		return minutesOfDay, true
	}
	if len(s) != len("15:04") {
		return 0, false
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

// compileSpan returns the conditions of time that r names.
func compileSpan(r *Rule) (out []condition, errs []error) {
	if r.Timezone != "" && len(r.Weekdays) == 0 && r.Hours == "" && r.NotAfter.IsZero() {
		errs = append(errs, errors.New("timezone says nothing without weekdays, hours or not_after"))
	}
	zone, err := parseZone(r.Timezone)
	if err != nil {
		return nil, append(errs, err)
	}
	if len(r.Weekdays) > 0 || r.Hours != "" {
		c := &spanCondition{label: "weekdays", written: r.Weekdays, zone: zone}
		if r.Hours != "" {
			c.label, c.written = "hours", append(append([]string{}, r.Weekdays...), r.Hours)
		}
		var daysErr, hoursErr error
		c.days, daysErr = parseDays(r.Weekdays)
		c.from, c.to, hoursErr = parseHours(r.Hours)
		for _, err := range []error{daysErr, hoursErr} {
			if err != nil {
				errs = append(errs, err)
			}
		}
		out = append(out, c)
	}
	if !r.NotAfter.IsZero() {
		out = append(out, compileNotAfter(r.NotAfter.Time, zone))
	}
	return out, errs
}

func parseZone(name string) (*time.Location, error) {
	switch name {
	case "":
		return time.Local, nil
	case "Local":
		return nil, fmt.Errorf("timezone %q: leave it out for the host's own", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("timezone %q is no name of the IANA database, such as Europe/Berlin: %w", name, err)
	}
	return zone, nil
}

// Moment is a TOML date, or a date and a time, with or without a zone. The zero
// value is none.
type Moment struct{ time.Time }

// UnmarshalTOML keeps what kind of date it is: the decoder tells in the name of
// the zone, which is lost on the way into a time.Time.
func (m *Moment) UnmarshalTOML(v any) error {
	t, ok := v.(time.Time)
	if !ok || t.Location().String() == "time-local" {
		return errors.New("not_after is a date, or a date and a time, without quotation marks")
	}
	m.Time = t
	return nil
}

// MarshalJSON keeps the kind of date as well: the name of the zone, then the time
// by the clock.
func (m Moment) MarshalJSON() ([]byte, error) {
	name := m.Location().String()
	if name != "date-local" && name != "datetime-local" {
		return m.Time.MarshalJSON()
	}
	return json.Marshal(name + " " + m.Format(clockTime))
}

// clockTime is a time by the clock, without a zone.
const clockTime = "2006-01-02T15:04:05.999999999"

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Moment) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	name, clock, local := strings.Cut(text, " ")
	if !local {
		return m.Time.UnmarshalJSON(data)
	}
	if name != "date-local" && name != "datetime-local" {
		return fmt.Errorf("%q is no kind of date", name)
	}
	t, err := time.ParseInLocation(clockTime, clock, time.FixedZone(name, 0))
	m.Time = t
	return err
}

// compileNotAfter reads the kinds of a TOML date, which its decoder tells apart by
// the name of the zone: a date holds to the end of that day, a time with no zone
// is one of the rule's.
func compileNotAfter(t time.Time, zone *time.Location) *notAfterCondition {
	y, m, d := t.Date()
	switch t.Location().String() {
	case "date-local":
		return &notAfterCondition{end: time.Date(y, m, d+1, 0, 0, 0, 0, zone), written: t.Format(time.DateOnly), zone: zone}
	case "datetime-local":
		local := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
		return &notAfterCondition{end: local.Add(1), written: t.Format(time.DateTime), zone: zone}
	}
	return &notAfterCondition{end: t.Add(1), written: t.Format(time.RFC3339), zone: zone}
}

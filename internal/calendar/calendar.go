// SPDX-License-Identifier: Apache-2.0

// Package calendar reads the times of rules: weekdays, hours, zones, and the moment
// at which a rule ends. It knows no rule and asks no clock.
package calendar

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a host may have no zone files, and a rule must not change its meaning for that
)

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

// ParseDays reads days and ranges of them, from Sunday; none are all.
func ParseDays(values []string) (days [7]bool, err error) {
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

// ParseHours reads "HH:MM-HH:MM". The end may be 24:00.
func ParseHours(s string) (from, to int, err error) {
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

// zones holds what ParseZone has read: rules of one zone share it, and the clock on its wall
// is looked at once for all of them.
var zones sync.Map

// ParseZone reads the name of a time zone; the empty one is the host's own.
func ParseZone(name string) (*time.Location, error) {
	switch name {
	case "":
		return time.Local, nil
	case "Local":
		return nil, fmt.Errorf("timezone %q: leave it out for the host's own", name)
	}
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("timezone %q is no name of the IANA database, such as Europe/Berlin: %w", name, err)
	}
	shared, _ := zones.LoadOrStore(name, zone)
	return shared.(*time.Location), nil
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

// End is the first instant after the moment, and how the moment was written. The
// kinds of a TOML date are told apart by the name of the zone: a date holds to the
// end of that day, a time with no zone is one of zone.
func (m Moment) End(zone *time.Location) (end time.Time, written string) {
	t := m.Time
	y, month, d := t.Date()
	switch t.Location().String() {
	case "date-local":
		return time.Date(y, month, d+1, 0, 0, 0, 0, zone), t.Format(time.DateOnly)
	case "datetime-local":
		local := time.Date(y, month, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
		return local.Add(1), t.Format(time.DateTime)
	}
	return t.Add(1), t.Format(time.RFC3339)
}

// Week is weekdays and hours, by a clock on the wall. A span of hours that goes
// over midnight belongs to the day on which it begins.
type Week struct {
	Days     [7]bool // from Sunday
	From, To int     // minutes of the day; From is in, To is not
}

// Holds says whether the week holds a minute of a day.
func (w *Week) Holds(minute int, day time.Weekday) bool {
	if w.From < w.To {
		return w.Days[day] && minute >= w.From && minute < w.To
	}
	yesterday := (day + 6) % 7
	return w.Days[day] && minute >= w.From || w.Days[yesterday] && minute < w.To
}

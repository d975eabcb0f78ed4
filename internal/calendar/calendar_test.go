// SPDX-License-Identifier: Apache-2.0

package calendar_test

import (
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/calendar"
)

func TestANightBelongsToTheDayOnWhichItBegins(t *testing.T) {
	days, err := calendar.ParseDays([]string{"fri"})
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := calendar.ParseHours("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	w := calendar.Week{Days: days, From: from, To: to}
	for _, c := range []struct {
		day    time.Weekday
		minute int
		want   bool
	}{{time.Friday, 22 * 60, true}, {time.Saturday, 5*60 + 59, true}, {time.Saturday, 6 * 60, false}, {time.Friday, 5 * 60, false}, {time.Saturday, 23 * 60, false}} {
		if got := w.Holds(c.minute, c.day); got != c.want {
			t.Errorf("%s %d: %t", c.day, c.minute, got)
		}
	}
}

func TestWhatIsNoTimeIsRefused(t *testing.T) {
	for _, s := range []string{"22-06", "24:00-06:00", "10:00-10:00", "9:00-10:00", "10:00-25:00"} {
		if _, _, err := calendar.ParseHours(s); err == nil {
			t.Errorf("hours %q", s)
		}
	}
	for _, s := range []string{"", "m", "mon-", "mon-tue-wed", "Montag"} {
		if _, err := calendar.ParseDays([]string{s}); err == nil {
			t.Errorf("day %q", s)
		}
	}
	for _, s := range []string{"Local", "Europe/Atlantis"} {
		if _, err := calendar.ParseZone(s); err == nil {
			t.Errorf("zone %q", s)
		}
	}
}

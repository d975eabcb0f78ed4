// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// A rule that goes through JSON, as into the copy for break-glass, ends when it
// would have ended, whatever kind of date it has.
func TestMomentThroughJSON(t *testing.T) {
	for _, notAfter := range []string{"2030-01-02", "2030-01-02T12:30:00", "2030-01-02T12:30:00Z", "2030-01-02T12:30:00+05:00"} {
		list, err := rules.Parse("r.toml", "[[rules]]\naction = \"deny\"\ntimezone = \"America/New_York\"\nnot_after = "+notAfter+"\n")
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var back []rules.Rule
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		before, err := rules.Compile(list)
		if err != nil {
			t.Fatal(err)
		}
		after, err := rules.Compile(back)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		for at := start; at.Before(start.Add(72 * time.Hour)); at = at.Add(15 * time.Minute) {
			f := rules.Facts{User: "alice", Service: "sshd", Time: at}
			if a, b := before.Decide(t.Context(), f).Action, after.Decide(t.Context(), f).Action; a != b {
				t.Errorf("not_after = %s at %s: %s, and %s after JSON", notAfter, at, a, b)
				break
			}
		}
	}
	var m rules.Moment
	for _, bad := range []string{`"x 2030-01-02T12:30:00"`, `"date-local nonsense"`, `7`} {
		if json.Unmarshal([]byte(bad), &m) == nil {
			t.Errorf("%s is a date", bad)
		}
	}
}

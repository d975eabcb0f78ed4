// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// manyRules is how many rules a large site may have.
const manyRules = 10_000

// manyBatchRules are rules as batch jobs have them, with users as given, none of
// which fits.
func manyBatchRules(b *testing.B, users func(i int) []string) *rules.Set {
	list := make([]rules.Rule, manyRules)
	for i := range list {
		list[i] = rules.Rule{Name: fmt.Sprint("job ", i), Reason: "batch", Action: rules.Bypass, Users: users(i), Services: []string{"sshd"},
			Sources: []string{fmt.Sprintf("10.%d.%d.0/24", i/256%256, i%256)}, Keys: []string{keyA}, Hours: "00:00-24:00", Timezone: "UTC"}
	}
	set, err := rules.Compile(list)
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// BenchmarkDecide evaluates 10,000 rules for a login that none of them fits. The
// floor compares as many user names and nothing else; the ratio of the two is
// what the rules cost beside the cheapest thing that could be done.
func BenchmarkDecide(b *testing.B) {
	ctx := context.Background()
	f := rules.Facts{User: "alice", Service: "sshd", Source: netip.MustParseAddr("192.0.2.7"), Keys: []string{keyA}, Time: time.Now()}
	names := make([]string, manyRules)
	for i := range names {
		names[i] = fmt.Sprintf("job%d", i)
	}
	floor := 0.0
	b.Run("floor", func(b *testing.B) {
		found := 0
		for b.Loop() {
			for _, n := range names {
				if n == f.User {
					found++
				}
			}
		}
		floor = float64(b.Elapsed()) / float64(b.N)
		if found > 0 {
			b.Fatal("a name fits")
		}
	})
	for _, kind := range []struct {
		name  string
		users func(i int) []string
	}{
		{"users-by-name", func(i int) []string { return []string{fmt.Sprintf("job%d", i)} }},
		{"users-by-pattern", func(i int) []string { return []string{fmt.Sprintf("job%d-*", i), "!root"} }},
		{"other-networks", func(int) []string { return []string{"ali*"} }},
	} {
		set := manyBatchRules(b, kind.users)
		b.Run(kind.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(ctx, f); d.Rule != nil {
					b.Fatal(d)
				}
			}
			each := float64(b.Elapsed()) / float64(b.N)
			b.ReportMetric(each/manyRules, "ns/rule")
			if floor > 0 {
				b.ReportMetric(each/floor, "x-floor")
			}
		})
	}
}

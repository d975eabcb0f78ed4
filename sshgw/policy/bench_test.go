// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// BenchmarkDecide is a decision among 500 rules, of which the last one matches, about one of
// 10,000 targets, which is looked up by its name first.
func BenchmarkDecide(b *testing.B) {
	const targets, some = 10_000, 500
	var list strings.Builder
	for i := range targets {
		fmt.Fprintf(&list, "[[target]]\nname=\"host%d.example\"\naliases=[\"h%d\"]\ngroups=[\"g%d\"]\nlabels={env=\"e%d\",room=\"r%d\"}\n", i, i, i%50, i%3, i%7)
	}
	inv, err := inventory.Parse("targets.toml", list.String(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []struct{ name, rule string }{
		{"groups-by-name", "groups=['teamN']\ntargets=['group:gN']\nlogins=['*']"},
		{"patterns", "users=['teamN-*','!root']\ntargets=['hostN*.example']\nlogins=['*']"},
		{"labels", "users=['*']\nsources=['10.N.0.0/16']\ntargets=['label:env=xN','label:room=xN']\nlogins=['*']"},
		{"hours", "users=['*']\ntargets=['*']\nhours='01:00-02:00'\ntimezone='Europe/Berlin'\nlogins=['*']"},
	} {
		var text strings.Builder
		for i := range some - 1 {
			fmt.Fprintf(&text, "[[rule]]\nname='r%d'\n%s\n", i, strings.ReplaceAll(kind.rule, "N", fmt.Sprint(i%256)))
		}
		text.WriteString("[[rule]]\nname='last'\nusers=['*']\ntargets=['group:g49']\nlogins=['*']\n")
		s := set(b, text.String())
		b.Run(kind.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				q := query()
				t, ok := inv.Find("HOST9999.example.")
				if !ok {
					b.Fatal("no target")
				}
				q.Target = t
				if g := s.Decide(b.Context(), q); g.Rule != "last" || !g.Allowed {
					b.Fatalf("%+v", g)
				}
			}
		})
	}
}

// BenchmarkFind looks up names in 10,000 targets and 20 patterns.
func BenchmarkFind(b *testing.B) {
	var list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&list, "[[target]]\nname=\"host%d.example\"\n", i)
	}
	for i := range 20 {
		fmt.Fprintf(&list, "[[pattern]]\nname=\"p%d-*.example\"\n", i)
	}
	inv, err := inventory.Parse("targets.toml", list.String(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"host5000.example", "p19-x.example", "nothing.example"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				inv.Find(name)
			}
		})
	}
}

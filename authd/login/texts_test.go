// SPDX-License-Identifier: Apache-2.0

package login

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// forMachines are the calls whose texts are for the log and for errors.
var forMachines = map[string]bool{
	"New": true, "Errorf": true, "Error": true, "Debug": true, "Info": true, "Warn": true, "LogAttrs": true, "String": true, "Any": true,
}

// All that a person reads stands in texts.go: elsewhere a literal of more than
// one word is the argument of an error or a log line.
func TestTextsStandInOneFile(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || name == "texts.go" {
			continue
		}
		seen++
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && forMachines[f.Sel.Name] {
					return false
				}
			case *ast.BasicLit:
				if n.Kind != token.STRING {
					break
				}
				if text, err := strconv.Unquote(n.Value); err == nil && strings.Contains(text, " ") && len(text) > 1 && !strings.HasSuffix(text, " ran out") {
					t.Errorf("%s: %q is no error and no log line; a text for people belongs into texts.go", set.Position(n.Pos()), text)
				}
			}
			return true
		})
	}
	if seen < 8 {
		t.Fatalf("looked at %d files only", seen)
	}
}

func TestAttemptsLeftAreTold(t *testing.T) {
	for left, want := range map[int]string{0: "Incorrect passcode.", 1: "Incorrect passcode. 1 attempt left.", 2: "Incorrect passcode. 2 attempts left."} {
		for _, reason := range []string{"Incorrect passcode.", "Incorrect passcode. Please try again."} {
			if got := textFailed(reason, left); got != want {
				t.Errorf("%d left: %q, want %q", left, got, want)
			}
		}
	}
}

// What was used last comes first; names keep their meaning.
func TestMenuPutsTheLastUsedFirst(t *testing.T) {
	all := []string{duoapi.CapabilityPush, duoapi.CapabilityPhone, duoapi.CapabilitySMS}
	devices := []duoapi.Device{{Device: "A", Name: "a", Capabilities: all}, {Device: "B", Name: "b", Capabilities: all}}
	const usual = "push1 phone1 sms1 push2 phone2 sms2"
	for _, tc := range []struct {
		last Habit
		want string
	}{
		{Habit{}, usual},
		{Habit{duoapi.FactorPush, "A"}, usual},
		{Habit{duoapi.FactorSMS, "A"}, "sms1 push1 phone1 push2 phone2 sms2"},
		{Habit{duoapi.FactorPush, "B"}, "push2 push1 phone1 sms1 phone2 sms2"},
		{Habit{duoapi.FactorPasscode, ""}, usual},
		{Habit{duoapi.FactorPush, "gone"}, usual},
	} {
		m := newMenu(devices, tc.last)
		var names []string
		for _, o := range m.options {
			names = append(names, o.name())
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.last, got, tc.want)
		}
		if c, err := m.parse("1"); err != nil || c.name() != names[0] {
			t.Errorf("%+v: 1 is %s, %v", tc.last, c.name(), err)
		}
		for _, name := range []string{"push", "push1", "push2", "sms2"} {
			c, err := m.parse(frames.Secret(name))
			if want := strings.TrimSuffix(name, "1"); err != nil || strings.TrimSuffix(c.name(), "1") != want {
				t.Errorf("%+v: %s is %s, %v", tc.last, name, c.name(), err)
			}
		}
	}
}

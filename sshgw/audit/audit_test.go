// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const page = "../../docs/reference/sshgw-events.md"

// row is a line of the table of codes.
var row = regexp.MustCompile("(?m)^\\| `(gw_[a-z_]+)` \\|")

// Each code is in the page's table, once, and the table has no other.
func TestPageAndCodeAgree(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	_, table, _ := strings.Cut(string(text), "## The events")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		listed[m[1]]++
	}
	for _, c := range declared(t) {
		if listed[c] != 1 {
			t.Errorf("%s is in the table %d times, want once", c, listed[c])
		}
		delete(listed, c)
		if !slices.Contains(Codes, Code(c)) {
			t.Errorf("%s is not among Codes", c)
		}
	}
	for c := range listed {
		t.Errorf("%s is in the table, and no event", c)
	}
}

// declared are the values of all constants of type Code.
func declared(t *testing.T) (codes []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, value)
			}
		}
		return true
	})
	if len(codes) < 10 {
		t.Fatalf("found only %d codes", len(codes))
	}
	return codes
}

// calls are all calls in the gateway's code, but for its tests.
func calls(t *testing.T, f func(*ast.CallExpr)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				f(c)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// called is the name of what is called, without what it belongs to.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// literal is a string that stands in the code.
func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, _ := strconv.Unquote(l.Value)
		return s
	}
	return ""
}

// writers are the functions that write the event which they are given.
var writers = []string{"Event", "event", "refused", "failed", "rationed"}

// A code that nobody writes is no event.
func TestEachCodeIsWritten(t *testing.T) {
	names := map[string]bool{}
	calls(t, func(c *ast.CallExpr) {
		if !slices.Contains(writers, called(c)) {
			return
		}
		for _, a := range c.Args {
			if s, ok := a.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "audit" {
					names[s.Sel.Name] = true
				}
			}
		}
	})
	tree, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" && !names[spec.Names[0].Name] {
				t.Errorf("nobody writes %s", spec.Names[0].Name)
			}
		}
		return true
	})
}

// A reason is one word that stays, which the page has.
func TestReasonsAreWordsOfThePage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile("^[a-z][a-z0-9_]*$")
	n := 0
	calls(t, func(c *ast.CallExpr) {
		reason := ""
		switch name := called(c); {
		case name == "String" && len(c.Args) == 2 && literal(c.Args[0]) == "reason":
			reason = literal(c.Args[1])
		case (name == "no" || name == "cannot" || name == "End") && len(c.Args) > 1:
			reason = literal(c.Args[0])
		case name == "denied" && len(c.Args) > 3:
			reason = literal(c.Args[3])
		}
		if reason == "" || strings.HasSuffix(reason, "_") { // made of two parts
			return
		}
		n++
		if !word.MatchString(reason) || !strings.Contains(string(text), "`"+reason+"`") {
			t.Errorf("the page has no reason %q", reason)
		}
	})
	if n < 40 {
		t.Errorf("found only %d reasons", n)
	}
}

// others are attributes of lines without a code, and the code itself.
var others = []string{"event", "end", "version", "config", "listen", "recordings", "targets", "patterns", "stack", "panic"}

// Each attribute of an event is in the page's table of fields.
func TestFieldsAreInThePage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(text), "## The fields")
	fields, _, _ = strings.Cut(fields, "\n### ")
	kinds := []string{"String", "Int", "Int64", "Uint64", "Bool", "Float64", "Any", "Duration"}
	calls(t, func(c *ast.CallExpr) {
		s, ok := c.Fun.(*ast.SelectorExpr)
		if !ok || len(c.Args) != 2 || !slices.Contains(kinds, s.Sel.Name) {
			return
		}
		if x, ok := s.X.(*ast.Ident); !ok || x.Name != "slog" {
			return
		}
		if key := literal(c.Args[0]); key != "" && !slices.Contains(others, key) && !strings.Contains(fields, "`"+key+"`") {
			t.Errorf("no field %q is in the table", key)
		}
	})
}

func TestEvent(t *testing.T) {
	var out bytes.Buffer
	var counted []Code
	l := &Log{Logger: slog.New(slog.NewJSONHandler(&out, nil)), Count: func(c Code) { counted = append(counted, c) }}
	l.Event(t.Context(), slog.LevelWarn, Denied, slog.String("target", "db1\x1b[31m\nx"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line["event"] != "gw_denied" || line["msg"] != "gw_denied" || line["level"] != "WARN" || line["target"] != "db1\x1b[31m\nx" {
		t.Errorf("the line is %v", line)
	}
	if strings.ContainsAny(strings.TrimSpace(out.String()), "\x1b\n") {
		t.Error("a control character reached the log")
	}
	if !slices.Equal(counted, []Code{Denied}) {
		t.Errorf("counted %v", counted)
	}
}

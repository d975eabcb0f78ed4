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
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
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

// A code that nobody writes is no event.
func TestEachCodeIsWritten(t *testing.T) {
	names := map[string]bool{}
	used := regexp.MustCompile(`\baudit\.([A-Z]\w+)`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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

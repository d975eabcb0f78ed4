// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

const page = "../../docs/reference/sshgw.md"

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every key is documented, and every key that is documented is there.
func TestEveryKeyIsDocumented(t *testing.T) {
	text := readPage(t)
	keys := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("toml")
			if key == "" || key == "-" {
				continue
			}
			keys[key] = true
			if !strings.Contains(text, "`"+key+"`") && !strings.Contains(text, "["+key+"]") {
				t.Errorf("%s is not in %s", key, page)
			}
			walk(typ.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Config]())
	walk(reflect.TypeFor[inventory.File]())
	if len(keys) < 80 {
		t.Errorf("only %d keys found", len(keys))
	}
	settings := regexp.MustCompile("(?m)^\\| (`[a-z_0-9]+`(?:, `[a-z_0-9]+`)*) \\| [^|]+ \\| ")
	for _, m := range settings.FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if name = strings.Trim(name, "`"); !keys[name] {
				t.Errorf("%s documents %s, which is no key", page, name)
			}
		}
	}
}

// The defaults on the page are those of the code.
func TestDefaultsAreDocumented(t *testing.T) {
	text := readPage(t)
	c := defaults()
	for table, v := range map[string]any{"limits": c.Limits, "timeouts": c.Timeouts, "first_factor": c.First, "targets": c.Targets} {
		_, part, ok := strings.Cut(text, "\n### `["+table+"]`\n")
		if !ok {
			t.Errorf("no heading for [%s]", table)
			continue
		}
		part, _, _ = strings.Cut(part, "\n### ")
		value := reflect.ValueOf(v)
		for i := range value.NumField() {
			key := value.Type().Field(i).Tag.Get("toml")
			if key == "" || key == "-" {
				continue
			}
			var want string
			switch f := value.Field(i).Interface().(type) {
			case time.Duration:
				want = `"` + short(f) + `"`
			case []string:
				want = "[]"
				if len(f) > 0 {
					want = `["` + strings.Join(f, `", "`) + `"]`
				}
			case Accounts:
				want = `"` + string(f) + `"`
			default:
				want = fmt.Sprint(f)
			}
			row := "| `" + key + "` | `" + want + "` |"
			if want == "" {
				row = "| `" + key + "` | none |"
			}
			if !strings.Contains(part, row) {
				t.Errorf("%s: [%s] has no row %q", page, table, row)
			}
		}
	}
}

// short is a duration as people write it.
func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if s == "" {
		return "0s"
	}
	if !strings.HasSuffix(s, "m") {
		return d.String()
	}
	return s
}

// What the page shows can be loaded.
func TestExamplesOnThePageAreInOrder(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(readPage(t), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, b := range blocks {
		if strings.Contains(b[1], "[[target]]") {
			if _, err := inventory.Parse("targets.toml", b[1], nil); err != nil {
				t.Error(err)
			}
			continue
		}
		c, err := Parse(filepath.Join(t.TempDir(), "sshgw.toml"), b[1])
		if err != nil {
			t.Error(err)
			continue
		}
		for i := range c.Rules().Rules() {
			if j := c.Rules().Shadowed(i); j >= 0 {
				t.Errorf("rule %d is hidden by rule %d", i, j)
			}
		}
	}
}

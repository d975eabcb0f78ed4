// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every key is documented.
func TestEveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/authd.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	seen := 0
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("toml")
			if key == "" {
				if typ.Field(i).Anonymous {
					walk(typ.Field(i).Type)
				}
				continue
			}
			seen++
			if !strings.Contains(string(text), "`"+key+"`") && !strings.Contains(string(text), "["+key) {
				t.Errorf("%s is not in docs/reference/authd.md", key)
			}
			walk(typ.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Config]())
	if seen < 40 {
		t.Errorf("only %d keys found", seen)
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package tomlfile reads configuration files strictly: an unknown key is an error
// that names key and line. It knows no setting and no default.
package tomlfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxSize bounds a file, in bytes.
const maxSize = 1 << 20

// Load decodes the file at path into v, a pointer to a struct with toml tags.
// Errors name the file, and the line and key where there is one.
func Load(path string, v any) error {
	text, err := Read(path)
	if err != nil {
		return err
	}
	return Decode(path, text, v)
}

// Read returns the text of the file at path, for Decode.
func Read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(text) > maxSize {
		return "", fmt.Errorf("read configuration %s: over %d bytes", path, maxSize)
	}
	return string(text), nil
}

// Decode is Load for a text; name stands in errors.
func Decode(name, text string, v any) error {
	meta, err := toml.Decode(text, v)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return fmt.Errorf("%s:%d: %s", name, parse.Position.Line, parse.Message)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	var unknown []error
	for _, key := range meta.Undecoded() {
		if hasParent(key, meta.Undecoded()) {
			continue
		}
		unknown = append(unknown, fmt.Errorf("%s:%d: unknown key %s", name, Line(text, key), key))
	}
	return errors.Join(unknown...)
}

// hasParent says that an enclosing table of key is unknown as well.
func hasParent(key toml.Key, keys []toml.Key) bool {
	for _, k := range keys {
		if len(k) < len(key) && strings.Join(key[:len(k)], "\x00") == strings.Join(k, "\x00") {
			return true
		}
	}
	return false
}

// Line is the first line of text, from 1, that sets key or opens its table, and
// 1 if none is found. It is good for a message, not for a decision: it reads
// lines, not values that go over several.
func Line(text string, key []string) int {
	var table []string
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			header := strings.Trim(strings.SplitN(line, "#", 2)[0], "[] \t")
			table = splitKey(header)
			if equal(table, key) {
				return i + 1
			}
			continue
		}
		left, _, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		full := append(append([]string{}, table...), splitKey(left)...)
		if len(full) >= len(key) && equal(full[:len(key)], key) || len(full) < len(key) && equal(full, key[:len(full)]) && strings.Contains(line, key[len(key)-1]) {
			return i + 1
		}
	}
	return 1
}

// splitKey takes a dotted key apart; dots inside quotes do not count.
func splitKey(s string) []string {
	var parts []string
	var part strings.Builder
	var quote rune
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '.':
			parts = append(parts, part.String())
			part.Reset()
		case quote == 0 && (c == ' ' || c == '\t'):
		default:
			part.WriteRune(c)
		}
	}
	return append(parts, part.String())
}

func equal(a, b []string) bool {
	return strings.Join(a, "\x00") == strings.Join(b, "\x00")
}

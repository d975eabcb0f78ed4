// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"regexp"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

// Parse reads the text of a file of rules.d, which holds [[rules]] and nothing
// else. name stands in errors and becomes the rules' origin. The rules are for
// Compile to check.
func Parse(name, text string) ([]Rule, error) {
	var file struct {
		Rules []Rule `toml:"rules"`
	}
	if err := tomlfile.Decode(name, text, &file); err != nil {
		return nil, Hinted(err)
	}
	Locate(file.Rules, name, text)
	return file.Rules, nil
}

// Hinted adds what to do instead to errors about unknown keys of rules.
func Hinted(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	found := false
	for i, line := range lines {
		_, key, ok := strings.Cut(line, "unknown key rules.")
		if hint := UnknownKey(key); ok && hint != "" {
			lines[i], found = line+": "+hint, true
		}
	}
	if !found {
		return err
	}
	return errors.New(strings.Join(lines, "\n"))
}

var header = regexp.MustCompile(`^\s*\[\[\s*rules\s*\]\]`)

// Locate writes into each rule the file that it was decoded from, and where in
// it the rule stands.
func Locate(list []Rule, name, text string) {
	var lines []int
	for i, line := range strings.Split(text, "\n") {
		if header.MatchString(line) {
			lines = append(lines, i+1)
		}
	}
	for i := range list {
		list[i].Origin, list[i].Number = name, i+1
		if len(lines) == len(list) { // else a header stands in a string, and no line is better than a wrong one
			list[i].Line = lines[i]
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Texts are all that people read, by key. Browser, type checker and server read
// the same file: js/texts.js, which is one JSON object behind "export default".
type Texts map[string]string

const textsFile = "js/texts.js"

// English are the texts. The map is shared: it must not be changed.
var English = sync.OnceValue(func() Texts {
	source, err := files.ReadFile(textsFile)
	if err != nil {
		panic(fmt.Sprintf("pages: %v", err))
	}
	texts, err := parseTexts(source)
	if err != nil {
		panic(fmt.Sprintf("pages: %s: %v", textsFile, err))
	}
	return texts
})

func parseTexts(source []byte) (Texts, error) {
	_, object, ok := bytes.Cut(source, []byte("export default "))
	if !ok {
		return nil, fmt.Errorf("there is no %q", "export default")
	}
	var texts Texts
	if err := json.Unmarshal(bytes.TrimSuffix(bytes.TrimSpace(object), []byte(";")), &texts); err != nil {
		return nil, fmt.Errorf("not a JSON object of texts: %w", err)
	}
	return texts, nil
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

// Text is the text of a key; facts fill its placeholders.
func (t Texts) Text(key string, facts map[string]string) (string, error) {
	text, ok := t[key]
	if !ok {
		return "", fmt.Errorf("there is no text %q", key)
	}
	var missing []string
	text = placeholder.ReplaceAllStringFunc(text, func(m string) string {
		fact, ok := facts[strings.Trim(m, "{}")]
		if !ok {
			missing = append(missing, m)
		}
		return fact
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("text %q: nothing for %s", key, strings.Join(missing, ", "))
	}
	return text, nil
}

// template is the function t of templates: pairs are names and values in turn.
func (t Texts) template(key string, pairs ...any) (string, error) {
	facts := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		if len(pair) != 2 {
			return "", fmt.Errorf("text %q: a name without a value", key)
		}
		facts[fmt.Sprint(pair[0])] = fmt.Sprint(pair[1])
	}
	return t.Text(key, facts)
}

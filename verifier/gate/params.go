// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Params are the signed parameters of a request, from the query, a form or the
// members of a JSON object. Values are text: what a JSON client sends as a number,
// a boolean or a list arrives as its JSON text. A blank value is a value.
type Params map[string]string

// formParams takes a parsed form; a name that is repeated is refused.
func formParams(values url.Values) (Params, error) {
	p := make(Params, len(values))
	for name, list := range values {
		if len(list) != 1 {
			return nil, Invalid(name, "given more than once")
		}
		p[name] = list[0]
	}
	return p, p.check()
}

// ObjectParams are the parameters of one object in a list of objects, as JSON.
func ObjectParams(object []byte) (Params, error) { return jsonParams(object) }

// jsonParams takes a JSON object. A null is an absent parameter; a name that is
// repeated is refused, since a client and this verifier may take different ones.
func jsonParams(body []byte) (Params, error) {
	notObject := duoapi.NewError(duoapi.CodeInvalidParameter, "the body is not a JSON object")
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, notObject
	}
	p := Params{}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, notObject
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, notObject
		}
		if seen[name] {
			return nil, Invalid(name, "given more than once")
		}
		seen[name] = true
		if err := p.member(name, bytes.TrimSpace(raw)); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, notObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, notObject
	}
	return p, p.check()
}

// member takes a member of a JSON object.
func (p Params) member(name string, raw []byte) error {
	switch {
	case !utf8.Valid(raw): // the decoder would put replacement characters in their place
		return Invalid(name, "not UTF-8 text")
	case bytes.Equal(raw, []byte("null")):
	case len(raw) > 0 && raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return Invalid(name, "not a JSON string")
		}
		p[name] = s
	default:
		p[name] = string(raw)
	}
	return nil
}

func (p Params) check() error {
	for name, value := range p {
		if !utf8.ValidString(name) || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return Invalid(strings.ToValidUTF8(name, "?"), "not UTF-8 text")
		}
	}
	return nil
}

// Missing is the error for a parameter that must be there.
func Missing(name string) *duoapi.Error {
	return duoapi.NewError(duoapi.CodeMissingParameter, name)
}

// Invalid is the error for a parameter whose value is refused. Name and why reach the client.
func Invalid(name, why string) *duoapi.Error {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	return duoapi.NewError(duoapi.CodeInvalidParameter, fmt.Sprintf("%s: %s", printable(name), why))
}

// printable makes a name from a peer fit for a terminal.
func printable(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	return quoted[1 : len(quoted)-1]
}

// Has says whether the parameter was sent, be it blank.
func (p Params) Has(name string) bool {
	_, ok := p[name]
	return ok
}

// String is the value, at most limit bytes, or "" if it was not sent.
func (p Params) String(name string, limit int) (string, error) {
	value := p[name]
	if len(value) > limit {
		return "", Invalid(name, fmt.Sprintf("longer than %d bytes", limit))
	}
	return value, nil
}

// Required is String for a parameter that must be there and not be blank.
func (p Params) Required(name string, limit int) (string, error) {
	if !p.Has(name) {
		return "", Missing(name)
	}
	value, err := p.String(name, limit)
	if err == nil && value == "" {
		err = Invalid(name, "is blank")
	}
	return value, err
}

// Int is a whole number from low to high, or def if it was not sent or is blank.
func (p Params) Int(name string, def, low, high int) (int, error) {
	value := p[name]
	if value == "" {
		return def, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return 0, Invalid(name, fmt.Sprintf("not a whole number from %d to %d", low, high))
	}
	return n, nil
}

// Bool reads 1, 0, true, false, in any case; def if it was not sent or is blank.
func (p Params) Bool(name string, def bool) (bool, error) {
	switch strings.ToLower(p[name]) {
	case "":
		return def, nil
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, Invalid(name, "not 1, 0, true or false")
}

// OneOf is one of the values, or def if it was not sent or is blank.
func (p Params) OneOf(name, def string, values ...string) (string, error) {
	value := p[name]
	if value == "" {
		return def, nil
	}
	if !slices.Contains(values, value) {
		return "", Invalid(name, "not one of "+strings.Join(values, ", "))
	}
	return value, nil
}

// List is a comma-separated list, or a JSON list of strings.
func (p Params) List(name string) ([]string, error) {
	value := strings.TrimSpace(p[name])
	if value == "" {
		return nil, nil
	}
	if strings.HasPrefix(value, "[") {
		var list []string
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return nil, Invalid(name, "not a JSON list of strings")
		}
		return list, nil
	}
	list := strings.Split(value, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list, nil
}

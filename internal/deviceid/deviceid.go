// SPDX-License-Identifier: Apache-2.0

// Package deviceid says when two identifiers of devices are the same: without
// the space around them and in one case. It never looks inside one: what looks
// like a UUID is text, for many in the field are none.
package deviceid

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// Max is the length of the longest identifier, in bytes, as given and as kept.
const Max = 256

// Errors of Clean.
var (
	ErrBlank   = errors.New("is blank")
	ErrLong    = fmt.Errorf("is longer than %d bytes", Max)
	ErrControl = errors.New("holds control characters")
	ErrUTF8    = errors.New("is not UTF-8 text")
)

// Clean is the form in which an identifier is kept and compared.
func Clean(id string) (string, error) {
	id = strings.TrimSpace(id)
	switch {
	case id == "":
		return "", ErrBlank
	case !utf8.ValidString(id):
		return "", ErrUTF8
	}
	ascii := true
	for _, c := range id {
		if unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp) {
			return "", ErrControl
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		id = strings.ToLower(id) // the same, without the tables
	} else {
		id = cases.Fold().String(id)
	}
	if len(id) > Max {
		return "", ErrLong
	}
	return id, nil
}

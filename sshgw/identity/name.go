// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name is a user name as it is given to the gateway: USER[%[LOGIN@]TARGET].
type Name struct {
	User          string
	Login, Target string // as typed, "" where there is none
}

// ErrName says that a user name does not have the form.
var ErrName = errors.New("not a user name of the form USER, USER%TARGET or USER%LOGIN@TARGET")

// maxName bounds a user name, in bytes.
const maxName = 255

// ParseName takes a user name apart. What it returns holds no control character, no
// slash and no colon, and begins with no hyphen: it is fit for a path, a command and a log.
func ParseName(s string) (Name, error) {
	if len(s) > maxName {
		return Name{}, fmt.Errorf("%w: longer than %d bytes", ErrName, maxName)
	}
	var n Name
	var named bool
	n.User, n.Target, named = strings.Cut(s, "%")
	if i := strings.LastIndexByte(n.Target, '@'); i >= 0 {
		n.Login, n.Target = n.Target[:i], n.Target[i+1:]
		if !plain(n.Login) {
			return Name{}, ErrName
		}
	}
	if !plain(n.User) || named && !plain(n.Target) {
		return Name{}, ErrName
	}
	return n, nil
}

func plain(s string) bool {
	if s == "" || s == "." || s == ".." || s[0] == '-' || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == ':' || r == '%' || unicode.IsSpace(r) || !unicode.IsGraphic(r)
	})
}

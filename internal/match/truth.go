// SPDX-License-Identifier: Apache-2.0

package match

// Truth is a value of Kleene's three-valued logic. What could not be found out
// is Unknown, and stays so under every operator that it decides.
type Truth int8

// The truth values, ordered so that AND is the least and OR the greatest.
const (
	False Truth = iota
	Unknown
	True
)

func (t Truth) String() string {
	switch t {
	case True:
		return "true"
	case False:
		return "false"
	}
	return "unknown"
}

// Not turns true and false round; NOT unknown is unknown.
func (t Truth) Not() Truth { return True - t }

// Of makes a truth value of what is known.
func Of(b bool) Truth {
	if b {
		return True
	}
	return False
}

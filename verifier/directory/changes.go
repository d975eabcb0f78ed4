// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"maps"
	"reflect"
)

// fields are what administrators can set of an object, by name; never a secret.
type fields map[string]any

// whole describes an object that is made or deleted, for the administrator log.
func whole(idName, id string, f fields) map[string]any {
	out := map[string]any{idName: id}
	maps.Copy(out, f)
	return out
}

// difference describes a change, for the administrator log: each field that
// differs, before and after. Whoever applies the entries in their order has the
// object as it is.
func difference(idName, id string, before, after fields) map[string]any {
	out := map[string]any{idName: id}
	for name, value := range after {
		if !reflect.DeepEqual(before[name], value) {
			out[name] = map[string]any{"before": before[name], "after": value}
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

// Package version knows which build of Sallyport this is. It holds one string and reads no
// file, and never decides anything by it.
package version

import "runtime/debug"

// number is set by the Makefile: -ldflags "-X .../internal/version.number=1.2.3".
var number string

// String returns the version to show to people and to put into logs, such as "1.2.3" or
// "0.0.0-dev". It is never empty and safe for concurrent use.
func String() string {
	if number != "" {
		return number
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.0.0-dev"
}

// SPDX-License-Identifier: Apache-2.0

// Package stress shows that the verifier keeps its promises while many use it at
// once, while it is killed, and while its disk fails it: each code counts once,
// what was answered is on disk, no change of an administrator is lost. It drives
// the real services on a real SQLite file, or the real program. It never measures
// speed; that is test/bench.
package stress

// SPDX-License-Identifier: Apache-2.0

// Package verifier measures logins per second and the time that one in a hundred
// exceeds, through the verifier with everything on disk beside a bare TLS handler
// that only checks signatures; and preauth for known and unknown names side by
// side; and what a login costs that waits for a push among thousands, beside the same
// requests parked on a channel. Each comparison is within one run. It never judges the figures.
package verifier

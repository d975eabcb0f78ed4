// SPDX-License-Identifier: Apache-2.0

//go:build race

package stress

// defaultRounds is less under the race detector, which makes everything about ten times slower.
const defaultRounds = 10

// SPDX-License-Identifier: Apache-2.0

//go:build !race

package stress

// defaultRounds is what the replay test is held to.
const defaultRounds = 500

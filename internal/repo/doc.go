// SPDX-License-Identifier: Apache-2.0

// Package repo holds the rules of this repository, written as tests. It has no code of its
// own, and nothing imports it.
package repo

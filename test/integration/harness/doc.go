// SPDX-License-Identifier: Apache-2.0

// Package harness runs whole machines for the integration tests: an image made
// of Debian packages, containers on a private Docker network, and terminals on
// which a test types what a person would type. It knows nothing of Sallyport
// beyond that, it reaches Docker by its command-line client alone, and it never
// touches the machine outside the containers that it started.
package harness

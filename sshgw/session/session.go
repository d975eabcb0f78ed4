// SPDX-License-Identifier: Apache-2.0

// Package session is a connection once it is authenticated: which target it is for,
// what its channels ask for, what the rules say, and the copying between the two. It
// never authenticates anybody and never opens a file.
package session

// SPDX-License-Identifier: Apache-2.0

// Package sshgw measures the SSH gateway beside OpenSSH as a jump host and beside no
// gateway at all, in one run and on one machine: new connections, memory of those that
// idle, bytes carried and what they cost, the echo of a keystroke, and what recording adds.
// It prints each aim with its figure, and never judges by failing.
package sshgw

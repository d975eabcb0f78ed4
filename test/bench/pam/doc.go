// SPDX-License-Identifier: Apache-2.0

// Package pam measures what the module costs a login: a whole PAM transaction in
// a fresh process, beside pam_permit and beside a bare exchange over a socket, all
// in one run. It never judges the figures.
package pam

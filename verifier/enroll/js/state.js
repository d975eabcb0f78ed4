// SPDX-License-Identifier: Apache-2.0

/** @module What the pages of enrolment decide, without a page. */

/** How often the page asks whether the phone is activated, in milliseconds. */
export const pollEvery = 2000;

/**
 * The code in the fragment of an enrolment link; '' if there is none. The point at
 * its end may be missing: mail programs take it for the end of a sentence.
 *
 * @param {string} hash with its #
 * @returns {string}
 */
export function codeOf(hash) {
  const code = hash.startsWith('#') ? hash.slice(1) : hash;
  return /^se1\.[A-Za-z0-9_-]{32}\.?$/.test(code) ? code : '';
}

/**
 * Where the page of the phone goes on, by what the server says of it; '' while it
 * waits. Only fixed paths: nothing of an answer becomes an address.
 *
 * @param {string} state
 * @returns {'' | '/enroll/setup'}
 */
export function next(state) {
  return state === 'waiting' ? '' : '/enroll/setup';
}

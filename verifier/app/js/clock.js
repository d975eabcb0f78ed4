// SPDX-License-Identifier: Apache-2.0

/**
 * The verifier's clock as the Date header of its answers tells it. A phone whose
 * clock is wrong must still be able to prove a request (iat within 300 s) and to
 * count down what is left of one.
 */

// Date has whole seconds, and the answer took its time to come: less is no error of the clock.
const tolerance = 2000;

export class Clock {
  /**
   * @param {() => number} now the phone's clock, Unix milliseconds
   */
  constructor(now = Date.now) {
    this.phone = now;
    /** How far the verifier's clock is ahead of the phone's, in milliseconds. */
    this.offset = 0;
    /** Whether a verifier has told its time. */
    this.known = false;
  }

  /** Unix milliseconds by the verifier's clock. */
  now() {
    return this.phone() + this.offset;
  }

  /** Unix seconds by the verifier's clock. */
  seconds() {
    return Math.floor(this.now() / 1000);
  }

  /**
   * Takes the Date header of an answer.
   *
   * @param {string|null} date
   * @returns {boolean} whether it changes what is believed of the clock
   */
  hear(date) {
    const at = Date.parse(date ?? '');
    if (Number.isNaN(at)) return false;
    this.known = true;
    const offset = at + 500 - this.phone();
    if (Math.abs(offset - this.offset) <= tolerance) return false;
    this.offset = Math.abs(offset) <= tolerance ? 0 : offset;
    return true;
  }
}

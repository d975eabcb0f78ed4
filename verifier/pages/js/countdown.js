// SPDX-License-Identifier: Apache-2.0

/** @module How long something is still good. */

import { element } from './dom.js';
import { counted } from './i18n.js';

/**
 * Whole seconds that are left, rounded up, never below 0.
 *
 * @param {number} end in milliseconds
 * @param {number} now in milliseconds
 * @returns {number}
 */
export function secondsLeft(end, now) {
  return Math.max(0, Math.ceil((end - now) / 1000));
}

/**
 * What is left, in words: minutes while there are two and more, then seconds.
 *
 * @param {number} seconds
 * @returns {string}
 */
export function leftInWords(seconds) {
  if (seconds > 90) {
    return counted('common.minutes_left.one', 'common.minutes_left.other', Math.ceil(seconds / 60));
  }
  return counted('common.seconds_left.one', 'common.seconds_left.other', seconds);
}

/** Below this many seconds the bar changes its colour. */
export const late = 10;

/**
 * A bar and a text that count down, and what stops them. The text is no live
 * region: a voice that counts would hide all else.
 *
 * @param {object} span
 * @param {number} span.end in milliseconds, by the clock of now
 * @param {number} span.total the whole span, in seconds
 * @param {() => void} [span.onEnd] called once at the end
 * @param {() => number} [span.now]
 * @returns {{ element: HTMLElement, stop: () => void }}
 */
export function countdown({ end, total, onEnd, now = Date.now }) {
  const bar = element('progress', { class: 'meter', max: total, 'aria-hidden': 'true' });
  const text = element('span', { class: 'countdown-text' });
  const whole = element('div', { class: 'countdown stack-s' }, bar, text);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const show = () => {
    const left = secondsLeft(end, now());
    bar.value = Math.min(left, total);
    bar.classList.toggle('meter-late', left <= late);
    text.textContent = leftInWords(left);
    if (left === 0) {
      onEnd?.();
      return;
    }
    // At the next change of the number, not a second from now: that would drift.
    timer = setTimeout(show, Math.max(16, (end - now()) % 1000 || 1000));
  };
  show();
  return { element: whole, stop: () => clearTimeout(timer) };
}

// SPDX-License-Identifier: Apache-2.0

/** @module Tells screen readers what has changed on the page. */

import { element } from './dom.js';

/** @type {Map<'polite' | 'assertive', HTMLElement>} */
const regions = new Map();

/**
 * Makes the live regions. Screen readers only follow regions that were there before
 * their text, so a page calls this when it starts.
 */
export function prepare() {
  for (const politeness of /** @type {const} */ (['polite', 'assertive'])) {
    if (!regions.has(politeness)) {
      const region = element('div', {
        class: 'visually-hidden', role: politeness === 'polite' ? 'status' : 'alert', 'aria-live': politeness, 'aria-atomic': 'true',
      });
      document.body.append(region);
      regions.set(politeness, region);
    }
  }
}

/**
 * Says a text to people who cannot see the page. The same text twice is said twice.
 *
 * @param {string} text
 * @param {'polite' | 'assertive'} [politeness] assertive interrupts: for what cannot wait
 */
export function announce(text, politeness = 'polite') {
  prepare();
  // A new node is a change even where the text is the same.
  regions.get(politeness)?.replaceChildren(element('span', {}, text));
}

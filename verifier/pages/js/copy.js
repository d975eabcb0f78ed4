// SPDX-License-Identifier: Apache-2.0

/** @module A button that copies a text. */

import { element, icon } from './dom.js';
import { t } from './i18n.js';
import { announce } from './live.js';

/**
 * @param {() => string} text what to copy, asked for at the click
 * @param {string} [label]
 * @returns {HTMLButtonElement}
 */
export function copyButton(text, label = t('common.copy')) {
  const caption = element('span', {}, label);
  const button = element('button', { class: 'button', type: 'button' }, icon('copy'), caption);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  button.addEventListener('click', async () => {
    clearTimeout(timer);
    try {
      await navigator.clipboard.writeText(text());
      caption.textContent = t('common.copied');
      announce(t('common.copied'));
    } catch {
      caption.textContent = label;
      announce(t('common.copy_failed'), 'assertive');
    }
    timer = setTimeout(() => { caption.textContent = label; }, 4000);
  });
  return button;
}

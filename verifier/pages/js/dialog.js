// SPDX-License-Identifier: Apache-2.0

/** @module Questions that must be answered before the page goes on. */

import { element } from './dom.js';

/**
 * @typedef {object} Choice
 * @property {string} value what ask resolves to
 * @property {string} label
 * @property {string} [class] of the button, such as "button-danger"
 */

let count = 0;

/**
 * Asks, and resolves to the value of the choice, or to '' if the person left the
 * dialog by Escape. The first choice has the focus: put the harmless one first.
 * The focus goes back to where it was.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} [question.text]
 * @param {Choice[]} question.choices
 * @param {Node[]} [question.body] shown between text and choices
 * @returns {Promise<string>}
 */
export function ask({ title, text, choices, body = [] }) {
  const id = `dialog-${++count}`;
  const buttons = choices.map((choice) =>
    element('button', { class: `button ${choice.class ?? ''}`.trim(), value: choice.value }, choice.label));
  const dialog = element('dialog', { class: 'dialog', 'aria-labelledby': `${id}-title`, 'aria-describedby': text ? `${id}-text` : undefined },
    element('form', { method: 'dialog' },
      element('h2', { id: `${id}-title` }, title),
      text ? element('p', { id: `${id}-text` }, text) : null,
      ...body,
      element('div', { class: buttons.length === 2 ? 'doors' : 'stack-s' }, ...buttons)));
  if (buttons.length !== 2) {
    buttons.forEach((button) => button.classList.add('button-wide'));
  }
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      before?.focus?.();
      resolve(dialog.returnValue);
    }, { once: true });
    dialog.showModal();
    buttons[0]?.focus();
  });
}

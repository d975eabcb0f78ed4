// SPDX-License-Identifier: Apache-2.0

/** @module A field for digits that looks like boxes and is one input. */

import { element } from './dom.js';

/**
 * The digits of what was typed or pasted, at most as many as fit. Digits of other
 * scripts count as what they mean.
 *
 * @param {string} text
 * @param {number} length
 * @returns {string}
 */
export function digitsOf(text, length) {
  return text.normalize('NFKC').replace(/[٠-٩۰-۹]/g, (d) => String((d.codePointAt(0) ?? 0) & 15)).replace(/\D/g, '').slice(0, length);
}

/**
 * Puts boxes behind an input with a maxlength. The input stays what it was for the
 * keyboard, for screen readers and for forms.
 *
 * @param {HTMLInputElement} input
 * @param {(digits: string) => void} [onFull] called when the last box was filled
 */
export function enhanceDigits(input, onFull) {
  const length = input.maxLength;
  const boxes = Array.from({ length }, () => element('span', { class: 'digits-box' }));
  const wrapper = element('div', { class: 'digits' }, element('div', { class: 'digits-boxes', 'aria-hidden': 'true' }, ...boxes));
  input.replaceWith(wrapper);
  wrapper.append(input);
  input.classList.add('digits-input');
  // Spaces and hyphens of a pasted code must not push its last digits out.
  input.removeAttribute('maxlength');
  const show = () => {
    boxes.forEach((box, i) => {
      box.textContent = input.value[i] ?? '';
      box.classList.toggle('digits-box-next', i === Math.min(input.value.length, length - 1));
    });
  };
  let before = '';
  input.addEventListener('input', () => {
    input.value = digitsOf(input.value, length);
    show();
    if (input.value.length === length && input.value !== before) {
      onFull?.(input.value);
    }
    before = input.value;
  });
  // The boxes show no caret, so it stays at the end.
  const toEnd = () => input.setSelectionRange(input.value.length, input.value.length);
  input.addEventListener('focus', toEnd);
  input.addEventListener('click', toEnd);
  show();
}

/**
 * An input for digits with its boxes, in a field with a label.
 *
 * @param {object} field
 * @param {string} field.id
 * @param {string} field.label
 * @param {string} [field.hint]
 * @param {number} [field.length]
 * @param {(digits: string) => void} [field.onFull]
 * @returns {{ element: HTMLElement, input: HTMLInputElement, fail: (message: string) => void }} fail shows
 *   a message at the field and ties it to the input; an empty one takes it away
 */
export function digitsField({ id, label, hint, length = 6, onFull }) {
  const input = element('input', {
    class: 'input', id, name: id, type: 'text', inputMode: 'numeric', autocomplete: 'one-time-code', pattern: `[0-9]{${length}}`,
    maxLength: length, required: true, 'aria-describedby': `${hint ? `${id}-hint ` : ''}${id}-error`,
  });
  const error = element('p', { class: 'error', id: `${id}-error`, hidden: true });
  const field = element('div', { class: 'field' },
    element('label', { class: 'label', for: id }, label),
    hint ? element('span', { class: 'hint', id: `${id}-hint` }, hint) : null,
    input, error);
  enhanceDigits(input, onFull);
  const fail = (/** @type {string} */ message) => {
    error.textContent = message;
    error.hidden = message === '';
    input.setAttribute('aria-invalid', String(message !== ''));
  };
  return { element: field, input, fail };
}

// SPDX-License-Identifier: Apache-2.0

/**
 * What views are built of, on top of the components of all pages.
 */

import { ask } from '../../pages/js/dialog.js';
import { element as h, icon } from '../../pages/js/dom.js';
import { t } from '../../pages/js/i18n.js';
import { explain } from './errors.js';

/** @typedef {Node|string|null|undefined|false} Child */

/**
 * Puts children in the place of those before.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function replace(parent, ...children) {
  parent.replaceChildren(.../** @type {(Node|string)[]} */ (children.filter((c) => c !== null && c !== undefined && c !== false)));
}

/**
 * @param {string} text
 * @param {() => void|Promise<void>} click
 * @param {{kind?: string, icon?: string, label?: string}} [options] kind: classes such as
 *   "button-primary"; label: the accessible name, where the text does not stand alone
 * @returns {HTMLButtonElement}
 */
export function button(text, click, options = {}) {
  const made = h('button', { type: 'button', class: `button ${options.kind ?? ''}`.trim(), 'aria-label': options.label }, options.icon ? icon(options.icon) : null, text);
  made.addEventListener('click', () => busy(made, click));
  return made;
}

/**
 * Runs f while the button shows that it works and takes no second click. What f does
 * not tell the person itself is told in a dialog.
 *
 * @param {HTMLButtonElement} control
 * @param {() => void|Promise<void>} f
 */
export async function busy(control, f) {
  if (control.getAttribute('aria-busy') === 'true') return;
  control.setAttribute('aria-busy', 'true');
  /** @type {string|null} */
  let failure = null;
  try {
    await f();
  } catch (e) {
    failure = explain(e);
  } finally {
    control.removeAttribute('aria-busy');
  }
  if (failure !== null) await ask({ title: t('app.failed'), text: failure, choices: [{ value: '', label: t('app.close') }] });
}

/**
 * @param {'info'|'warn'|'danger'} kind
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function notice(kind, ...children) {
  const classes = { info: 'notice', warn: 'notice notice-warn', danger: 'notice notice-danger' };
  return h('div', { class: classes[kind] }, icon(kind === 'info' ? 'info' : 'warning'), h('div', { class: 'stack-s' }, ...children));
}

/**
 * @param {string} text
 * @param {string} [classes]
 */
export const p = (text, classes) => h('p', { class: classes }, text);

/**
 * @param {string} symbol
 * @param {string} title
 * @param {string} text
 * @param {...Child} more
 * @returns {HTMLElement}
 */
export function empty(symbol, title, text, ...more) {
  return h('div', { class: 'empty' }, icon(symbol), h('h2', {}, title), h('p', {}, text), ...more);
}

let count = 0;

/**
 * A labelled input with a hint and a place for an error.
 *
 * @param {{label: string, hint?: string, value?: string, multiline?: boolean, properties?: Record<string, unknown>}} options
 * @returns {{element: HTMLElement, input: HTMLInputElement|HTMLTextAreaElement, fail: (text: string) => void}}
 *   fail shows an error at the field and ties it to the input; an empty one takes it away
 */
export function field({ label, hint, value = '', multiline, properties = {} }) {
  const id = `field-${++count}`;
  const input = h(multiline ? 'textarea' : 'input', {
    id, class: 'input', value, autocomplete: 'off', spellcheck: false, 'aria-describedby': `${hint ? `${id}-hint ` : ''}${id}-error`, ...properties,
  });
  const error = h('p', { class: 'error', id: `${id}-error`, hidden: true });
  const whole = h(
    'div', { class: 'field' },
    h('label', { class: 'label', for: id }, label),
    hint ? h('span', { class: 'hint', id: `${id}-hint` }, hint) : null,
    input, error,
  );
  const fail = (/** @type {string} */ text) => {
    error.textContent = text;
    error.hidden = text === '';
    input.setAttribute('aria-invalid', String(text !== ''));
    if (text !== '') input.focus();
  };
  return { element: whole, input, fail };
}

/**
 * A form that submits to f, by key or by button.
 *
 * @param {string} submit text of its button
 * @param {() => Promise<void>} f
 * @param {...Child} children
 * @returns {HTMLFormElement}
 */
export function form(submit, f, ...children) {
  const control = h('button', { class: 'button button-primary button-wide' }, submit);
  const made = h('form', { class: 'stack', noValidate: true }, ...children, control);
  made.addEventListener('submit', (event) => {
    event.preventDefault();
    void busy(control, f);
  });
  return made;
}

// SPDX-License-Identifier: Apache-2.0

/** @module Texts by their keys, with the facts put in. */

import texts from './texts.js';

/** @typedef {keyof typeof texts} TextKey */
/** @typedef {Record<string, string | number>} Facts */

/**
 * The text of a key, with facts for its {placeholders}. A placeholder without a
 * fact is a fault of the program and throws.
 *
 * @param {TextKey} key
 * @param {Facts} [facts]
 * @returns {string}
 */
export function t(key, facts = {}) {
  const text = texts[key];
  if (text === undefined) {
    throw new Error(`there is no text ${key}`);
  }
  return text.replace(/\{([a-z_]+)\}/g, (_, name) => {
    if (!Object.hasOwn(facts, name)) {
      throw new Error(`text ${key}: nothing for {${name}}`);
    }
    return String(facts[name]);
  });
}

const rules = new Intl.PluralRules('en');

/**
 * The text for a number of things. The two keys are those for one and for other
 * counts; both may use {count}.
 *
 * @param {TextKey} one
 * @param {TextKey} other
 * @param {number} count
 * @param {Facts} [facts]
 * @returns {string}
 */
export function counted(one, other, count, facts = {}) {
  return t(rules.select(count) === 'one' ? one : other, { ...facts, count });
}

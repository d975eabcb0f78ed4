// SPDX-License-Identifier: Apache-2.0

/**
 * Text from a peer, made safe to look at: characters that control, hide or turn
 * round what stands beside them are shown as what they are.
 */

// Cc control, Cf format (zero width, direction), Zl and Zp line and paragraph
// separators, Co private use, Cs lone surrogates, Cn unassigned.
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{Cn}\u115F\u1160\u3164\uFFA0\uFE00-\uFE0F]/gu;
const maxLength = 256;

/**
 * @param {unknown} text what is not a string is shown as nothing
 * @returns {string}
 */
export function visible(text) {
  if (typeof text !== 'string') return '';
  const all = Array.from(text);
  const short = all.length > maxLength ? `${all.slice(0, maxLength).join('')}…` : text;
  return short.replace(hidden, (c) => `⟨U+${(c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`);
}

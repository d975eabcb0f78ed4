// SPDX-License-Identifier: Apache-2.0

/**
 * Activation links: https://HOST:PORT/sallyport/activate#sa1.SECRET.PIN, and the
 * code behind the #. The pin is for programs that know no certificate authority;
 * a browser trusts by its own.
 */

import { fromBase64url } from './bytes.js';

const activationPath = '/sallyport/activate';
const secretSize = 24;
const pinSize = 32;

/**
 * Why a text is no activation link; code is part of the key of its text.
 */
export class LinkError extends Error {
  /** @param {'form'|'foreign'} code
   *  @param {string} [origin] of the other verifier */
  constructor(code, origin = '') {
    super(`not an activation link: ${code}`);
    this.code = code;
    this.origin = origin;
  }
}

/**
 * The code with the point at its end, which stands there if it has no pin: mail
 * programs take it for the end of a sentence.
 *
 * @param {string} text
 * @returns {string}
 */
export function withPoint(text) {
  return /^sa1\.[A-Za-z0-9_-]{32}$/.test(text) ? `${text}.` : text;
}

/**
 * Whether a text is an activation code, whole.
 *
 * @param {string} code
 * @returns {boolean}
 */
export function validCode(code) {
  const parts = code.split('.');
  if (parts.length !== 3 || parts[0] !== 'sa1') return false;
  try {
    return fromBase64url(parts[1]).length === secretSize && [0, pinSize].includes(fromBase64url(parts[2]).length);
  } catch {
    return false;
  }
}

/**
 * Reads what a person pasted or scanned: a link, an address of the app with the
 * code, or the code alone, which is for the app's own verifier.
 *
 * @param {string} text
 * @param {string} own origin of the app
 * @param {string[]} partners origins of the other verifiers that the app may call
 * @returns {{origin: string, code: string}}
 * @throws {LinkError}
 */
export function parseActivation(text, own, partners) {
  const trimmed = text.trim();
  const alone = withPoint(trimmed);
  if (validCode(alone)) return { origin: own, code: alone };
  /** @type {URL} */
  let url;
  try {
    url = new URL(trimmed);
  } catch {
    throw new LinkError('form');
  }
  const behind = url.pathname === activationPath ? url.hash.slice(1) : url.pathname === '/app/' ? url.hash.replace(/^#activate=/, '') : '';
  const code = withPoint(behind);
  if (url.protocol !== 'https:' && url.origin !== own) throw new LinkError('form');
  if (url.username || url.password || !validCode(code)) throw new LinkError('form');
  if (url.origin !== own && !partners.includes(url.origin)) throw new LinkError('foreign', url.origin);
  return { origin: url.origin, code };
}

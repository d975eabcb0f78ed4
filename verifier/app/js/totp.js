// SPDX-License-Identifier: Apache-2.0

/**
 * One-time codes: HOTP (RFC 4226), TOTP (RFC 6238), and the otpauth:// links by
 * which secrets travel.
 */

import { base32, fromBase32 } from './bytes.js';

/** @typedef {'SHA-1'|'SHA-256'|'SHA-512'} Hash */

/**
 * @typedef {object} Token a TOTP token
 * @property {string} issuer may be empty
 * @property {string} label the account's name
 * @property {Uint8Array} secret
 * @property {number} digits 6, 7 or 8
 * @property {number} period in seconds
 * @property {Hash} hash
 */

/**
 * Why a link or an entry is no token; code is part of the key of its text.
 */
export class TokenError extends Error {
  /** @param {'form'|'hotp'|'secret'|'digits'|'period'|'hash'} code */
  constructor(code) {
    super(`not a TOTP token: ${code}`);
    this.code = code;
  }
}

/** @type {Record<string, Hash>} */
const hashes = { SHA1: 'SHA-1', SHA256: 'SHA-256', SHA512: 'SHA-512' };
const minSecret = 10; // bytes; RFC 4226 demands 16, and many services hand out 10
const maxSecret = 128;
const maxText = 128; // characters of issuer and label

/**
 * HOTP of a counter (RFC 4226, section 5.3).
 *
 * @param {Uint8Array} secret
 * @param {number} counter
 * @param {number} digits
 * @param {Hash} hash
 * @returns {Promise<string>}
 */
export async function hotp(secret, counter, digits, hash) {
  if (!Number.isSafeInteger(counter) || counter < 0) throw new RangeError(`counter ${counter}`);
  const key = await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash }, false, ['sign']);
  const message = new DataView(new ArrayBuffer(8));
  message.setBigUint64(0, BigInt(counter));
  const mac = new DataView(await crypto.subtle.sign('HMAC', key, message.buffer));
  const offset = mac.getUint8(mac.byteLength - 1) & 0xf;
  const truncated = mac.getUint32(offset) & 0x7fffffff;
  return String(truncated % 10 ** digits).padStart(digits, '0');
}

/**
 * The code of a token at a time, and how long it stays.
 *
 * @param {Token} token
 * @param {number} now Unix milliseconds
 * @returns {Promise<{code: string, left: number}>} left in milliseconds
 */
export async function totp(token, now) {
  const period = token.period * 1000;
  const step = Math.floor(now / period);
  return { code: await hotp(token.secret, step, token.digits, token.hash), left: (step + 1) * period - now };
}

/**
 * Checks a token's numbers.
 *
 * @param {Token} token
 * @returns {Token}
 * @throws {TokenError}
 */
export function checkToken(token) {
  if (token.secret.length < minSecret || token.secret.length > maxSecret) throw new TokenError('secret');
  if (![6, 7, 8].includes(token.digits)) throw new TokenError('digits');
  if (!Number.isInteger(token.period) || token.period < 10 || token.period > 300) throw new TokenError('period');
  return { ...token, issuer: token.issuer.slice(0, maxText), label: token.label.slice(0, maxText) };
}

/**
 * Reads a secret in base32, as services print it.
 *
 * @param {string} text
 * @returns {Uint8Array}
 * @throws {TokenError}
 */
export function parseSecret(text) {
  try {
    return fromBase32(text);
  } catch {
    throw new TokenError('secret');
  }
}

/**
 * Reads an otpauth://totp/ link.
 *
 * @param {string} link
 * @returns {Token}
 * @throws {TokenError}
 */
export function parseLink(link) {
  /** @type {URL} */
  let url;
  // Browsers differ in how they split addresses of schemes they do not know; of https all do it alike.
  const rest = /^otpauth:\/\/(.*)$/is.exec(link.trim());
  if (!rest) throw new TokenError('form');
  let path;
  try {
    url = new URL(`https://${rest[1]}`);
    path = decodeURIComponent(url.pathname.slice(1));
  } catch {
    throw new TokenError('form');
  }
  if (url.hostname === 'hotp') throw new TokenError('hotp');
  if (url.hostname !== 'totp') throw new TokenError('form');
  const query = url.searchParams;
  const hash = hashes[(query.get('algorithm') || 'SHA1').toUpperCase().replaceAll('-', '')];
  if (!hash) throw new TokenError('hash');
  const colon = path.indexOf(':');
  const issuer = query.get('issuer') || (colon < 0 ? '' : path.slice(0, colon));
  const label = colon < 0 ? path : path.slice(colon + 1);
  return checkToken({
    issuer: issuer.trim(),
    label: label.trim(),
    secret: parseSecret(query.get('secret') ?? ''),
    digits: whole(query.get('digits') ?? '6'),
    period: whole(query.get('period') ?? '30'),
    hash,
  });
}

/** @param {string} text */
function whole(text) {
  return /^[0-9]{1,4}$/.test(text) ? Number(text) : NaN;
}

/**
 * The link of a token, for another phone.
 *
 * @param {Token} token
 * @returns {string}
 */
export function tokenLink(token) {
  const name = token.issuer ? `${token.issuer}:${token.label}` : token.label;
  const query = new URLSearchParams({ secret: base32(token.secret) });
  if (token.issuer) query.set('issuer', token.issuer);
  query.set('algorithm', token.hash.replace('-', ''));
  query.set('digits', String(token.digits));
  query.set('period', String(token.period));
  return `otpauth://totp/${encodeURIComponent(name)}?${query.toString().replaceAll('+', '%20')}`;
}

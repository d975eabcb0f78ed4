// SPDX-License-Identifier: Apache-2.0

/**
 * Offline codes of hosts: from the offline root of an account to the key of a host,
 * from key and number to the code. docs/explanation/offline-codes.md says why.
 */

import { concat, utf8 } from './bytes.js';
import { hotp } from './totp.js';

/** Digits of a code. */
export const codeDigits = 8;

const rootSize = 32;

/**
 * @typedef {object} HostID what a key is for
 * @property {string} host_id
 * @property {string} user_id
 * @property {string} authenticator_id
 * @property {number} generation
 * @property {number} edition
 */

/**
 * The key of a host: HKDF-SHA256 (RFC 5869) of the root, without salt. The length
 * of each part of the info stands before it, so that no two lists make the same bytes.
 *
 * @param {Uint8Array} root
 * @param {HostID} id
 * @returns {Promise<Uint8Array>}
 */
export async function hostKey(root, id) {
  if (root.length !== rootSize) throw new RangeError(`the offline root has ${root.length} bytes, not ${rootSize}`);
  const parts = ['sallyport offline v1', id.host_id, id.user_id, id.authenticator_id, String(id.generation), String(id.edition)];
  const info = concat(
    ...parts.map(utf8).flatMap((part) => {
      const size = new Uint8Array(4);
      new DataView(size.buffer).setUint32(0, part.length);
      return [size, part];
    }),
  );
  const key = await crypto.subtle.importKey('raw', root, 'HKDF', false, ['deriveBits']);
  const params = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info };
  return new Uint8Array(await crypto.subtle.deriveBits(params, key, rootSize * 8));
}

/**
 * The code of a number.
 *
 * @param {Uint8Array} key
 * @param {number} number from 0
 * @returns {Promise<string>}
 */
export function offlineCode(key, number) {
  return hotp(key, number, codeDigits, 'SHA-1');
}

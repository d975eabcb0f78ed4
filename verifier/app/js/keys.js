// SPDX-License-Identifier: Apache-2.0

/**
 * The keys of an account, made by WebCrypto. None of them can be exported: a
 * script can use a key while the page is open, and cannot take it away.
 */

import { base32, base64, concat, sha256 } from './bytes.js';

const signing = { name: 'ECDSA', namedCurve: 'P-256' };
const nonceSize = 12;

/**
 * Makes the key that signs proofs and answers.
 *
 * @returns {Promise<{privateKey: CryptoKey, publicKey: string, spki: Uint8Array}>} publicKey is
 *   the base64 of the SubjectPublicKeyInfo, as it travels
 */
export async function newSigningKey() {
  const pair = await crypto.subtle.generateKey(signing, false, ['sign', 'verify']);
  const { privateKey, publicKey } = /** @type {CryptoKeyPair} */ (pair);
  const spki = new Uint8Array(await crypto.subtle.exportKey('spki', publicKey));
  return { privateKey, publicKey: base64(spki), spki };
}

/**
 * An id that derives from a public key, as keyproof.ID makes it.
 *
 * @param {string} prefix
 * @param {Uint8Array} spki SubjectPublicKeyInfo in DER
 * @returns {Promise<string>}
 */
export async function keyID(prefix, spki) {
  return prefix + base32(await sha256(spki)).slice(0, 18);
}

/**
 * Makes a key that seals what is stored of one entry.
 *
 * @returns {Promise<CryptoKey>}
 */
export function newSealingKey() {
  return crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

/**
 * Seals bytes: nonce and AES-256-GCM ciphertext. What is opened later must name
 * the same purpose, so that sealed values cannot change places.
 *
 * @param {CryptoKey} key
 * @param {string} purpose
 * @param {Uint8Array} bytes
 * @returns {Promise<Uint8Array>}
 */
export async function seal(key, purpose, bytes) {
  const iv = crypto.getRandomValues(new Uint8Array(nonceSize));
  const additionalData = new TextEncoder().encode(purpose);
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, key, bytes);
  return concat(iv, new Uint8Array(sealed));
}

/**
 * Opens what seal made.
 *
 * @param {CryptoKey} key
 * @param {string} purpose
 * @param {Uint8Array} sealed
 * @returns {Promise<Uint8Array>}
 * @throws {Error} if it was changed, or sealed by another key or for another purpose
 */
export async function unseal(key, purpose, sealed) {
  const iv = sealed.slice(0, nonceSize);
  const additionalData = new TextEncoder().encode(purpose);
  return new Uint8Array(
    await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData }, key, sealed.slice(nonceSize)),
  );
}

// SPDX-License-Identifier: Apache-2.0

/**
 * What an account signs: proofs that a request comes from its key, and answers to
 * login requests. Both are compact JWS (RFC 7515, ES256);
 * docs/reference/authenticator-protocol.md has their form and test vectors.
 */

import { base64url, sha256, utf8 } from './bytes.js';

const algorithm = { name: 'ECDSA', hash: 'SHA-256' };
const header = base64url(utf8('{"alg":"ES256"}'));

/**
 * @typedef {object} Request what a proof is for
 * @property {string} kid id of the caller
 * @property {string} aud scheme and authority of the verifier
 * @property {string} method
 * @property {string} path path and query as on the wire
 * @property {Uint8Array} body empty if there is none
 * @property {number} iat Unix seconds, by the verifier's clock
 * @property {string} jti random
 */

/**
 * @typedef {object} Decision
 * @property {string} aud scheme and authority of the verifier
 * @property {string} txid
 * @property {string} context as served: its bytes are what the answer is bound to
 * @property {'approve'|'deny'|'fraud'} decision
 * @property {string} [digits] those shown at the login, when approving a verified request
 * @property {number} iat Unix seconds, by the verifier's clock
 */

/**
 * The bytes that a proof signs.
 *
 * @param {Request} r
 * @returns {Promise<string>}
 */
export async function proofPayload(r) {
  return JSON.stringify({
    v: 1,
    kid: r.kid,
    aud: r.aud,
    htm: r.method,
    htu: r.path,
    iat: r.iat,
    jti: r.jti,
    bsh: base64url(await sha256(r.body)),
  });
}

/**
 * The bytes that an answer signs.
 *
 * @param {Decision} d
 * @returns {Promise<string>}
 */
export async function answerPayload(d) {
  return JSON.stringify({
    v: 1,
    aud: d.aud,
    txid: d.txid,
    context: base64url(await sha256(utf8(d.context))),
    decision: d.decision,
    ...(d.digits ? { digits: d.digits } : {}),
    iat: d.iat,
  });
}

/**
 * Signs a payload: the compact JWS.
 *
 * @param {CryptoKey} key
 * @param {string} payload
 * @returns {Promise<string>}
 */
export async function sign(key, payload) {
  const input = `${header}.${base64url(utf8(payload))}`;
  // WebCrypto's form of an ECDSA signature, r and s as 32 bytes each, is that of JWS.
  const signature = await crypto.subtle.sign(algorithm, key, utf8(input));
  return `${input}.${base64url(new Uint8Array(signature))}`;
}

/**
 * A jti: 128 random bits.
 *
 * @returns {string}
 */
export function newID() {
  return base64url(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * The value of the Authorization header that proves a request.
 *
 * @param {CryptoKey} key
 * @param {Request} r
 * @returns {Promise<string>}
 */
export async function authorization(key, r) {
  return `Sallyport ${await sign(key, await proofPayload(r))}`;
}

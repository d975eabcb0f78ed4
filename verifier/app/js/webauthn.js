// SPDX-License-Identifier: Apache-2.0

/**
 * User verification: the platform asks for finger, face or PIN (WebAuthn Level 3)
 * and signs what it was asked for. The verifier checks; nothing is decided here.
 */

import { base64url, fromBase64url, sha256, utf8 } from './bytes.js';

/** The person did not go through with it, or the platform refused. */
export class NotVerified extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super('the platform did not verify the person');
    this.cause = cause;
  }
}

/** Whether the platform can verify its person, as far as it says. */
export async function canVerify() {
  if (typeof PublicKeyCredential === 'undefined') return false;
  return PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable();
}

/**
 * The challenge that binds a verification to an answer: good for that one alone.
 *
 * @param {string} answer compact JWS
 * @returns {Promise<Uint8Array>}
 */
export function answerChallenge(answer) {
  return sha256(utf8(answer));
}

/**
 * Registers a credential.
 *
 * @param {any} options PublicKeyCredentialCreationOptionsJSON
 * @returns {Promise<{json: object, id: string, rpId: string}>} json is RegistrationResponseJSON
 * @throws {NotVerified}
 */
export async function register(options) {
  const publicKey = {
    ...options,
    challenge: fromBase64url(options.challenge),
    user: { ...options.user, id: fromBase64url(options.user.id) },
    excludeCredentials: descriptors(options.excludeCredentials),
  };
  const credential = await ask(() => navigator.credentials.create({ publicKey }));
  const response = /** @type {AuthenticatorAttestationResponse & {getTransports?: () => string[]}} */ (credential.response);
  /** @type {Record<string, unknown>} */
  const out = {
    clientDataJSON: base64url(new Uint8Array(response.clientDataJSON)),
    attestationObject: base64url(new Uint8Array(response.attestationObject)),
    transports: response.getTransports?.() ?? [],
  };
  const id = base64url(new Uint8Array(credential.rawId));
  return { json: whole(credential, id, out), id, rpId: options.rp.id };
}

/**
 * Has the platform verify the person for options from the verifier.
 *
 * @param {any} options PublicKeyCredentialRequestOptionsJSON
 * @returns {Promise<object>} AuthenticationResponseJSON
 * @throws {NotVerified}
 */
export function verify(options) {
  return assertion({
    ...options,
    challenge: fromBase64url(options.challenge),
    allowCredentials: descriptors(options.allowCredentials),
    userVerification: 'required',
  });
}

/**
 * Has the platform verify the person for an answer.
 *
 * @param {{id: string, rpId: string}} credential
 * @param {string} answer compact JWS
 * @param {number} timeout milliseconds
 * @returns {Promise<object>} AuthenticationResponseJSON
 * @throws {NotVerified}
 */
export async function verifyAnswer(credential, answer, timeout) {
  return assertion({
    challenge: await answerChallenge(answer),
    rpId: credential.rpId,
    allowCredentials: [{ type: 'public-key', id: fromBase64url(credential.id) }],
    userVerification: 'required',
    timeout,
  });
}

/**
 * @param {PublicKeyCredentialRequestOptions} publicKey
 * @returns {Promise<object>}
 */
async function assertion(publicKey) {
  const credential = await ask(() => navigator.credentials.get({ publicKey }));
  const response = /** @type {AuthenticatorAssertionResponse} */ (credential.response);
  /** @type {Record<string, unknown>} */
  const out = {
    clientDataJSON: base64url(new Uint8Array(response.clientDataJSON)),
    authenticatorData: base64url(new Uint8Array(response.authenticatorData)),
    signature: base64url(new Uint8Array(response.signature)),
  };
  if (response.userHandle) out.userHandle = base64url(new Uint8Array(response.userHandle));
  return whole(credential, base64url(new Uint8Array(credential.rawId)), out);
}

/**
 * @param {() => Promise<Credential|null>} f
 * @returns {Promise<PublicKeyCredential>}
 */
async function ask(f) {
  let credential;
  try {
    credential = await f();
  } catch (e) {
    throw new NotVerified(e);
  }
  if (!credential) throw new NotVerified('nothing came');
  return /** @type {PublicKeyCredential} */ (credential);
}

/**
 * @param {PublicKeyCredential} credential
 * @param {string} id
 * @param {Record<string, unknown>} response
 */
function whole(credential, id, response) {
  return {
    id,
    rawId: id,
    type: credential.type,
    authenticatorAttachment: /** @type {{authenticatorAttachment?: string|null}} */ (credential).authenticatorAttachment ?? undefined,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  };
}

/**
 * @param {any[]|undefined} list
 * @returns {PublicKeyCredentialDescriptor[]}
 */
function descriptors(list) {
  return (list ?? []).map((item) => ({ ...item, id: fromBase64url(item.id) }));
}

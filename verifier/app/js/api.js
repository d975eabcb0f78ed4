// SPDX-License-Identifier: Apache-2.0

/**
 * Calls of a verifier's API, each proved by the account's key.
 * docs/reference/authenticator-protocol.md describes them.
 */

import { utf8 } from './bytes.js';
import { Clock } from './clock.js';
import { authorization, newID } from './proof.js';

/** What the verifier refuses: its code, and words that are data from a peer. */
export class Refusal extends Error {
  /**
   * @param {number} code
   * @param {string} message
   * @param {string} detail
   */
  constructor(code, message, detail) {
    super(`refused: ${code} ${message}`);
    this.code = code;
    this.reason = message;
    this.detail = detail;
  }
}

/** The verifier did not answer, or not as a verifier. */
export class Unreachable extends Error {
  /** @param {unknown} [cause] */
  constructor(cause) {
    super('the verifier does not answer');
    this.cause = cause;
  }
}

/** Codes of errors that the app tells apart; docs/reference/errors.md has all. */
export const codes = {
  proof: 40107,
  answered: 40331,
  expired: 40332,
  canceled: 40333,
  digits: 40334,
};

/** @typedef {{id: string, url: string, key: CryptoKey}} Caller */

/**
 * @typedef {object} Call
 * @property {unknown} [body] sent as JSON; undefined: none
 * @property {AbortSignal} [signal]
 */

const prefix = '/sallyport/v1/authenticator';

/** One clock for each verifier. @type {Map<string, Clock>} */
const clocks = new Map();

/**
 * The clock of the verifier at url.
 *
 * @param {string} url
 * @returns {Clock}
 */
export function clockOf(url) {
  let clock = clocks.get(url);
  if (!clock) {
    clock = new Clock();
    clocks.set(url, clock);
  }
  return clock;
}

/**
 * Sends a request and gives the answer, whatever it is. A redirect is refused: a
 * proof is for one address.
 *
 * @param {Caller} caller
 * @param {string} method
 * @param {string} path behind /sallyport/v1/authenticator, with the query
 * @param {Call} call
 * @returns {Promise<{response: Response, clockMoved: boolean}>}
 */
async function send(caller, method, path, { body, signal }) {
  const clock = clockOf(caller.url);
  const text = body === undefined ? '' : JSON.stringify(body);
  const proof = await authorization(caller.key, {
    kid: caller.id,
    aud: caller.url,
    method,
    path: prefix + path,
    body: utf8(text),
    iat: clock.seconds(),
    jti: newID(),
  });
  /** @type {Record<string, string>} */
  const headers = { Authorization: proof };
  if (text !== '') headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(caller.url + prefix + path, {
      method,
      headers,
      body: text === '' ? undefined : text,
      signal,
      credentials: 'omit',
      cache: 'no-store',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new Unreachable(e);
  }
  return { response, clockMoved: clock.hear(response.headers.get('Date')) };
}

/**
 * Like send, and a second time if the first has shown that the clock is wrong.
 *
 * @param {Caller} caller
 * @param {string} method
 * @param {string} path
 * @param {Call} call
 * @returns {Promise<Response>}
 */
export async function request(caller, method, path, call = {}) {
  const first = await send(caller, method, path, call);
  if (first.response.status !== 401 || !first.clockMoved) return first.response;
  return (await send(caller, method, path, call)).response;
}

/**
 * Reads the envelope of an answer.
 *
 * @param {Response} response
 * @returns {Promise<any>}
 * @throws {Refusal|Unreachable}
 */
export async function read(response) {
  let answer;
  try {
    answer = await response.json();
  } catch (e) {
    throw new Unreachable(e);
  }
  if (answer?.stat === 'OK') return answer.response;
  if (answer?.stat !== 'FAIL' || !Number.isInteger(answer.code)) throw new Unreachable(answer);
  const { code, message, message_detail: detail } = answer;
  throw new Refusal(code, typeof message === 'string' ? message : '', typeof detail === 'string' ? detail : '');
}

/**
 * @param {Caller} caller
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 * @throws {Refusal|Unreachable}
 */
export async function get(caller, path, signal) {
  return read(await request(caller, 'GET', path, { signal }));
}

/**
 * @param {Caller} caller
 * @param {string} path
 * @param {unknown} body
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 * @throws {Refusal|Unreachable}
 */
export async function post(caller, path, body, signal) {
  return read(await request(caller, 'POST', path, { body, signal }));
}

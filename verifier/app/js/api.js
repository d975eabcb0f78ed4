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
  unverified: 40337,
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
 * @property {number} [limit] milliseconds until the whole answer must be there, timeLimit
 *   if it is not said; Infinity: none
 */

/**
 * How long a call may take, in milliseconds: a network that swallows all it is given
 * never says that it is away.
 */
export const timeLimit = 15_000;

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
 * Like send, and a second time if the first has shown that the clock is wrong. The
 * time limit is one for both, and for reading the answer.
 *
 * @param {Caller} caller
 * @param {string} method
 * @param {string} path
 * @param {Call} call
 * @returns {Promise<Response>}
 */
export async function request(caller, method, path, { body, signal, limit = timeLimit } = {}) {
  const call = { body, signal: limited(signal, limit) };
  try {
    const first = await send(caller, method, path, call);
    if (first.response.status !== 401 || !first.clockMoved) return first.response;
    return (await send(caller, method, path, call)).response;
  } catch (e) {
    if (!call.signal?.aborted || signal?.aborted) throw e;
    throw new Unreachable(e);
  }
}

/**
 * A signal that ends with the given one, and after ms milliseconds.
 *
 * @param {AbortSignal|undefined} signal
 * @param {number} ms
 * @returns {AbortSignal|undefined}
 */
function limited(signal, ms) {
  if (ms === Infinity) return signal;
  // The types of tsc know neither of the two in a worker.
  const signals = /** @type {{timeout: (ms: number) => AbortSignal}} */ (/** @type {unknown} */ (AbortSignal));
  const both = /** @type {{signal: AbortSignal, abort: (reason: unknown) => void}} */ (/** @type {unknown} */ (new AbortController()));
  for (const one of [signals.timeout(ms), ...(signal ? [signal] : [])]) {
    if (one.aborted) both.abort(one.reason);
    else one.addEventListener('abort', () => both.abort(one.reason), { once: true });
  }
  return both.signal;
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
 * @param {Omit<Call, 'body'>} [call]
 * @returns {Promise<any>}
 * @throws {Refusal|Unreachable}
 */
export async function get(caller, path, call) {
  return read(await request(caller, 'GET', path, call));
}

/**
 * @param {Caller} caller
 * @param {string} path
 * @param {unknown} body
 * @param {Omit<Call, 'body'>} [call]
 * @returns {Promise<any>}
 * @throws {Refusal|Unreachable}
 */
export async function post(caller, path, body, call) {
  return read(await request(caller, 'POST', path, { ...call, body }));
}
